"""What connections have alike that are made of one stream."""

from __future__ import annotations

import time

from desktopgrid.link.address import ServerName, connect
from desktopgrid.link.proxy import Intermediary
from desktopgrid.link.stream import Stream
from desktopgrid.link.tls import pinned


class Streamed:
    """The part of a Connection that does not depend on how frames are told apart."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    @property
    def heard_at(self) -> float:
        """When the server was heard last."""
        return self._stream.heard_at

    @property
    def is_full(self) -> bool:
        """Whether the socket has not taken all that was sent."""
        return self._stream.is_full

    def wake(self) -> None:
        """End ``receive``."""
        self._stream.wake()

    def abort(self) -> None:
        """Cut the connection."""
        self._stream.abort()


def stream_to(server: ServerName, ca: str, via: Intermediary | None, deadline: float) -> Stream:
    """A stream to ``server``, whose certificate is one of ``ca``'s; raises ConnectionLost.
    ``deadline`` is of time.monotonic.
    """
    left = max(0.0, deadline - time.monotonic())
    stream = Stream(connect(server, left, via), pinned(ca), server.host)
    try:
        stream.shake_hands(deadline)
    except BaseException:
        stream.close()
        raise
    return stream
