"""WebSockets, the client's side (RFC 6455): bytes in, messages out. No socket here; :mod:`.duplex`
has it.

Extensions and subprotocols are not offered, so a server that uses one breaks the rules.
"""

from __future__ import annotations

import base64
import hashlib
import os
import struct
from typing import NamedTuple

from desktopgrid.link.answers import MAX_HEAD, Head
from desktopgrid.link.errors import ConnectionLost, WebSocketBroken
from desktopgrid.model.errors import RemoteProtocolError

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
OPCODES = frozenset((CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG))
MAX_CONTROL = 125
"""Bytes that a control frame may carry (section 5.5)."""

NORMAL, GOING_AWAY, PROTOCOL_ERROR, TOO_BIG = 1000, 1001, 1002, 1009

_ACCEPT_KEY = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # section 1.3


class Event(NamedTuple):
    """What came: a message (TEXT, BINARY), whole, or a control frame (CLOSE, PING, PONG)."""

    opcode: int
    payload: bytes


class Upgrade:
    """The request that makes an HTTP connection a WebSocket, and the check of its answer (section
    4.1).
    """

    def __init__(self, authority: str, path: str, key: bytes | None = None) -> None:
        self._key = base64.b64encode(os.urandom(16) if key is None else key)
        self.request = (
            f"GET {path} HTTP/1.1\r\nHost: {authority}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {self._key.decode('ascii')}\r\n\r\n"
        ).encode("ascii")
        self._received = b""

    def receive_data(self, data: bytes) -> bytes | None:
        """None while the answer is not whole, then the bytes that came after it; raises
        WebSocketBroken if it says no.
        """
        self._received += data
        raw, end, rest = self._received.partition(b"\r\n\r\n")
        if not end:
            if len(self._received) > MAX_HEAD:
                raise WebSocketBroken("the answer to the WebSocket upgrade has no end")
            return None
        try:
            head = Head.parse(raw)
        except ConnectionLost as error:
            raise WebSocketBroken(str(error)) from None
        self._check(head)
        return rest

    def _check(self, head: Head) -> None:
        if head.status != 101:
            raise WebSocketBroken(f"no WebSocket here: {head.status} {head.reason}")
        expected = base64.b64encode(
            hashlib.sha1(self._key + _ACCEPT_KEY, usedforsecurity=False).digest()
        ).decode("ascii")
        headers = head.headers
        if (
            headers.get("upgrade", "").lower() != "websocket"
            or "upgrade" not in headers.get("connection", "").lower()
            or headers.get("sec-websocket-accept") != expected
        ):
            raise WebSocketBroken("the WebSocket upgrade was answered by something else")
        if headers.get("sec-websocket-extensions"):
            raise WebSocketBroken("the server uses a WebSocket extension that was not offered")


class Reader:
    """Frames out of bytes, messages out of frames; at most ``limit`` bytes a message."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pieces: list[bytes] = []  # of a frame that is not whole yet
        self._have = 0  # bytes in them
        self._need = 2  # bytes without which there is nothing to parse
        self._opcode: int | None = None  # of the message whose fragments come
        self._fragments: list[bytes] = []
        self._size = 0  # of the fragments

    def receive_data(self, data: bytes) -> list[Event]:
        """The messages and control frames that are whole now; raises RemoteProtocolError."""
        if self._pieces:
            # Joined only when a frame is whole, so that a long one in many pieces is not copied for
            # each of them.
            self._pieces.append(data)
            self._have += len(data)
            if self._have < self._need:
                return []
            data = b"".join(self._pieces)
            self._pieces = []
        events: list[Event] = []
        start, end = 0, len(data)
        while True:
            stop = self._parse(data, start, end, events)
            if stop < 0:
                break
            start = stop
        if start < end:
            self._pieces, self._have = [data[start:] if start else data], end - start
        return events

    def _parse(self, data: bytes, start: int, end: int, events: list[Event]) -> int:
        """Parse the frame at ``start``; where it ends, or -1 if it is not whole: then ``_need``
        says how much it takes.
        """
        have = end - start
        if have < 2:
            self._need = 2
            return -1
        first, length = data[start], data[start + 1]
        if first & 0x70 or (first & 0x0F) not in OPCODES:
            raise RemoteProtocolError(f"a WebSocket frame starts with {first:#x}")
        if length & 0x80:
            raise RemoteProtocolError("a server must not mask its frames")  # section 5.1
        body = start + 2
        if length >= 126:
            extra, form = (2, "!H") if length == 126 else (8, "!Q")
            if have < 2 + extra:
                self._need = 2 + extra
                return -1
            least = 126 if length == 126 else 1 << 16
            (length,) = struct.unpack_from(form, data, body)
            body += extra
            if length < least:
                raise RemoteProtocolError(
                    "the length of a WebSocket frame must be in the shortest form"
                )
        if length + self._size > self._limit:
            raise RemoteProtocolError(f"a message of more than {self._limit} bytes")
        if body + length > end:
            self._check(first, length)
            self._need = body + length - start
            return -1
        self._take(first, data[body : body + length], events)
        return body + length

    def _check(self, first: int, length: int) -> None:
        """Refuse a frame that may not come now as soon as its head is known."""
        opcode = first & 0x0F
        if opcode >= CLOSE:
            if length > MAX_CONTROL or not first & 0x80:
                raise RemoteProtocolError("a control frame must be short and whole")  # section 5.5
        elif (opcode == CONTINUATION) != (self._opcode is not None):
            raise RemoteProtocolError("the fragments of a message must follow each other")

    def _take(self, first: int, payload: bytes, events: list[Event]) -> None:
        if first == 0x82 and self._opcode is None:  # a whole binary message: nearly always
            events.append(Event(BINARY, payload))
            return
        self._check(first, len(payload))
        opcode, is_last = first & 0x0F, bool(first & 0x80)
        if opcode >= CLOSE:
            events.append(Event(opcode, payload))
            return
        if opcode != CONTINUATION:
            self._opcode = opcode
        self._fragments.append(payload)
        self._size += len(payload)
        if is_last:
            events.append(Event(self._opcode or BINARY, b"".join(self._fragments)))
            self._opcode, self._fragments, self._size = None, [], 0


def frame(payload: bytes, opcode: int = BINARY, mask: bytes | None = None) -> bytes:
    """``payload`` as one masked frame (section 5.2); every one has a mask of its own that nobody
    can foresee.
    """
    if mask is None:
        mask = os.urandom(4)
    length = len(payload)
    if length < 126:
        head = struct.pack("!BB", 0x80 | opcode, 0x80 | length)
    elif length < 1 << 16:
        head = struct.pack("!BBH", 0x80 | opcode, 0xFE, length)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 0xFF, length)
    return head + mask + masked(payload, mask)


def masked(payload: bytes, mask: bytes) -> bytes:
    """``payload`` XOR the repeated ``mask``, as two long integers: Python's fastest way without a
    copy in C of our own.
    """
    length = len(payload)
    repeated = (mask * (length // 4 + 1))[:length]
    mixed = int.from_bytes(payload, "little") ^ int.from_bytes(repeated, "little")
    return mixed.to_bytes(length, "little")


def close_payload(code: int, reason: str = "") -> bytes:
    """What a CLOSE frame carries."""
    return struct.pack("!H", code) + reason.encode()[: MAX_CONTROL - 2]


def closing(payload: bytes) -> str:
    """Why the peer closes, for people."""
    if len(payload) < 2:
        return "the server closed the connection"
    (code,) = struct.unpack_from("!H", payload)
    reason = payload[2:].decode("utf-8", "replace")
    return f"the server closed the connection: {reason or code}"
