"""Names of servers and proxies, and which proxy is the way to a server."""

from __future__ import annotations

import pytest

from desktopgrid.link.address import ServerName
from desktopgrid.link.answers import Head
from desktopgrid.link.errors import ConnectionLost, from_code, from_status
from desktopgrid.link.proxy import Intermediary, choose
from desktopgrid.model import errors


@pytest.mark.parametrize(
    "text, name, authority",
    [
        ("https://grid.lal.fr:4321", ServerName("grid.lal.fr", 4321), "grid.lal.fr:4321"),
        ("https://grid.lal.fr/", ServerName("grid.lal.fr", 443), "grid.lal.fr:443"),
        ("https://[::1]:4321", ServerName("::1", 4321), "[::1]:4321"),
        ("HTTPS://Grid:1", ServerName("grid", 1), "grid:1"),
    ],
)
def test_a_server_has_a_host_and_a_port(text: str, name: ServerName, authority: str) -> None:
    assert ServerName.parse(text) == name
    assert name.authority == authority
    assert str(name) == f"https://{authority}"


@pytest.mark.feature("XW-CFG-4")
def test_a_server_may_be_asked_without_http() -> None:
    name = ServerName.parse("tcp+tls://grid.lal.fr")
    assert name == ServerName("grid.lal.fr", 4321, "tcp+tls")
    assert str(name) == "tcp+tls://grid.lal.fr:4321"
    assert name != ServerName("grid.lal.fr", 4321)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "grid",
        "grid:4321",
        "http://grid:1",
        "https://",
        "https://g:p",
        "https://g:99999",
        "https://g:1/x",
        "https://u@g:1",
        "https://g:1?q",
        "https://[::1",
    ],
)
def test_what_is_no_server_is_refused(text: str) -> None:
    with pytest.raises(errors.BadRequest):
        ServerName.parse(text)


def test_a_proxy_may_want_credentials_which_it_does_not_show() -> None:
    proxy = Intermediary.parse("http://alice:s%40fe@proxy.lal.fr:8080")
    assert (proxy.address, proxy.credentials) == (("proxy.lal.fr", 8080), "alice:s@fe")
    assert "s@fe" not in repr(proxy)


@pytest.mark.parametrize("text", ["https://proxy:1", "socks5://proxy:1", "http://", "http://p:x"])
def test_what_is_no_proxy_is_refused(text: str) -> None:
    with pytest.raises(errors.BadRequest):
        Intermediary.parse(text)


A, B = Intermediary("a", 1), Intermediary("b", 2)


@pytest.mark.parametrize(
    "host, environment, explicit, chosen",
    [
        pytest.param("grid", {}, None, None, id="none is known"),
        pytest.param("grid", {"HTTPS_PROXY": "http://a:1"}, None, A, id="the environment's"),
        pytest.param("grid", {"https_proxy": "a:1"}, None, A, id="in small letters"),
        pytest.param("grid", {"HTTPS_PROXY": "a:1"}, "b:2", B, id="the key goes first"),
        pytest.param("grid", {"HTTPS_PROXY": "a:1"}, "", None, id="an empty key means none"),
        pytest.param("localhost", {"HTTPS_PROXY": "a:1"}, None, None, id="not to this machine"),
        pytest.param("127.0.0.3", {"HTTPS_PROXY": "a:1"}, None, None, id="however it is called"),
        pytest.param("::1", {"HTTPS_PROXY": "a:1"}, None, None, id="in IPv6 as well"),
        pytest.param("127.0.0.1", {}, "b:2", B, id="but where a key says so"),
        pytest.param(
            "g.lal.fr", {"HTTPS_PROXY": "a:1", "NO_PROXY": "x, .lal.fr"}, None, None, id="a domain"
        ),
        pytest.param("c.fr", {"HTTPS_PROXY": "a:1", "NO_PROXY": "c.fr"}, None, None, id="a name"),
        pytest.param(
            "olal.fr", {"HTTPS_PROXY": "a:1", "NO_PROXY": "lal.fr"}, None, A, id="another"
        ),
        pytest.param("grid", {"HTTPS_PROXY": "a:1", "NO_PROXY": "*"}, None, None, id="everything"),
        pytest.param(
            "10.1.2.3", {"HTTPS_PROXY": "a:1", "no_proxy": "10.0.0.0/8"}, None, None, id="a network"
        ),
        pytest.param(
            "11.1.2.3",
            {"HTTPS_PROXY": "a:1", "no_proxy": "10.0.0.0/8"},
            None,
            A,
            id="not in the network",
        ),
    ],
)
def test_the_way_to_a_server(
    host: str, environment: dict[str, str], explicit: str | None, chosen: Intermediary | None
) -> None:
    assert choose(host, environment, explicit) == chosen


def test_a_head_has_status_reason_and_headers() -> None:
    head = Head.parse(b"HTTP/1.1 407 Who are you\r\nProxy-Authenticate: Basic\r\nX:")
    assert (head.status, head.reason) == (407, "Who are you")
    assert head.headers == {"proxy-authenticate": "Basic", "x": ""}
    assert Head.parse(b"HTTP/1.0 200").reason == ""


@pytest.mark.parametrize("data", [b"", b"HTTP/1.1", b"HTTP/1.1 abc", b"HTTP/2 200 OK", b"220 smtp"])
def test_what_is_no_head_is_refused(data: bytes) -> None:
    with pytest.raises(ConnectionLost):
        Head.parse(data)


OURS = {code: kind for code, kind in errors.by_code().items() if kind.__module__ == errors.__name__}


@pytest.mark.parametrize("code, kind", sorted(OURS.items()))
def test_a_code_becomes_the_error_that_it_stands_for(
    code: str, kind: type[errors.GridError]
) -> None:
    error = from_code(code, "the reason")
    assert error.code == code
    assert "the reason" in str(error)
    assert isinstance(error, kind) or code in {"illegal-transition", "configuration", "protocol"}


def test_an_unknown_code_is_kept() -> None:
    error = from_code("version", "you are too old")
    assert (type(error), error.code, str(error)) == (errors.GridError, "version", "you are too old")


@pytest.mark.parametrize(
    "status, kind",
    [
        (401, errors.NotAuthenticated),
        (403, errors.AccessDenied),
        (404, errors.UnknownObject),
        (422, errors.BadRequest),
        (429, errors.Unavailable),
        (503, errors.Unavailable),
        (507, errors.Unavailable),
    ],
)
def test_a_status_without_a_code_says_enough(status: int, kind: type[errors.GridError]) -> None:
    assert type(from_status(status, "", "why")) is kind
