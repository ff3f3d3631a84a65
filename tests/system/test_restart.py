"""A server that stops in good order, comes back, is copied, gets a new certificate; and what a
client finds on record that comes back late.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import ssl
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from desktopgrid.client.grid import Grid
from desktopgrid.link.address import ServerName
from desktopgrid.link.https import HTTPS
from desktopgrid.model.lifecycle import WorkStatus
from desktopgrid.model.objects import ANY_PLATFORM, Description, new_uid
from desktopgrid.wire.messages import SendData, SendUser
from tests.system.bystander import SQUARE
from tests.system.peers import RawPeer, refused_hello, submission
from tests.system.processes import SERVER, ServerUnderTest, a_grid, run, until


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerUnderTest]:
    with a_grid(tmp_path) as server:
        yield server


@pytest.fixture
def grid(server: ServerUnderTest) -> Grid:
    """A client, with an application `square`."""
    grid = server.client()
    grid.send_application("square", SQUARE, ANY_PLATFORM)
    return grid


def squares(grid: Grid, count: int) -> None:
    """So many works are done right."""
    sweep = grid.sweep(Description("square"), [[str(n)] for n in range(count)])
    found = {result.work: result.stdout for result in grid.wait(sweep.works, 60)}
    assert [found[work] for work in sweep.works] == [f"{n * n}\n".encode() for n in range(count)]


# --- stopping -------------------------------------------------------------------------------------


def test_a_stop_finishes_an_upload_that_is_in_flight(server: ServerUnderTest, grid: Grid) -> None:
    content = os.urandom(3 << 20)
    digest, uid = hashlib.sha256(content).hexdigest(), new_uid()
    grid.session.ask(SendData(uid, "big", digest, len(content)))
    identity = server.identity()
    connection = HTTPS(ServerName.parse(server.address), identity.ca, None, 60)
    connection.putrequest("PUT", f"/v1/datas/{uid}")
    connection.putheader("Authorization", f"Ticket {grid.session.welcome.ticket}")
    connection.putheader("Content-Length", str(len(content)))
    connection.endheaders()
    connection.send(content[: 2 << 20])
    upload = server.place / "data" / "partial" / uid
    until(lambda: upload.exists() and upload.stat().st_size, "the upload has begun")

    server.process.send(15)
    until(lambda: "Stopping on SIGTERM" in server.log, "the server was told")
    connection.send(content[2 << 20 :])
    assert connection.getresponse().status == 201
    connection.close()
    assert server.process.wait() == 0
    assert server.rows("SELECT is_available FROM datas WHERE uid = ?", uid) == [(1,)]
    assert "Traceback" not in server.log


def test_a_stop_does_not_wait_for_ever(tmp_path: Path) -> None:
    with a_grid(tmp_path, stop_patience="1 s") as server:
        grid = server.client()
        uid = new_uid()
        grid.session.ask(SendData(uid, "big", "0" * 64, 1 << 20))
        connection = HTTPS(ServerName.parse(server.address), server.identity().ca, None, 60)
        connection.putrequest("PUT", f"/v1/datas/{uid}")
        connection.putheader("Authorization", f"Ticket {grid.session.welcome.ticket}")
        connection.putheader("Content-Length", str(1 << 20))
        connection.endheaders(b"x" * 1000)
        upload = server.place / "data" / "partial" / uid
        until(lambda: upload.exists() and upload.stat().st_size, "the upload has begun")
        server.stop()
        connection.close()
        assert "Traceback" not in server.log


def test_what_was_answered_before_a_stop_is_there_after_it(server: ServerUnderTest) -> None:
    peer = RawPeer(server.identity())
    server.client().send_application("square", SQUARE, ANY_PLATFORM)
    bodies = {n: submission(single=True) for n in range(1, 301)}
    for number, body in bodies.items():
        peer.say("submit", number, body)
        if number == 150:
            server.process.send(15)
    assert peer.refusal()[0] == "unavailable"
    answered = {body["to"] for verb, _, body in peer.heard if verb == "reply"}
    assert server.process.wait() == 0
    there = {uid for (uid,) in server.rows("SELECT uid FROM works")}
    assert {bodies[number]["uid"] for number in answered} <= there
    assert "Traceback" not in server.log


def test_workers_and_clients_come_back_to_a_server_that_was_restarted(
    server: ServerUnderTest, grid: Grid
) -> None:
    server.worker("worker")
    squares(grid, 5)
    for _ in range(2):
        server.stop()
        server.start()
        squares(grid, 5)


def test_a_second_server_in_one_directory_is_refused(server: ServerUnderTest, grid: Grid) -> None:
    server.worker("worker")
    for verb in ("console", "start"):
        second = run(SERVER, "--directory", server.place, verb)
        assert second.returncode == 1
        assert len(second.stderr.splitlines()) == 1, second.stderr
        assert "another process keeps the grid" in second.stderr or "already" in second.stderr
    squares(grid, 5)
    assert server.process.is_running


# --- copies and certificates ----------------------------------------------------------------------

CUBE = b"#!/bin/sh\nsleep 0.0$(($1 % 5))\necho $(($1 * $1))\necho $(($1 * $1 * $1)) > cube\n"


@pytest.mark.feature("XW-LIM-5")
def test_a_backup_under_load_is_a_consistent_grid_with_its_datas(
    server: ServerUnderTest, grid: Grid, tmp_path: Path
) -> None:
    server.worker("worker")
    grid.send_application("cube", CUBE, ANY_PLATFORM)
    done = grid.sweep(Description("cube"), [[str(n)] for n in range(20)])
    assert len(list(grid.wait(done.works, 60))) == 20
    goes_on = threading.Event()
    load = threading.Thread(target=_submit_until, args=(grid, goes_on))
    load.start()
    copy = tmp_path / "copy" / "grid"
    try:
        until(lambda: server.rows("SELECT count(*) FROM works")[0][0] > 60, "there is load")
        taken = run(SERVER, "--directory", server.place, "backup", copy)
    finally:
        goes_on.set()
        load.join()
    assert taken.returncode == 0, taken.stderr

    rows = sqlite3.connect(copy / "grid.db")
    assert rows.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert rows.execute("PRAGMA foreign_key_check").fetchall() == []
    _check_contents(rows, copy / "data")
    rows.close()

    with a_grid(tmp_path / "copy") as other:
        found = other.client()
        for n, result in enumerate(_in_order(found, done.works)):
            assert result.status is WorkStatus.COMPLETED
            assert found.content(result, "cube") == f"{n**3}\n".encode()
        other.worker("worker")
        works = [str(row["uid"]) for row in found.objects("works")]
        ended = list(found.wait(works, 60))
        assert {result.status for result in ended} == {WorkStatus.COMPLETED}
    squares(grid, 3)


def _submit_until(grid: Grid, over: threading.Event) -> None:
    number = 0
    while not over.is_set():
        numbers = range(number, number + 10)
        grid.sweep(Description("cube"), [[str(n)] for n in numbers])
        grid.send_data(os.urandom(50_000), f"data-{number}")
        number += 10


def _check_contents(rows: sqlite3.Connection, datas: Path) -> None:
    """What the database speaks of is there, and it is what it was."""
    named = [digest for (digest,) in rows.execute("SELECT sha256 FROM datas WHERE is_available")]
    outputs = "SELECT json_extract(value, '$.sha256') FROM tasks, json_each(outputs)"
    named += [digest for (digest,) in rows.execute(f"{outputs} WHERE outputs IS NOT NULL")]
    assert len(named) > 20
    for digest in named:
        content = (datas / digest[:2] / digest).read_bytes()
        assert hashlib.sha256(content).hexdigest() == digest


def _in_order(grid: Grid, works: tuple[str, ...]) -> Iterator[object]:
    results = {result.work: result for result in grid.results(works)}
    return (results[work] for work in works)


def test_a_renewed_certificate_is_trusted_by_all_who_trusted_the_old_one(
    server: ServerUnderTest, grid: Grid
) -> None:
    server.worker("worker")
    squares(grid, 3)
    before = _certificate(server)
    renewed = run(SERVER, "--directory", server.place, "renew")
    assert renewed.returncode == 0, renewed.stderr
    assert _certificate(server) == before
    server.stop()
    server.start()
    assert _certificate(server) != before
    squares(grid, 3)


def _certificate(server: ServerUnderTest) -> str:
    return ssl.get_server_certificate(("127.0.0.1", server.port))


# --- what is on record ----------------------------------------------------------------------------


def test_an_answer_is_given_again_though_its_works_are_over(
    server: ServerUnderTest, grid: Grid
) -> None:
    """The server is killed when all is done, and before the client has heard of any of it."""
    server.worker("worker")
    peer = RawPeer(server.identity())
    body = submission(single=True, arguments=[["3"]])
    peer.say("submit", 1, body)
    _, answer = peer.answer(1)
    list(grid.wait([body["uid"]], 60))
    server.kill()
    peer.refusal()
    server.start()
    again = RawPeer(server.identity(), session=peer.session)
    assert not again.welcome.resumed
    again.say("submit", 1, body)
    assert again.answer(1) == ("reply", answer)
    again.close()


def test_an_answer_is_kept_for_a_client_that_was_away_for_long(tmp_path: Path) -> None:
    with a_grid(tmp_path, alive_period="0.1 s") as server:
        peer = RawPeer(server.identity())
        body = announcement()
        peer.say("senddata", 1, body)
        _, answer = peer.answer(1)
        peer.cut()
        again = until(lambda: _if_forgotten(server, peer.session), "the session is over")
        again.say("senddata", 1, body)
        assert again.answer(1) == ("reply", answer)
        again.say("stats", 2, {}, acknowledging=1)
        again.answer(2)
        again.close()
        assert server.rows("SELECT count(*) FROM datas") == [(1,)]
        assert server.rows("SELECT count(*) FROM replies") == [(0,)]


def announcement() -> dict[str, object]:
    """What ``senddata`` says of an empty data."""
    return {
        "uid": new_uid(),
        "name": "nothing",
        "sha256": hashlib.sha256(b"").hexdigest(),
        "size": 0,
    }


def _if_forgotten(server: ServerUnderTest, session: str) -> RawPeer | None:
    """A connection in a session, if that has to begin anew."""
    if not server.rows("SELECT 1 FROM replies WHERE session = ?", session):
        raise AssertionError("the answer is not on record any more")
    threading.Event().wait(0.6)  # longer than the lease
    peer = RawPeer(server.identity(), session=session)
    if not peer.welcome.resumed:
        return peer
    peer.cut()
    return None


def test_what_is_answered_and_not_heard_is_asked_again(server: ServerUnderTest) -> None:
    """Else a server that is killed right after the welcome would leave nobody who asks."""
    peer = RawPeer(server.identity())
    for number in (1, 2, 3):
        peer.say("stats", number, {}, acknowledging=min(number - 1, 1))
        peer.answer(number)
    peer.cut()
    again = RawPeer(server.identity(), session=peer.session, seen=1)
    assert again.welcome.resumed
    assert again.welcome.seen == 1
    again.say("stats", 4, {})
    assert again.answer(4)[0] == "reply"
    assert [body["to"] for verb, _, body in again.heard if verb == "reply"] == [2, 3, 4]
    again.close()


def test_nobody_else_is_given_an_answer_that_is_on_record(
    server: ServerUnderTest, grid: Grid
) -> None:
    bob = new_uid()
    grid.session.ask(SendUser(bob, "bob"))
    bobs = replace(grid.new_identity("client", bob), servers=(server.address,))
    peer = RawPeer(server.identity())
    peer.say("senddata", 1, announcement())
    peer.answer(1)
    server.kill()
    peer.refusal()
    server.start()
    assert refused_hello(bobs, session=peer.session)[0] == "not-authenticated"


def test_a_ticket_ends_with_its_session(server: ServerUnderTest, grid: Grid) -> None:
    peer = RawPeer(server.identity())
    ticket = peer.welcome.ticket
    peer.say("bye", 1, {})
    peer.refusal()
    connection = HTTPS(ServerName.parse(server.address), server.identity().ca, None, 60)
    connection.putrequest("GET", "/v1/datas/any")
    connection.putheader("Authorization", f"Ticket {ticket}")
    connection.endheaders()
    assert connection.getresponse().status == 401
    connection.close()
