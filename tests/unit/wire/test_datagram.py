"""Datagrams: what opens one, and all that does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from desktopgrid.wire.datagram import ALIVE, SIZE, WAKE, Key, name_in, opened, sealed

KEY = Key.of("a1b2c3d4", "5" * 64)


def test_a_datagram_is_opened_by_the_key_of_its_session() -> None:
    datagram = sealed(KEY, ALIVE, 7)
    assert len(datagram) == SIZE == 34
    assert name_in(datagram) == KEY.name
    assert opened(KEY, ALIVE, 6, datagram) == 7


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(Key.of("a1b2c3d4", "6" * 64), id="another ticket"),
        pytest.param(Key.of("a1b2c3d5", "5" * 64), id="another session"),
        pytest.param(Key(KEY.secret, b"12345678"), id="another name"),
    ],
)
def test_another_key_opens_nothing(key: Key) -> None:
    assert opened(KEY, ALIVE, 0, sealed(key, ALIVE, 7)) is None
    assert opened(key, ALIVE, 0, sealed(KEY, ALIVE, 7)) is None


def test_what_was_heard_is_not_heard_again() -> None:
    assert opened(KEY, ALIVE, 7, sealed(KEY, ALIVE, 7)) is None
    assert opened(KEY, ALIVE, 8, sealed(KEY, ALIVE, 7)) is None
    assert opened(KEY, ALIVE, 0, sealed(KEY, ALIVE, (1 << 64) - 1)) == (1 << 64) - 1


def test_neither_side_hears_what_it_said_itself() -> None:
    assert opened(KEY, ALIVE, 0, sealed(KEY, WAKE, 7)) is None
    assert opened(KEY, WAKE, 0, sealed(KEY, ALIVE, 7)) is None


@given(at=st.integers(0, SIZE - 1), other=st.integers(1, 255))
def test_no_byte_may_change(at: int, other: int) -> None:
    datagram = bytearray(sealed(KEY, ALIVE, 7))
    datagram[at] ^= other
    assert opened(KEY, ALIVE, 0, bytes(datagram)) is None


@given(st.binary(max_size=80))
def test_what_is_no_datagram_is_dropped(data: bytes) -> None:
    assert opened(KEY, ALIVE, 0, data) is None
    assert name_in(data[: SIZE - 1]) is None


def test_a_part_of_one_is_none_and_neither_is_more() -> None:
    datagram = sealed(KEY, ALIVE, 7)
    for size in range(SIZE):
        assert opened(KEY, ALIVE, 0, datagram[:size]) is None
    assert opened(KEY, ALIVE, 0, datagram + b"!") is None
