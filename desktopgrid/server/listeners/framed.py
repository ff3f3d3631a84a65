"""The door for sessions without HTTP: frames over TLS alone (docs/protocol.md, "Framed JSON")."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from typing import TYPE_CHECKING

from desktopgrid.server.listeners.link import HELLO_PATIENCE, attend, sender
from desktopgrid.wire.framing import FrameReader, framed
from desktopgrid.wire.messages import MAX_FRAME

if TYPE_CHECKING:
    from desktopgrid.server.listeners.service import Service

RECEIVE = 256 << 10
BACKLOG = 4096
PING_FRAME = b""


class FramedWire:
    """The connection of a peer."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, https_port: int
    ) -> None:
        self._reader, self._writer = reader, writer
        self.https_port = https_port
        self.address = str(writer.get_extra_info("peername", ("",))[0])
        self.send = sender(writer.transport, framed)
        self._frames = FrameReader(MAX_FRAME)
        self._ready: deque[bytes] = deque()

    async def receive(self) -> bytes | None:
        """The next frame; questions whether we are here are answered."""
        while not self._ready:
            try:
                data = await self._reader.read(RECEIVE)
            except (ConnectionError, ssl.SSLError):
                return None
            if not data:
                return None
            for frame in self._frames.receive_data(data):
                if frame:
                    self._ready.append(frame)
                else:
                    self.send(PING_FRAME)  # who leaves too many answers unread is cut off
        return self._ready.popleft()

    async def close(self, code: int = 0) -> None:
        """Close it, after what was sent."""
        self._writer.close()

    def abort(self) -> None:
        """Cut it."""
        self._writer.transport.abort()


class FramedDoor:
    """The port, and who is connected to it."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._wires: set[FramedWire] = set()
        self._server: asyncio.Server | None = None

    async def open(self, address: str, port: int, context: ssl.SSLContext) -> None:
        """Listen; raises OSError."""
        self._server = await asyncio.start_server(
            self._connected,
            address,
            port,
            ssl=context,
            backlog=BACKLOG,
            reuse_address=True,
            ssl_handshake_timeout=HELLO_PATIENCE,
            ssl_shutdown_timeout=1.0,
        )

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = FramedWire(reader, writer, self._service.https_port)
        self._wires.add(wire)
        try:
            await attend(self._service, wire)
        finally:
            self._wires.discard(wire)
            await wire.close()

    async def shut(self) -> None:
        """Let nobody in any more."""
        if self._server is not None:
            self._server.close()

    async def close(self) -> None:
        """Cut what is left."""
        for wire in list(self._wires):
            wire.abort()
