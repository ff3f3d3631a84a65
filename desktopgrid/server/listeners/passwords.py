"""Passwords: hashed and checked in threads, and not guessed.

Whoever gives a wrong one learns nothing but that: unknown, revoked and passwordless users cost the
same time, and the same words.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError

from desktopgrid.model.errors import NotAuthenticated, Unavailable
from desktopgrid.model.objects import User
from desktopgrid.server.people import check_length
from desktopgrid.server.state import Grid
from desktopgrid.server.throttle import Throttle, origin_of
from desktopgrid.server.watching import Watcher

GUESSES, GUESSES_A_SECOND = 5, 1.0
"""Wrong passwords for a login that an address may send at once, and from then on; for all logins
together ten times as many.
"""
MOST_CHECKS = 100
"""Passwords that may wait to be checked: two at a time are, a fifth of a second each."""
SHARE_OF_ORIGIN, SHARE_OF_LOGIN = 25, 10
"""How many of them may be one address's, and one login's from there: right ones, too, take time."""

T = TypeVar("T")


class Passwords:
    """Hashes and checks passwords."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._pool = ThreadPoolExecutor(2, "argon2")
        self._hasher = PasswordHasher()
        self._nobodys = self._hasher.hash("nobody has this password")
        self._guesses = Throttle(GUESSES, GUESSES_A_SECOND)
        self._guesses_from = Throttle(10 * GUESSES, 10 * GUESSES_A_SECOND)
        self._checking: Counter[str | tuple[str, str]] = Counter()
        """Passwords that wait, by where they come from, and by login and that."""

    async def hash(self, password: str) -> str:
        """What is kept of ``password``; raises BadRequest where it is too short."""
        check_length(password)
        return await self._in_thread(self._hasher.hash, password)

    async def check(self, grid: Grid, login: str, password: str, address: str) -> User:
        """The user with this login and password; raises NotAuthenticated, Throttled where
        ``address`` guesses, or Unavailable.
        """
        origin = origin_of(address)
        self._check_room(origin, login)
        now = asyncio.get_running_loop().time()
        self._guesses_from.count(origin, now)
        self._guesses.count((login, origin), now)
        self._checking.update((origin, (login, origin)))
        try:
            user = await self._user(grid, login, password)
        except NotAuthenticated as error:
            # Whoever goes on guessing is throttled, and fills no log.
            self._watcher.logged_in(login, address, code=error.code)
            raise
        finally:
            self._checking -= Counter((origin, (login, origin)))
        self._guesses_from.forgive(origin)
        self._guesses.forgive((login, origin))
        return user

    def _check_room(self, origin: str, login: str) -> None:
        """Raises Unavailable where too many passwords wait, or too many of one who sends them."""
        of_origin, of_login = self._checking[origin], self._checking[login, origin]
        if self._checking.total() >= 2 * MOST_CHECKS:
            raise Unavailable("too many log in at present")
        if of_origin >= SHARE_OF_ORIGIN or of_login >= SHARE_OF_LOGIN:
            raise Unavailable(
                "too many log in from where you are at present; a token (`xw login`) takes no time"
                " to check"
            )

    async def _user(self, grid: Grid, login: str, password: str) -> User:
        user = grid.user_named(login)
        credential = grid.credentials.get(user.uid) if user is not None else None
        verifier = credential.verifier if credential is not None else self._nobodys
        is_right = await self._in_thread(self._is_password, verifier, password)
        is_good = credential is not None and not credential.is_revoked and is_right
        if user is None or user.is_revoked or not is_good:
            raise NotAuthenticated("wrong login or password")
        return user

    def _is_password(self, verifier: str, password: str) -> bool:
        try:
            return self._hasher.verify(verifier, password)
        except (VerificationError, ValueError):
            return False

    async def _in_thread(self, do: Callable[..., T], *args: str) -> T:
        try:
            working = asyncio.get_running_loop().run_in_executor(self._pool, do, *args)
        except RuntimeError as error:  # the pool takes no more
            raise Unavailable("the server is stopping") from error
        return await working

    def close(self) -> None:
        """Take no more."""
        self._pool.shutdown(wait=False)
