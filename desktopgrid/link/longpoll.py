"""The same frames by plain requests, where something on the way breaks WebSockets
(docs/protocol.md, "Long poll").

One request waits at the server for something to say. Who has something to say to the server sends a
second one, which ends the waiting of the first and then waits itself. So there are two connections,
on which the second may overtake the first: each request says whose turn it is, and the server sees
to it. The answers are taken in the order of the requests. Thus frames stay in order both ways.

The link's thread owns both; other threads hand a frame over and wake it. That is slower than a
WebSocket, and simple.
"""

from __future__ import annotations

import select
import time
from collections import deque
from contextlib import suppress

from desktopgrid.link.address import ServerName, connect
from desktopgrid.link.answers import Answer, AnswerReader
from desktopgrid.link.errors import ConnectionLost, explanation_in, from_status, in_words
from desktopgrid.link.proxy import Intermediary
from desktopgrid.link.stream import Stream, Waker
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
        self._turn = 0
        self._outbox: deque[bytes] = deque()  # all that other threads touch
        self._waker = Waker()
        self._is_aborted = False
        self._early: list[bytes] = []
        self.pause = 0.0
        """Seconds to wait after an answer before it asks again, where a datagram wakes it; 0: it
        asks at once, and the server lets it wait.
        """
        self._answered_at = 0.0
        self._is_called = False
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
                link._early = link._answers(left)
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
            self._ask(self._outbox.popleft())
            return []
        left = self._answered_at + self.pause - time.monotonic()
        if not self._asked and (left <= 0 or self._is_called):
            self._is_called = False
            self._ask(b"")
        elif not self._asked:
            timeout = left if timeout is None else min(left, timeout)
        return self._answers(timeout)

    def ping(self) -> None:
        """Ask, which ends what waits."""
        if len(self._asked) < 2:
            self.send(b"")

    def wake(self) -> None:
        """End ``receive``."""
        self._waker.wake()

    def call(self) -> None:
        """The server has something to say: ask it without a pause."""
        self._is_called = True
        self.wake()

    def close(self) -> None:
        """Close both connections; the server notices that nobody asks any more."""
        self._is_aborted = True
        for asker in (*self._asked, *self._idle):
            asker.stream.close()
        self._waker.close()

    def abort(self) -> None:
        """Make ``receive`` fail."""
        self._is_aborted = True
        self.wake()

    def _ask(self, frame: bytes) -> None:
        asker = self._idle_asker()
        self._asked.append(asker)
        lines = [
            f"POST {PATH} HTTP/1.1",
            f"Host: {self._server.authority}",
            "Content-Type: application/json",
            f"Content-Length: {len(frame)}",
            f"Glidebridge-Wait: {0 if self.pause else WAIT}",
        ]
        if self._name:
            self._turn += 1
            lines += [f"{NAME}: {self._name}", f"Glidebridge-Turn: {self._turn}"]
        asker.stream.write("\r\n".join((*lines, "", "")).encode("ascii") + frame)
        asker.stream.drain(self._timeout)

    def _idle_asker(self) -> _Asker:
        """A connection on which nothing is asked; a new one rather than one that lay idle long."""
        if self._idle:
            asker = self._idle.pop()
            if time.monotonic() - asker.stream.heard_at < FRESH:
                with suppress(ConnectionLost):  # it was closed while nothing was asked
                    asker.stream.read(0)
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

    def _answers(self, timeout: float | None) -> list[bytes]:
        """The frames that answer the oldest requests; waits for what comes on any connection."""
        # Also where it is not the oldest's turn: that connection may have broken.
        expected = [asker for asker in self._asked if asker.answer is None]
        poll = select.poll()
        poll.register(self._waker, select.POLLIN)
        for asker in expected:
            poll.register(asker.stream, select.POLLIN)
        ready = poll.poll(None if timeout is None else int(timeout * 1000) + 1)
        self._waker.reset()
        for asker in expected:
            if any(fileno == asker.stream.fileno() for fileno, _ in ready):
                asker.answer = asker.reader.receive_data(asker.stream.read(0))
        frames = []
        while self._asked and (answer := self._asked[0].answer) is not None:
            frames += self._taken(self._asked.popleft(), answer)
        return frames

    def _taken(self, asker: _Asker, answer: Answer) -> list[bytes]:
        """The frame in ``answer``; ``asker`` is free from now on."""
        asker.answer = None
        if answer.head.is_last:
            asker.stream.close()
        else:
            self._idle.append(asker)
        if answer.head.status != 200:
            code, reason = explanation_in(answer.body)
            reason = reason or f"{answer.head.status} {answer.head.reason}"
            error = from_status(answer.head.status, code, reason)
            raise ConnectionLost(f"the server ended the link: {in_words(error)}") from error
        self._name = self._name or answer.head.headers.get(NAME.lower(), "")
        self.heard_at = self._answered_at = time.monotonic()
        # There may be more where this came from; an acknowledgement alone is the last.
        self._is_called = self._is_called or b"," in answer.body
        return [answer.body] if answer.body else []


class _Asker:
    """A kept-alive connection, and what came of the answer on it."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.reader = AnswerReader(MAX_FRAME)
        self.answer: Answer | None = None  # held until those before it have come
