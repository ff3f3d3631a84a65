"""The same frames by plain requests, where something on the way breaks WebSockets
(docs/protocol.md, "Long poll").

One request waits at the server for something to say. Who has something to say to the server sends a
second one, which ends the waiting of the first and then waits itself. So there are two connections,
and the answers are taken in the order of the requests: frames stay in order.

The link's thread owns both; other threads hand a frame over and wake it. That is slower than a
WebSocket, and simple.
"""

from __future__ import annotations

import select
import ssl
import threading
import time
from collections import deque

from desktopgrid.link.address import ServerName
from desktopgrid.link.errors import ConnectionLost, from_status
from desktopgrid.link.https import BROKEN, HTTPS, explanation
from desktopgrid.link.proxy import Intermediary
from desktopgrid.link.stream import Waker
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
        self._asked: deque[HTTPS] = deque()  # requests that are not answered, oldest first
        self._idle = [HTTPS(server, ca, via, timeout + WAIT) for _ in range(2)]
        self._name = ""
        self._lock = threading.Lock()
        self._outbox: deque[bytes] = deque()
        self._waker = Waker()
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
        try:
            link._ask(b"")
            link._early = link._answer()
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
        self._waker.wake()
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
        return self._answer() if self._is_answered(timeout) else []

    def ping(self) -> None:
        """Ask, which ends what waits."""
        if len(self._asked) < 2:
            self.send(b"")

    def wake(self) -> None:
        """End ``receive``."""
        self._waker.wake()

    def close(self) -> None:
        """Close both connections; the server notices that nobody asks any more."""
        self._is_aborted = True
        for connection in (*self._asked, *self._idle):
            connection.close()
        self._waker.close()

    def abort(self) -> None:
        """Make ``receive`` fail."""
        self._is_aborted = True
        self._waker.wake()

    def _is_answered(self, timeout: float | None) -> bool:
        """Wait until the oldest request is answered, or somebody wakes us, or the time is up."""
        connection = self._asked[0].sock
        if isinstance(connection, ssl.SSLSocket) and connection.pending():
            return True
        poll = select.poll()
        poll.register(connection, select.POLLIN)
        poll.register(self._waker, select.POLLIN)
        ready = poll.poll(None if timeout is None else max(0, int(timeout * 1000) + 1))
        self._waker.reset()
        return any(fileno == connection.fileno() for fileno, _ in ready)

    def _ask(self, frame: bytes) -> None:
        connection = self._idle.pop()
        if time.monotonic() - self.heard_at > FRESH:
            connection.close()  # http.client connects again by itself
        headers = {"Content-Type": "application/json", "Glidebridge-Wait": str(WAIT)}
        if self._name:
            headers[NAME] = self._name
        self._asked.append(connection)
        try:
            connection.request("POST", PATH, frame, headers)
        except BROKEN as error:
            raise ConnectionLost(f"cannot ask the server: {error}") from error

    def _answer(self) -> list[bytes]:
        """The frame that answers the oldest request."""
        connection = self._asked.popleft()
        self._idle.append(connection)
        try:
            response = connection.getresponse()
            if response.status != 200:
                error = from_status(response.status, *explanation(response))
                raise ConnectionLost(f"the server ended the link: {error}") from error
            body = response.read(MAX_FRAME + 1)
            response.read()
        except BROKEN as error:
            raise ConnectionLost(f"the server did not answer: {error}") from error
        self._name = self._name or response.headers.get(NAME, "")
        self.heard_at = time.monotonic()
        return [body] if body else []
