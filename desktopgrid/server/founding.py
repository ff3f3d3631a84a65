"""Making a grid: its directory with everything that a server needs, in one step or not at all."""

from __future__ import annotations

import json
import re
import shutil
import socket
import tempfile
from collections.abc import Sequence
from datetime import datetime
from importlib import resources
from pathlib import Path

from desktopgrid.model.account import Account
from desktopgrid.model.errors import AlreadyThere, Unavailable
from desktopgrid.model.objects import new_uid
from desktopgrid.model.rights import UserLevel
from desktopgrid.model.sites import SITE_OF_KIND
from desktopgrid.server import changes, pki
from desktopgrid.server.account import give
from desktopgrid.server.database import engine as database
from desktopgrid.server.database import records
from desktopgrid.server.database.upgrading import upgrade
from desktopgrid.server.home import (
    CONFIGURATION,
    MANUALS_CONFIGURATION,
    Home,
    sync_directory,
    write_private,
)
from desktopgrid.server.requirements import obstacle_at
from desktopgrid.wire.proof import new_secret, verifier_of

ADMINISTRATOR = "admin"
WORKER = "worker"


def found(
    directory: Path,
    settings: dict[str, str],
    now: datetime,
    manuals: str | None = None,
    owner: Account | None = None,
) -> Home:
    """A new grid in ``directory``, which must be empty or not there, with these keys set, or with
    the text ``manuals`` in the XWHEP manual's form for its configuration; ``owner``'s, if it is to
    be another user's.

    It is made beside its place and then put there, so that what fails leaves nothing. Raises
    AlreadyThere, Unavailable, or ConfigurationError on a wrong setting.
    """
    directory = directory.absolute()
    obstacle = obstacle_at(directory)
    if obstacle:
        raise AlreadyThere(obstacle)
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    except OSError as error:
        raise Unavailable(f"cannot make {directory}: {error.strerror}") from error
    try:
        if manuals is None:
            write_private(part / CONFIGURATION, configuration_text(settings))
        else:
            place = part / MANUALS_CONFIGURATION
            place.parent.mkdir(mode=0o755)
            write_private(place, manuals)
        _furnish(part, now)
        part.chmod(0o755)
        if owner is not None:
            give(part, owner)
        part.replace(directory)
        sync_directory(directory.parent)
    except OSError as error:
        raise Unavailable(f"cannot make {directory}: {error.strerror}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Home.open(directory)


def _furnish(directory: Path, now: datetime) -> None:
    home = Home.open(directory)
    home.sites_directory.mkdir(mode=0o755)
    for sample in SITE_OF_KIND:
        # Not *.conf: it is no site until the administrator says so.
        write_private(
            home.sites_directory / f"{sample}.conf.sample", sample_text(sample), mode=0o644
        )
    home.datas.mkdir(mode=0o700)
    write_private(home.ca_key, ca_key := pki.new_key())
    title = f"Glidebridge grid of {socket.gethostname()}"
    ca = pki.ca_certificate(ca_key, title, now)
    write_private(home.ca_certificate, ca, mode=0o644)
    write_private(home.key, pki.new_key())
    renew(home, now)
    _people(home, ca.decode(), now)


def renew(home: Home, now: datetime) -> None:
    """Give the grid's server a new certificate for the names that are configured now."""
    certificate = pki.server_certificate(
        home.ca_certificate.read_bytes(),
        home.ca_key.read_bytes(),
        home.key.read_bytes(),
        server_names(home),
        now,
    )
    write_private(home.certificate, certificate, mode=0o644)


def server_names(home: Home) -> Sequence[str]:
    """The names under which others reach the server: what is configured, else this machine's."""
    return home.config.server.names or (socket.gethostname(),)


def server_addresses(home: Home) -> list[str]:
    """``https://NAME:PORT`` for each name of the server, this machine's own last."""
    names = [*server_names(home), "localhost"]
    return [
        f"https://[{name}]:{home.config.server.port}"
        if ":" in name
        else f"https://{name}:{home.config.server.port}"
        for name in dict.fromkeys(names)
    ]


def _people(home: Home, ca: str, now: datetime) -> None:
    """The database with an administrator and a public worker, each with a token (XW-USR-12)."""
    engine = database.open(home, exclusive=False)
    try:
        upgrade(engine)
        addresses = server_addresses(home)
        made = [
            *_person(home.admin_identity, ADMINISTRATOR, UserLevel.SUPER, addresses[::-1], ca, now),
            *_person(home.worker_identity, WORKER, UserLevel.WORKER, addresses, ca, now),
        ]
        with engine.connect() as connection, database.transaction(connection):
            shard = records.take(connection, 0, "init")
            records.record(connection, shard, made)
        if home.database.exists():
            home.database.chmod(0o600)
    finally:
        engine.dispose()


def _person(
    path: Path, login: str, level: UserLevel, servers: list[str], ca: str, now: datetime
) -> list[changes.Change]:
    """A user with a token whose secret stands in the identity file ``path`` and nowhere else."""
    user, token, secret = new_uid(), new_uid(), new_secret()
    identity = {
        "servers": servers,
        "kind": "worker" if level is UserLevel.WORKER else "client",
        "identity": token,
        "secret": secret,
        "ca": ca,
    }
    write_private(path, json.dumps(identity, indent=1) + "\n")
    return [
        changes.UserSaved(user, login, int(level), None, "", False, None, False),
        changes.CredentialSaved(
            token, user, "token", verifier_of(secret), now.timestamp(), None, False
        ),
    ]


def point_identities(home: Home, address: str) -> None:
    """Make the identity files of the grid's directory say where the server is: at the names and the
    port that are configured now, or at ``address`` where any port was as good.
    """
    found = [address] if home.config.server.port == 0 else server_addresses(home)
    for path, servers in ((home.admin_identity, found[::-1]), (home.worker_identity, found)):
        if not path.exists():
            continue
        identity = json.loads(path.read_text())
        if identity["servers"] != servers:
            identity["servers"] = servers
            write_private(path, json.dumps(identity, indent=1) + "\n")


def sample_text(name: str) -> str:
    """The commented sample of a configuration file."""
    samples = resources.files("desktopgrid.server").joinpath("samples")
    return samples.joinpath(f"{name}.conf").read_text(encoding="utf-8")


def configuration_text(settings: dict[str, str]) -> str:
    """The commented sample of ``server.conf`` with these keys set."""
    text = sample_text("server")
    for key, value in settings.items():
        line = f"{key} = {value}".replace("\\", r"\\")
        text, count = re.subn(rf"^#{key} =.*$", line, text, count=1, flags=re.M)
        assert count == 1, key  # noqa: S101 - a test sets every key
    return text
