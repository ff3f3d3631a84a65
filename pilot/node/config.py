"""The worker's configuration file, ``conf/worker.conf``: what its owner decides."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from pathlib import Path

from desktopgrid.model import configuration


class LogLevel(Enum):
    """How much a worker logs."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warn"
    ERROR = "error"


@dataclass(frozen=True)
class WorkerConfig:
    """The section ``[worker]``. 0 or nothing: as much as there is, or no such limit."""

    identity: Path = Path()
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

    def __post_init__(self) -> None:
        for name in ("slots", "memory_mib", "disk_mib", "cache_mib", "max_tasks"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative")


@dataclass(frozen=True)
class NodeConfig:
    """All of the file: ``[worker]``, what the owner says of the host in ``[attributes]``, and a
    command for each further scheme of a URI in ``[fetchers]``.
    """

    worker: WorkerConfig = WorkerConfig()
    attributes: dict[str, str] = field(default_factory=dict)
    fetchers: dict[str, str] = field(default_factory=dict)


def read(path: Path) -> NodeConfig:
    """The configuration in the file ``path``; raises ConfigurationError."""
    found = configuration.read(path).expect("worker", "attributes", "fetchers")
    return NodeConfig(
        configuration.from_section(WorkerConfig, found.section("worker")),
        found.section("attributes").texts(),
        _commands(found.section("fetchers")),
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
