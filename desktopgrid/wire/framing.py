"""Frames on a stream of bytes without HTTP: four bytes for the length, the highest first, then the
frame. Bytes in, frames out; no socket.

A frame of no bytes asks whether the other side is there, which says so with the same.
"""

from __future__ import annotations

from desktopgrid.model.errors import RemoteProtocolError

HEAD = 4
PING = b"\0" * HEAD


def framed(frame: bytes) -> bytes:
    """``frame`` as it stands on the stream."""
    return len(frame).to_bytes(HEAD, "big") + frame


class FrameReader:
    """Cuts a stream into frames; those of no bytes are given like all others."""

    def __init__(self, longest: int) -> None:
        self.longest = longest
        self._buffer = bytearray()

    def receive_data(self, data: bytes) -> list[bytes]:
        """The frames that are whole now; raises RemoteProtocolError where one is to be longer than
        is allowed, before it has come.
        """
        buffer = self._buffer
        buffer += data
        frames, start = [], 0
        while len(buffer) - start >= HEAD:
            size = int.from_bytes(buffer[start : start + HEAD], "big")
            if size > self.longest:
                raise RemoteProtocolError(f"a frame of {size} bytes; at most {self.longest}")
            end = start + HEAD + size
            if len(buffer) < end:
                break
            frames.append(bytes(buffer[start + HEAD : end]))
            start = end
        del buffer[:start]
        return frames
