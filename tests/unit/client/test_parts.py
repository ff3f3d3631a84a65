"""Long submissions are split into messages that fit, and nothing is lost or doubled."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from desktopgrid.client.parts import MAX_BYTES, Part, parts_of
from desktopgrid.model.errors import LimitExceeded
from desktopgrid.wire.messages import MAX_WORKS


@pytest.mark.parametrize(
    "count, sizes",
    [
        (0, []),
        (1, [1]),
        (MAX_WORKS, [MAX_WORKS]),
        (MAX_WORKS + 1, [MAX_WORKS, 1]),
        (3 * MAX_WORKS, [MAX_WORKS] * 3),
    ],
)
def test_a_message_has_no_more_works_than_the_server_takes(count: int, sizes: list[int]) -> None:
    parts = list(parts_of((str(n),) for n in range(count)))
    assert [len(part.arguments) for part in parts] == sizes
    assert [part.first for part in parts] == [sum(sizes[:n]) for n in range(len(sizes))]


def test_a_message_has_no_more_bytes_than_fit() -> None:
    long = ("x" * (MAX_BYTES // 3),)
    assert [len(part.arguments) for part in parts_of([long] * 5)] == [2, 2, 1]


def test_a_work_that_fits_into_no_message_is_named() -> None:
    with pytest.raises(LimitExceeded, match="arguments of work 1 take"):
        list(parts_of([("short",), ("x" * MAX_BYTES,)]))


texts = st.text(max_size=30)


@given(st.lists(st.lists(texts, max_size=3).map(tuple), max_size=40), st.integers(1, 7))
def test_parts_put_together_are_the_whole(lists: list[tuple[str, ...]], most: int) -> None:
    parts: list[Part] = list(parts_of(lists, max_works=most, max_bytes=1000))
    assert [arguments for part in parts for arguments in part.arguments] == lists
    for part in parts:
        assert len(part.arguments) <= most
        assert len(json.dumps(part.arguments, separators=(",", ":"))) <= 1001 + 1
