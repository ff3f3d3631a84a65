"""Frames over TLS alone, to servers named tcp+tls://host:port (docs/protocol.md, "Framed JSON").

Why a server would be asked so: what stands between may break HTTP's upgrade and leave TLS alone.
"""

from __future__ import annotations

import time

from desktopgrid.link.address import ServerName, connect
from desktopgrid.link.proxy import Intermediary
from desktopgrid.link.stream import Stream
from desktopgrid.link.tls import pinned
from desktopgrid.wire.framing import PING, FrameReader, framed
from desktopgrid.wire.messages import MAX_FRAME


class Framed:
    """A Connection over a stream that holds nothing but frames."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._reader = FrameReader(MAX_FRAME)

    @classmethod
    def open(cls, server: ServerName, ca: str, via: Intermediary | None, timeout: float) -> Framed:
        """Connect; raises ConnectionLost."""
        deadline = time.monotonic() + timeout
        stream = Stream(connect(server, timeout, via), pinned(ca), server.host)
        try:
            stream.shake_hands(deadline)
        except BaseException:
            stream.close()
            raise
        return cls(stream)

    @property
    def heard_at(self) -> float:
        """When the server was heard last."""
        return self._stream.heard_at

    @property
    def is_full(self) -> bool:
        """Whether the socket has not taken all that was sent."""
        return self._stream.is_full

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

    def wake(self) -> None:
        """End ``receive``."""
        self._stream.wake()

    def close(self) -> None:
        """Close; TLS says that this was all."""
        self._stream.close()

    def abort(self) -> None:
        """Cut the connection."""
        self._stream.abort()
