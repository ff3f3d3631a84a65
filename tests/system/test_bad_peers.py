"""What breaks the rules costs its own connection or request, and nobody else anything."""

from __future__ import annotations

import json
import os
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from desktopgrid.link.address import ServerName
from desktopgrid.link.duplex import Duplex
from desktopgrid.link.errors import ConnectionLost
from desktopgrid.link.https import HTTPS
from desktopgrid.link.transfer import login
from desktopgrid.model.errors import (
    AccessDenied,
    BadRequest,
    LimitExceeded,
    NotAuthenticated,
    RequirementRefused,
)
from desktopgrid.model.objects import ANY_PLATFORM, Description, new_uid
from desktopgrid.wire.messages import MAX_FRAME, SendData, SendUser
from desktopgrid.wire.proof import new_secret
from tests.system.bystander import Bystander
from tests.system.peers import FACTS, RawPeer, refused_hello, submission
from tests.system.processes import DEADLINE, SERVER, ServerUnderTest, a_grid

HURRIED = f"""
from desktopgrid.server.listeners import link
link.HELLO_PATIENCE = 1.0
{SERVER}
"""
HUGE = 10**30
LONG = 1 << 63


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerUnderTest]:
    place = tmp_path_factory.mktemp("grid")
    with a_grid(place, source=HURRIED, alive_period="5 s") as server:
        server.worker("worker")
        yield server


@pytest.fixture(scope="module")
def somebody(server: ServerUnderTest) -> Iterator[Bystander]:
    somebody = Bystander(server)
    yield somebody
    somebody.close()


@pytest.fixture(autouse=True)
def bystander(somebody: Bystander) -> Iterator[Bystander]:
    """Nothing that a test does may be seen by somebody else."""
    yield somebody
    somebody.works()


@pytest.fixture
def peer(server: ServerUnderTest) -> Iterator[RawPeer]:
    """A client that knows no manners."""
    peer = RawPeer(server.identity())
    yield peer
    peer.close()


# --- frames ---------------------------------------------------------------------------------------

STATS = ["stats", 1, {}]


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(os.urandom(300), id="garbage"),
        pytest.param(b"", id="nothing"),
        pytest.param(b'[0, ["stats", 1, {', id="half a frame"),
        pytest.param(b"[" * 100_000, id="nested without end"),
        pytest.param(b'{"stats": 1}', id="no list"),
        pytest.param(b"[]", id="an empty list"),
        pytest.param(b'[-1, ["stats", 1, {}]]', id="a negative acknowledgement"),
        pytest.param(b'[1e3, ["stats", 1, {}]]', id="a broken acknowledgement"),
        pytest.param(b'[0, ["stats", 1]]', id="a message of two parts"),
        pytest.param(b'[0, ["stats", "1", {}]]', id="a number that is text"),
        pytest.param(b'[0, ["stats", 1, []]]', id="a body that is a list"),
        pytest.param(b'[0, ["dance", 1, {}]]', id="an unknown verb"),
        pytest.param(b'[0, ["assign", 1, {"task": "t"}]]', id="the server's verb"),
        pytest.param(b'[0, ["finished", 1, {"task": "t", "epoch": 1}]]', id="a worker's verb"),
        pytest.param(b'[0, ["hello", 0, {}]]', id="a second hello"),
        pytest.param(b'[0, ["why", 1, {}]]', id="a field that lacks"),
        pytest.param(b'[0, ["why", 1, {"uid": 7}]]', id="a field of the wrong type"),
        pytest.param(b'[0, ["why", 1, {"uid": "\\ud800"}]]', id="half a character"),
        pytest.param(b'[0, ["stats", 0, {}]]', id="a request without a number"),
        pytest.param(b'[0, ["stats", 1, {}], ["stats", 3, {}]]', id="a number that skips"),
        pytest.param(b'[9, ["stats", 1, {}]]', id="an acknowledgement of what was not said"),
        pytest.param(json.dumps([0, ["stats", HUGE, {}]]).encode(), id="a number beyond numbers"),
        pytest.param(json.dumps([0, ["stats", LONG, {}]]).encode(), id="a number of 64 bits"),
        pytest.param(b" " * (MAX_FRAME + 1), id="a byte too long"),
    ],
)
def test_a_broken_frame_ends_its_connection_with_a_reason(peer: RawPeer, frame: bytes) -> None:
    peer.send(frame)
    code, reason = peer.refusal()
    assert code == "protocol"
    assert reason
    assert not [verb for verb, _, _ in peer.heard if verb == "reply"]


def test_a_frame_far_too_long_ends_its_connection(peer: RawPeer) -> None:
    with pytest.raises(ConnectionLost):
        peer.send(b" " * (8 * MAX_FRAME))
        code, reason = peer.refusal()
        raise ConnectionLost(f"{code} {reason}")


def test_a_connection_cut_in_the_middle_of_a_message_leaves_nothing(
    server: ServerUnderTest, bystander: Bystander
) -> None:
    peer = RawPeer(server.identity())
    uid = new_uid()
    frame = json.dumps([0, ["submit", 1, {"uid": uid, "description": {"application": "square"}}]])
    peer.cut(frame.encode(), sent=len(frame) // 2)
    bystander.works()
    assert server.rows("SELECT 1 FROM submissions WHERE uid = ?", uid) == []


def test_messages_that_are_replayed_on_a_new_connection_are_dropped(
    server: ServerUnderTest,
) -> None:
    peer = RawPeer(server.identity())
    frames = [
        [0, ["sendgroup", n, {"uid": new_uid(), "kind": "session", "name": f"replay-{n}"}]]
        for n in (1, 2)
    ]
    for frame in frames:
        peer.send(frame)
    peer.answer(2)
    peer.cut()
    again = RawPeer(server.identity(), session=peer.session, seen=2)
    assert again.welcome.resumed
    assert again.welcome.seen == 2
    for frame in frames:
        again.send(frame)
    again.say("stats", 3, {})
    assert again.answer(3)[0] == "reply"
    assert [number for verb, number, _ in again.heard if verb == "reply"] == [3]
    found = server.rows("SELECT count(*) FROM bags WHERE name LIKE 'replay-%'")
    assert found == [(2,)]
    again.close()


def test_another_identity_cannot_take_a_session_over(
    server: ServerUnderTest, bystander: Bystander
) -> None:
    peer = RawPeer(server.identity())
    other = bystander.grid.new_identity("client")
    code, _ = refused_hello(replace(other, servers=(server.address,)), session=peer.session)
    assert code == "not-authenticated"
    peer.say("stats", 1, {})
    assert peer.answer(1)[0] == "reply"
    peer.close()


# --- who says hello -------------------------------------------------------------------------------


def test_a_wrong_secret_and_an_unknown_identity_are_refused_alike(server: ServerUnderTest) -> None:
    known = server.identity()
    wrong = refused_hello(replace(known, secret=new_secret()))
    unknown = refused_hello(replace(known, identity=new_uid()))
    other_kind = refused_hello(replace(known, identity=new_uid(), kind="pilot"))
    assert wrong == unknown == other_kind
    assert wrong[0] == "not-authenticated"


@pytest.mark.parametrize(
    "hello",
    [
        pytest.param({"facts": None}, id="no facts"),
        pytest.param({"host": "../../etc"}, id="a host that is a path"),
        pytest.param({"facts": {**FACTS, "cores": 0}}, id="no cores"),
        pytest.param({"facts": {**FACTS, "cores": HUGE}}, id="more cores than there are"),
        pytest.param({"facts": {**FACTS, "memory_mib": HUGE}}, id="more memory than there is"),
        pytest.param({"facts": {**FACTS, "cpu": ["x86_64"]}}, id="a cpu that is a list"),
    ],
)
def test_an_unbelievable_host_is_refused(server: ServerUnderTest, hello: dict[str, Any]) -> None:
    identity = server.identity(server.home.worker_identity)
    code, reason = refused_hello(identity, **{"host": new_uid(), "facts": FACTS, **hello})
    assert (code, bool(reason)) == ("bad-request", True)


def test_who_says_nothing_is_told_to_go(server: ServerUnderTest) -> None:
    duplex = Duplex.open(ServerName.parse(server.address), server.identity().ca, None, DEADLINE)
    began = time.monotonic()
    heard = b""
    with pytest.raises(ConnectionLost):
        while time.monotonic() < began + DEADLINE:
            heard += b"".join(duplex.receive(1.0))
    duplex.close()
    assert b'"refused"' in heard
    assert b"no hello within" in heard


@pytest.mark.parametrize("door", ["login", "login/certificate", "login/token"])
def test_a_login_that_is_nested_without_an_end_is_a_bad_request(
    server: ServerUnderTest, door: str
) -> None:
    status, said, _ = post(server, f"/v1/{door}", b'{"x":' + b"[" * 4000)
    assert (status, json.loads(said)["code"]) == (400, "bad-request")


@pytest.mark.parametrize("scheme", ["Bearer", "Basic", "Ticket", "bearer"])
def test_a_secret_that_is_no_text_is_a_wrong_one(server: ServerUnderTest, scheme: str) -> None:
    headers = {"Content-Type": "application/json", "Authorization": f"{scheme} token:\xff\xfe"}
    assert post(server, "/v1/requests/stats", b"{}", **headers)[0] == 401


def test_a_turn_that_is_no_number_of_ours_is_as_none(server: ServerUnderTest) -> None:
    _, _, headers = post(server, "/v1/poll")
    link = headers["Glidebridge-Link"]
    turned = {"Glidebridge-Link": link, "Glidebridge-Turn": "9" * 5000}
    assert post(server, "/v1/poll", **turned)[0] == 200


def post(
    server: ServerUnderTest, path: str, body: bytes = b"", **headers: str
) -> tuple[int, bytes, Mapping[str, str]]:
    """Status, body and headers of the answer to a POST."""
    asked = urllib.request.Request(server.address + path, body, headers)  # noqa: S310 - our own
    tls = ssl.create_default_context(cadata=server.identity().ca)
    try:
        with urllib.request.urlopen(asked, context=tls) as answer:  # noqa: S310
            return answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), error.headers


def test_a_wrong_password_is_refused_and_says_no_more(
    server: ServerUnderTest, bystander: Bystander
) -> None:
    user = f"alice-{new_uid()[-8:]}"
    bystander.grid.session.ask(SendUser(new_uid(), user, password="correct horse"))
    ca = server.identity().ca
    told = []
    for name, password in ((user, "wrong"), ("nobody", "correct horse"), ("admin", "")):
        with pytest.raises(NotAuthenticated) as caught:
            login((server.address,), ca, name, password)
        told.append(str(caught.value))
    assert len(set(told)) == 1
    assert login((server.address,), ca, user, "correct horse")["user"] == user


@pytest.mark.feature("XW-USR-1")
def test_who_guesses_a_password_must_wait_and_keeps_nobody_else_out(
    server: ServerUnderTest, bystander: Bystander
) -> None:
    user, other = f"ann-{new_uid()[-8:]}", f"bob-{new_uid()[-8:]}"
    for name in (user, other):
        bystander.grid.session.ask(SendUser(new_uid(), name, password="correct horse"))
    ca = server.identity().ca
    wrong = 0
    with pytest.raises(LimitExceeded, match="too many attempts; try again in"):
        while wrong < 100:
            with pytest.raises(NotAuthenticated):
                login((server.address,), ca, user, "wrong")
            wrong += 1
    assert wrong < 20
    with pytest.raises(LimitExceeded):
        login((server.address,), ca, user, "correct horse")
    assert login((server.address,), ca, other, "correct horse")["user"] == other


# --- requests -------------------------------------------------------------------------------------

MILLION_TERMS = "||".join(["A"] * 10**6)
DOUBLED = "[a0 = 1; " + "; ".join(f"a{n + 1} = a{n} + a{n}" for n in range(60)) + "].a60 > 1"
"""What an evaluator without limits would add up term by term, 2^60 of them."""


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param(submission(description={"application": "nonesuch"}), "unknown-object"),
        pytest.param(submission(description={"application": 7}), "bad-request"),
        pytest.param(submission(description={"cores": 0}), "bad-request"),
        pytest.param(submission(description={"cores": HUGE}), "bad-request"),
        pytest.param(submission(description={"cores": "two"}), "bad-request"),
        pytest.param(submission(description={"speed": 3}), "bad-request"),
        pytest.param(submission(description={"wall_time": -1}), "bad-request"),
        pytest.param(submission(description={"inputs": [["../x", "y"]]}), "bad-request"),
        pytest.param(submission(description={"inputs": [["x", "y"]]}), "unknown-object"),
        pytest.param(submission(description={"session": "mine"}), "unknown-object"),
        pytest.param(submission(description={"outputs": ["/etc/*"]}), "bad-request"),
        pytest.param(submission(arguments=[]), "bad-request"),
        pytest.param(submission(arguments=[[]] * 2001), "bad-request"),
        pytest.param(submission(first=-1), "bad-request"),
        pytest.param(submission(first=HUGE), "bad-request"),
        pytest.param(submission(single=True, arguments=[[], []]), "bad-request"),
        pytest.param({**submission(), "uid": "a b"}, "bad-request"),
        pytest.param({**submission(), "uid": "a" * 65}, "bad-request"),
        pytest.param(submission(description={"requirements": "Cpus >="}), "requirement-refused"),
        pytest.param(submission(description={"requirements": "((Cpus)"}), "requirement-refused"),
        pytest.param(
            submission(description={"requirements": MILLION_TERMS[: MAX_FRAME // 2]}),
            "requirement-refused",
        ),
        pytest.param(submission(description={"requirements": DOUBLED}), "requirement-refused"),
    ],
)
def test_a_bad_submission_is_refused_and_nothing_is_stored(
    server: ServerUnderTest, peer: RawPeer, body: dict[str, Any], code: str
) -> None:
    before = server.rows("SELECT count(*) FROM submissions")
    peer.say("submit", 1, body)
    verb, answer = peer.answer(1)
    assert (verb, answer.get("code")) == ("failure", code)
    assert answer["reason"]
    peer.say("stats", 2, {})
    assert peer.answer(2)[0] == "reply"
    assert server.rows("SELECT count(*) FROM submissions") == before


def test_a_million_terms_do_not_leave_the_client(
    server: ServerUnderTest, bystander: Bystander
) -> None:
    before = server.rows("SELECT count(*) FROM submissions")
    with pytest.raises((LimitExceeded, RequirementRefused)):
        bystander.grid.submit(Description("square", requirements=MILLION_TERMS))
    assert server.rows("SELECT count(*) FROM submissions") == before


def test_nothing_is_hashed_for_who_may_not_ask_for_it(
    server: ServerUnderTest, bystander: Bystander
) -> None:
    uid = new_uid()
    bystander.grid.session.ask(SendUser(uid, f"bob-{uid[-8:]}"))
    bob = server.client(bystander.grid.new_identity("client", uid))
    with pytest.raises(AccessDenied, match="level standard may not insert users"):
        bob.session.ask(SendUser(new_uid(), "eve", password="short"))


def test_an_application_that_is_not_his_is_refused_to_a_user(
    server: ServerUnderTest, bystander: Bystander
) -> None:
    grid = bystander.grid
    uid = new_uid()
    grid.session.ask(SendUser(uid, f"bob-{uid[-8:]}"))
    data = grid.send_data(b"#!/bin/sh", rights=0o700)
    private = grid.send_application("mine", b"#!/bin/sh", ANY_PLATFORM, rights=0o700)
    bob = server.client(grid.new_identity("client", uid))
    for name in (private["uid"], "mine"):
        with pytest.raises(BadRequest, match="no application"):
            bob.submit(Description(name))
    with pytest.raises(BadRequest, match="no data"):
        bob.submit(Description("square", inputs=(("in", data.uid),)))
    with pytest.raises(AccessDenied):
        bob.session.ask(SendUser(new_uid(), "carol"))


def test_a_name_is_good_for_one_work(
    server: ServerUnderTest, peer: RawPeer, bystander: Bystander
) -> None:
    """Also when the first one of that name is over, and when the disk has not heard of it yet."""
    nowhere = {"expected_host": new_uid()}
    sweep = submission(description=nowhere, arguments=[[], []])
    single = submission(description=nowhere, single=True)
    first, uid = f"{sweep['uid']}-0", single["uid"]
    peer.send(
        [
            0,
            ["submit", 1, sweep],
            ["cancel", 2, {"works": [first]}],
            ["submit", 3, {**sweep, "arguments": [["another"]]}],
            ["submit", 4, single],
            ["cancel", 5, {"works": [uid]}],
            ["submit", 6, {**single, "arguments": [["another"]]}],
            ["submit", 7, {**sweep, "first": 2}],
            ["cancel", 8, {"works": [sweep["uid"]]}],
            ["submit", 9, {**sweep, "first": 3, "arguments": [["another"]]}],
            ["submit", 10, {**sweep, "first": 4, "arguments": [[]]}],
        ]
    )
    told = [(verb, body.get("code")) for verb, body in map(peer.answer, range(1, 11))]
    fine, taken = ("reply", None), ("failure", "already-there")
    assert told == [fine, fine, taken, fine, fine, taken, fine, fine, taken, fine]
    peer.say("cancel", 11, {"works": [sweep["uid"]]})
    assert peer.answer(11)[0] == "reply"
    bystander.works()


# --- transfers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("PUT", "", {"Content-Range": "bytes 5-9/20"}, 409),
        ("PUT", "", {"Content-Range": "bytes 0-9/21"}, 400),
        ("PUT", "", {"Content-Range": "bytes 0-9"}, 400),
        ("PUT", "", {"Content-Range": "bytes -1-9/20"}, 400),
        ("PUT", "", {"Content-Range": f"bytes 0-{HUGE}/{HUGE}"}, 400),
        ("PUT", "", {"Content-Length": "1000"}, 413),
        ("PUT", "x", {}, 404),
        ("GET", "", {}, 404),
        ("GET", "/../../server.key", {}, 404),
        ("GET", "/..%2f..%2fserver.key", {}, 404),
        ("DELETE", "", {}, 405),
        ("GET", "", {"Authorization": "Ticket wrong"}, 401),
        ("GET", "", {"Authorization": "Basic YWRtaW46YWRtaW4="}, 401),
        ("PUT", "", {"Authorization": ""}, 401),
    ],
)
def test_a_bad_transfer_is_refused(
    server: ServerUnderTest,
    bystander: Bystander,
    method: str,
    path: str,
    headers: dict[str, str],
    status: int,
) -> None:
    grid, uid = bystander.grid, new_uid()
    grid.session.ask(SendData(uid, "some", "0" * 64, 20))
    connection = HTTPS(ServerName.parse(server.address), server.identity().ca, None, DEADLINE)
    given = {"Authorization": f"Ticket {grid.session.welcome.ticket}", **headers}
    body = b"x" * int(given.setdefault("Content-Length", "10" if method == "PUT" else "0"))
    connection.putrequest(method, f"/v1/datas/{uid}{path}")
    for name, value in given.items():
        connection.putheader(name, value)
    connection.endheaders(body or None)
    response = connection.getresponse()
    said = json.loads(response.read())
    connection.close()
    assert response.status == status, said
    assert said["code"]
    assert said["reason"]
    assert server.rows("SELECT is_available FROM datas WHERE uid = ?", uid) == [(0,)]


@pytest.mark.parametrize(
    ("wanted", "status", "length"),
    [
        ("bytes=0-9", 206, 10),
        ("bytes=-5", 206, 5),
        ("bytes=15-100", 206, 5),
        ("bytes=20-", 416, 0),
        ("bytes=9-0", 416, None),
        ("bytes=a-b", 416, None),
        ("lines=1-2", 416, None),
    ],
)
def test_a_range_is_given_or_refused(
    server: ServerUnderTest, bystander: Bystander, wanted: str, status: int, length: int | None
) -> None:
    uid = bystander.grid.send_data(b"y" * 20, "some").uid
    connection = HTTPS(ServerName.parse(server.address), server.identity().ca, None, DEADLINE)
    connection.putrequest("GET", f"/v1/datas/{uid}")
    connection.putheader("Authorization", f"Ticket {bystander.grid.session.welcome.ticket}")
    connection.putheader("Range", wanted)
    connection.endheaders()
    response = connection.getresponse()
    content = response.read()
    connection.close()
    assert (response.status, length in (None, len(content))) == (status, True)
