"""What the administrator says about a site, in ``sites.d/*.conf``.

The server reads it for the caps on pilots, `pilot` for the door through which they go in. Each kind
of door has its own keys beside those that all have.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Optional

from desktopgrid.model import configuration
from desktopgrid.model.errors import ConfigurationError
from desktopgrid.model.objects import Site

DRAINS = ("none", "drain", "forced")
"""What becomes of running pilots that are too many: they are left alone, they finish what they do,
or they go at once.
"""
SERVICE_GRIDS = ("arc", "gram")
"""Those that are doors of a service grid: unless the file says otherwise, validated applications
only run there (manual, 8).
"""
SUBMITS_AS = ("robot", "user", "either")
"""By whose credential pilots may be submitted."""


@dataclass(frozen=True)
class SiteConfig:
    """One ``[site NAME]``: how many pilots it may have, and what a pilot asks for."""

    name: str
    computing_element: str

    max_pilots: int = 10
    max_idle: int = 5
    max_an_hour: int = 100
    max_of_vo: int = 0
    vo: str = ""
    voms: tuple[str, ...] = ()
    certified_users_only: bool = False
    submits_as: str = "robot"
    validated_applications_only: Optional[bool] = None

    by_demand: bool = True
    weight: float = 1.0
    cost: float = 1.0
    ramp_up: int = 20
    drain: str = "drain"
    lifetime: Optional[timedelta] = None

    cores: int = 1
    memory_mib: int = 1024
    disk_mib: int = 2048
    wall_time: timedelta = timedelta(hours=24)
    idle_time: timedelta = timedelta(minutes=10)
    queue_limit: timedelta = timedelta(hours=24)
    python: str = "python3"

    def __post_init__(self) -> None:
        if SITE_OF_KIND.get(self.computing_element) is not type(self):
            raise ValueError(f"computing_element must be one of {_kinds(type(self))}")
        if not _NAME.fullmatch(self.name):
            raise ValueError("a site's name is letters, digits, '.', '_' and '-'")
        if self.submits_as not in SUBMITS_AS:
            raise ValueError(f"submits_as must be one of {', '.join(SUBMITS_AS)}")
        for attribute in self.voms:
            if not attribute.startswith("/"):
                raise ValueError(f"voms: {attribute!r} is no attribute, such as /biomed/Role=pilot")
        caps = ("max_pilots", "max_idle", "max_an_hour", "max_of_vo")
        for name in (*caps, "memory_mib", "disk_mib", "weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative")
        if not self.cost > 0:
            raise ValueError("cost must be more than 0")
        if self.ramp_up < 1:
            raise ValueError("ramp_up must be at least 1")
        if self.drain not in DRAINS:
            raise ValueError(f"drain must be one of {', '.join(DRAINS)}")
        if self.cores < 1:
            raise ValueError("cores must be at least 1")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, timedelta) and value < timedelta(seconds=1):
                raise ValueError(f"{field.name} must be at least a second")
            if isinstance(value, Path) and not value.is_absolute():
                raise ValueError(f"{field.name} must be an absolute path, or begin with ~/")

    @property
    def life(self) -> timedelta:
        """How long a pilot works there, if there is work."""
        return min(self.lifetime, self.wall_time) if self.lifetime else self.wall_time

    @property
    def site(self) -> Site:
        """The site as the server's caps see it."""
        return Site(
            self.name,
            self.computing_element,
            self.max_pilots,
            self.max_idle,
            self.max_an_hour,
            self.vo,
            self.certified_users_only,
            self.max_of_vo,
            self.submits_as,
            self.voms,
            self.computing_element in SERVICE_GRIDS
            if self.validated_applications_only is None
            else self.validated_applications_only,
        )


@dataclass(frozen=True)
class FakeSite(SiteConfig):
    """A site that takes jobs and runs none."""

    computing_element: str = "fake"


@dataclass(frozen=True)
class LocalSite(SiteConfig):
    """The machine that submits."""

    computing_element: str = "local"


@dataclass(frozen=True)
class CondorSite(SiteConfig):
    """An HTCondor schedd."""

    computing_element: str = "condor"
    schedd: str = ""
    pool: str = ""
    address: str = ""
    token: Optional[Path] = None


@dataclass(frozen=True)
class ArcSite(SiteConfig):
    """An ARC CE, by its REST interface."""

    computing_element: str = "arc"
    url: str = ""
    queue: str = ""
    proxy: Optional[Path] = None
    token: Optional[Path] = None
    ca_directory: Optional[Path] = None
    delegate: bool = False
    software: tuple[str, ...] = ()
    answer_within: timedelta = timedelta(seconds=30)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.url.startswith("https://"):
            raise ValueError("url must be the CE's, such as https://ce.example.org/arex")


@dataclass(frozen=True)
class GramSite(SiteConfig):
    """A Globus GRAM gatekeeper."""

    computing_element: str = "gram"
    contact: str = ""
    proxy: Optional[Path] = None
    ca_directory: Optional[Path] = None
    queue: str = ""
    command_directory: Optional[Path] = None
    callback_host: str = ""
    callback_ports: str = ""
    answer_within: timedelta = timedelta(seconds=60)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.contact:
            raise ValueError("contact must be the gatekeeper's, such as ce.example.org/jobmanager")
        if self.callback_ports:
            ports_of(self.callback_ports)


@dataclass(frozen=True)
class BatchSite(SiteConfig):
    """A batch system that is reached by its commands: of this machine, or of another over SSH."""

    ssh: str = ""
    ssh_key: Optional[Path] = None
    known_hosts: Optional[Path] = None
    directory: str = "glidebridge-jobs"
    bin_directory: str = ""
    account: str = ""
    options: str = ""
    answer_within: timedelta = timedelta(seconds=30)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ssh:
            login_of(self.ssh)
        elif self.ssh_key or self.known_hosts:
            raise ValueError("ssh_key and known_hosts are of use with ssh = USER@HOST only")
        for name in ("directory", "bin_directory", "account", "options"):
            if not getattr(self, name).isprintable():
                raise ValueError(f"{name} must be printable text")
        try:
            shlex.split(self.options)
        except ValueError as error:
            raise ValueError(f"options must be words as a shell reads them: {error}") from None
        if not self.directory or ".." in self.directory.split("/"):
            raise ValueError("directory must be a path, absolute or from the account's home")
        if self.bin_directory and not self.bin_directory.startswith("/"):
            raise ValueError("bin_directory must be an absolute path")


@dataclass(frozen=True)
class SlurmSite(BatchSite):
    """A Slurm cluster."""

    computing_element: str = "slurm"
    partition: str = ""
    qos: str = ""


@dataclass(frozen=True)
class PbsSite(BatchSite):
    """A PBS server."""

    computing_element: str = "pbs"
    queue: str = ""
    dialect: str = "openpbs"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dialect not in PBS_DIALECTS:
            raise ValueError(f"dialect must be one of {', '.join(PBS_DIALECTS)}")


PBS_DIALECTS = ("openpbs", "torque")

SITE_OF_KIND: Mapping[str, type[SiteConfig]] = {
    "condor": CondorSite,
    "local": LocalSite,
    "arc": ArcSite,
    "gram": GramSite,
    "slurm": SlurmSite,
    "pbs": PbsSite,
    "fake": FakeSite,
}
"""The doors that there are, and what may be said about each."""


def ports_of(text: str) -> range:
    """The ports of ``FIRST-LAST``; raises ValueError."""
    first, _, last = text.partition("-")
    if not (first.isascii() and first.isdigit() and last.isascii() and last.isdigit()):
        raise ValueError(f"callback_ports must be FIRST-LAST, not {text!r}")
    if not 0 < int(first) <= int(last) < 65536:
        raise ValueError(f"callback_ports must be between 1 and 65535, not {text!r}")
    return range(int(first), int(last) + 1)


@dataclass(frozen=True)
class Login:
    """Whose account on which machine."""

    user: str
    host: str
    port: int = 22

    def __str__(self) -> str:
        return f"{self.user}@{self.host}:{self.port}"


def login_of(text: str) -> Login:
    """What ``USER@HOST``, ``USER@HOST:PORT`` or ``USER@[ADDRESS]:PORT`` says; raises ValueError."""
    match = _LOGIN.fullmatch(text)
    port = int(match["port"] or 22) if match else 0
    if match is None or not 0 < port < 65536:
        raise ValueError(f"ssh must be USER@HOST or USER@HOST:PORT, not {text!r}")
    return Login(match["user"], match["address"] or match["host"], port)


_NAME = re.compile(r"\w[\w.-]*", re.ASCII)
_LOGIN = re.compile(
    r"(?P<user>[\w.][\w.-]*)@(?:\[(?P<address>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[\w][\w.-]*))"
    r"(?::(?P<port>[0-9]{1,5}))?"
)


def read_sites(directory: Path) -> dict[str, SiteConfig]:
    """The sites of ``directory``/``*.conf`` by name, none if it does not exist.

    Raises ConfigurationError.
    """
    found: dict[str, SiteConfig] = {}
    files: dict[str, str] = {}
    for path in sorted(directory.glob("*.conf")):
        for section in configuration.read(path).sections:
            if section.kind != "site" or not section.name:
                message = f"unknown section {section.title}; a site is written [site NAME]"
                raise ConfigurationError(section.file, section.line, message)
            if section.name in found:
                message = f"{section.title} stands in {files[section.name]} already"
                raise ConfigurationError(section.file, section.line, message)
            found[section.name] = site_of(section)
            files[section.name] = section.file
    return found


def site_of(section: configuration.Section) -> SiteConfig:
    """The site that ``section`` describes; raises ConfigurationError.

    A key of another kind's door is an error that says whose it is.
    """
    kind = section.entries.get("computing_element")
    if kind is None:
        raise section.error("", f"lacks the key 'computing_element', one of {_kinds()}")
    if kind.value not in SITE_OF_KIND:
        message = f"computing_element must be one of {_kinds()}, not {kind.value!r}"
        raise section.error("computing_element", message)
    wanted = SITE_OF_KIND[kind.value]
    known = keys_of(wanted)
    for key in section.entries:
        others = [name for name, other in SITE_OF_KIND.items() if key in keys_of(other)]
        if key not in known and others:
            message = f"key {key!r} is for {' and '.join(others)}, and this is {kind.value}"
            entry = section.entries[key]
            raise ConfigurationError(section.file, entry.line, f"{section.title} {message}", known)
    return configuration.from_section(wanted, section)


def keys_of(kind: type[SiteConfig]) -> list[str]:
    """The keys that a section of ``kind`` may have."""
    return [field.name for field in dataclasses.fields(kind) if field.name != "name"]


def _kinds(of: type[SiteConfig] | None = None) -> str:
    kinds = [name for name, kind in SITE_OF_KIND.items() if of in (None, kind)]
    return ", ".join(kinds or SITE_OF_KIND)
