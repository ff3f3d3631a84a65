"""What the administrator set: ``server.conf`` as frozen values, each key with its default.

The keys are explained in samples/server.conf, those of the XWHEP manual (manual.py) in
conf/xtremweb.server.conf.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from ipaddress import ip_address, ip_network
from pathlib import Path
from urllib.parse import quote, urlsplit

from desktopgrid.model import configuration
from desktopgrid.model.configuration import Configuration
from desktopgrid.model.errors import ConfigurationError
from desktopgrid.model.manual import in_our_words
from desktopgrid.server.manual import DEFAULT_PORT, MANUAL

GANGLIA_PORT = 8694
"""Where the XWHEP manual has the source for Ganglia (6)."""
DEFAULT_DATABASE = "xtremweb"
"""The name of the database where only its user, password or host is given (manual, 7.1.1)."""


class LogLevel(Enum):
    """How much goes to the log; each level hides what is below it."""

    DEBUG = "debug"
    INFO = "info"
    WARN = "warn"
    ERROR = "error"


class Module(Enum):
    """A part of the server whose lines may stand alone in the log (XWHEP manual, 7.1.1)."""

    DATABASE = "DBI"
    COMMUNICATION = "Comm"
    TASKS = "Task"


@dataclass(frozen=True)
class ServerSection:
    """``[server]``: where it listens, what it is called, how it lives with its workers."""

    address: str = "0.0.0.0"  # noqa: S104 - workers come from other machines
    port: int = DEFAULT_PORT
    names: tuple[str, ...] = ()
    user: str = ""
    alive_period: timedelta = timedelta(seconds=60)
    stop_patience: timedelta = timedelta(seconds=30)
    log_level: LogLevel = LogLevel.INFO
    modules_logged: tuple[Module, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ValueError("port must be between 0 and 65535")
        if not timedelta(seconds=0.1) <= self.alive_period <= timedelta(days=1):
            raise ValueError("alive_period must be between 0.1 s and a day")


@dataclass(frozen=True)
class DatabaseSection:
    """``[database]``: by its ``url``, or as a MariaDB or MySQL by its parts; with neither it is the
    SQLite file ``grid.db`` in the grid's directory.
    """

    url: str = field(default="", repr=False)
    name: str = ""
    user: str = ""
    password: str = field(default="", repr=False)
    host: str = ""
    patience: timedelta = timedelta(minutes=1)

    def __post_init__(self) -> None:
        if not timedelta(seconds=1) <= self.patience <= timedelta(days=1):
            raise ValueError("patience must be between a second and a day")
        if self.url and self._parts:
            raise ValueError("url says all about the database; leave name, user, ... out")

    @property
    def _parts(self) -> bool:
        return bool(self.name or self.user or self.password or self.host)

    @property
    def address(self) -> str:
        """The database as SQLAlchemy names it; empty for the file in the grid's directory."""
        if self.url or not self._parts:
            return self.url
        user = quote(self.user, safe="")
        if self.password:
            user += f":{quote(self.password, safe='')}"
        at = f"{user}@" if user else ""
        is_socket = self.host.startswith("/")
        host = "" if is_socket else self.host or "localhost"
        socket = f"unix_socket={quote(self.host)}&" if is_socket else ""
        name = quote(self.name or DEFAULT_DATABASE, safe="")
        return f"mariadb+pymysql://{at}{host}/{name}?{socket}charset=utf8mb4"


@dataclass(frozen=True)
class LimitsSection:
    """``[limits]``: what the server takes at most."""

    max_works: int = 2_000_000
    max_data_mib: int = 1 << 20
    quota_mib: int = 0
    max_objects: int = 1_000_000
    max_keys: int = 100_000
    min_free_mib: int = 256
    longest_wall_time: timedelta = timedelta(days=7)
    losses_per_retry: int = 10
    history_kept: timedelta = timedelta()
    max_connections: int = 12_000

    def __post_init__(self) -> None:
        for each in dataclasses.fields(self):
            value = getattr(self, each.name)
            if isinstance(value, int) and value < 0:
                raise ValueError(f"{each.name} must not be negative")


@dataclass(frozen=True)
class WatchingSection:
    """``[watching]``: what the server tells of itself. ``log_directory`` counts from the grid's."""

    log_directory: Path = Path("log")
    log_mib: int = 64
    logs_kept: int = 10
    access_log: bool = True
    audit_log: bool = True
    watch_from: tuple[str, ...] = ("127.0.0.1", "::1")
    ganglia_address: str = "127.0.0.1"
    ganglia_port: int = 0
    monitoring_period: timedelta = timedelta(minutes=1)
    monitoring_days: int = 30

    def __post_init__(self) -> None:
        if self.log_mib < 1 or self.logs_kept < 0:
            raise ValueError("log_mib must be at least 1, logs_kept not negative")
        if self.monitoring_days < 1:
            raise ValueError("monitoring_days must be at least 1")
        if not 0 <= self.ganglia_port <= 65535:
            raise ValueError("ganglia_port must be between 0 and 65535")
        for network in self.watch_from:
            try:
                ip_network(network)
            except ValueError as error:
                raise ValueError(f"watch_from: {error}") from None

    def may_watch(self, address: str | None) -> bool:
        """Whether who comes from ``address`` may read what the server tells of itself."""
        found = ip_address(address or "0.0.0.0")  # noqa: S104 - nobody's
        # A socket that speaks both protocols writes IPv4 addresses so.
        plain = getattr(found, "ipv4_mapped", None) or found
        return any(plain in ip_network(network) for network in self.watch_from)


@dataclass(frozen=True)
class IdentitySection:
    """``[identity]``: by what else than passwords users show who they are. Without a directory of
    CAs no certificate is looked at.
    """

    certificates: Path | None = None
    vomsdir: Path | None = None
    longest_delegation: timedelta = timedelta(days=7)

    def __post_init__(self) -> None:
        if self.longest_delegation < timedelta(minutes=1):
            raise ValueError("longest_delegation must be at least a minute")


@dataclass(frozen=True)
class IssuerSection:
    """``[issuer NAME]``: whose tokens are believed, for which audience, and about whom."""

    name: str
    url: str
    audience: tuple[str, ...]
    login_claim: str = ""
    needs_scopes: bool = True
    ca: Path | None = None

    def __post_init__(self) -> None:
        if not self.url.startswith("https://") or "#" in self.url or "?" in self.url:
            raise ValueError(f"url must be https://..., not {self.url!r}")
        if not self.audience:
            raise ValueError("audience must name at least one: what tokens for this grid are for")


@dataclass(frozen=True)
class DatasSection:
    """``[datas]``: what is elsewhere, and what nobody refers to any more."""

    schemes: tuple[str, ...] = ()
    collect_every: timedelta = timedelta(days=1)
    garbage_kept: timedelta = timedelta(days=1)

    def __post_init__(self) -> None:
        for scheme in self.schemes:
            if not re.fullmatch("[a-z][a-z0-9+.-]*", scheme):
                raise ValueError(f"schemes: {scheme!r} is no scheme of a URI, such as davs")
        # The row of what was uploaded is written a moment later.
        if self.garbage_kept < timedelta(minutes=1):
            raise ValueError("garbage_kept must be at least a minute")


@dataclass(frozen=True)
class StoreSection:
    """``[store]``: an S3 store for large contents; without an ``endpoint`` there is none."""

    endpoint: str = ""
    bucket: str = ""
    region: str = "us-east-1"
    credentials: Path = Path()
    from_mib: int = 64
    url_lifetime: timedelta = timedelta(hours=1)

    def __post_init__(self) -> None:
        if not self.endpoint:
            return
        if not re.match("https?://[^/]", self.endpoint):
            raise ValueError(f"endpoint must be http(s)://HOST, not {self.endpoint!r}")
        if not self.bucket:
            raise ValueError("an endpoint needs a bucket")
        if self.from_mib < 1:
            raise ValueError("from_mib must be at least 1")
        if not timedelta(minutes=1) <= self.url_lifetime <= timedelta(days=7):
            raise ValueError("url_lifetime must be between a minute and 7 days")


@dataclass(frozen=True)
class DoorsSection:
    """``[doors]``: further ports; 0 is a door that stays shut."""

    tcp_port: int = 0
    udp_port: int = 0
    xmlrpc_port: int = 0

    def __post_init__(self) -> None:
        ports = [getattr(self, each.name) for each in dataclasses.fields(self)]
        if not all(0 <= port <= 65535 for port in ports):
            raise ValueError("a port must be between 0 and 65535")
        if self.tcp_port and self.tcp_port == self.xmlrpc_port:
            raise ValueError("tcp_port and xmlrpc_port are the same; a door has a port of its own")


@dataclass(frozen=True)
class ServerConfig:
    """The whole of ``server.conf``, and a sentence for each key in it that has no effect."""

    server: ServerSection = field(default_factory=ServerSection)
    doors: DoorsSection = field(default_factory=DoorsSection)
    database: DatabaseSection = field(default_factory=DatabaseSection)
    limits: LimitsSection = field(default_factory=LimitsSection)
    watching: WatchingSection = field(default_factory=WatchingSection)
    datas: DatasSection = field(default_factory=DatasSection)
    store: StoreSection = field(default_factory=StoreSection)
    identity: IdentitySection = field(default_factory=IdentitySection)
    issuers: tuple[IssuerSection, ...] = ()
    notes: tuple[str, ...] = ()


SECTIONS = {
    "server": ServerSection,
    "doors": DoorsSection,
    "database": DatabaseSection,
    "limits": LimitsSection,
    "watching": WatchingSection,
    "datas": DatasSection,
    "store": StoreSection,
    "identity": IdentitySection,
}


def read(path: Path) -> ServerConfig:
    """The configuration in the file ``path``, ours or the XWHEP manual's; raises
    ConfigurationError.
    """
    return _in_values(configuration.read(path, may_begin_plain=True))


def parse(text: str, file: str) -> ServerConfig:
    """The configuration that ``text`` is, to be in the file ``file``; raises ConfigurationError."""
    return _in_values(configuration.parse(text, file, may_begin_plain=True))


def _in_values(written: Configuration) -> ServerConfig:
    reading = in_our_words(written, MANUAL, SECTIONS)
    found = reading.configuration.expect(*SECTIONS, "issuer")
    _refuse_open_password(found)
    return ServerConfig(
        server=configuration.from_section(ServerSection, found.section("server")),
        doors=configuration.from_section(DoorsSection, found.section("doors")),
        database=configuration.from_section(DatabaseSection, found.section("database")),
        limits=configuration.from_section(LimitsSection, found.section("limits")),
        watching=configuration.from_section(WatchingSection, found.section("watching")),
        datas=configuration.from_section(DatasSection, found.section("datas")),
        store=configuration.from_section(StoreSection, found.section("store")),
        identity=configuration.from_section(IdentitySection, found.section("identity")),
        issuers=_issuers(found),
        notes=reading.notes,
    )


def _refuse_open_password(found: Configuration) -> None:
    """A database's password is for the server's user alone, in whichever key it stands."""
    entries = found.section("database").entries
    for key in ("password", "url"):
        entry = entries.get(key)
        if entry and entry.value and (key == "password" or _has_password(entry.value)):
            found.refuse_open_secret("password", entry)


def _has_password(url: str) -> bool:
    try:
        return bool(urlsplit(url).password)
    except ValueError:
        return False


def _issuers(found: Configuration) -> tuple[IssuerSection, ...]:
    """The issuers of tokens, each of another URL."""
    issuers: dict[str, IssuerSection] = {}
    for section in found.sections:
        if section.kind == "issuer":
            if not section.name:
                raise ConfigurationError(
                    section.file, section.line, "an issuer is written [issuer NAME]"
                )
            issuer = configuration.from_section(IssuerSection, section)
            if issuer.url in issuers:
                raise section.error("url", f"{issuer.url} is [issuer {issuers[issuer.url].name}]")
            issuers[issuer.url] = issuer
    return tuple(issuers.values())
