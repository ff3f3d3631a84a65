"""Somebody between us and the server, with a key of his own: he is told nothing, and we say so.

The impostor passes everything on to the real server, so whoever trusted him would notice nothing.
"""

from __future__ import annotations

import hashlib
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from desktopgrid.link.address import ServerName
from desktopgrid.link.errors import ForeignServer
from desktopgrid.link.handshake import Dialler
from desktopgrid.link.https import HTTPS
from desktopgrid.link.identity import Identity
from desktopgrid.link.longpoll import LongPoll
from desktopgrid.link.transfer import login
from desktopgrid.model.errors import NotAuthenticated, Unavailable
from desktopgrid.model.objects import new_uid
from desktopgrid.wire import messages as m
from desktopgrid.wire.proof import new_secret, verifier_of
from tests.authority import Authority
from tests.impostor import Impostor
from tests.system.peers import RawPeer
from tests.system.processes import ServerUnderTest, a_grid, environment, until

pytestmark = pytest.mark.feature("XW-SEC-4", "XW-WCF-11")

NO_CERTIFICATE = "the server showed no certificate of this grid"
OURS = ("127.0.0.1", "localhost")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerUnderTest]:
    with a_grid(tmp_path_factory.mktemp("grid")) as server:
        yield server


def certified_by_himself(server: ServerUnderTest, directory: Path) -> ssl.SSLContext:
    """A CA of his own, which is called as the grid's, and the server's names."""
    return Authority.new().server_context(directory, OURS)


def certified_for_another_name(server: ServerUnderTest, directory: Path) -> ssl.SSLContext:
    """What the grid's own CA has given to another machine."""
    grid = Authority.read(server.home.ca_key, server.home.ca_certificate)
    return grid.server_context(directory, ("elsewhere.example.org",))


IMPOSTORS: dict[str, Callable[[ServerUnderTest, Path], ssl.SSLContext]] = {
    "with a CA of his own": certified_by_himself,
    "with another machine's certificate": certified_for_another_name,
}


@pytest.fixture(params=IMPOSTORS)
def impostor(
    request: pytest.FixtureRequest, server: ServerUnderTest, tmp_path: Path
) -> Iterator[Impostor]:
    with Impostor(IMPOSTORS[request.param](server, tmp_path), server.port) as impostor:
        yield impostor
        assert impostor.connections, "nobody came by"
        assert bytes(impostor.heard) == b""


def before(identity: Identity, impostor: Impostor) -> Identity:
    """``identity`` of one who is led to the impostor."""
    return replace(identity, servers=(impostor.url,))


def test_who_trusted_him_would_tell_him_all(server: ServerUnderTest, tmp_path: Path) -> None:
    """So that the tests below can fail."""
    authority = Authority.new()
    with Impostor(authority.server_context(tmp_path, OURS), server.port) as impostor:
        betrayed = replace(server.identity(), servers=(impostor.url,), ca=authority.pem)
        peer = RawPeer(betrayed)
        peer.say("stats", 1, {})
        assert peer.answer(1)[0] == "reply"
        peer.close()
        with pytest.raises(NotAuthenticated):
            _login(betrayed, ServerName.parse(impostor.url))
    # What a client says over a WebSocket is masked; he knows how to take that off.
    assert b"GET /v1/link" in impostor.heard and b"correct horse" in impostor.heard


def test_a_client_tells_him_nothing(
    server: ServerUnderTest, impostor: Impostor, tmp_path: Path
) -> None:
    path = tmp_path / "identity.json"
    before(server.identity(), impostor).write(path)
    done = subprocess.run(
        [sys.executable, "-m", "desktopgrid.client.cli", "--identity", str(path), "stats"],
        env={**environment(), "SSL_CERT_FILE": str(a_public_ca(tmp_path))},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert NO_CERTIFICATE in done.stderr


def a_public_ca(directory: Path) -> Path:
    """A CA that everybody's system trusts; ours does not matter to us."""
    path = directory / "public.pem"
    path.write_text(Authority.new().pem)
    return path


@pytest.mark.parametrize("door", ["link", "long poll", "transfer", "login"])
def test_a_ca_that_the_whole_system_trusts_is_not_the_grids(
    server: ServerUnderTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, door: str
) -> None:
    authority = Authority.new()
    public = tmp_path / "public.pem"
    public.write_text(authority.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(public))
    with Impostor(authority.server_context(tmp_path, OURS), server.port) as impostor:
        identity = before(server.identity(), impostor)
        assert public_trusts(impostor.port)
        with pytest.raises(Unavailable, match=NO_CERTIFICATE):
            DOORS[door](identity, ServerName.parse(impostor.url))
        assert bytes(impostor.heard) == b""


def public_trusts(port: int) -> bool:
    """Whether a program that trusts what the system trusts would be taken in."""
    context = ssl.create_default_context()
    plain = socket.create_connection(("127.0.0.1", port))
    with plain, context.wrap_socket(plain, server_hostname="127.0.0.1") as trusting:
        return trusting.version() is not None


def _link(identity: Identity, server: ServerName) -> None:
    Dialler(dict, "test", None, {}).open(server, identity, "session1", 0)


def _poll(identity: Identity, server: ServerName) -> None:
    LongPoll.open(server, identity.ca, None, 10)


def _transfer(identity: Identity, server: ServerName) -> None:
    connection = HTTPS(server, identity.ca, None, 10)
    headers = {"Authorization": "Ticket of-a-session"}
    connection.request("PUT", "/v1/datas/uid", body=b"a secret file", headers=headers)


def _login(identity: Identity, server: ServerName) -> None:
    login(identity.servers, identity.ca, "admin", "correct horse")


DOORS: dict[str, Callable[[Identity, ServerName], None]] = {
    "link": _link,
    "long poll": _poll,
    "transfer": _transfer,
    "login": _login,
}


@pytest.mark.parametrize("door", DOORS)
def test_no_door_tells_him_anything(server: ServerUnderTest, impostor: Impostor, door: str) -> None:
    identity = before(server.identity(), impostor)
    with pytest.raises(ForeignServer, match=NO_CERTIFICATE):
        DOORS[door](identity, ServerName.parse(impostor.url))


def test_a_worker_tells_him_nothing_and_serves_the_real_server(
    server: ServerUnderTest, impostor: Impostor, tmp_path: Path
) -> None:
    identity = server.identity(server.home.worker_identity)
    path = tmp_path / "worker.identity"
    replace(identity, servers=(impostor.url, server.address)).write(path)
    name = f"worker-{new_uid()[-6:]}"
    worker = server.worker(name, 1, path)
    admin = server.client()
    until(lambda: list(admin.objects("hosts")), "it is at the real server")
    worker.stop()
    assert NO_CERTIFICATE in (server.directory / f"{name}.log").read_text()
    until(lambda: not list(admin.objects("hosts")), "it has left")


def test_a_pilot_tells_him_nothing_and_its_secret_is_good_still(
    server: ServerUnderTest, impostor: Impostor
) -> None:
    stamp, secret = new_uid(), new_secret()
    server.client().session.ask(m.SubmitPilots("local", {stamp: verifier_of(secret)}))
    admin = server.identity()
    pilot = Identity((impostor.url,), "pilot", stamp, secret, admin.ca)
    enrolment = {"proved_by": "enrolment", "key": verifier_of(new_secret())}
    with pytest.raises(ForeignServer, match=NO_CERTIFICATE):
        RawPeer(pilot, **enrolment)
    peer = RawPeer(replace(pilot, servers=admin.servers), **enrolment)
    assert peer.welcome.user == "admin"
    peer.close()


def test_a_transfer_that_is_led_to_him_uploads_nothing(
    server: ServerUnderTest, impostor: Impostor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session is the real server's, and its ticket; only the file goes astray."""
    grid = server.client()
    link = grid.session._link
    monkeypatch.setattr(type(link), "server", ServerName.parse(impostor.url))
    content = b"nobody else's business"
    digest = hashlib.sha256(content).hexdigest()
    with pytest.raises(Unavailable, match=NO_CERTIFICATE):
        link.transfers.put(f"/v1/datas/{new_uid()}", content, digest, len(content))
