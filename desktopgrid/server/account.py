"""The system user that the server runs as (XWHEP manual, 7.1.2).

Root may start a server, for the sake of a port below 1024 or a machine's boot; the server is that
user from then on, before it opens anything else. Whoever else starts it must be that user.
"""

from __future__ import annotations

import os
import pwd
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from desktopgrid.model.errors import AccessDenied, ConfigurationError, Unavailable

ROOT = "root"
PRIVILEGED = 1024
"""Ports below this one are root's to open."""


@dataclass(frozen=True)
class Account:
    """A user of this machine."""

    name: str
    uid: int
    gid: int
    home: str


def account_of(name: str) -> Account:
    """The user of this machine called ``name``; raises KeyError."""
    found = pwd.getpwnam(name)
    return Account(found.pw_name, found.pw_uid, found.pw_gid, found.pw_dir)


def whom_to_be(
    named: str, file: Path, uid: int, known: Callable[[str], Account] = account_of
) -> Account | None:
    """Whom a process of user number ``uid`` must become to be the user that ``file`` names; None
    where it may stay who it is.

    Raises ConfigurationError where there is no such user or root is told nothing, AccessDenied
    where another user would have to be root to obey.
    """
    if not named:
        if uid != 0:
            return None
        raise ConfigurationError(
            str(file),
            1,
            "[server] user is missing: root starts a server for a system user that is named there,"
            " and serves itself only where it says root",
        )
    try:
        account = known(named)
    except KeyError:
        message = f"[server] user {named!r} is no user of this machine (useradd --system {named})"
        raise ConfigurationError(str(file), 1, message) from None
    if account.uid == uid:
        return None
    if uid != 0:
        raise AccessDenied(
            f"this grid is {named}'s ([server] user in {file}): be that user, or root,"
            f" as by `sudo -u {named} xwserver ...`"
        )
    return account


def become(account: Account, system: Any = os) -> None:
    """Be ``account`` from now on, for good: its groups, its home, and no way back to root."""
    system.initgroups(account.name, account.gid)
    system.setgid(account.gid)
    system.setuid(account.uid)
    try:
        system.setuid(0)
    except PermissionError:
        pass
    else:
        raise AccessDenied(f"root could not be left for {account.name}")
    names = {"HOME": account.home, "USER": account.name, "LOGNAME": account.name}
    system.environ.update(names)


def open_port(address: str, port: int, file: Path) -> socket.socket | None:
    """A socket at a port that only root may open; None for any other. Raises Unavailable."""
    if not 0 < port < PRIVILEGED:
        return None
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((address, port))
    except OSError as error:
        opened.close()
        raise Unavailable(
            f"cannot listen at {address} port {port}: {error.strerror or error}; set port in {file}"
        ) from error
    return opened


def give(directory: Path, account: Account) -> None:
    """Make everything in ``directory`` the account's; it is new, and nobody else has it open."""
    for parent, folders, files in os.walk(directory):
        for name in (".", *folders, *files):
            os.chown(Path(parent, name), account.uid, account.gid, follow_symlinks=False)
