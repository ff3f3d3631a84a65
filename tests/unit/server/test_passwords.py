"""Passwords take their time to check: nobody has all of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from desktopgrid.model.errors import Unavailable
from desktopgrid.model.objects import Credential
from desktopgrid.server.listeners.passwords import SHARE_OF_LOGIN, SHARE_OF_ORIGIN, Passwords
from desktopgrid.server.watching import Watcher
from tests.builders import NOON, GridUnderTest

pytestmark = pytest.mark.feature("XW-USR-1")
HERE, THERE = "192.0.2.1", "192.0.2.2"


class Slow(Passwords):
    """Every password is right, once it may be."""

    def __init__(self) -> None:
        super().__init__(Watcher(lambda: NOON))
        self.may_end = threading.Event()

    def _is_password(self, verifier: str, password: str) -> bool:
        return self.may_end.wait(60)


@pytest.fixture
def grid() -> GridUnderTest:
    grid = GridUnderTest()
    for login in ("alice", "admin"):
        grid.grid.credentials[login] = Credential(login, login, "password", "hash", NOON)
    return grid


@pytest.fixture
def passwords() -> Iterator[Slow]:
    passwords = Slow()
    yield passwords
    passwords.may_end.set()
    passwords.close()


async def start(
    passwords: Slow, grid: GridUnderTest, login: str, address: str, count: int
) -> list[asyncio.Task[object]]:
    """So many checks that go on."""
    tasks: list[asyncio.Task[object]] = []
    for _ in range(count):
        # what was right does not count as a guess; these are not known to be so yet
        passwords._guesses._due.clear()
        passwords._guesses_from._due.clear()
        tasks.append(asyncio.create_task(passwords.check(grid.grid, login, "right", address)))
        await asyncio.sleep(0)
    return tasks


@pytest.mark.asyncio
async def test_one_login_from_one_place_leaves_room_for_others(
    passwords: Slow, grid: GridUnderTest
) -> None:
    waiting = await start(passwords, grid, "alice", HERE, SHARE_OF_LOGIN)
    with pytest.raises(Unavailable, match="too many log in from where you are"):
        await passwords.check(grid.grid, "alice", "right", HERE)
    others = await start(passwords, grid, "admin", HERE, 1)
    others += await start(passwords, grid, "alice", THERE, 1)
    passwords.may_end.set()
    assert len(await asyncio.gather(*waiting, *others)) == SHARE_OF_LOGIN + 2
    assert not passwords._checking
    await passwords.check(grid.grid, "alice", "right", HERE)


@pytest.mark.asyncio
async def test_one_place_has_not_all_of_it_under_however_many_names(
    passwords: Slow, grid: GridUnderTest
) -> None:
    """An IPv6 network counts as one place."""
    waiting = [
        task
        for number in range(SHARE_OF_ORIGIN)
        for task in await start(passwords, grid, f"login{number}", f"2001:db8::{number:x}", 1)
    ]
    with pytest.raises(Unavailable, match="too many log in from where you are"):
        await passwords.check(grid.grid, "alice", "right", "2001:db8::ffff")
    (other,) = await start(passwords, grid, "alice", "2001:db8:0:1::1", 1)
    passwords.may_end.set()
    await asyncio.gather(*waiting, return_exceptions=True)
    await other
