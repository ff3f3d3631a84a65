"""What the administrator set: ``server.conf`` as frozen values, each key with its default.

The keys are explained in samples/server.conf.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from pathlib import Path

from desktopgrid.model import configuration
from desktopgrid.model.configuration import Section

DEFAULT_PORT = 4325
ALIASES = {"port.https": "port"}
"""Keys by which the XWHEP manual calls ours (7.1)."""


class LogLevel(Enum):
    """How much goes to the log; each level hides what is below it."""

    DEBUG = "debug"
    INFO = "info"
    WARN = "warn"
    ERROR = "error"


@dataclass(frozen=True)
class ServerSection:
    """``[server]``: where it listens, what it is called, how it lives with its workers."""

    address: str = "0.0.0.0"  # noqa: S104 - workers come from other machines
    port: int = DEFAULT_PORT
    names: tuple[str, ...] = ()
    alive_period: timedelta = timedelta(seconds=60)
    stop_patience: timedelta = timedelta(seconds=30)
    log_level: LogLevel = LogLevel.INFO

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ValueError("port must be between 0 and 65535")
        if not timedelta(seconds=0.1) <= self.alive_period <= timedelta(days=1):
            raise ValueError("alive_period must be between 0.1 s and a day")


@dataclass(frozen=True)
class DatabaseSection:
    """``[database]``: an empty ``url`` is the SQLite file ``grid.db`` in the grid's directory."""

    url: str = ""


@dataclass(frozen=True)
class LimitsSection:
    """``[limits]``: what the server takes at most."""

    max_works: int = 2_000_000
    max_data_mib: int = 1 << 20
    min_free_mib: int = 256
    longest_wall_time: timedelta = timedelta(days=7)
    losses_per_retry: int = 10
    max_connections: int = 12_000

    def __post_init__(self) -> None:
        for each in dataclasses.fields(self):
            value = getattr(self, each.name)
            if isinstance(value, int) and value < 0:
                raise ValueError(f"{each.name} must not be negative")


@dataclass(frozen=True)
class ServerConfig:
    """The whole of ``server.conf``."""

    server: ServerSection = field(default_factory=ServerSection)
    database: DatabaseSection = field(default_factory=DatabaseSection)
    limits: LimitsSection = field(default_factory=LimitsSection)


SECTIONS = {"server": ServerSection, "database": DatabaseSection, "limits": LimitsSection}


def read(path: Path) -> ServerConfig:
    """The configuration in the file ``path``; raises ConfigurationError."""
    found = configuration.read(path).expect(*SECTIONS)
    return ServerConfig(
        server=configuration.from_section(ServerSection, _plain(found.section("server"))),
        database=configuration.from_section(DatabaseSection, found.section("database")),
        limits=configuration.from_section(LimitsSection, found.section("limits")),
    )


def _plain(section: Section) -> Section:
    """``section`` with our own names for the manual's keys."""
    entries = {ALIASES.get(key, key): entry for key, entry in section.entries.items()}
    if len(entries) != len(section.entries):
        raise section.error("port", "port and port.https are the same; keep one")
    return dataclasses.replace(section, entries=entries)
