"""Frames over a WebSocket: the thin shell around :mod:`.websocket` (decides) and :mod:`.stream`
(does).
"""

from __future__ import annotations

import time
from contextlib import suppress

from desktopgrid.link import websocket
from desktopgrid.link.address import ServerName
from desktopgrid.link.errors import ConnectionLost, WebSocketBroken, in_words
from desktopgrid.link.proxy import Intermediary
from desktopgrid.link.stream import Stream
from desktopgrid.link.streamed import Streamed, stream_to
from desktopgrid.model.errors import RemoteProtocolError
from desktopgrid.wire.messages import MAX_FRAME

PATH = "/v1/link"


class Duplex(Streamed):
    """A Connection over one WebSocket: both sides speak when they like."""

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream)
        self._reader = websocket.Reader(MAX_FRAME)
        self._early: list[bytes] = []  # what came with the answer to the upgrade

    @classmethod
    def open(cls, server: ServerName, ca: str, via: Intermediary | None, timeout: float) -> Duplex:
        """Connect; raises WebSocketBroken where the server can be reached but not by WebSocket,
        else ConnectionLost.
        """
        deadline = time.monotonic() + timeout
        stream = stream_to(server, ca, via, deadline)
        try:
            return cls._upgraded(stream, server, deadline)
        except BaseException:
            stream.close()
            raise

    @classmethod
    def _upgraded(cls, stream: Stream, server: ServerName, deadline: float) -> Duplex:
        upgrade = websocket.Upgrade(server.authority, PATH)
        stream.write(upgrade.request)
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise WebSocketBroken("the WebSocket upgrade was not answered")
            try:
                rest = upgrade.receive_data(stream.read(left))
            except WebSocketBroken:
                raise
            except ConnectionLost as error:
                raise WebSocketBroken(
                    f"the WebSocket upgrade was cut: {in_words(error)}"
                ) from error
            if rest is not None:
                break
        duplex = cls(stream)
        duplex._early = duplex._frames(rest)
        return duplex

    def send(self, frame: bytes) -> bool:
        """Send ``frame`` at once; False if the socket does not take all of it: the receiving thread
        sends the rest.
        """
        return self._stream.write(websocket.frame(frame))

    def receive(self, timeout: float | None) -> list[bytes]:
        """The frames that came since the last call; waits no longer than ``timeout`` for one."""
        if self._early:
            frames, self._early = self._early, []
            return frames
        data = self._stream.read(timeout)
        return self._frames(data) if data else []

    def ping(self) -> None:
        """Make the server answer."""
        self._stream.write(websocket.frame(b"", websocket.PING))

    def close(self) -> None:
        """Say goodbye, if the socket takes it, and close."""
        self._say_close(websocket.NORMAL)
        self._stream.close()

    def _frames(self, data: bytes) -> list[bytes]:
        try:
            events = self._reader.receive_data(data)
        except RemoteProtocolError:
            self._say_close(websocket.PROTOCOL_ERROR)
            raise
        frames = []
        for opcode, payload in events:
            if opcode in (websocket.BINARY, websocket.TEXT):
                frames.append(payload)
            elif opcode == websocket.PING and not self._stream.is_full:
                self._stream.write(websocket.frame(payload, websocket.PONG))
            elif opcode == websocket.CLOSE:
                return self._ended(frames, payload)
        return frames

    def _ended(self, frames: list[bytes], payload: bytes) -> list[bytes]:
        """Answer the server's CLOSE; what came before it is still heard, the next ``receive``
        fails.
        """
        self._say_close(websocket.NORMAL)
        if not frames:
            raise ConnectionLost(websocket.closing(payload))
        self._stream.abort()
        return frames

    def _say_close(self, code: int) -> None:
        with suppress(ConnectionLost):  # then it knows already
            self._stream.write(websocket.frame(websocket.close_payload(code), websocket.CLOSE))
