"""A wire of frames over TLS alone, as far as it needs no socket."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from desktopgrid.server.listeners.framed import FramedWire
from desktopgrid.server.listeners.link import MOST_BUFFERED
from desktopgrid.wire.framing import PING


class AWriter:
    """The other side reads nothing: what it is sent stays here."""

    def __init__(self, unread: int) -> None:
        self.transport = self
        self.unread, self.is_cut = unread, False

    def get_extra_info(self, name: str, default: Any) -> Any:
        return default

    def is_closing(self) -> bool:
        return self.is_cut

    def write(self, data: bytes) -> None:
        self.unread += len(data)

    def get_write_buffer_size(self) -> int:
        return self.unread

    def abort(self) -> None:
        self.is_cut = True


@pytest.mark.asyncio
async def test_who_asks_again_and_again_and_reads_no_answer_is_cut_off() -> None:
    writer = AWriter(MOST_BUFFERED - 2 * len(PING))
    reader = asyncio.StreamReader()
    reader.feed_data(PING * 1000)
    reader.feed_eof()
    wire = FramedWire(reader, writer, 443)  # type: ignore[arg-type]
    assert await wire.receive() is None
    assert writer.is_cut
    assert writer.unread <= MOST_BUFFERED + len(PING)
