"""Answers to HTTP/1.1 requests out of bytes: heads, and bodies of every kind that has an end of its
own.

For what is no plain request (CONNECT, Upgrade) and for the long poll, whose requests wait. No
socket here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from desktopgrid.link.errors import ConnectionLost

MAX_HEAD = 32 << 10
"""Bytes in a head; a longer one is not from a server of ours."""


@dataclass(frozen=True)
class Head:
    """Status, reason and headers, their names in lower case."""

    status: int
    reason: str
    headers: dict[str, str]

    @classmethod
    def parse(cls, data: bytes) -> Head:
        """The head that ``data`` (without the empty line) is; raises ConnectionLost if none."""
        first, *lines = data.decode("latin-1").split("\r\n")
        version, _, rest = first.partition(" ")
        status, _, reason = rest.partition(" ")
        if not version.startswith("HTTP/1.") or not (status.isdigit() and len(status) == 3):
            raise ConnectionLost(f"what came is no HTTP response: {first[:60]!r}")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        return cls(int(status), reason, headers)

    @property
    def is_last(self) -> bool:
        """Whether the connection ends with this answer."""
        return self.headers.get("connection", "").lower() == "close"


class Answer(NamedTuple):
    """A whole answer."""

    head: Head
    body: bytes


class AnswerReader:
    """Answers out of bytes, one at a time, their bodies at most ``limit`` bytes long."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()

    def receive_data(self, data: bytes) -> Answer | None:
        """The answer if it is whole now; raises ConnectionLost where it is none or too long."""
        self._buffer += data
        while True:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self._buffer) > MAX_HEAD:
                    raise ConnectionLost("the head of an answer has no end")
                return None
            head = Head.parse(bytes(self._buffer[:end]))
            if head.status >= 200:
                break
            del self._buffer[: end + 4]  # an interim answer; the real one follows
        body = self._body(head, end + 4)
        return None if body is None else Answer(head, body)

    def _body(self, head: Head, start: int) -> bytes | None:
        if head.headers.get("transfer-encoding", "").lower() == "chunked":
            return self._chunked(start)
        length = head.headers.get("content-length", "0")
        if not length.isdigit() or int(length) > self._limit:
            raise ConnectionLost(f"an answer of {length[:20]} bytes")
        end = start + int(length)
        return None if len(self._buffer) < end else self._taken(start, end, end)

    def _chunked(self, start: int) -> bytes | None:
        body = bytearray()
        while True:
            end = self._buffer.find(b"\r\n", start)
            if end < 0:
                return None
            try:
                size = int(self._buffer[start:end].split(b";")[0], 16)
            except ValueError:
                raise ConnectionLost("a chunk of an answer has no size") from None
            if size < 0 or len(body) + size > self._limit:
                raise ConnectionLost(f"an answer of more than {self._limit} bytes")
            if not size:
                # The end of trailers, which we do not look at, or of nothing.
                last = self._buffer.find(b"\r\n\r\n", end)
                return None if last < 0 else self._taken(0, 0, last + 4) + bytes(body)
            start = end + 2 + size + 2
            if len(self._buffer) < start:
                return None
            body += self._buffer[end + 2 : end + 2 + size]

    def _taken(self, start: int, end: int, next_one: int) -> bytes:
        body = bytes(self._buffer[start:end])
        del self._buffer[:next_one]
        return body
