"""The same frames by plain requests, where something on the way breaks WebSockets
(docs/protocol.md, "Long poll").

One request waits at the server for something to say. Who has something to say to the server sends a
second one, which ends the waiting of the first and then waits itself. So there are two connections,
and the answers are taken in the order of the requests: frames stay in order.

The link's thread owns both; other threads hand a frame over and wake it. That is slower than a
WebSocket, and simple.
"""

from __future__ import annotations

import threading
import time
from collections import deque

from desktopgrid.link.address import ServerName, connect
from desktopgrid.link.answers import AnswerReader
from desktopgrid.link.errors import ConnectionLost, explanation_in, from_status
from desktopgrid.link.proxy import Intermediary
from desktopgrid.link.stream import Stream
from desktopgrid.link.tls import pinned
from desktopgrid.wire.messages import MAX_FRAME

PATH = "/v1/poll"
NAME = "Glidebridge-Link"
WAIT = 20
"""Seconds that the server may keep a request waiting; what stands between us tends to cut those of
30 and more.
"""

FRESH = 10.0
"""Seconds after which an idle connection is not used again: the server, or what stands between, may
have closed it.
"""


class LongPoll:
    """A Connection over requests."""

    def __init__(
        self, server: ServerName, ca: str, via: Intermediary | None, timeout: float
    ) -> None:
        self._server, self._ca, self._via, self._timeout = server, ca, via, timeout
        self._asked: deque[_Asker] = deque()  # whose requests are not answered, oldest first
        self._idle: list[_Asker] = []
        self._name = ""
        self._lock = threading.Lock()
        self._outbox: deque[bytes] = deque()
        self._is_woken = False
        self._is_aborted = False
        self._early: list[bytes] = []
        self.heard_at = time.monotonic()
        """When the last answer came."""

    @classmethod
    def open(
        cls, server: ServerName, ca: str, via: Intermediary | None, timeout: float
    ) -> LongPoll:
        """Connect and hear the challenge; raises ConnectionLost."""
        link = cls(server, ca, via, timeout)
        deadline = time.monotonic() + timeout
        try:
            link._ask(b"")
            while not link._early:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise ConnectionLost("the server did not answer in time")
                link._early = link._answer(left)
        except BaseException:
            link.close()
            raise
        return link

    @property
    def is_full(self) -> bool:
        """Whether a frame waits for its request."""
        return bool(self._outbox)

    def send(self, frame: bytes) -> bool:
        """Hand ``frame`` to the receiving thread; always False, since it is not out yet."""
        if self._is_aborted:
            raise ConnectionLost("the connection is closed")
        with self._lock:
            self._outbox.append(frame)
        self.wake()
        return False

    def receive(self, timeout: float | None) -> list[bytes]:
        """The next frames; none after ``timeout``, after ``wake``, and when a frame went out."""
        if self._early:
            frames, self._early = self._early, []
            return frames
        if self._is_aborted:
            raise ConnectionLost("the connection is closed")
        if self._outbox and len(self._asked) < 2:
            with self._lock:
                frame = self._outbox.popleft()
            self._ask(frame)
            return []
        if not self._asked:
            self._ask(b"")
        with self._lock:
            is_woken, self._is_woken = self._is_woken, False
        return self._answer(0 if is_woken else timeout)

    def ping(self) -> None:
        """Ask, which ends what waits."""
        if len(self._asked) < 2:
            self.send(b"")

    def wake(self) -> None:
        """End ``receive``."""
        with self._lock:
            self._is_woken = True
            for asker in (*self._asked, *self._idle):
                asker.stream.wake()

    def close(self) -> None:
        """Close both connections; the server notices that nobody asks any more."""
        with self._lock:
            self._is_aborted = True
            askers = (*self._asked, *self._idle)
            self._asked.clear()
            self._idle.clear()
        for asker in askers:
            asker.stream.close()

    def abort(self) -> None:
        """Make ``receive`` fail."""
        self._is_aborted = True
        self.wake()

    def _ask(self, frame: bytes) -> None:
        asker = self._idle_asker()
        with self._lock:
            self._asked.append(asker)
        lines = [
            f"POST {PATH} HTTP/1.1",
            f"Host: {self._server.authority}",
            "Content-Type: application/json",
            f"Content-Length: {len(frame)}",
            f"Glidebridge-Wait: {WAIT}",
        ]
        if self._name:
            lines.append(f"{NAME}: {self._name}")
        asker.stream.write("\r\n".join((*lines, "", "")).encode("ascii") + frame)
        asker.stream.drain(self._timeout)

    def _idle_asker(self) -> _Asker:
        """A connection on which nothing is asked; a new one rather than one that lay idle long."""
        with self._lock:
            asker = self._idle.pop() if self._idle else None
        if asker is not None:
            if time.monotonic() - asker.stream.heard_at < FRESH:
                return asker
            asker.stream.close()
        deadline = time.monotonic() + self._timeout
        plain = connect(self._server, self._timeout, self._via)
        asker = _Asker(Stream(plain, pinned(self._ca), self._server.host))
        try:
            asker.stream.shake_hands(deadline)
        except BaseException:
            asker.stream.close()
            raise
        return asker

    def _answer(self, timeout: float | None) -> list[bytes]:
        """The frame that answers the oldest request, if it comes in time."""
        asker = self._asked[0]
        data = asker.stream.read(timeout)
        answer = asker.reader.receive_data(data) if data else None
        if answer is None:
            return []
        with self._lock:
            self._asked.popleft()
            if not answer.head.is_last:
                self._idle.append(asker)
        if answer.head.is_last:
            asker.stream.close()
        if answer.head.status != 200:
            code, reason = explanation_in(answer.body)
            reason = reason or f"{answer.head.status} {answer.head.reason}"
            error = from_status(answer.head.status, code, reason)
            raise ConnectionLost(f"the server ended the link: {error}") from error
        self._name = self._name or answer.head.headers.get(NAME.lower(), "")
        self.heard_at = time.monotonic()
        return [answer.body] if answer.body else []


class _Asker:
    """A kept-alive connection, and what came of the answer on it."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.reader = AnswerReader(MAX_FRAME)
