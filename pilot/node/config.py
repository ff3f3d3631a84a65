"""The worker's configuration file: what its owner decides, in our form (``conf/worker.conf``) or in
the XWHEP manual's (``conf/xtremweb.worker.conf``).
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Optional

from desktopgrid.link import settings
from desktopgrid.link.manual import WORKERS
from desktopgrid.link.settings import GridSection
from desktopgrid.model import configuration


class LogLevel(Enum):
    """How much a worker logs."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warn"
    ERROR = "error"


def words_of(command: str) -> tuple[str, ...]:
    """The words of a command; raises ValueError."""
    try:
        return tuple(shlex.split(command))
    except ValueError as error:
        raise ValueError(f"launcher is no command: {error}") from None


@dataclass(frozen=True)
class WorkerConfig:
    """The section ``[worker]``. 0 or nothing: as much as there is, or no such limit."""

    identity: Path = Path()
    user: str = ""
    directory: Path = Path("~/.glidebridge/worker")
    name: str = ""
    slots: int = 0
    memory_mib: int = 0
    disk_mib: int = 0
    cache_mib: int = 4096
    grace: timedelta = timedelta(seconds=10)
    idle_time: timedelta = timedelta()
    max_tasks: int = 0
    log_level: LogLevel = LogLevel.INFO
    fetch_private: bool = False
    datagrams: bool = False
    launcher: str = ""

    def __post_init__(self) -> None:
        words_of(self.launcher)
        for name in ("slots", "memory_mib", "disk_mib", "cache_mib", "max_tasks"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative")


@dataclass(frozen=True)
class NodeConfig:
    """All of the file: ``[worker]``, ``[grid]``, what the owner says of the host in
    ``[attributes]``, a command for each further scheme of a URI in ``[fetchers]``, and a sentence
    for each key that has no effect.
    """

    worker: WorkerConfig = WorkerConfig()
    grid: GridSection = field(default_factory=GridSection)
    attributes: dict[str, str] = field(default_factory=dict)
    fetchers: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


OURS = {"worker": WorkerConfig, "grid": GridSection}


def read(path: Path) -> NodeConfig:
    """The configuration in the file ``path``; raises ConfigurationError."""
    reading = settings.read(path, WORKERS, OURS)
    # A client may read the same file, and keep a section of its own in it.
    found = reading.configuration.expect("worker", "grid", "attributes", "fetchers", "client")
    return NodeConfig(
        configuration.from_section(WorkerConfig, found.section("worker")),
        configuration.from_section(GridSection, found.section("grid")),
        found.section("attributes").texts(),
        _commands(found.section("fetchers")),
        reading.notes,
    )


def _commands(section: configuration.Section) -> dict[str, str]:
    for scheme, command in section.texts().items():
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise section.error(scheme, f"the command for {scheme}:// is wrong: {error}") from None
        if not words:
            raise section.error(scheme, f"{scheme}:// needs a command that fetches it")
    return section.texts()


def place(environment: Mapping[str, str]) -> Optional[Path]:
    """Where the configuration is if none is named: the first of the manual's places (7.2.1) with a
    file; None if there is none.
    """
    home = Path(environment.get("HOME") or "~").expanduser()
    places = (Path("conf") / FILE, home / ".xtremweb" / FILE)
    return next((path for path in places if path.is_file()), None)


FILE = "xtremweb.worker.conf"
