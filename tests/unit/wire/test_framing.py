"""Frames on a stream: cut anywhere, they come out whole and in order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from desktopgrid.model.errors import RemoteProtocolError
from desktopgrid.wire.framing import PING, FrameReader, framed


def test_a_frame_has_its_length_in_front() -> None:
    assert framed(b"[17]") == b"\x00\x00\x00\x04[17]"
    assert framed(b"") == PING


@given(frames=st.lists(st.binary(max_size=300)), cuts=st.lists(st.integers(1, 40)))
def test_a_stream_may_be_cut_anywhere(frames: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(map(framed, frames))
    reader, found = FrameReader(300), []
    for size in [*cuts, len(stream)]:
        found += reader.receive_data(stream[:size])
        stream = stream[size:]
    assert found == frames


def test_a_frame_that_is_to_be_too_long_is_refused_before_it_comes() -> None:
    reader = FrameReader(4)
    assert reader.receive_data(framed(b"1234")) == [b"1234"]
    with pytest.raises(RemoteProtocolError, match="a frame of 5 bytes; at most 4"):
        reader.receive_data(b"\x00\x00\x00\x05")
