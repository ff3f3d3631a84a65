"""A link without a network, and builders of what a server says."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from desktopgrid.model.errors import UnknownObject
from desktopgrid.wire import messages as m
from desktopgrid.wire.codec import STDLIB

WELCOME = m.Welcome(resumed=False, seen=0, alive_period=60.0, ticket="t", user="alice", level=10)
DEADLINE = 20.0


def until(condition: Callable[[], object], seconds: float = DEADLINE) -> None:
    """Wait until ``condition`` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


class FakeTransfers:
    """Datas in a dictionary by UID; uploads in another by path."""

    def __init__(self) -> None:
        self.datas: dict[str, bytes] = {}
        self.stored: dict[str, bytes] = {}
        self.fetches = 0
        self.trouble: list[Exception] = []

    def get(
        self,
        path: str,
        target: Path,
        sha256: str,
        size: int,
        progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        """See desktopgrid.link.transfer."""
        progress(0)
        self.fetches += 1
        if self.trouble:
            raise self.trouble.pop(0)
        uid = path.rsplit("/", 1)[1]
        if uid not in self.datas:
            raise UnknownObject.named("data", uid)
        part = target.with_name(target.name + ".part")
        part.write_bytes(self.datas[uid])
        part.rename(target)

    def put(
        self,
        path: str,
        source: Path | bytes,
        sha256: str,
        size: int,
        progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        """See desktopgrid.link.transfer."""
        progress(0)
        if self.trouble:
            raise self.trouble.pop(0)
        content = source if isinstance(source, bytes) else source.read_bytes()
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (sha256, size)
        self.stored[path] = content

    def add(self, content: bytes | str, name: str = "") -> m.File:
        """A data with ``content``, as an assign names it."""
        content = content.encode() if isinstance(content, str) else content
        sha256 = hashlib.sha256(content).hexdigest()
        self.datas[sha256[:12]] = content
        return m.File(name or sha256[:6], sha256[:12], sha256, len(content))


class FakeLink:
    """Keeps what is said; a test says what the server says by calling the agent."""

    def __init__(self) -> None:
        self.transfers = FakeTransfers()
        self.said: list[m.Message] = []
        self.beats = 0
        self.is_open = True
        self.unacknowledged = 0
        self.closed: str | None = None
        self.on_start: Callable[[], None] = lambda: None
        self.heard = threading.Event()
        self.trouble: list[Exception] = []

    def start(self) -> None:
        """See desktopgrid.link.session."""
        self.on_start()

    def say(self, message: m.Message, may_wait: bool = False) -> int:
        """See desktopgrid.link.session."""
        if self.trouble:
            raise self.trouble.pop(0)
        STDLIB.encode(message, 1)
        self.said.append(message)
        return len(self.said)

    def alive(self, message: m.Alive) -> None:
        """See desktopgrid.link.session."""
        self.beats += 1

    def close(self, timeout: float = 5.0, reason: str = "") -> None:
        """See desktopgrid.link.session."""
        self.closed = reason

    def of(self, kind: type[m.Message]) -> list[m.Message]:
        """What was said of one kind."""
        return [message for message in list(self.said) if isinstance(message, kind)]


_DULL: Mapping[str, object] = {
    "work": "w",
    "application": "app",
    "executable": m.File("true", "d", "0" * 64, 1),
}


def an_assign(epoch: int = 1, **fields: object) -> m.Assign:
    """A task whose name follows from its epoch."""
    return m.Assign(**{"task": f"w.{epoch}", "epoch": epoch, **_DULL, **fields})  # type: ignore[arg-type]
