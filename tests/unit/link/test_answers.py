"""Answers to requests out of bytes that come in any pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from desktopgrid.link.answers import Answer, AnswerReader
from desktopgrid.link.errors import ConnectionLost

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nGlidebridge-Link: L\r\n\r\n[0,1]"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\n[0,\r\n2;some=extension\r\n1]\r\n0\r\nA-Trailer: x\r\n\r\n"
)
BARE = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
EMPTY = b"HTTP/1.1 410 Gone\r\nConnection: close\r\n\r\n"
INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + PLAIN
BODIES = {PLAIN: b"[0,1]", CHUNKED: b"[0,1]", BARE: b"", EMPTY: b"", INTERIM: b"[0,1]"}


def read(reader: AnswerReader, *pieces: bytes) -> list[Answer]:
    """The answers to requests that are asked one after the other."""
    return [answer for piece in pieces if (answer := reader.receive_data(piece)) is not None]


@pytest.mark.parametrize("data", BODIES, ids=["plain", "chunked", "bare", "empty", "interim"])
def test_an_answer_in_any_two_pieces_is_the_same(data: bytes) -> None:
    for position in range(len(data) + 1):
        [answer] = read(AnswerReader(100), data[:position], data[position:])
        assert answer.body == BODIES[data]
        assert answer.head.is_last is (data == EMPTY)


@given(answers=st.lists(st.sampled_from(list(BODIES)), max_size=5))
def test_one_answer_after_the_other(answers: list[bytes]) -> None:
    reader = AnswerReader(100)
    assert [answer.body for answer in read(reader, *answers)] == [BODIES[a] for a in answers]


def test_one_byte_after_the_other() -> None:
    [answer] = read(AnswerReader(100), *(CHUNKED[n : n + 1] for n in range(len(CHUNKED))))
    assert answer.body == b"[0,1]"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"SSH-2.0-x\r\n\r\n", id="another protocol"),
        pytest.param(b"x" * 40_000, id="no end of the head"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n", id="too long"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", id="a wrong length"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n", id="too long a chunk"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", id="a chunk of no size"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", id="a negative chunk"
        ),
    ],
)
def test_what_is_no_answer_is_refused(data: bytes) -> None:
    with pytest.raises(ConnectionLost):
        AnswerReader(100).receive_data(data)
