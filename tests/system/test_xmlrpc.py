"""The gateway for XML-RPC, as the standard library's client sees it."""

from __future__ import annotations

import gzip
import http.client
import ssl
import xmlrpc.client
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from desktopgrid.model.objects import new_uid
from desktopgrid.server.requests import REQUESTS
from desktopgrid.wire.messages import MAX_FRAME
from tests.system.bystander import Bystander
from tests.system.processes import DEADLINE, ServerUnderTest, a_grid, a_port
from tests.system.tables import Watcher
from tests.system.test_bad_values import REQUESTS as PLAIN


@pytest.fixture(scope="module")
def port() -> int:
    return a_port()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[ServerUnderTest]:
    place = tmp_path_factory.mktemp("grid")
    with a_grid(place, alive_period="60 s", doors__xmlrpc_port=str(port)) as server:
        server.worker("worker")
        yield server


@pytest.fixture(scope="module")
def bystander(server: ServerUnderTest) -> Iterator[Bystander]:
    somebody = Bystander(server)
    yield somebody
    somebody.close()


def trust(server: ServerUnderTest) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(server.home.ca_certificate))


@pytest.fixture
def proxy(server: ServerUnderTest, port: int) -> Iterator[xmlrpc.client.ServerProxy]:
    url = f"https://127.0.0.1:{port}/RPC2"
    with xmlrpc.client.ServerProxy(url, context=trust(server), allow_none=True) as proxy:
        yield proxy


@pytest.fixture
def me(server: ServerUnderTest) -> tuple[str, str]:
    identity = server.identity()
    return identity.identity, identity.secret


def fault(ask: Any, *parameters: Any) -> tuple[int, str]:
    """The fault that a call gets: its number, and the code in its text."""
    with pytest.raises(xmlrpc.client.Fault) as caught:
        ask(*parameters)
    return caught.value.faultCode, caught.value.faultString.partition(":")[0]


@pytest.mark.feature("XW-ARC-8", "XW-CFG-9")
def test_a_work_goes_in_and_its_result_comes_out(
    proxy: Any, me: tuple[str, str], bystander: Bystander
) -> None:
    uid = new_uid()
    body = {"uid": uid, "description": {"application": "square"}, "arguments": [["9"]]}
    assert proxy.xwsendwork(*me, body)["works"] == 1
    ended: list[Any] = []
    while not ended:
        bystander.works()
        ended = proxy.watch(*me, {"works": [uid]})["ended"]
    assert ended == [{"work": uid, "status": "COMPLETED"}]
    [result] = proxy.xwresult(*me, {"works": [uid]})["results"]
    assert result["stdout"] == "ODEK"
    assert uid in [row["uid"] for row in proxy.xwgetworks(*me, {"limit": 50})["rows"]]


@pytest.mark.feature("XW-CFG-9")
def test_every_request_is_a_method_and_says_what_it_does(proxy: Any) -> None:
    methods = set(proxy.system.listMethods())
    assert {kind.verb for kind in REQUESTS} <= methods
    assert {"xwgetworks", "xwsendwork", "xwresult", "xwchmod"} <= methods
    assert "works" in proxy.system.methodHelp("xwsendwork")
    assert fault(proxy.system.methodHelp, "dance") == (404, "unknown-object")


@pytest.mark.parametrize("verb", sorted(PLAIN))
def test_the_gateway_lets_nobody_do_more_than_another_door(
    server: ServerUnderTest, proxy: Any, verb: str
) -> None:
    worker = server.identity(server.home.worker_identity)
    with suppress(xmlrpc.client.Fault):  # a token's first use in an hour is noted
        proxy.stats(worker.identity, worker.secret)
    watcher = Watcher(server)
    body = {"data": "d", **PLAIN[verb]()}
    try:
        getattr(proxy, verb)(worker.identity, worker.secret, body)
    except xmlrpc.client.Fault as told:
        assert told.faultCode in (403, 404)
    assert not watcher.changes()
    watcher.close()


@pytest.mark.feature("XW-USR-1")
def test_who_asks_is_proved_in_each_call(proxy: Any, me: tuple[str, str]) -> None:
    login, password = new_uid(), "correct horse"
    proxy.xwsenduser(*me, {"uid": new_uid(), "login": login, "password": password})
    assert proxy.stats(login, password)["submitted"] >= 0
    assert fault(proxy.stats, login, "wrong") == (401, "not-authenticated")
    assert fault(proxy.stats, me[0], "wrong") == (401, "not-authenticated")
    assert fault(proxy.stats, "nobody", password) == (401, "not-authenticated")
    assert fault(proxy.stats) == (400, "bad-request")
    assert fault(proxy.stats, *me, 7) == (400, "bad-request")
    assert fault(proxy.stats, login, 7) == (400, "bad-request")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param({"uid": "u"}, 404, id="an unknown object"),
        pytest.param({}, 400, id="a field that lacks"),
        pytest.param({"uid": 7}, 400, id="a wrong type"),
        pytest.param({"uid": xmlrpc.client.Binary(b"u")}, 404, id="bytes, as base64"),
        pytest.param({"uid": "u" * 70_000}, 404, id="long"),
        pytest.param({"uid": None}, 400, id="nothing"),
    ],
)
def test_a_fault_carries_our_code(
    proxy: Any, me: tuple[str, str], body: dict[str, Any], status: int
) -> None:
    assert fault(proxy.why, *me, body)[0] == status


def test_numbers_of_64_bits_pass_both_ways(proxy: Any, me: tuple[str, str]) -> None:
    uid, size = new_uid(), (1 << 33) + 1
    told = post_call(proxy, "senddata", me, {"uid": uid, "name": uid, "sha256": "1" * 64}, size)
    assert told == {"uid": uid, "available": False}
    [row] = proxy.xwgetdatas(*me, {"uids": [uid]})["rows"]
    assert row["size"] == size


def post_call(proxy: Any, method: str, me: tuple[str, str], body: dict[str, Any], size: int) -> Any:
    """A call with an `i8`, which the standard library's client reads but does not write."""
    packed = xmlrpc.client.dumps((*me, {**body, "size": 12345}), method)
    packed = packed.replace("<int>12345</int>", f"<i8>{size}</i8>")
    transport = proxy("transport")
    return transport.request("127.0.0.1:" + address_of(proxy), "/RPC2", packed.encode())[0]


def address_of(proxy: Any) -> str:
    return str(proxy._ServerProxy__host.rpartition(":")[2])


LAUGHS = """<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "ha">{}]>
<methodCall><methodName>&x9;</methodName></methodCall>""".format(
    "".join(f'<!ENTITY x{n} "{f"&x{n - 1};" * 10 if n else "&a;" * 10}">' for n in range(10))
)
EXTERNAL = """<?xml version="1.0"?><!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]>
<methodCall><methodName>stats</methodName><params><param><value>&x;</value></param></params>
</methodCall>"""
PARAMETER = """<?xml version="1.0"?><!DOCTYPE r [<!ENTITY % p SYSTEM "https://127.0.0.1:1/x">%p;]>
<methodCall><methodName>stats</methodName></methodCall>"""
DEEP = "<methodCall><methodName>stats</methodName><params><param>{}{}</param></params></methodCall>"
DEEP = DEEP.format("<value><array><data>" * 20_000, "</data></array></value>" * 20_000)
HUGE = "<methodCall><methodName>stats</methodName><params><param><value><int>{}</int></value>"
HUGE = HUGE.format("9" * 100_000) + "</param></params></methodCall>"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(LAUGHS, id="a billion laughs"),
        pytest.param(EXTERNAL, id="an external entity"),
        pytest.param(PARAMETER, id="a parameter entity"),
        pytest.param(
            '<!DOCTYPE r SYSTEM "https://127.0.0.1:1/d"><methodCall/>', id="a foreign type"
        ),
        pytest.param(DEEP, id="nested without end"),
        pytest.param(DEEP.replace("stats", "system.methodHelp"), id="that, without an identity"),
        pytest.param(HUGE, id="a number without end"),
        pytest.param("", id="nothing"),
        pytest.param("<methodCall>", id="half a call"),
        pytest.param("<methodCall></data></methodCall>", id="crossed elements"),
        pytest.param("<value><struct><member></member></struct></value>", id="no call"),
        pytest.param("<methodCall><data></data><params/></methodCall>", id="no method"),
        pytest.param(xmlrpc.client.dumps((1,), "system.methodHelp"), id="a number for a name"),
        pytest.param(xmlrpc.client.dumps((), "__class__.__init__"), id="a name of Python's"),
        pytest.param("\0\xff", id="no text"),
    ],
)
def test_what_is_no_call_is_a_fault_and_nothing_more(
    server: ServerUnderTest, bystander: Bystander, port: int, body: str
) -> None:
    watcher = Watcher(server)
    status, answer = post(server, port, body.encode())
    assert status == 200
    with pytest.raises(xmlrpc.client.Fault) as caught:
        xmlrpc.client.loads(answer.decode())
    assert caught.value.faultCode in (400, 404)
    assert "root:" not in caught.value.faultString
    assert not watcher.changes()
    watcher.close()
    bystander.works()


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        pytest.param(b" " * (MAX_FRAME + 2), {}, 413, id="too long"),
        pytest.param(
            gzip.compress(b" " * (64 << 20)), {"Content-Encoding": "gzip"}, 415, id="a packed bomb"
        ),
        pytest.param(b"x", {"Content-Encoding": "gzip"}, 415, id="a broken packing"),
    ],
)
def test_what_is_too_large_or_packed_is_not_read(
    server: ServerUnderTest,
    bystander: Bystander,
    port: int,
    body: bytes,
    headers: dict[str, str],
    status: int,
) -> None:
    assert post(server, port, body, headers)[0] == status
    bystander.works()


def post(
    server: ServerUnderTest, port: int, body: bytes, headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    connection = http.client.HTTPSConnection(
        "127.0.0.1", port, timeout=DEADLINE, context=trust(server)
    )
    try:
        connection.request("POST", "/RPC2", body, {"Content-Type": "text/xml", **(headers or {})})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_the_other_doors_stay_shut(server: ServerUnderTest, port: int) -> None:
    """Nothing of the worker/API port is behind it, and TLS is spoken only."""
    connection = http.client.HTTPSConnection(
        "127.0.0.1", port, timeout=DEADLINE, context=trust(server)
    )
    connection.request("GET", "/v1/status")
    assert connection.getresponse().status == 404
    connection.close()
    plain = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    with pytest.raises((http.client.HTTPException, OSError)):
        plain.request("POST", "/RPC2", b"x")
        plain.getresponse()
    plain.close()
