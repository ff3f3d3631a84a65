"""The directory of a grid: what lies where, and what is set there."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from desktopgrid.model.errors import ConfigurationError, UnknownObject
from desktopgrid.model.objects import Site
from desktopgrid.model.sites import SiteConfig, read_sites
from desktopgrid.server import config as configuration
from desktopgrid.server.config import ServerConfig

CONFIGURATION = "server.conf"
MANUALS_CONFIGURATION = "conf/xtremweb.server.conf"
"""Where the XWHEP manual has it (7.1.1)."""


@dataclass(frozen=True)
class Home:
    """A grid's directory with its configuration: all that a server needs to know to serve."""

    directory: Path
    config: ServerConfig
    sites: Mapping[str, SiteConfig]

    @classmethod
    def open(cls, directory: Path) -> Home:
        """The grid in ``directory``; raises UnknownObject if there is none, ConfigurationError."""
        directory = directory.absolute()
        place = configuration_of(directory)
        return cls(directory, configuration.read(place), read_sites(directory / "sites.d"))

    @property
    def configuration(self) -> Path:
        """What the administrator set."""
        return configuration_of(self.directory)

    @property
    def sites_directory(self) -> Path:
        """One ``*.conf`` a site."""
        return self.directory / "sites.d"

    @property
    def ca_certificate(self) -> Path:
        """What clients and workers pin."""
        return self.directory / "ca.pem"

    @property
    def ca_key(self) -> Path:
        """Whoever has this is the grid."""
        return self.directory / "ca.key"

    @property
    def certificate(self) -> Path:
        """The server's, under the grid's CA."""
        return self.directory / "server.pem"

    @property
    def key(self) -> Path:
        """The server's private key."""
        return self.directory / "server.key"

    @property
    def database(self) -> Path:
        """The SQLite file, unless the configuration names another database."""
        return self.directory / "grid.db"

    @property
    def database_url(self) -> str:
        """The database as SQLAlchemy names it."""
        return self.config.database.address or f"sqlite:///{self.database}"

    @property
    def datas(self) -> Path:
        """The contents of datas and outputs, by digest."""
        return self.directory / "data"

    @property
    def pid_file(self) -> Path:
        """The process that has the grid open."""
        return self.directory / "server.pid"

    @property
    def log(self) -> Path:
        """What the daemon did."""
        return self.directory / "server.log"

    @property
    def logs(self) -> Path:
        """Where the logs lie that others read: who asked for what, who did what."""
        return self.directory / self.config.watching.log_directory

    @property
    def access_log(self) -> Path:
        """Who asked for what."""
        return self.logs / "access.log"

    @property
    def audit_log(self) -> Path:
        """Who did what to which object, and for whom each task ran."""
        return self.logs / "audit.log"

    @property
    def address_file(self) -> Path:
        """``https://host:port`` of the server that serves now."""
        return self.directory / "address"

    @property
    def admin_identity(self) -> Path:
        """The administrator's identity, for `xw` on this machine."""
        return self.directory / "admin.identity"

    @property
    def worker_identity(self) -> Path:
        """The identity of public workers."""
        return self.directory / "worker.identity"

    @property
    def caps(self) -> dict[str, Site]:
        """The sites as the scheduler and the caps see them."""
        return {name: site.site for name, site in self.sites.items()}


def configuration_of(directory: Path) -> Path:
    """The one configuration file of the grid in ``directory``; raises UnknownObject if there is
    none, ConfigurationError if there are two.
    """
    ours, manuals = directory / CONFIGURATION, directory / MANUALS_CONFIGURATION
    if ours.is_file() and manuals.is_file():
        raise ConfigurationError(
            str(manuals), 0, f"{ours} is this grid's configuration too; remove one of the two"
        )
    if ours.is_file() or manuals.is_file():
        return ours if ours.is_file() else manuals
    raise UnknownObject(
        f"there is no grid in {directory} (neither {CONFIGURATION} nor {MANUALS_CONFIGURATION});"
        " `xwserver init DIR` makes one, --directory or GLIDEBRIDGE_HOME names another"
    )


def write_private(path: Path, content: str | bytes, mode: int = 0o600) -> None:
    """Make the file ``path`` read so: whole at any moment, durable, never open to others."""
    data = content.encode() if isinstance(content, str) else content
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make the names in ``directory`` durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
