"""Whose process a server is: decided by value, and done to a system that takes notes."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from desktopgrid.model.account import Account, become
from desktopgrid.model.errors import AccessDenied, ConfigurationError
from desktopgrid.server.account import account_of, open_port, whom_to_be

FILE = Path("/grid/server.conf")
XTREMWEB = Account("xtremweb", 901, 902, "/srv/xtremweb")
ROOT = Account("root", 0, 0, "/root")
KNOWN = {"xtremweb": XTREMWEB, "root": ROOT}


@pytest.mark.feature("XW-CFG-15", "XW-CFG-16")
@pytest.mark.parametrize(
    ("named", "uid", "account"),
    [
        pytest.param("", 901, None, id="an ordinary user serves his own grid"),
        pytest.param("xtremweb", 901, None, id="it is that user already"),
        pytest.param("xtremweb", 0, XTREMWEB, id="root becomes the user"),
        pytest.param("root", 0, None, id="root serves where it is told so"),
    ],
)
def test_whom_a_server_becomes(named: str, uid: int, account: Account | None) -> None:
    assert whom_to_be(named, FILE, uid, KNOWN.__getitem__) == account


@pytest.mark.feature("XW-CFG-15", "XW-CFG-16")
@pytest.mark.parametrize(
    ("named", "uid", "kind", "sentence"),
    [
        ("", 0, ConfigurationError, r"server.conf: \[server\] user is missing: root starts"),
        ("xtremewb", 0, ConfigurationError, "'xtremewb' is no user of this machine"),
        (
            "xtremweb",
            1000,
            AccessDenied,
            "is xtremweb: only that user may do this, .* or root, who becomes",
        ),
        ("root", 1000, AccessDenied, "is root: only that user may"),
    ],
)
def test_who_may_not_start_it(named: str, uid: int, kind: type[Exception], sentence: str) -> None:
    with pytest.raises(kind, match=sentence):
        whom_to_be(named, FILE, uid, KNOWN.__getitem__)


class System:
    """What `os` does, in a note."""

    def __init__(self, is_fast: bool = True) -> None:
        self.done: list[tuple[object, ...]] = []
        self.environ: dict[str, str] = {"HOME": "/root", "PATH": "/bin"}
        self._is_fast = is_fast

    def initgroups(self, name: str, gid: int) -> None:
        self.done.append(("initgroups", name, gid))

    def setgid(self, gid: int) -> None:
        self.done.append(("setgid", gid))

    def setuid(self, uid: int) -> None:
        if uid == 0 and self._is_fast:
            raise PermissionError
        self.done.append(("setuid", uid))


def test_groups_go_before_the_user_who_may_not_change_them() -> None:
    system = System()
    become(XTREMWEB, system)
    assert system.done == [("initgroups", "xtremweb", 902), ("setgid", 902), ("setuid", 901)]
    assert system.environ == {
        **{"HOME": "/srv/xtremweb", "USER": "xtremweb", "LOGNAME": "xtremweb", "PATH": "/bin"},
    }


def test_who_could_be_root_again_has_not_left_it() -> None:
    with pytest.raises(AccessDenied, match="root could not be left for xtremweb"):
        become(XTREMWEB, System(is_fast=False))


def test_only_a_port_of_roots_is_opened_beforehand() -> None:
    assert open_port("127.0.0.1", 0, FILE) is None
    assert open_port("127.0.0.1", 4325, FILE) is None


def test_an_account_is_this_machines() -> None:
    me = pwd.getpwuid(os.getuid())
    assert account_of(me.pw_name) == Account(me.pw_name, me.pw_uid, me.pw_gid, me.pw_dir)
