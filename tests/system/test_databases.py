"""The whole server on each kind of database: founded there, filled, killed, and found again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from desktopgrid.client.grid import Grid
from desktopgrid.model.errors import (
    AccessDenied,
    AlreadyThere,
    NotAuthenticated,
    UnknownObject,
)
from desktopgrid.model.lifecycle import WorkStatus
from desktopgrid.model.objects import ANY_PLATFORM, Description, new_uid
from desktopgrid.wire.messages import SendData
from tests.system.bystander import SQUARE
from tests.system.churn import Churn
from tests.system.peers import RawPeer, submission
from tests.system.processes import SERVER, ServerUnderTest, a_grid, run, until

SEED = 20261125
ODD = 'Zoë\N{GRINNING FACE} "; DROP TABLE works; --\\'
NOWHERE = Description("square", expected_host="nowhere")


@pytest.fixture(scope="module")
def server(
    any_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerUnderTest]:
    """A grid of its own in each database, with one worker."""
    with a_grid(tmp_path_factory.mktemp("grid"), database=any_database) as server:
        server.worker("worker")
        yield server
        assert "Traceback" not in server.log


@pytest.fixture
def grid(server: ServerUnderTest) -> Grid:
    """Its administrator, with an application `square`."""
    grid = server.client()
    grid.send_application("square", SQUARE, ANY_PLATFORM)
    return grid


def someone(server: ServerUnderTest, admin: Grid, login: str, **facts: str) -> Grid:
    """A new user's client."""
    user = admin.send_user(login, **facts)
    return server.client(replace(admin.new_identity("client", user), servers=(server.address,)))


def test_the_grid_is_where_the_url_says(server: ServerUnderTest) -> None:
    assert ("admin", 40) in server.rows("SELECT login, level FROM users")
    has_file = server.home.database.exists()
    assert has_file == (not server.home.config.database.url)
    assert run(SERVER, "--directory", server.place, "status").returncode == 0


def test_works_are_done_listed_and_fetched(grid: Grid) -> None:
    sweep = grid.sweep(Description("square", label="all"), [[str(n)] for n in range(30)])
    results = {result.work: result.stdout for result in grid.wait(sweep.works, 60)}
    assert results == {work: b"%d\n" % n**2 for n, work in enumerate(sweep.works)}
    listed = [row["uid"] for row in grid.objects("works", label="all")]
    assert listed == list(reversed(sweep.works))
    done = grid.objects("works", status="COMPLETED", application="square", owner="admin")
    assert set(sweep.works) <= {row["uid"] for row in done}
    tasks = list(grid.objects("tasks", sweep.works))
    assert {row["status"] for row in tasks} == {"COMPLETED"}
    assert len({row["work"] for row in tasks}) == 30
    assert len(list(grid.results([sweep.uid]))) == 30
    assert "30 COMPLETED" in " ".join(grid.why(sweep.uid))
    assert grid.remove([sweep.uid]) == list(sweep.works)
    assert list(grid.objects("works", label="all")) == []
    assert list(grid.results([sweep.uid])) == []


def test_texts_and_bytes_come_back_as_they_were(server: ServerUnderTest, grid: Grid) -> None:
    echo = b"#!/bin/sh\nprintf '%s' \"$1\"\nhead -c 20000 /dev/urandom >&2\n"
    grid.send_application(ODD, echo, ANY_PLATFORM)
    result = grid.run(Description(ODD, label=ODD), [ODD], 60)
    assert result.stdout.decode() == ODD
    (stored,) = grid.results([result.work])
    assert (stored.stdout, stored.stderr) == (result.stdout, result.stderr)
    (row,) = grid.objects("works", label=ODD)
    assert (row["application"], row["arguments"]) == (ODD, [ODD])
    data = grid.send_data(b"x" * 100_000, ODD)
    (row,) = grid.objects("datas", [data.uid], name=ODD)
    assert (row["name"], row["is_available"]) == (ODD, True)


def test_names_that_differ_little_are_different(server: ServerUnderTest, grid: Grid) -> None:
    """As each letter counts in memory, it has to in the database."""
    for login in ("ann", "Ann", "ann\u0301", "\u00e4nn"):
        grid.send_user(login)
    for uid in ("case", "CASE", "Case"):
        grid.session.ask(SendData(f"{uid}-{server.port}", "nothing", "0" * 64, 1))
    with pytest.raises(AlreadyThere):
        grid.send_user("Ann")
    assert len(list(grid.objects("datas", name="nothing"))) == 3


@pytest.mark.feature("XW-UM-3")
def test_users_and_what_they_may_do(server: ServerUnderTest, grid: Grid) -> None:
    group = grid.send_bag("usergroup", "physics")
    assert [row["uid"] for row in grid.objects("usergroups", name="physics")] == [group]
    pat = someone(server, grid, "pat", level="advanced", user_group="physics")
    quin = someone(server, grid, "quin", user_group="physics")
    rita = someone(server, grid, "rita")
    bag = pat.send_bag("session", "tuesday")
    for other in (quin, rita):
        assert list(other.objects("sessions")) == []
    assert pat.chmod(bag, "g+r") == 0o740
    assert [row["uid"] for row in quin.objects("sessions")] == [bag]
    assert list(rita.objects("sessions")) == []
    with pytest.raises(AccessDenied):
        quin.chmod(bag, "777")
    grid.change_user("quin", user_group="")
    assert list(quin.objects("sessions")) == []
    assert pat.remove([bag]) == [bag]
    assert list(pat.objects("sessions")) == []
    grid.revoke("rita")
    with pytest.raises(NotAuthenticated):
        until(lambda: rita.stats() is None, "the session ends")


@pytest.mark.feature("XW-GEN-1")
def test_a_user_is_removed_for_good(server: ServerUnderTest, grid: Grid) -> None:
    grid.send_bag("usergroup", "guests")
    sam = someone(server, grid, "sam", level="advanced", user_group="guests")
    waiting = sam.submit(NOWHERE)
    tool = sam.send_application("sams", SQUARE, ANY_PLATFORM)["uid"]
    with pytest.raises(AccessDenied, match="has members: sam"):
        grid.remove(["guests"])
    assert len(grid.remove(["guests", "sam"])) == 2
    with pytest.raises(NotAuthenticated):
        until(lambda: sam.stats() is None, "the session ends")
    server.kill()
    server.start()
    again = server.client()
    assert list(again.objects("users", ["sam"])) == []
    assert list(again.objects("usergroups", ["guests"])) == []
    assert server.rows("SELECT is_deleted FROM users WHERE login = ?", "sam") == [(True,)]
    assert [row["status"] for row in again.objects("works", [waiting.uid])] == ["ABORTED"]
    assert [row["owner"] for row in again.objects("apps", [tool])] == ["sam"]
    with pytest.raises(AlreadyThere):
        again.send_user("sam")
    with pytest.raises(AlreadyThere):
        again.send_bag("usergroup", "guests")


def test_an_answer_is_given_again_by_the_next_server(server: ServerUnderTest, grid: Grid) -> None:
    peer = RawPeer(server.identity())
    body = submission(single=True, description={"expected_host": "nowhere"})
    login = new_uid()
    peer.say("submit", 1, body)
    peer.say("senduser", 2, {"uid": new_uid(), "login": login})
    answers = [peer.answer(1), peer.answer(2)]
    server.kill()
    peer.refusal()
    server.start()
    again = RawPeer(server.identity(), session=peer.session)
    again.say("submit", 1, body)
    again.say("senduser", 2, {"uid": new_uid(), "login": login})
    assert [again.answer(1), again.answer(2)] == answers
    again.close()
    assert server.rows("SELECT count(*) FROM users WHERE login = ?", login) == [(1,)]
    grid.cancel([body["uid"]])


def test_what_was_there_before_a_restart_is_there_after_it(
    server: ServerUnderTest, grid: Grid
) -> None:
    done = grid.run(Description("square"), ["12"], 60)
    group = grid.send_bag("group", "winter")
    waiting = grid.sweep(replace(NOWHERE, group=group), [["1"], ["2"]])
    removed = grid.submit(NOWHERE)
    grid.remove([removed.uid])
    before = _everything(grid)
    server.stop()
    server.start()
    again = server.client()
    assert _everything(again) == before
    assert [row["uid"] for row in again.objects("works", group=group)] == list(waiting.works[::-1])
    (result,) = again.results([done.work])
    assert (result.stdout, result.status) == (b"144\n", WorkStatus.COMPLETED)
    assert sorted(again.cancel([waiting.uid])) == sorted(waiting.works)
    with pytest.raises(UnknownObject):
        again.remove([removed.uid])
    with pytest.raises(AlreadyThere):
        again.send_user("admin")


def _everything(grid: Grid) -> dict[str, list[object]]:
    kinds = ("works", "tasks", "apps", "datas", "users", "usergroups", "sessions", "groups")
    return {kind: list(grid.objects(kind)) for kind in kinds}


@pytest.mark.feature("XW-ARC-4")
def test_nothing_is_lost_or_done_twice_when_server_and_workers_are_killed(
    server: ServerUnderTest, grid: Grid
) -> None:
    churn = Churn(server, SEED)
    churn.round(0)
    assert churn.deaths["server"]
