"""Contents from web servers, honest ones and others, over real connections."""

from __future__ import annotations

import hashlib
import random
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from desktopgrid.link import persistence, web
from desktopgrid.link.errors import NotToBeHad
from desktopgrid.link.web import Web, is_public
from desktopgrid.model.errors import AccessDenied, GridError, Unavailable
from tests.authority import Authority
from tests.web_server import Asked, WebServer

CONTENT = random.Random(1).randbytes(1_000_000)  # noqa: S311 - the same each time
DIGEST = hashlib.sha256(CONTENT).hexdigest()
HERE = Web(reaches_private=True, environment={})


@pytest.fixture
def server() -> Iterator[WebServer]:
    with WebServer() as server:
        yield server


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(persistence, "PAUSE", 0.001)


def fetch(uri: str, target: Path, by: Web = HERE, size: int = len(CONTENT)) -> bytes:
    by.fetch(uri, target, DIGEST, size)
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    return target.read_bytes()


def refusal(uri: str, target: Path, by: Web = HERE, size: int = len(CONTENT)) -> GridError:
    """Why it is not fetched; nothing that could be taken for it is left."""
    with pytest.raises(GridError) as raised:
        by.fetch(uri, target, DIGEST, size)
    assert uri in str(raised.value)
    assert not target.exists()
    return raised.value


@pytest.mark.feature("XW-ARC-6")
def test_a_content_is_fetched_whole(server: WebServer, tmp_path: Path) -> None:
    assert fetch(server.page("/a?b=c", CONTENT), tmp_path / "data") == CONTENT
    assert server.asked[0][0] == "/a?b=c"
    assert server.asked[0][1]["Host"] == server.url.removeprefix("http://")


def test_it_goes_on_where_it_broke_off(server: WebServer, tmp_path: Path) -> None:
    server.pages["/a"] = lambda asked: asked.serve(CONTENT, until=300_000)
    assert fetch(f"{server.url}/a", tmp_path / "data") == CONTENT
    begins = [headers.get("Range") for _, headers in server.asked]
    assert begins == [None, "bytes=300000-", "bytes=600000-", "bytes=900000-"]


def test_what_an_earlier_attempt_left_is_used(server: WebServer, tmp_path: Path) -> None:
    (tmp_path / "data.part").write_bytes(CONTENT[:400_000])
    assert fetch(server.page("/a", CONTENT), tmp_path / "data") == CONTENT
    assert server.asked[0][1]["Range"] == "bytes=400000-"


def test_a_server_that_knows_no_ranges_serves_too(server: WebServer, tmp_path: Path) -> None:
    def whole(asked: Asked) -> None:
        asked.say(200, Content_Length=len(CONTENT))
        asked.wfile.write(CONTENT)

    server.pages["/a"] = whole
    (tmp_path / "data.part").write_bytes(CONTENT[:400_000])
    assert fetch(f"{server.url}/a", tmp_path / "data") == CONTENT


def test_a_content_of_unsaid_length_is_fetched(server: WebServer, tmp_path: Path) -> None:
    def chunked(asked: Asked) -> None:
        asked.send_response(200)
        asked.send_header("Transfer-Encoding", "chunked")
        asked.end_headers()
        for start in range(0, len(CONTENT), 250_000):
            asked.wfile.write(b"%x\r\n%s\r\n" % (250_000, CONTENT[start : start + 250_000]))
        asked.wfile.write(b"0\r\n\r\n")

    server.pages["/a"] = chunked
    assert fetch(f"{server.url}/a", tmp_path / "data") == CONTENT


@pytest.mark.feature("XW-PIL-11")
def test_a_content_that_changed_is_refused(server: WebServer, tmp_path: Path) -> None:
    uri = server.page("/a", CONTENT[:-1] + b"!")
    error = refusal(uri, tmp_path / "data")
    assert isinstance(error, NotToBeHad)
    assert "is not what was announced" in str(error)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.feature("XW-PIL-11")
def test_a_content_that_changes_on_the_way_is_refused(server: WebServer, tmp_path: Path) -> None:
    other = bytes(len(CONTENT))
    server.pages["/a"] = lambda asked: asked.serve(other if asked.start else CONTENT, 600_000)
    assert isinstance(refusal(f"{server.url}/a", tmp_path / "data"), NotToBeHad)


def test_a_beginning_of_something_else_does_no_harm(server: WebServer, tmp_path: Path) -> None:
    (tmp_path / "data.part").write_bytes(b"something else")
    assert fetch(server.page("/a", CONTENT), tmp_path / "data") == CONTENT


@pytest.mark.parametrize("size", [10, len(CONTENT) + 1])
def test_another_size_is_noticed_before_it_comes(
    server: WebServer, tmp_path: Path, size: int
) -> None:
    error = refusal(server.page("/a", CONTENT), tmp_path / "data", size=size)
    assert isinstance(error, NotToBeHad)
    assert f"has {len(CONTENT)} bytes, not the {size} that were announced" in str(error)


def test_a_server_that_never_ends_is_stopped(server: WebServer, tmp_path: Path) -> None:
    def endless(asked: Asked) -> None:
        asked.send_response(200)
        asked.end_headers()
        asked.close_connection = True
        try:
            while not server.over.is_set():
                asked.wfile.write(bytes(100_000))
        except OSError:
            pass

    server.pages["/a"] = endless
    error = refusal(f"{server.url}/a", tmp_path / "data")
    assert isinstance(error, NotToBeHad)
    assert "more than the 1000000 bytes" in str(error)
    assert (tmp_path / "data.part").stat().st_size <= len(CONTENT)


def test_a_server_that_hangs_is_left(
    server: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "TIMEOUT", 0.05)

    def hang(asked: Asked) -> None:
        asked.say(200, Content_Length=len(CONTENT))
        asked.wfile.write(b"x")
        asked.wfile.flush()
        server.over.wait()

    server.pages["/a"] = hang
    error = refusal(f"{server.url}/a", tmp_path / "data")
    assert isinstance(error, Unavailable)


def test_a_server_that_drips_is_left(
    server: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "PATIENCE", 0.3)
    monkeypatch.setattr(web, "SLOWEST", 1 << 40)

    def drip(asked: Asked) -> None:
        try:
            while not server.over.wait(0.02):
                asked.wfile.write(b"H")  # not even its head comes
        except OSError:
            pass

    server.pages["/a"] = drip
    error = refusal(f"{server.url}/a", tmp_path / "data")
    assert isinstance(error, Unavailable)
    assert "longer than it may" in str(error)


@pytest.mark.parametrize(
    "status, is_final", [(404, True), (403, True), (410, True), (500, False), (429, False)]
)
def test_an_answer_that_may_change_is_told_from_one_that_does_not(
    server: WebServer, tmp_path: Path, status: int, is_final: bool
) -> None:
    server.pages["/a"] = lambda asked: asked.say(status)
    error = refusal(f"{server.url}/a", tmp_path / "data")
    assert str(status) in str(error)
    assert isinstance(error, NotToBeHad) is is_final


def test_nobody_there_may_pass(server: WebServer, tmp_path: Path) -> None:
    assert isinstance(refusal("http://127.0.0.1:9/a", tmp_path / "data"), Unavailable)


# Redirections.


def test_a_redirection_is_followed(server: WebServer, tmp_path: Path) -> None:
    server.page("/b", CONTENT)
    server.pages["/a"] = lambda asked: asked.say(302, Location="b")
    assert fetch(f"{server.url}/a", tmp_path / "data") == CONTENT


@pytest.mark.parametrize(
    "target, said",
    [
        ("/a", "redirects more than 10 times"),
        ("file:///etc/passwd", "from http to file"),
        ("ftp://127.0.0.1/a", "from http to ftp"),
        ("http://w w/a", "which is no URI"),
    ],
)
def test_a_redirection_that_leads_astray_is_not_followed(
    server: WebServer, tmp_path: Path, target: str, said: str
) -> None:
    server.pages["/a"] = lambda asked: asked.say(301, Location=target)
    error = refusal(f"{server.url}/a", tmp_path / "data")
    assert isinstance(error, NotToBeHad)
    assert said in str(error)


@pytest.fixture
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[WebServer, Web, str]]:
    """A server by https, who trusts its authority, and its address."""
    authority = Authority.new()
    context = authority.server_context(tmp_path_factory.mktemp("tls"), ("127.0.0.1",))
    with WebServer() as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        url = server.url.replace("http", "https")
        trust = ssl.create_default_context(cadata=authority.pem)
        yield server, Web(True, {}, lambda: trust), url


def test_https_is_verified(secure: tuple[WebServer, Web, str], tmp_path: Path) -> None:
    server, trusting, url = secure
    server.page("/a", CONTENT)
    assert fetch(f"{url}/a", tmp_path / "data", trusting) == CONTENT
    (tmp_path / "data").unlink()
    error = refusal(f"{url}/a", tmp_path / "data")  # the system's authorities do not know it
    assert "certificate" in str(error).lower()


def test_https_does_not_lead_to_http(
    secure: tuple[WebServer, Web, str], server: WebServer, tmp_path: Path
) -> None:
    away, trusting, url = secure
    away.pages["/a"] = lambda asked: asked.say(302, Location=server.page("/a", CONTENT))
    error = refusal(f"{url}/a", tmp_path / "data", trusting)
    assert "from https to http" in str(error)
    assert server.asked == []


# What only this host can reach.


@pytest.mark.parametrize(
    "address, expected",
    [
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("192.168.0.1", False),
        ("169.254.169.254", False),
        ("0.0.0.1", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:127.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("::7f00:1", False),
        ("::ffff:0:7f00:1", False),
        ("fec0::1", False),
        ("2002:7f00:1::", False),
        ("93.184.215.14", True),
        ("2606:2800:21f:cb07::1", True),
        ("::ffff:93.184.215.14", True),
    ],
)
def test_an_address_is_everybodys_or_it_is_not(address: str, expected: bool) -> None:
    assert is_public(address) is expected


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "2130706433", "0"])
def test_a_host_of_ones_own_network_is_not_asked(
    server: WebServer, tmp_path: Path, host: str
) -> None:
    server.page("/a", CONTENT)
    uri = f"http://{host}:{server.server_address[1]}/a"
    error = refusal(uri, tmp_path / "data", Web(environment={}))
    assert isinstance(error, AccessDenied)
    assert "fetch_private" in str(error)
    assert server.asked == []


def test_a_proxy_is_asked_for_http(server: WebServer, tmp_path: Path) -> None:
    server.pages["http://w.example.org/a"] = lambda asked: asked.serve(CONTENT)
    by = Web(environment={"http_proxy": server.url.replace("//", "//me:pass@")})
    assert fetch("http://w.example.org/a", tmp_path / "data", by) == CONTENT
    assert server.asked[0][1]["Host"] == "w.example.org"
    assert server.asked[0][1]["Proxy-Authorization"] == "Basic bWU6cGFzcw=="


@pytest.mark.parametrize(
    "literal", ["169.254.169.254", "2130706433", "0x7f.1", "127.1", "[::ffff:127.0.0.1]", "[::1]"]
)
def test_a_proxy_is_not_asked_for_what_is_private(
    server: WebServer, tmp_path: Path, literal: str
) -> None:
    """However its address is written."""
    by = Web(environment={"http_proxy": server.url})
    error = refusal(f"http://{literal}/a", tmp_path / "data", by)
    assert isinstance(error, AccessDenied)
    assert server.asked == []


# Breaking off, and measuring.


def test_a_fetch_is_broken_off_by_who_watches(server: WebServer, tmp_path: Path) -> None:
    class Enough(Exception):
        pass

    def watch(done: int) -> None:
        raise Enough

    with pytest.raises(Enough):
        HERE.fetch(server.page("/a", CONTENT), tmp_path / "data", DIGEST, len(CONTENT), watch)
    assert not (tmp_path / "data").exists()


def test_a_content_is_measured(server: WebServer) -> None:
    assert HERE.measure(server.page("/a", CONTENT)) == (DIGEST, len(CONTENT), CONTENT[:20])


def test_a_content_that_breaks_off_is_not_measured(server: WebServer) -> None:
    server.pages["/a"] = lambda asked: asked.serve(CONTENT, until=300_000)
    with pytest.raises(Unavailable, match="broke off after 300000 of 1000000 bytes"):
        HERE.measure(f"{server.url}/a")
