"""Who learns a secret: nobody on the wire, no worker, and nobody who recorded an earlier proof."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from desktopgrid.client.grid import Grid
from desktopgrid.link.address import ServerName
from desktopgrid.link.duplex import Duplex
from desktopgrid.link.handshake import Dialler
from desktopgrid.link.identity import Identity
from desktopgrid.link.transfer import login
from desktopgrid.model.errors import UnknownObject
from desktopgrid.model.objects import ANY_PLATFORM, Description
from desktopgrid.wire.proof import verifier_of
from tests.relay import Relay
from tests.system.peers import RawPeer
from tests.system.processes import ServerUnderTest, a_grid

ECHO = b"#!/bin/sh\necho plain-program-text\ncat\necho $1 > plain-output-name\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerUnderTest]:
    with a_grid(tmp_path_factory.mktemp("grid")) as server:
        yield server


@pytest.fixture(scope="module")
def admin(server: ServerUnderTest) -> Grid:
    admin = server.client()
    admin.send_user("plain-user-name", password="plain-password")
    return admin


def is_welcome(server: ServerUnderTest, identity: Identity, frames: list[bytes]) -> bool:
    """What comes of a connection on which exactly these frames are said after the challenge."""
    duplex = Duplex.open(ServerName.parse(server.address), identity.ca, None, 20)
    try:
        heard: list[bytes] = []
        while not heard:
            heard = list(duplex.receive(20))
        for frame in frames:
            duplex.send(frame)
        answer: list[bytes] = heard[1:]
        while not answer:
            answer = list(duplex.receive(20))
        verb = json.loads(answer[0])[1][0]
        assert verb in ("welcome", "refused")
        return bool(verb == "welcome")
    finally:
        duplex.close()


@pytest.mark.feature("XW-SEC-2", "XW-USR-1")
@pytest.mark.parametrize("kind", ["client", "worker"])
def test_a_proof_that_was_recorded_answers_no_other_challenge(
    server: ServerUnderTest, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = server.home
    identity = server.identity(home.worker_identity if kind == "worker" else None)
    said: list[bytes] = []
    send = Duplex.send

    def record(duplex: Duplex, frame: bytes) -> bool:
        said.append(frame)
        return send(duplex, frame)

    monkeypatch.setattr(Duplex, "send", record)
    peer = RawPeer(identity)
    monkeypatch.undo()
    [hello] = said
    assert json.loads(hello)[1][2]["proof"]
    assert not is_welcome(server, identity, [hello])
    peer.close()
    assert not is_welcome(server, identity, [hello])


@pytest.mark.feature("XW-SEC-2")
def test_a_proof_is_for_one_kind_one_session_and_one_identity(
    server: ServerUnderTest, admin: Grid, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever changes a word of a hello on its way has no proof for it."""
    identity = server.identity()
    other = admin.new_identity("client").identity
    changed = {"kind": "worker", "identity": other, "session": "another1"}
    for name, value in changed.items():

        def forge(
            dialler: Dialler,
            challenge: object,
            identity: Identity,
            session: str,
            seen: int,
            name: str = name,
            value: str = value,
            answer: object = Dialler._answer,
        ) -> object:
            hello = answer(dialler, challenge, identity, session, seen)  # type: ignore[operator]
            return replace(hello, **{name: value})

        monkeypatch.setattr(Dialler, "_answer", forge)
        with pytest.raises(Exception, match="no such identity, or not its secret"):
            RawPeer(identity)
        monkeypatch.undo()
    RawPeer(identity).close()


@pytest.mark.feature("XW-SEC-3")
def test_nothing_that_clients_and_workers_say_or_hear_can_be_read_on_the_wire(
    server: ServerUnderTest, admin: Grid, tmp_path: Path
) -> None:
    with Relay(server.port, records=True) as relay:
        ca = server.identity().ca
        reply = login((relay.url,), ca, "plain-user-name", "plain-password")
        hers = Identity((relay.url,), "client", reply["token"], reply["secret"], ca)
        path = tmp_path / "worker.identity"
        hers = replace(hers, kind="client")
        with Grid.open(hers) as grid:
            replace(grid.new_identity("worker"), servers=(relay.url,)).write(path)
            worker = server.worker("watched", 1, path)
            grid.send_application("plain-application", ECHO, ANY_PLATFORM)
            stdin = grid.send_data(b"plain-file-content" * 10_000, "plain-data-name")
            what = Description("plain-application", label="plain-label", stdin=stdin.uid)
            result = grid.run(what, ["plain-argument"], timeout=60)
            assert b"plain-file-content" in grid.content(result, "stdout")
            assert grid.content(result, "plain-output-name") == b"plain-argument\n"
            ticket = grid.session.welcome.ticket
            with pytest.raises(UnknownObject):
                grid.why("plain-question")
            worker.stop()
        wire = bytes(relay.passed)
    assert len(wire) > 2 * 180_000, "the data went both ways"
    assert wire.count(b"\x17\x03\x03") > 20, "TLS records"
    worker_secret = Identity.read(path).secret
    secrets = (hers.secret, hers.identity, worker_secret, ticket, verifier_of(hers.secret))
    for text in ("plain-", "hello", "welcome", "HTTP/1.1", "/v1/", "Authorization", *secrets):
        assert text.encode() not in wire, text


@pytest.mark.feature("XW-SEC-3")
@pytest.mark.parametrize(
    "version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1], ids=["1.0", "1.1"]
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_no_old_tls_is_spoken(server: ServerUnderTest, version: ssl.TLSVersion) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=server.identity().ca)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    plain = socket.create_connection(("127.0.0.1", server.port))
    with plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain, server_hostname="127.0.0.1")


@pytest.mark.feature("XW-SEC-5")
def test_a_worker_sees_no_users_secret(server: ServerUnderTest, admin: Grid) -> None:
    """Works reach it under the server's word: it learns the user's login, for its log."""
    ca = server.identity().ca
    reply = login((server.address,), ca, "plain-user-name", "plain-password")
    hers = Identity((server.address,), "client", reply["token"], reply["secret"], ca)
    admin.send_application("say", b"#!/bin/sh\nenv\n", ANY_PLATFORM)
    worker = RawPeer(server.identity(server.home.worker_identity))
    with Grid.open(hers) as grid:
        variables = (("MINE", "1"),)
        what = Description("say", variables=variables, expected_host=worker.host)
        [work] = grid.submit(what).works
        task = worker.hear("assign", work=work)
        assert task["for_user"] == "plain-user-name"
        assert set(task) <= {
            *("task", "epoch", "work", "application", "executable", "arguments", "stdin", "env"),
            *("inputs", "variables", "outputs", "cores", "memory_mib", "disk_mib", "wall_time"),
            "for_user",
        }
        heard = json.dumps([worker.heard, worker.welcome.__dict__])
        [password] = server.rows("SELECT verifier FROM credentials WHERE kind = 'password'")[0]
        for secret in (
            *("plain-password", password, hers.secret, verifier_of(hers.secret), hers.identity),
            grid.session.welcome.ticket,
        ):
            assert secret not in heard
        grid.cancel([work])
    worker.close()
