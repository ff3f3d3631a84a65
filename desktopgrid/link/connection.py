"""What carries frames, whatever it is made of: the seam between a session and the network."""

from __future__ import annotations

from typing import Protocol


class Connection(Protocol):
    """Frames to a server and back. One thread calls ``receive`` and ``close``; the rest is for any
    thread.

    Three of them: :class:`desktopgrid.link.duplex.Duplex`,
    :class:`desktopgrid.link.longpoll.LongPoll` and :class:`desktopgrid.link.framed.Framed`. All
    raise ConnectionLost when there is no
    connection any more.
    """

    @property
    def heard_at(self) -> float:
        """When the server was heard last (of time.monotonic)."""

    def send(self, frame: bytes) -> bool:
        """Send ``frame`` without waiting. False: it will go out, but no other should be added
        before ``is_full`` is false.
        """

    @property
    def is_full(self) -> bool:
        """Whether a frame waits to go out."""

    def receive(self, timeout: float | None) -> list[bytes]:
        """The frames that came; none after ``timeout`` seconds, after ``wake``, or when what waited
        to go out is out.
        """

    def ping(self) -> None:
        """Make the server answer, which changes ``heard_at``."""

    def wake(self) -> None:
        """End the present or the next ``receive``."""

    def close(self) -> None:
        """Tell the server if that can be done at once, and give everything back."""

    def abort(self) -> None:
        """Make the present and the next ``receive`` fail."""
