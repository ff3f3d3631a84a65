"""The bridge's configuration: grids that it can reach, and routes between places. Reads, checks,
and decides which routes there may not be.

A *place* is where jobs or works wait and run: a ``[grid NAME]`` of this file, a site of
``sites.d``, or a pool that routes name and nobody else. A route leads from one place to another.
What came in from a place is not taken back there (model/origins.py); a route that cannot but do
that is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from desktopgrid.model import configuration
from desktopgrid.model.configuration import Section
from desktopgrid.model.errors import ConfigurationError

T = TypeVar("T", bound=Any)

FILE = "bridge.conf"
PLACE = re.compile(r"[\w.-]{1,64}")


class LogLevel(Enum):
    """How much a bridge logs."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warn"
    ERROR = "error"


@dataclass(frozen=True)
class BridgeSection:
    """``[bridge]``: what is the same for all routes."""

    log_level: LogLevel = LogLevel.INFO
    sites: Path = Path("sites.d")
    """Where the sites are described to which routes lead."""
    keep: timedelta = timedelta(days=1)
    """How long a work stays after its job has ended: a job that its pool forgot to end may ask."""
    orphan_after: timedelta = timedelta(hours=1)
    """A work whose job nobody has asked about for so long is taken back."""

    def __post_init__(self) -> None:
        for name in ("keep", "orphan_after"):
            if getattr(self, name) < timedelta(minutes=1):
                raise ValueError(f"{name} must be at least a minute")


@dataclass(frozen=True)
class GridSection:
    """``[grid NAME]``: a desktop grid, and who we are there."""

    name: str
    identity: Path | None = None
    """By whom works are submitted whose user has no identity of his own."""
    identities: Path | None = None
    """A directory with LOGIN.json for users of other places: what is theirs there is theirs here.
    """

    def __post_init__(self) -> None:
        if self.identity is None and self.identities is None:
            raise ValueError("needs an identity, or identities")


@dataclass(frozen=True)
class Route:
    """What every ``[route NAME]`` says."""

    name: str
    kind: str
    from_: str
    to: str

    comes_from_a_grid: ClassVar[bool] = False
    leads_to_a_grid: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for key, place in (("from", self.from_), ("to", self.to)):
            if not PLACE.fullmatch(place):
                raise ValueError(f"{key} must be the name of a place, not {place!r}")
        if self.from_ == self.to:
            raise ValueError(f"leads from {self.to} to {self.to}: what it takes would come back")


@dataclass(frozen=True)
class CondorRoute(Route):
    """Jobs of an HTCondor pool run on a grid: by a startd of ours that joins the pool."""

    pool: str = ""
    """The pool's collector: HOST, HOST:PORT or <ADDRESS>."""
    token: Path | None = None
    """A file with a token that may ADVERTISE_STARTD, ADVERTISE_MASTER and READ there."""
    htcondor: Path = Path("/")
    """Where HTCondor is installed: the directory that has usr/sbin/condor_master."""
    jobs: str = "WantDesktopGrid =?= true"
    """Which jobs it takes: a ClassAd expression about a job."""
    slots: int = 100
    """Cores of jobs that are on the grid at a time."""
    memory_mib: int = 4096
    """Memory that a job may ask for, a core."""
    account: str = "nobody"
    """The system user of the startd where root starts the bridge."""
    address: str = ""
    """The network interface of the startd; empty: HTCondor's choice."""
    ccb: bool = True
    """Whether the pool's collector brokers connections to it, so that no port need be open here."""
    settings: Path | None = None
    """A file with further HTCondor settings, which come last."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.pool:
            raise ValueError("needs a pool: the address of its collector")
        if self.slots < 1 or self.memory_mib < 1:
            raise ValueError("slots and memory_mib must be at least 1")
        if "\n" in self.jobs or not self.jobs.strip():
            raise ValueError("jobs must be a ClassAd expression")


@dataclass(frozen=True)
class BatchRoute(Route):
    """Jobs that a batch system hands in by scripts of ours: HTCondor's grid universe, A-REX."""

    accounts: tuple[str, ...] = ()
    """The system users who may hand jobs in beside the bridge's own, by name or number: those whom
    jobs run as."""


@dataclass(frozen=True)
class GridRoute(Route):
    """Works of one grid run on another: by a worker of ours there, as any other."""

    worker: Path | None = None
    """The identity file of that worker."""
    slots: int = 100
    """Cores of works that are away at a time."""
    memory_mib: int = 4096
    """Memory that a work may ask for, a core."""
    disk_mib: int = 10_240
    """Disk that all of them may take here on their way."""

    comes_from_a_grid: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.worker is None:
            raise ValueError("needs a worker: the identity file of one of the grid it comes from")
        if self.slots < 1 or self.memory_mib < 1 or self.disk_mib < 1:
            raise ValueError("slots, memory_mib and disk_mib must be at least 1")


@dataclass(frozen=True)
class JobsRoute(GridRoute):
    """Works of a grid run at a site as plain jobs: where no pilot may run."""

    leads_to_a_grid: ClassVar[bool] = False


@dataclass(frozen=True)
class PilotsRoute(Route):
    """Works that wait on a grid become pilots at a site: what that may have is said there."""

    comes_from_a_grid: ClassVar[bool] = True
    leads_to_a_grid: ClassVar[bool] = False


KINDS: Mapping[str, type[Route]] = {
    "condor": CondorRoute,
    "batch": BatchRoute,
    "grid": GridRoute,
    "jobs": JobsRoute,
    "pilots": PilotsRoute,
}


@dataclass(frozen=True)
class BridgeConfig:
    """All of a configuration file."""

    file: Path
    bridge: BridgeSection
    grids: Mapping[str, GridSection]
    routes: Mapping[str, Route]

    def route(self, name: str) -> Route:
        """The route of this name; raises ConfigurationError."""
        if name not in self.routes:
            known = ", ".join(self.routes) or "none"
            raise ConfigurationError(str(self.file), 1, f"no [route {name}]; routes are: {known}")
        return self.routes[name]


def read(path: Path) -> BridgeConfig:
    """The configuration in the file ``path``; raises ConfigurationError."""
    found = configuration.read(path).expect("bridge", "grid", "route")
    bridge = configuration.from_section(BridgeSection, found.section("bridge"))
    grids = {
        section.name: configuration.from_section(GridSection, section)
        for section in found.named("grid")
    }
    routes: dict[str, Route] = {}
    for section in found.named("route"):
        routes[section.name] = _route(section, grids)
    for section in found.sections:
        if section.kind in ("grid", "route") and not section.name:
            raise ConfigurationError(
                section.file, section.line, f"{section.title} is written [{section.kind} NAME]"
            )
        if section.kind != "bridge" and not PLACE.fullmatch(section.name):
            raise ConfigurationError(
                section.file,
                section.line,
                f"{section.title} has a name of other than [A-Za-z0-9_.-]",
            )
    base = path.absolute().parent
    return BridgeConfig(
        path,
        _placed(bridge, base),
        {name: _placed(grid, base) for name, grid in grids.items()},
        {name: _placed(route, base) for name, route in routes.items()},
    )


def _placed(value: T, base: Path) -> T:
    """``value`` with its relative paths below ``base``, where its file is."""
    paths = {
        field.name: base / getattr(value, field.name)
        for field in fields(value)
        if isinstance(getattr(value, field.name), Path)
    }
    return replace(value, **paths)


def _route(section: Section, grids: Mapping[str, GridSection]) -> Route:
    entry = section.entries.get("kind")
    known = ", ".join(KINDS)
    if entry is None:
        raise section.error("kind", f"lacks the key 'kind'; it is one of {known}")
    if entry.value not in KINDS:
        raise section.error("kind", f"kind must be one of {known}, not {entry.value!r}")
    kind = KINDS[entry.value]
    route = configuration.from_section(kind, section)
    for key, place, is_grid in (
        ("from", route.from_, kind.comes_from_a_grid),
        ("to", route.to, kind.leads_to_a_grid),
    ):
        if is_grid and place not in grids:
            listed = ", ".join(grids) or "none"
            raise section.error(
                key, f"{key} must be a [grid] of this file ({listed}), not {place!r}"
            )
        if not is_grid and place in grids:
            raise section.error(
                key,
                f"{key} is {place!r}, which is a [grid]; a route of kind"
                f" {entry.value} has none there",
            )
    return route
