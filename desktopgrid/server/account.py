"""Root starts a server for another user, for the sake of a port below 1024 or a machine's boot; the
server is that user from then on, before it opens anything else (XWHEP manual, 7.1.2).
"""

from __future__ import annotations

import os
import pwd
import socket
from collections.abc import Callable
from pathlib import Path

from desktopgrid.model import account as accounts
from desktopgrid.model.account import Account
from desktopgrid.model.errors import ConfigurationError, Unavailable
from desktopgrid.server.home import Home

PRIVILEGED = 1024
"""Ports below this one are root's to open."""


def account_of(name: str) -> Account:
    """The user of this machine called ``name``; raises KeyError."""
    return Account.of(pwd.getpwnam(name))


def whom_to_be(
    named: str, file: Path, uid: int, known: Callable[[str], Account] = account_of
) -> Account | None:
    """Whom a server that user number ``uid`` starts must become; None where it may stay who it is.

    Raises ConfigurationError where root is told nothing, or as :func:`accounts.whom_to_be` does.
    """
    if not named and uid == 0:
        raise ConfigurationError(
            str(file),
            0,
            "[server] user is missing: root starts a server for a system user that is named there,"
            " and serves itself only where it says root",
        )
    return accounts.whom_to_be(named, "server", str(file), uid, known)


def become(account: Account) -> None:
    """Be ``account`` from now on, for good."""
    accounts.become(account, os)


def enter(home: Home) -> Home:
    """``home``, for who changes something there: we are its user from now on."""
    account = whom_to_be(home.config.server.user, home.configuration, os.geteuid())
    if account is not None:
        become(account)
    return home


def enter_with_port(home: Home) -> socket.socket | None:
    """Be the user that serves ``home``; its port, opened before, if only root could open it."""
    settings = home.config.server
    account = whom_to_be(settings.user, home.configuration, os.geteuid())
    if account is None:
        return None
    opened = open_port(settings.address, settings.port, home.configuration)
    become(account)
    return opened


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
