"""The door for frames over TLS alone: workers and clients that know no HTTP but for their files."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from desktopgrid.link.identity import Identity
from desktopgrid.model.objects import ANY_PLATFORM, Description
from desktopgrid.wire.framing import PING, FrameReader, framed
from desktopgrid.wire.messages import MAX_FRAME
from tests.system.bystander import Bystander
from tests.system.peers import RawPeer
from tests.system.processes import DEADLINE, SERVER, ServerUnderTest, a_grid, a_port

HURRIED = f"""
from desktopgrid.server.listeners import link
link.HELLO_PATIENCE = 1.0
{SERVER}
"""
BOTH = b"#!/bin/sh\ncat input\nhead -c 200000 /dev/zero > out.bin\n"


@pytest.fixture(scope="module")
def port() -> int:
    return a_port()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[ServerUnderTest]:
    place = tmp_path_factory.mktemp("grid")
    with a_grid(place, source=HURRIED, alive_period="5 s", doors__tcp_port=str(port)) as server:
        server.worker("worker", identity=framed_worker(server, port))
        yield server


def here(identity: Identity, port: int) -> Identity:
    """``identity`` by way of the door."""
    return replace(identity, servers=(f"tcp+tls://127.0.0.1:{port}",))


def framed_worker(server: ServerUnderTest, port: int) -> Path:
    path = server.directory / "framed.identity"
    here(server.identity(server.home.worker_identity), port).write(path)
    return path


@pytest.fixture(scope="module")
def bystander(server: ServerUnderTest) -> Iterator[Bystander]:
    somebody = Bystander(server)
    yield somebody
    somebody.close()


@pytest.mark.feature("XW-ARC-8", "XW-CFG-4")
def test_a_work_with_files_is_done_by_peers_of_this_door_alone(
    server: ServerUnderTest, port: int
) -> None:
    client = server.client(here(server.identity(), port))
    assert str(client.session._link.server) == f"tcp+tls://127.0.0.1:{port}"
    client.send_application("both", BOTH, ANY_PLATFORM)
    content = os.urandom(2 << 20).hex().encode()
    given = client.send_data(content, "input")
    result = client.run(Description("both", inputs=(("input", given.uid),)), [], DEADLINE)
    outputs = {each.name: each for each in result.outputs}
    assert outputs["stdout"].sha256 == hashlib.sha256(content).hexdigest()
    assert outputs["out.bin"].size == 200_000


@pytest.mark.feature("XW-CFG-4")
def test_a_session_goes_on_over_another_door(server: ServerUnderTest, port: int) -> None:
    identity = server.identity()
    first = RawPeer(here(identity, port))
    first.say("stats", 1, {})
    assert first.answer(1)[0] == "reply"
    first.close()
    again = RawPeer(identity, session=first.session, seen=1)
    assert again.welcome.resumed
    assert again.welcome.https_port == 0
    assert first.welcome.https_port == server.port
    again.say("stats", 2, {}, 1)
    assert again.answer(2)[0] == "reply"
    again.close()


@pytest.fixture
def plain(server: ServerUnderTest, port: int) -> Iterator[ssl.SSLSocket]:
    """A TLS connection on which nothing was said yet."""
    trust = ssl.create_default_context(cafile=str(server.home.ca_certificate))
    with (
        socket.create_connection(("127.0.0.1", port), DEADLINE) as raw,
        trust.wrap_socket(raw, server_hostname="127.0.0.1") as secured,
    ):
        yield secured


def heard(plain: ssl.SSLSocket) -> list[list[object]]:
    """All messages until the server ends the connection."""
    reader, frames = FrameReader(MAX_FRAME), []
    with suppress(ConnectionError, ssl.SSLError):
        while data := plain.recv(65536):
            frames += reader.receive_data(data)
    return [message for frame in frames if frame for message in json.loads(frame)[1:]]


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"\xff\xff\xff\xff", id="a length without end"),
        pytest.param((MAX_FRAME + 1).to_bytes(4, "big"), id="a byte too long"),
        pytest.param(framed(b"nonsense"), id="no JSON"),
        pytest.param(framed(b'[0, ["stats", 1, {}]]'), id="no hello"),
        pytest.param(b"GET /v1/link HTTP/1.1\r\nHost: localhost\r\n\r\n", id="HTTP"),
        pytest.param(PING * 1000 + framed(b"[]"), id="questions, and then nonsense"),
        pytest.param(b"", id="nothing"),
        pytest.param(framed(b"x" * 100)[:50], id="half a frame"),
    ],
)
def test_what_is_no_session_is_refused_with_a_reason(
    plain: ssl.SSLSocket, bystander: Bystander, said: bytes
) -> None:
    plain.sendall(said)
    told = heard(plain)
    assert [message[0] for message in told] == ["challenge", "refused"]
    refused = told[-1][2]
    assert isinstance(refused, dict)
    assert refused["code"] == "protocol"
    assert refused["reason"]
    bystander.works()


def test_without_tls_nothing_is_said(
    server: ServerUnderTest, bystander: Bystander, port: int
) -> None:
    with socket.create_connection(("127.0.0.1", port), DEADLINE) as raw:
        raw.sendall(framed(b'[0, ["stats", 1, {}]]'))
        answer = b""
        with suppress(ConnectionError):
            while data := raw.recv(4096):
                answer += data
    assert b"challenge" not in answer
    bystander.works()


def test_a_server_that_stops_tells_its_peers(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    port = a_port()
    with a_grid(tmp_path_factory.mktemp("short"), doors__tcp_port=str(port)) as server:
        peer = RawPeer(here(server.identity(), port))
        began = time.monotonic()
        server.stop()
        assert peer.refusal() == ("unavailable", "the server is stopping")
        assert time.monotonic() - began < DEADLINE
        peer.close()
