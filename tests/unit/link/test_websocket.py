"""WebSocket bytes by value: split anywhere, masked, fragmented, wrong."""

from __future__ import annotations

import base64
import hashlib
import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from desktopgrid.link import websocket as ws
from desktopgrid.link.errors import WebSocketBroken
from desktopgrid.model.errors import RemoteProtocolError

LIMIT = 1 << 20


def server_frame(payload: bytes, opcode: int = ws.BINARY, is_last: bool = True) -> bytes:
    """A frame as a server sends it: not masked."""
    first = (0x80 if is_last else 0) | opcode
    if len(payload) < 126:
        return bytes((first, len(payload))) + payload
    if len(payload) < 1 << 16:
        return struct.pack("!BBH", first, 126, len(payload)) + payload
    return struct.pack("!BBQ", first, 127, len(payload)) + payload


CONVERSATION = b"".join(
    (
        server_frame(b"first"),
        server_frame(b""),
        server_frame(b"par", is_last=False),
        server_frame(b"how are you?", ws.PING),
        server_frame(b"", ws.CONTINUATION, is_last=False),
        server_frame(b"ts", ws.CONTINUATION),
        server_frame(b"text", ws.TEXT),
        server_frame(bytes(range(200))),
        server_frame(bytes(70_000)),
        server_frame(ws.close_payload(ws.GOING_AWAY, "restart"), ws.CLOSE),
    )
)
HEARD = [
    (ws.BINARY, b"first"),
    (ws.BINARY, b""),
    (ws.PING, b"how are you?"),
    (ws.BINARY, b"parts"),
    (ws.TEXT, b"text"),
    (ws.BINARY, bytes(range(200))),
    (ws.BINARY, bytes(70_000)),
    (ws.CLOSE, b"\x03\xe9restart"),
]


def hear(*pieces: bytes, limit: int = LIMIT) -> list[ws.Event]:
    reader = ws.Reader(limit)
    return [event for piece in pieces for event in reader.receive_data(piece)]


def test_bytes_split_at_every_position_say_the_same() -> None:
    interesting = len(CONVERSATION) - 70_000
    for position in (*range(interesting + 20), *range(len(CONVERSATION) - 20, len(CONVERSATION))):
        assert hear(CONVERSATION[:position], CONVERSATION[position:]) == HEARD


def test_bytes_that_come_one_at_a_time_say_the_same() -> None:
    assert hear(*(CONVERSATION[n : n + 1] for n in range(len(CONVERSATION)))) == HEARD


@given(cuts=st.lists(st.integers(0, len(CONVERSATION)), max_size=12).map(sorted))
def test_bytes_split_anywhere_say_the_same(cuts: list[int]) -> None:
    edges = [0, *cuts, len(CONVERSATION)]
    assert hear(*(CONVERSATION[a:b] for a, b in itertools.pairwise(edges))) == HEARD


@pytest.mark.parametrize("length", [0, 1, 3, 4, 5, 125, 126, 127, 65_535, 65_536, 70_001])
def test_a_masked_frame_is_what_the_rfc_says(length: int) -> None:
    payload = bytes(n % 251 for n in range(length))
    mask = b"\x01\x80\xff\x00"
    data = ws.frame(payload, mask=mask)
    head = len(data) - length
    assert data[head - 4 : head] == mask
    assert data[0] == 0x82
    assert data[1] & 0x80
    assert bytes(b ^ mask[n % 4] for n, b in enumerate(data[head:])) == payload
    unmasked = bytes((data[0], data[1] & 0x7F)) + data[2 : head - 4] + payload
    assert hear(unmasked) == [(ws.BINARY, payload)]


def test_the_example_of_the_rfc() -> None:
    # RFC 6455, section 5.7: "A single-frame masked text message".
    assert ws.frame(b"Hello", ws.TEXT, bytes.fromhex("37fa213d")).hex() == "818537fa213d7f9f4d5158"


def test_every_frame_has_its_own_mask() -> None:
    assert len({ws.frame(b"")[2:6] for _ in range(50)}) == 50


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\xc2\x00", id="a reserved bit"),
        pytest.param(b"\x83\x00", id="a reserved opcode"),
        pytest.param(b"\x82\x80", id="a mask"),
        pytest.param(b"\x82\x7e\x00\x7d", id="a length in too long a form"),
        pytest.param(b"\x82\x7f" + struct.pack("!Q", 65_535), id="a length in far too long a form"),
        pytest.param(b"\x82\x7f" + b"\xff" * 8, id="a length that no message has"),
        pytest.param(b"\x09\x00", id="a ping in fragments"),
        pytest.param(b"\x89\x7e\x00\x7e", id="a long ping"),
        pytest.param(b"\x80\x00", id="the continuation of nothing"),
        pytest.param(b"\x02\x00\x82\x00", id="a message within another"),
        pytest.param(b"\x82\x7f" + struct.pack("!Q", LIMIT + 1), id="a message over the limit"),
        pytest.param(
            server_frame(bytes(LIMIT), is_last=False) + server_frame(b"1", ws.CONTINUATION),
            id="fragments over the limit",
        ),
    ],
)
def test_a_server_breaks_the_rules_by(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        hear(data)
    with pytest.raises(RemoteProtocolError):
        hear(*(data[n : n + 1] for n in range(len(data))))


def test_a_message_as_long_as_the_limit_is_heard() -> None:
    assert hear(server_frame(bytes(LIMIT))) == [(ws.BINARY, bytes(LIMIT))]


@given(noise=st.binary(max_size=64))
def test_noise_is_refused_or_heard_and_nothing_else(noise: bytes) -> None:
    try:
        whole = hear(noise)
    except RemoteProtocolError:
        return
    assert hear(*(noise[n : n + 1] for n in range(len(noise)))) == whole


def test_a_close_tells_why() -> None:
    payload = ws.close_payload(ws.GOING_AWAY, "restart")
    assert ws.closing(payload) == "the server closed the connection: restart"
    assert ws.closing(ws.close_payload(1001)) == "the server closed the connection: 1001"
    assert ws.closing(b"") == "the server closed the connection"


KEY = bytes(range(16))


def an_answer(status: str = "101 Switching Protocols", **changes: str) -> bytes:
    accept = hashlib.sha1(
        base64.b64encode(KEY) + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11", usedforsecurity=False
    ).digest()
    headers = {
        "Upgrade": "WebSocket",
        "Connection": "keep-alive, Upgrade",
        "Sec-WebSocket-Accept": base64.b64encode(accept).decode(),
    }
    headers.update({name.replace("_", "-"): value for name, value in changes.items()})
    lines = [
        f"HTTP/1.1 {status}",
        *(f"{name}: {value}" for name, value in headers.items() if value),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def an_upgrade() -> ws.Upgrade:
    return ws.Upgrade("grid.example.org:4321", "/v1/link", KEY)


def test_the_request_for_an_upgrade_says_what_section_4_1_wants() -> None:
    first, *lines = an_upgrade().request.decode().split("\r\n")
    assert first == "GET /v1/link HTTP/1.1"
    assert lines[-2:] == ["", ""]
    assert set(lines[:-2]) == {
        "Host: grid.example.org:4321",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {base64.b64encode(KEY).decode()}",
    }


def test_an_answer_split_at_every_position_gives_what_came_after_it() -> None:
    data = an_answer() + b"more"
    for position in range(len(data)):
        upgrade = an_upgrade()
        rest = upgrade.receive_data(data[:position])
        if rest is None:
            assert upgrade.receive_data(data[position:]) == b"more"
        else:
            assert b"more".startswith(rest)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(an_answer("403 Forbidden"), id="no"),
        pytest.param(an_answer("200 OK"), id="a page"),
        pytest.param(an_answer(Upgrade=""), id="an answer without its Upgrade header"),
        pytest.param(an_answer(Connection="close"), id="another Connection header"),
        pytest.param(an_answer(Sec_WebSocket_Accept="AAAA"), id="somebody else's accept"),
        pytest.param(an_answer(Sec_WebSocket_Extensions="permessage-deflate"), id="an extension"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n\r\n", id="another protocol"),
        pytest.param(b"x" * 40_000, id="no end"),
    ],
)
def test_an_upgrade_is_broken_by(answer: bytes) -> None:
    with pytest.raises(WebSocketBroken):
        an_upgrade().receive_data(answer)
