"""What a session of ours needs of a link, as a seam: the real one is desktopgrid.link, the fake one
fake.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from desktopgrid.link.identity import Identity
from desktopgrid.model.errors import GridError
from desktopgrid.wire.messages import Message, Welcome

OnBytes = Callable[[int], None]
"""Told how many bytes have been moved, now and then."""


class Transfers(Protocol):
    """Moves contents; digest and size are checked at both ends."""

    def get(self, path: str, target: Path, sha256: str, size: int, progress: OnBytes = ...) -> None:
        """Fetch ``path`` into the file ``target``, whole or not at all."""

    def put(
        self, path: str, source: Path | bytes, sha256: str, size: int, progress: OnBytes = ...
    ) -> None:
        """Send a content; goes on where an earlier attempt broke."""

    def read(self, path: str, limit: int) -> bytes:
        """A content of at most ``limit`` bytes."""


class Connection(Protocol):
    """A session with the server that is kept up over broken connections."""

    @property
    def transfers(self) -> Transfers:
        """Where contents are moved."""

    @property
    def welcome(self) -> Welcome | None:
        """What the server said last at the door."""

    @property
    def trouble(self) -> str:
        """Why there is no connection now; empty where there is one."""

    def start(self) -> None:
        """Begin to connect."""

    def wait_open(self, timeout: float) -> Welcome:
        """Wait for the door to open; raises what the server refused with, or Unavailable."""

    def say(self, message: Message, may_wait: bool = False) -> int:
        """Say it now, soon if it ``may_wait``, or when there is a connection again; its number."""

    def close(self, timeout: float = ..., reason: str = ...) -> None:
        """Take leave."""


class Connect(Protocol):
    """Makes a connection; the class :class:`desktopgrid.link.session.Link` is one."""

    def __call__(
        self,
        identity: Identity,
        *,
        on_message: Callable[[int, Message], None],
        on_open: Callable[[Welcome], None],
        on_end: Callable[[GridError], None],
    ) -> Connection:
        """A connection that has not been started."""
