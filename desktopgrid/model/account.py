"""The system user that a daemon runs as (XWHEP manual, 7.1.2 and 7.2.2): who must become whom, and
in which order that goes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Optional

from desktopgrid.model.errors import AccessDenied, ConfigurationError

ROOT = "root"


@dataclass(frozen=True)
class Account:
    """A user of this machine."""

    name: str
    uid: int
    gid: int
    home: str

    @classmethod
    def of(cls, entry: Any) -> Account:
        """The account of an ``entry`` of the user database (:mod:`pwd`)."""
        return cls(entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir)


def whom_to_be(
    named: str, section: str, file: str, uid: int, known: Callable[[str], Account]
) -> Optional[Account]:
    """Whom a process of user number ``uid`` must become to be the user that ``[section] user`` of
    ``file`` names; None where it may stay who it is.

    Raises ConfigurationError where there is no such user, AccessDenied where another user would
    have to be root to obey.
    """
    if not named:
        return None
    try:
        account = known(named)
    except KeyError:
        message = (
            f"[{section}] user {named!r} is no user of this machine (useradd --system {named})"
        )
        raise ConfigurationError(file, 0, message) from None
    if account.uid == uid:
        return None
    if uid != 0:
        raise AccessDenied(
            f"[{section}] user in {file} is {named}: only that user may do this, as by"
            f" `sudo -u {named} ...`, or root, who becomes that user"
        )
    return account


def become(account: Account, system: Any) -> None:
    """Be ``account`` from now on, for good: its groups, its home, and no way back to root.

    ``system`` is :mod:`os`. Raises AccessDenied if root could be had back.
    """
    system.initgroups(account.name, account.gid)
    system.setgid(account.gid)
    system.setuid(account.uid)
    try:
        system.setuid(0)
    except PermissionError:
        pass
    else:
        raise AccessDenied(f"root could not be left for {account.name}")
    system.environ.update(HOME=account.home, USER=account.name, LOGNAME=account.name)
