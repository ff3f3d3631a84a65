"""What the administrator says about a site, in ``sites.d/*.conf``.

The server reads it for the caps on pilots, `pilot` for the door through which they go in.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from desktopgrid.model import configuration
from desktopgrid.model.errors import ConfigurationError
from desktopgrid.model.objects import Site

COMPUTING_ELEMENTS = ("condor", "local", "arc", "gram", "slurm", "pbs", "fake")
"""The doors that there are."""


@dataclass(frozen=True)
class SiteConfig:
    """One ``[site NAME]``: how many pilots it may have, how to reach it, what a pilot asks for."""

    name: str
    computing_element: str

    max_pilots: int = 10
    max_idle: int = 5
    max_an_hour: int = 100
    vo: str = ""
    certified_users_only: bool = False

    schedd: str = ""
    pool: str = ""
    address: str = ""
    token: str = ""

    cores: int = 1
    memory_mib: int = 1024
    disk_mib: int = 2048
    wall_time: timedelta = timedelta(hours=24)
    idle_time: timedelta = timedelta(minutes=10)
    queue_limit: timedelta = timedelta(hours=24)
    python: str = "python3"

    def __post_init__(self) -> None:
        if self.computing_element not in COMPUTING_ELEMENTS:
            known = ", ".join(COMPUTING_ELEMENTS)
            raise ValueError(f"computing_element must be one of {known}")
        for name in ("max_pilots", "max_idle", "max_an_hour", "memory_mib", "disk_mib"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative")
        if self.cores < 1:
            raise ValueError("cores must be at least 1")
        for name in ("wall_time", "idle_time", "queue_limit"):
            if getattr(self, name) < timedelta(seconds=1):
                raise ValueError(f"{name} must be at least a second")

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
            found[section.name] = configuration.from_section(SiteConfig, section)
            files[section.name] = section.file
    return found
