"""A worker that lies: the server refuses it, whatever its client code says, and nobody else is hurt
(XW-ARC-2).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from desktopgrid.client.grid import Grid
from desktopgrid.link.address import ServerName
from desktopgrid.link.https import HTTPS
from desktopgrid.model.errors import AccessDenied, BadRequest
from desktopgrid.model.lifecycle import WorkStatus
from desktopgrid.model.objects import UID, Description, new_uid
from desktopgrid.wire.messages import MAX_INLINE, SendUser, Stats
from tests.system.bystander import Bystander
from tests.system.peers import RawPeer
from tests.system.processes import ServerUnderTest, a_grid, until

pytestmark = pytest.mark.feature("XW-ARC-2")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerUnderTest]:
    with a_grid(tmp_path_factory.mktemp("grid"), alive_period="2 s") as server:
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
def grid(bystander: Bystander) -> Grid:
    return bystander.grid


@pytest.fixture
def liar(server: ServerUnderTest) -> Iterator[RawPeer]:
    liar = RawPeer(server.identity(server.home.worker_identity))
    yield liar
    liar.close()


def task_of(grid: Grid, peer: RawPeer, *arguments: str) -> dict[str, Any]:
    """A task that ``peer`` is given."""
    work = grid.submit(Description("square", expected_host=peer.host), arguments).works[0]
    return peer.hear("assign", work=work)


def status_of(grid: Grid, work: UID) -> str:
    [row] = grid.objects("works", [work])
    return str(row["status"])


def put(server: ServerUnderTest, peer: RawPeer, path: str, content: bytes) -> int:
    """The status that an upload by ``peer`` gets."""
    connection = HTTPS(ServerName.parse(server.address), server.identity().ca, None, 60)
    connection.putrequest("PUT", path)
    connection.putheader("Authorization", f"Ticket {peer.welcome.ticket}")
    connection.putheader("Content-Length", str(len(content)))
    connection.endheaders(content)
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.mark.parametrize("verb", ["started", "finished", "returned"])
def test_about_a_task_of_another_host(
    server: ServerUnderTest, grid: Grid, liar: RawPeer, verb: str
) -> None:
    honest = RawPeer(server.identity(server.home.worker_identity))
    task = task_of(grid, honest)
    whose = {"task": task["task"], "epoch": task["epoch"]}
    liar.say(verb, 1, whose)
    assert liar.refusal()[0] == "access-denied"
    assert status_of(grid, task["work"]) == "PENDING"
    honest.say("finished", 1, {**whose, "exit_code": 0, "stdout": "dHJ1dGg="})
    [result] = grid.wait([task["work"]], 60)
    assert (result.status, result.stdout) == (WorkStatus.COMPLETED, b"truth")
    assert len(server.rows("SELECT 1 FROM tasks WHERE work = ?", task["work"])) == 1
    honest.close()


def test_about_a_life_of_its_task_that_is_over(grid: Grid, liar: RawPeer) -> None:
    task = task_of(grid, liar)
    whose = {"task": task["task"], "epoch": task["epoch"] - 1}
    liar.say("finished", 1, {**whose, "exit_code": 0, "stdout": "bGll"})
    until(lambda: liar.listen() or liar.acknowledged == 1, "it is acknowledged")
    assert status_of(grid, task["work"]) == "PENDING"
    grid.cancel([task["work"]])


def test_about_a_task_that_it_has_finished_before(grid: Grid, liar: RawPeer) -> None:
    task = task_of(grid, liar)
    whose = {"task": task["task"], "epoch": task["epoch"], "exit_code": 0}
    liar.say("finished", 1, {**whose, "stdout": "Zmlyc3Q="})
    liar.say("finished", 2, {**whose, "stdout": "c2Vjb25k"})
    liar.say("returned", 3, {"task": task["task"], "epoch": task["epoch"]})
    [result] = grid.wait([task["work"]], 60)
    assert result.stdout == b"first"
    until(lambda: liar.listen() or liar.acknowledged == 3, "all is acknowledged")
    [result] = grid.results([task["work"]])
    assert (result.status, result.stdout) == (WorkStatus.COMPLETED, b"first")


def test_by_an_output_that_it_has_not(grid: Grid, liar: RawPeer) -> None:
    """To know the digest of somebody's data is not to have it."""
    secret = grid.send_data(os.urandom(100), "secret", rights=0o700)
    task = task_of(grid, liar)
    output = {"name": "loot", "sha256": secret.sha256, "size": 100}
    whose = {"task": task["task"], "epoch": task["epoch"], "exit_code": 0}
    liar.say("finished", 1, {**whose, "outputs": [output]})
    assert liar.refusal()[0] == "access-denied"
    assert status_of(grid, task["work"]) == "PENDING"
    grid.cancel([task["work"]])


def test_by_uploading_for_a_task_of_another_host(
    server: ServerUnderTest, grid: Grid, liar: RawPeer
) -> None:
    honest = RawPeer(server.identity(server.home.worker_identity))
    task = task_of(grid, honest)["task"]
    content = b"a lie"
    digest = hashlib.sha256(content).hexdigest()
    path = f"/v1/tasks/{task}/outputs/{digest}"
    assert put(server, liar, path, content) == 403
    assert put(server, honest, path, b"another") == 422
    assert put(server, honest, path, content) == 201
    assert put(server, honest, f"/v1/tasks/{task}/outputs/../../x", content) in (400, 404)
    assert put(server, honest, f"/v1/tasks/{task}/outputs/{'z' * 64}", content) == 400
    honest.close()


def test_by_an_output_that_would_lie_elsewhere(
    server: ServerUnderTest, grid: Grid, liar: RawPeer, tmp_path: Path
) -> None:
    content = b"* * * * * root true"
    digest = hashlib.sha256(content).hexdigest()
    for number, name in enumerate(("../../evil", "/etc/cron.d/evil", "a/../../evil"), 1):
        task = task_of(grid, liar)
        assert put(server, liar, f"/v1/tasks/{task['task']}/outputs/{digest}", content) == 201
        output = {"name": name, "sha256": digest, "size": len(content)}
        whose = {"task": task["task"], "epoch": task["epoch"], "exit_code": 0}
        liar.say("finished", number, {**whose, "outputs": [output]})
        [result] = grid.wait([task["work"]], 60)
        with pytest.raises(BadRequest, match="would not lie in"):
            grid.fetch(result, tmp_path / "a" / "b")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_with_a_result_that_would_not_fit_into_a_message(grid: Grid, liar: RawPeer) -> None:
    """Its user would never hear of it."""
    task = task_of(grid, liar)
    whose = {"task": task["task"], "epoch": task["epoch"], "exit_code": 0}
    liar.say("finished", 1, {**whose, "stdout": "QUFB" * (MAX_INLINE // 3 + 1)})
    assert liar.refusal()[0] == "bad-request"
    grid.cancel([task["work"]])


def test_about_who_it_is(server: ServerUnderTest, grid: Grid) -> None:
    """A worker's identity asks for nothing, however it says hello."""
    worker = server.identity(server.home.worker_identity)
    peer = RawPeer(
        type(worker)(worker.servers, "client", worker.identity, worker.secret, worker.ca)
    )
    uid = new_uid()
    submitted = {"uid": uid, "description": {"application": "square"}}
    for number, (verb, body) in enumerate(
        (
            ("submit", submitted),
            ("senduser", {"uid": new_uid(), "login": "eve", "level": "super"}),
            ("sendtoken", {"uid": new_uid(), "verifier": "0" * 64}),
            ("submitpilots", {"site": "local", "pilots": {new_uid(): "0" * 64}}),
        ),
        1,
    ):
        peer.say(verb, number, body)
        answer = peer.answer(number)
        assert (answer[0], answer[1]["code"]) == ("failure", "access-denied")
    assert server.rows("SELECT 1 FROM submissions WHERE uid = ?", uid) == []
    peer.close()


def test_about_the_datas_that_it_needs(server: ServerUnderTest, grid: Grid, liar: RawPeer) -> None:
    private = grid.send_data(os.urandom(100), "private", rights=0o700)
    connection = HTTPS(ServerName.parse(server.address), server.identity().ca, None, 60)
    for method in ("GET", "HEAD"):
        connection.putrequest(method, f"/v1/datas/{private.uid}")
        connection.putheader("Authorization", f"Ticket {liar.welcome.ticket}")
        connection.endheaders()
        response = connection.getresponse()
        response.read()
        assert response.status == 404
    connection.close()


def test_a_request_of_a_worker_is_out_of_turn(grid: Grid, liar: RawPeer) -> None:
    liar.say(Stats.verb, 1, {})
    assert liar.refusal()[0] == "protocol"


def test_a_standard_user_may_not_take_what_is_another_users(
    server: ServerUnderTest, grid: Grid
) -> None:
    uid = new_uid()
    grid.session.ask(SendUser(uid, f"carol-{uid[-8:]}"))
    carol = server.client(grid.new_identity("client", uid))
    work = grid.submit(Description("square", expected_host="nowhere")).works[0]
    for take in (carol.cancel, carol.remove):
        with pytest.raises(AccessDenied):
            take([work])
    with pytest.raises(AccessDenied):
        carol.revoke(grid.session.identity.identity)
    grid.cancel([work])
