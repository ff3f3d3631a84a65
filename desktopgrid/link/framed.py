"""Frames over TLS alone, to servers named tcp+tls://host:port (docs/protocol.md, "Framed JSON").

Why a server would be asked so: what stands between may break HTTP's upgrade and leave TLS alone.
"""

from __future__ import annotations

import time

from desktopgrid.link.address import ServerName
from desktopgrid.link.proxy import Intermediary
from desktopgrid.link.stream import Stream
from desktopgrid.link.streamed import Streamed, stream_to
from desktopgrid.wire.framing import PING, FrameReader, framed
from desktopgrid.wire.messages import MAX_FRAME


class Framed(Streamed):
    """A Connection over a stream that holds nothing but frames."""

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream)
        self._reader = FrameReader(MAX_FRAME)

    @classmethod
    def open(cls, server: ServerName, ca: str, via: Intermediary | None, timeout: float) -> Framed:
        """Connect; raises ConnectionLost."""
        return cls(stream_to(server, ca, via, time.monotonic() + timeout))

    def send(self, frame: bytes) -> bool:
        """Send ``frame`` at once; False if the socket does not take all of it: the receiving thread
        sends the rest.
        """
        return self._stream.write(framed(frame))

    def receive(self, timeout: float | None) -> list[bytes]:
        """The frames that came since the last call; waits no longer than ``timeout`` for one."""
        data = self._stream.read(timeout)
        return [frame for frame in self._reader.receive_data(data) if frame]

    def ping(self) -> None:
        """Make the server answer."""
        self._stream.write(PING)

    def close(self) -> None:
        """Close; TLS says that this was all."""
        self._stream.close()
