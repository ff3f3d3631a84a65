"""Where jobs are handed in: a socket in the bridge's directory, at which their carriers stand.

One thread listens to all of them. Each job is served by a thread of its own, which waits for most
of its life. Whoever may start jobs of a gateway may hand them in; others are turned away by their
account, which the system tells.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import socket
import struct
import threading
from collections.abc import Callable, Collection
from pathlib import Path

from bridge.carrier import CHUNK, Frames, at, frame
from bridge.handed import PATIENCE, Cancelled, Gone, HandedJob, Said

logger = logging.getLogger(__name__)

NAME = "counter"
BACKLOG = 1024
MOST_JOBS = 10_000
STACK = 512 << 10
"""Bytes of a job's thread: hundreds of them wait."""
_CREDENTIALS = struct.Struct("3i")

Serve = Callable[[HandedJob], None]


class Counter:
    """The jobs that are handed in at ``directory``/counter; each is given to ``serve``."""

    def __init__(self, directory: Path, accounts: Collection[int], serve: Serve) -> None:
        self._accounts, self._serve = frozenset(accounts), serve
        self._selector = selectors.DefaultSelector()
        self._wake, self._bell = socket.socketpair()
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._socket = _opened(directory)
        self._selector.register(self._socket, selectors.EVENT_READ)
        self._at: dict[socket.socket, tuple[Frames, HandedJob | None]] = {}
        self._is_closing = False
        self._thread = threading.Thread(target=self._listen, name="counter", daemon=True)

    def __repr__(self) -> str:
        return f"<Counter with {len(self._at)} carriers>"

    def open(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def close(self) -> None:
        """Turn everybody away; carriers come back when somebody opens again."""
        self._is_closing = True
        self._bell.send(b"x")
        self._thread.join(PATIENCE)

    def _listen(self) -> None:
        while not self._is_closing:
            for key, _ in self._selector.select():
                if key.fileobj is self._socket:
                    self._accept()
                elif key.fileobj is not self._wake:
                    assert isinstance(key.fileobj, socket.socket)  # noqa: S101 - we put it there
                    self._hear(key.fileobj)
        for connection in list(self._at):
            self._drop(connection)
        self._selector.close()
        self._socket.close()

    def _accept(self) -> None:
        try:
            connection, _ = self._socket.accept()
        except OSError as error:
            logger.error("Nobody can be let in: %s", error)
            return
        packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, _ = _CREDENTIALS.unpack(packed)
        if uid not in self._accounts or len(self._at) >= MOST_JOBS:
            logger.warning("Turned away process %d of account %d", pid, uid)
            connection.close()
            return
        connection.settimeout(PATIENCE)
        self._at[connection] = (Frames(), None)
        self._selector.register(connection, selectors.EVENT_READ)

    def _hear(self, connection: socket.socket) -> None:
        frames, job = self._at[connection]
        try:
            data = connection.recv(2 * CHUNK)
            found = frames.receive(data)
        except (OSError, ValueError) as error:
            logger.warning("Lost a carrier: %s", error)
            data, found = b"", []
        if not data:
            self._drop(connection)
            return
        for message, content in found:
            if job is not None:
                job.tell(Cancelled if message.get("say") == "cancel" else Said(message, content))
            elif message.get("say") == "job":
                job = HandedJob(message, connection)
                self._at[connection] = (frames, job)
                self._start(job, connection)

    def _start(self, job: HandedJob, connection: socket.socket) -> None:
        before = threading.stack_size(STACK)
        try:
            threading.Thread(target=self._attend, args=(job, connection), daemon=True).start()
        finally:
            threading.stack_size(before)

    def _attend(self, job: HandedJob, connection: socket.socket) -> None:
        try:
            self._serve(job)
        finally:
            # The listener's thread sees its end, and forgets it.
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _drop(self, connection: socket.socket) -> None:
        _, job = self._at.pop(connection)
        self._selector.unregister(connection)
        if job is not None:
            job.tell(Gone)
        connection.close()


def _opened(directory: Path) -> socket.socket:
    """A socket at which anybody may knock: who is let in is asked of the system."""
    with contextlib.suppress(FileNotFoundError):
        (directory / NAME).unlink()
    opened = socket.socket(socket.AF_UNIX)
    at(str(directory), NAME, opened.bind)
    os.chmod(directory / NAME, 0o666)  # noqa: S103 - see above
    opened.listen(BACKLOG)
    return opened


__all__ = ["NAME", "Counter", "frame"]
