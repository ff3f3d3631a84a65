"""The document of the HTTP doors, and the doors against it: what schemathesis makes of the document
is asked of a real server, within bounds and always the same.
"""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest.mock import ANY

import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR

from desktopgrid.client.grid import Grid
from desktopgrid.link.identity import Identity
from desktopgrid.model.objects import new_uid
from desktopgrid.server.listeners.openapi import document
from desktopgrid.server.requests import READING, REQUESTS
from desktopgrid.wire.messages import MAX_FRAME, SendUser
from tests.system.bystander import Bystander
from tests.system.processes import DEADLINE, ServerUnderTest, a_grid
from tests.system.tables import Watcher
from tests.system.test_bad_values import REQUESTS as PLAIN

DOCUMENT = json.loads(json.dumps(document()))
LOOKING = {kind.verb for kind in READING if REQUESTS[kind].policy is None}
"""What everybody may ask."""
FRESH = ("uid", "login", "name")
"""Fields that half of the cases get something new and plain in, so that the request is done."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerUnderTest]:
    with a_grid(tmp_path_factory.mktemp("grid")) as server:
        yield server


@pytest.fixture(scope="module")
def grid(server: ServerUnderTest) -> Grid:
    """A client by WebSocket, beside the door that is tested."""
    return server.client()


@pytest.fixture(scope="module")
def watcher(server: ServerUnderTest) -> Iterator[Watcher]:
    # That a token was used is noted once an hour, whatever becomes of the request.
    for identity in (server.identity(), server.identity(server.home.worker_identity)):
        call(server, "stats", {}, bearer(identity))
    watcher = Watcher(server)
    yield watcher
    watcher.close()


def bearer(identity: Identity) -> str:
    """What proves ``identity`` to the door."""
    return f"Bearer {identity.identity}:{identity.secret}"


def call(
    server: ServerUnderTest,
    verb: str,
    body: Any = None,
    authorization: str | None = "",
    method: str = "POST",
    path: str = "",
    **headers: str,
) -> tuple[int, Any]:
    """Status and answer of a request; by the administrator unless somebody else is named."""
    given = {"Content-Type": "application/json"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    if authorization is not None:
        given["Authorization"] = authorization or bearer(server.identity())
    content = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
    trust = ssl.create_default_context(cafile=str(server.home.ca_certificate))
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust)
    )
    asked = urllib.request.Request(  # noqa: S310 - https, always
        server.address + (path or f"/v1/requests/{verb}"),
        content if method == "POST" else None,
        given,
        method=method,
    )
    try:
        with opener.open(asked, timeout=DEADLINE) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


# --- the document ---------------------------------------------------------------------------------


def test_the_document_is_openapi_3_1_and_has_every_request(server: ServerUnderTest) -> None:
    found = call(server, "", path="/v1/openapi.json", method="GET", authorization=None)
    assert found == (200, DOCUMENT)
    OPENAPI_31_VALIDATOR.validate(DOCUMENT)
    for schema in DOCUMENT["components"]["schemas"].values():
        jsonschema_rs.meta.validate(schema)
    for kind in REQUESTS:
        assert f"/v1/requests/{kind.verb}" in DOCUMENT["paths"]


# --- what schemathesis makes of it ----------------------------------------------------------------


made_of_the_document = schemathesis.openapi.from_dict(DOCUMENT)
bounded = settings(
    max_examples=12,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def authorization_for(case: Any, server: ServerUnderTest, grid: Grid) -> str:
    """What the operation wants to see."""
    asked = case.operation.definition.raw.get("security", [])
    ticket = grid.session.welcome.ticket
    return f"Ticket {ticket}" if {"ticket": []} in asked else bearer(server.identity())


@made_of_the_document.parametrize()
@bounded
def test_no_request_breaks_the_server_and_a_refused_one_changes_nothing(
    case: Any,
    server: ServerUnderTest,
    grid: Grid,
    watcher: Watcher,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    is_plain = case.meta is not None and case.meta.generation.mode.is_positive
    if is_plain and isinstance(case.body, dict) and len(str(case.body)) % 2:
        case.body = {**case.body, **{name: new_uid() for name in FRESH if name in case.body}}
    watcher.changes()
    response = case.call(
        headers={"Authorization": authorization_for(case, server, grid)},
        base_url=server.address,
        verify=str(server.home.ca_certificate),
        timeout=DEADLINE,
    )
    # What a well-formed request names may not be there, and what it may not do it may not do.
    case.validate_response(response, excluded_checks=[positive_data_acceptance, ignored_auth])
    assert response.status_code < 500
    if response.status_code >= 400:
        assert not watcher.changes()
        assert case.method == "HEAD" or set(response.json()) == {"code", "reason"}


@pytest.mark.feature("XW-USR-1", "XW-USR-8")
@pytest.mark.parametrize("verb", sorted(kind.verb for kind in REQUESTS))
def test_whoever_may_nothing_changes_nothing(
    server: ServerUnderTest, watcher: Watcher, verb: str
) -> None:
    worker = bearer(server.identity(server.home.worker_identity))
    call(server, "stats", authorization=worker)  # a token's first use in an hour is noted
    watcher.changes()
    status, told = call(server, verb, {"data": "d", **PLAIN[verb]()}, worker)
    assert status in ((200, 404) if verb in LOOKING else (403,)), told
    assert not watcher.changes()


# --- the door itself ------------------------------------------------------------------------------


@pytest.mark.feature("XW-USR-1")
def test_a_work_is_submitted_and_its_result_fetched_without_a_session(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with a_grid(tmp_path_factory.mktemp("busy"), alive_period="5 s") as server:
        server.worker("worker")
        bystander = Bystander(server)
        uid = new_uid()
        body = {"uid": uid, "single": True, "arguments": [["7"]]}
        body["description"] = {"application": "square"}
        assert call(server, "submit", body) == (200, {"works": 1, "runs_on": ANY})
        assert call(server, "submit", body)[0] == 200, "the same works once more"
        ended: list[Any] = []
        while not ended:
            bystander.works()
            ended = call(server, "watch", {"works": [uid]})[1]["ended"]
        assert ended == [{"work": uid, "status": "COMPLETED"}]
        _, found = call(server, "results", {"works": [uid]})
        assert [each["stdout"] for each in found["results"]] == [b64encode(b"49\n").decode()]
        assert server.rows("SELECT count(*) FROM works WHERE uid = ?", uid) == [(1,)]
        bystander.close()


def test_asking_again_under_the_same_key_has_no_second_effect(server: ServerUnderTest) -> None:
    """Also when the server was killed in between."""
    key, body = new_uid(), {"kind": "session", "name": "keyed"}
    first = call(server, "sendgroup", {"uid": new_uid(), **body}, Idempotency_Key=key)
    assert first[0] == 200
    uid = first[1]["uid"]
    assert call(server, "sendgroup", {"uid": uid, **body}, Idempotency_Key=key) == first
    status, told = call(server, "sendgroup", {"uid": uid, **body})
    assert (status, told["code"]) == (409, "already-there"), "without the key it is a new request"
    status, told = call(server, "revoke", {"uid": uid}, Idempotency_Key=key)
    assert (status, told["code"]) == (409, "already-there"), "the key stands for another request"
    server.kill()
    server.start()
    assert call(server, "sendgroup", {"uid": uid, **body}, Idempotency_Key=key) == first
    assert server.rows("SELECT count(*) FROM bags WHERE name = 'keyed'") == [(1,)]


def test_the_same_key_at_once_from_many_has_one_effect(server: ServerUnderTest) -> None:
    key, body = new_uid(), {"uid": new_uid(), "login": new_uid(), "password": "correct horse"}
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(call, server, "senduser", body, Idempotency_Key=key) for _ in range(8)]
        told = [each.result() for each in asked]
    assert told == [(200, {"uid": body["uid"], "login": body["login"]})] * 8


@pytest.mark.feature("XW-USR-1")
def test_a_login_and_its_password_open_the_door_and_nothing_like_it(
    server: ServerUnderTest,
) -> None:
    login = new_uid()
    call(server, "senduser", {"uid": new_uid(), "login": login, "password": "correct horse"})

    def basic(pair: str) -> str:
        return "Basic " + b64encode(pair.encode()).decode()

    assert call(server, "stats", authorization=basic(f"{login}:correct horse"))[0] == 200
    told = [
        call(server, "stats", authorization=each)
        for each in (
            basic(f"{login}:wrong"),
            basic("nobody:correct horse"),
            basic(login),
            "Basic !",
            "Basic ",
            f"Bearer {login}:correct horse",
            f"Bearer {server.identity().identity}:{'0' * 64}",
            f"Bearer {server.identity().identity}",
            "Negotiate x",
            None,
        )
    ]
    assert {status for status, _ in told} == {401}
    assert {answer["code"] for _, answer in told} == {"not-authenticated"}


@pytest.mark.feature("XW-USR-13")
def test_a_revoked_token_opens_no_door(server: ServerUnderTest, grid: Grid) -> None:
    other = grid.new_identity("client")
    assert call(server, "stats", authorization=bearer(other))[0] == 200
    grid.session.ask(SendUser(new_uid(), new_uid()))
    assert call(server, "revoke", {"uid": other.identity})[0] == 200
    assert call(server, "stats", authorization=bearer(other))[0] == 401


@pytest.mark.parametrize(
    ("change", "status"),
    [
        pytest.param({"body": b"{" * 50_000}, 400, id="nested without end"),
        pytest.param({"body": b'{"uid": "\\ud800"}'}, 400, id="half a character"),
        pytest.param({"body": b"\xff\xfe"}, 400, id="no text"),
        pytest.param({"body": b'{"uid": 1e999}'}, 400, id="a number beyond numbers"),
        pytest.param({"body": b" " * (MAX_FRAME + 2)}, 413, id="too long"),
        pytest.param({"verb": "dance"}, 404, id="an unknown verb"),
        pytest.param({"verb": "finished"}, 404, id="a worker's verb"),
        pytest.param({"verb": "bye"}, 404, id="no request"),
        pytest.param({"method": "GET"}, 405, id="another method"),
        pytest.param({"Content_Type": "text/plain"}, 415, id="what a form of a page may send"),
        pytest.param({"Idempotency_Key": "x" * 256}, 400, id="a key too long"),
        pytest.param({"Content_Encoding": "gzip"}, 415, id="packed"),
    ],
)
def test_what_is_no_request_is_refused_with_a_reason(
    server: ServerUnderTest, change: dict[str, Any], status: int
) -> None:
    found, told = call(server, **{"verb": "why", "body": {"uid": "u"}, **change})
    assert (found, bool(told["code"] and told["reason"])) == (status, True), told
