"""Whom `xw` and the Python API act for: the identity file, where it is and how it is made.

The first that is named counts: ``--identity FILE``, ``$GLIDEBRIDGE_IDENTITY``, then
``$XDG_CONFIG_HOME/glidebridge/identity.json``, which `xw login` writes, and at last
``~/.xtremweb/xwrc``. Each may also be a configuration in the XWHEP manual's form (7.3.1), with a
login and a password in it: what the server gives for them is kept beside it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

from desktopgrid.credentials.proof import Proof
from desktopgrid.link import settings
from desktopgrid.link.identity import Identity
from desktopgrid.link.manual import CLIENTS
from desktopgrid.link.settings import GridSection
from desktopgrid.link.transfer import change_password as ask_for_new_password
from desktopgrid.link.transfer import login as ask_for_token
from desktopgrid.link.transfer import login_by_certificate, login_by_token
from desktopgrid.model import configuration
from desktopgrid.model.errors import BadRequest, NotAuthenticated, UnknownObject

VARIABLE = "GLIDEBRIDGE_IDENTITY"
MANUALS = Path(".xtremweb") / "xwrc"
"""Where the manual has a client's configuration, below the home directory."""


class LogLevel(Enum):
    """How much a client says of what it does."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warn"
    ERROR = "error"


@dataclass(frozen=True)
class ClientSection:
    """``[client]``: how long to wait for a silent server, and how much to say."""

    answer_within: timedelta = timedelta(seconds=60)
    log_level: LogLevel = LogLevel.WARNING

    def __post_init__(self) -> None:
        if self.answer_within <= timedelta():
            raise ValueError("answer_within must be more than nothing")


@dataclass(frozen=True)
class ClientConfig:
    """What a configuration file tells a client, and a sentence for each key without an effect."""

    grid: GridSection
    client: ClientSection
    notes: tuple[str, ...] = ()


class Login(NamedTuple):
    """What a login made: the identity, whose it is, what it is good for (everything where that is
    empty), and until when.
    """

    identity: Identity
    user: str
    scope: str
    expires_at: str


def default_label() -> str:
    """What a token is called unless its owner says otherwise: where it was made."""
    return f"xw on {socket.gethostname()}"


def identity_path(
    named: Path | None = None,
    environment: Mapping[str, str] = os.environ,
    is_new: bool = False,
) -> Path:
    """Where the identity file is; or where a new one is to be."""
    if named is not None:
        return named
    if environment.get(VARIABLE):
        return Path(environment[VARIABLE])
    home = Path(environment.get("HOME") or "~").expanduser()
    ours = Path(environment.get("XDG_CONFIG_HOME") or home / ".config").expanduser()
    found, manuals = ours / "glidebridge" / "identity.json", home / MANUALS
    return manuals if manuals.is_file() and not (found.exists() or is_new) else found


def load(path: Path) -> Identity:
    """The identity in ``path``, or the one that its login and password stand for; raises
    UnknownObject with what to do where there is none.
    """
    if not path.exists():
        raise UnknownObject(
            f"there is no identity file {path}; make one by `xw login --server"
            " https://HOST:PORT --ca FILE LOGIN`, or name another by --identity"
        )
    if not is_configuration(path):
        return Identity.read(path)
    return read_configuration(path).grid.identity("client", path, token_of(path))


def is_configuration(path: Path) -> bool:
    """Whether ``path`` is a configuration and no identity, which is JSON."""
    try:
        with path.open("rb") as file:
            return not file.read(1024).lstrip().startswith(b"{")
    except OSError:
        return False


def read_configuration(path: Path) -> ClientConfig:
    """The configuration in the file ``path``, a client's or a worker's; raises
    ConfigurationError.
    """
    reading = settings.read(path, CLIENTS, {"grid": GridSection, "client": ClientSection})
    found = reading.configuration.expect("grid", "client", "worker", "attributes", "fetchers")
    return ClientConfig(
        configuration.from_section(GridSection, found.section("grid")),
        configuration.from_section(ClientSection, found.section("client")),
        reading.notes,
    )


def token_of(path: Path) -> Path:
    """Where what the server gave for the password in ``path`` is kept."""
    return path.with_name(f"{path.name}.token")


def forget(path: Path) -> bool:
    """Remove what is kept of ``path``; whether anything was."""
    kept = token_of(path)
    is_there = is_configuration(path) and kept.exists()
    if is_there:
        kept.unlink()
    return is_there


def log_in(
    servers: Sequence[str],
    ca: str,
    login: str,
    password: str,
    path: Path,
    lifetime: int | None = None,
    label: str = "",
) -> Login:
    """Exchange login and password for a token and keep it in ``path``, for the owner alone to read.

    ``ca`` is the grid's CA in PEM: no other server is talked to. The password is kept nowhere.
    """
    check_ca(ca)
    try:
        reply = ask_for_token(tuple(servers), ca, login, password, lifetime, label)
    except NotAuthenticated:
        raise NotAuthenticated(f"the server does not know {login!r} by this password") from None
    return _keep(tuple(servers), ca, reply, path)


def change_password(identity: Identity, login: str, password: str, new: str) -> None:
    """Let ``login`` log in by ``new``, and by ``password`` no more. Tokens stay good."""
    try:
        ask_for_new_password(identity.servers, identity.ca, login, password, new)
    except NotAuthenticated:
        raise NotAuthenticated(f"the server does not know {login!r} by this password") from None


def log_in_by_certificate(
    servers: Sequence[str],
    ca: str,
    proof: Proof,
    path: Path,
    lifetime: int | None = None,
    label: str = "",
) -> Login:
    """The same by a certificate or a proxy; the token ends with it at the latest. The key stays
    where it is.
    """
    check_ca(ca)
    reply = login_by_certificate(tuple(servers), ca, proof.chain, proof.sign, lifetime, label)
    return _keep(tuple(servers), ca, reply, path)


def log_in_by_token(
    servers: Sequence[str],
    ca: str,
    token: str,
    path: Path,
    lifetime: int | None = None,
    label: str = "",
) -> Login:
    """The same by a bearer token of an issuer that the server knows; ours ends with it."""
    check_ca(ca)
    return _keep(
        tuple(servers), ca, login_by_token(tuple(servers), ca, token, lifetime, label), path
    )


def check_ca(ca: str) -> None:
    """Raises BadRequest unless ``ca`` is a certificate in PEM."""
    if "-----BEGIN CERTIFICATE-----" not in ca:
        raise BadRequest(
            "the CA is no certificate in PEM; take ca.pem, which is in the grid's directory"
        )


def _keep(servers: tuple[str, ...], ca: str, reply: dict[str, Any], path: Path) -> Login:
    identity = Identity(servers, "client", str(reply["token"]), str(reply["secret"]), ca)
    # An XDG directory that is not there yet is for its owner alone.
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    identity.write(path)
    words = (str(reply.get(name, "")) for name in ("user", "scope", "expires_at"))
    return Login(identity, *words)
