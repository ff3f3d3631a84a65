"""What clients may ask, and what a wrong request gets: an error, and nothing changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from desktopgrid.model.errors import (
    AccessDenied,
    AlreadyThere,
    BadRequest,
    GridError,
    LimitExceeded,
    UnknownObject,
)
from desktopgrid.model.objects import Site, Submitted
from desktopgrid.model.origins import Origin
from desktopgrid.model.rights import UserLevel
from desktopgrid.server import changes as c
from desktopgrid.server import requests
from desktopgrid.server.explain import why
from desktopgrid.server.state import Policy
from desktopgrid.server.submitting import describe, described
from desktopgrid.wire import messages as m
from desktopgrid.wire.exchange import CLIENT, RULES
from tests.builders import NOON, GridUnderTest, a_data, a_user, an_application, hours, who

VERIFIER = "a" * 64


@pytest.fixture
def grid() -> GridUnderTest:
    return GridUnderTest(sites={"pool": Site("pool", "condor", 3, 2, 4)})


def test_every_verb_of_a_client_has_a_policy() -> None:
    verbs = {rule.kind for rule in RULES.values() if CLIENT in rule.sayers and rule.is_numbered}
    assert verbs - {m.Bye} == set(requests.REQUESTS)


@pytest.mark.feature("XW-USR-2", "XW-USR-8")
def test_a_worker_identity_may_insert_nothing(grid: GridUnderTest) -> None:
    for request in (
        m.Submit("u1", {"application": "app"}),
        m.SendData("d1", "data", "0" * 64, 1),
        m.SendApplication("a1", "name", "any", "any", "program"),
        m.SendUser("u2", "mallory"),
        m.SubmitPilots("pool", {"s1": VERIFIER}),
    ):
        with pytest.raises(AccessDenied):
            grid.ask(request, login="worker")


@pytest.mark.parametrize(
    "description, error, says",
    [
        ({"application": "nothing"}, UnknownObject, "nothing"),
        ({}, BadRequest, "application"),
        ({"application": "app", "colour": "red"}, BadRequest, "colour"),
        ({"application": "app", "cores": "two"}, BadRequest, "cores"),
        ({"application": "app", "cores": 0}, BadRequest, "cores is 0; 1 to"),
        ({"application": "app", "retries": -1}, BadRequest, "retries"),
        ({"application": "app", "requirements": "x" * 5000}, BadRequest, "requirements"),
        ({"application": "app", "inputs": [["../x", "program"]]}, BadRequest, "directory"),
        ({"application": "app", "inputs": [["x", "nodata"]]}, UnknownObject, "nodata"),
        ({"application": "app", "outputs": ["/etc/*"]}, BadRequest, "directory"),
        ({"application": "app", "session": "none"}, UnknownObject, "none"),
        ({"application": "app", "label": "a\0b"}, BadRequest, "label"),
    ],
)
def test_a_wrong_submission_is_refused_and_stores_nothing(
    grid: GridUnderTest, description: dict, error: type[GridError], says: str
) -> None:
    with pytest.raises(error, match=says):
        grid.ask(m.Submit("u1", description))
    assert not grid.out.changes
    assert not grid.grid.works


@pytest.mark.feature("XW-JM-4", "XW-GRP-4")
def test_anothers_private_application_is_as_unknown_as_one_that_is_not_there(
    grid: GridUnderTest,
) -> None:
    grid.grid.put_application(an_application("secret", owner="bob", rights=0o700))
    with pytest.raises(UnknownObject):
        grid.submit(application="secret")


@pytest.mark.feature("XW-AR-17")
def test_a_public_work_may_not_refer_to_private_data(grid: GridUnderTest) -> None:
    grid.grid.put_data(a_data("mine", owner="alice", rights=0o700))
    with pytest.raises(AccessDenied, match="is private, the work is public"):
        grid.submit(stdin="mine")


def test_a_work_waits_for_data_that_was_announced(grid: GridUnderTest) -> None:
    grid.grid.put_data(a_data("late", is_available=False))
    (work,) = grid.submit(stdin="late")
    assert grid.status(work) == "DATAREQUEST"
    assert not grid.arrives().tasks
    assert "late" in " ".join(why(grid.grid, who(grid.grid.users["alice"]), work, NOON))


FIRST = m.Submit("u1", {"application": "app", "priority": 1}, (("a",), ("b",)))


def test_the_same_submission_again_is_answered_again_and_stored_once(grid: GridUnderTest) -> None:
    answer = grid.ask(FIRST)
    assert grid.ask(FIRST) == answer
    assert not grid.out.changes
    assert set(grid.grid.works) == {"u1-0", "u1-1"}


def test_who_submits_again_is_told_of_the_end(grid: GridUnderTest) -> None:
    grid.ask(FIRST)
    grid.ask(replace(FIRST, watch=True), session="s-later")
    assert grid.grid.batches["u1"].watchers == {"s-later"}


@pytest.mark.parametrize("over", [set(), {"u1-0"}, {"u1-0", "u1-1"}])
def test_a_submission_is_known_again_when_its_works_are_over(
    grid: GridUnderTest, over: set[str]
) -> None:
    grid.ask(FIRST)
    host = grid.arrives()
    for work in over:
        grid.finishes(host, work)
    description = described({**FIRST.description}, "app")[0]
    arguments = {f"u1-{n}": FIRST.arguments[n] for n in range(2)}
    grid.submitted = Submitted("alice", description, arguments)
    assert grid.ask(FIRST)["works"] == 2
    assert not grid.out.changes


@pytest.mark.parametrize(
    "other",
    [
        replace(FIRST, arguments=(("a",), ("c",))),
        replace(FIRST, arguments=(("a",), ("b",), ("c",))),
        replace(FIRST, description={"application": "app"}),
        replace(FIRST, description={**FIRST.description, "application": "app2"}),
    ],
)
def test_a_name_is_taken_once(grid: GridUnderTest, other: m.Submit) -> None:
    grid.grid.put_application(an_application("app2"))
    grid.ask(FIRST)
    with pytest.raises(AlreadyThere, match="u1-"):
        grid.ask(other)
    assert not grid.out.changes


def an_inbound(run: int = 0, places: str = "lal", **fields: object) -> m.Submit:
    """alice's submission of a job that comes from elsewhere."""
    origin = Origin((places,), "schedd#1.0#7", run)
    description = {"application": "app", "origin": str(origin), **fields}
    return m.Submit(origin.uid("alice"), description, single=True)


def test_a_job_that_comes_from_elsewhere_is_one_work_however_often_it_is_submitted(
    grid: GridUnderTest,
) -> None:
    first = an_inbound()
    assert "was_there" not in grid.ask(first)
    # Its files were sent again, as other datas.
    grid.grid.put_data(a_data("input", owner="alice"))
    again = an_inbound(inputs=[["f", "input"]])
    assert grid.ask(again)["was_there"]
    assert set(grid.grid.works) == {first.uid}
    assert not grid.out.changes
    assert "was_there" not in grid.ask(an_inbound(run=1))


def test_so_it_is_when_the_work_is_over_and_only_the_database_knows_it(
    grid: GridUnderTest,
) -> None:
    first = an_inbound()
    known = describe(first.description, "app")
    grid.submitted = Submitted("alice", known, {first.uid: ()})
    assert grid.ask(first)["was_there"]
    assert not grid.grid.works


@pytest.mark.parametrize(
    "asked",
    [
        replace(an_inbound(), uid="u1"),
        replace(an_inbound(), uid=Origin(("lal",), "schedd#1.0#7").uid("bob")),
        replace(an_inbound(), single=False),
    ],
    ids=["another name", "another user's name", "a sweep"],
)
def test_a_work_from_elsewhere_is_named_by_its_origin(grid: GridUnderTest, asked: m.Submit) -> None:
    with pytest.raises(BadRequest, match="is submitted alone, as"):
        grid.ask(asked)
    assert not grid.grid.works


def test_anothers_submission_is_not_added_to(grid: GridUnderTest) -> None:
    grid.ask(FIRST)
    grid.add_user(a_user("bob"))
    with pytest.raises(AlreadyThere, match="submission u1"):
        grid.ask(replace(FIRST, first=5), login="bob")


def test_a_sweep_comes_in_parts_and_is_one_submission(grid: GridUnderTest) -> None:
    for first in (0, 2):
        asked = m.Submit("u1", {"application": "app"}, ((), ()), first=first)
        assert grid.ask(asked)["works"] == 2
    assert set(grid.grid.works) == {"u1-0", "u1-1", "u1-2", "u1-3"}
    assert len(grid.grid.batches) == 1


def test_the_server_takes_a_bounded_number_of_open_works() -> None:
    grid = GridUnderTest(Policy(max_open_works=3))
    grid.submit(3)
    with pytest.raises(LimitExceeded, match="3 works are open"):
        grid.submit(1)


def test_a_submission_says_who_may_run_it(grid: GridUnderTest) -> None:
    reply = grid.ask(m.Submit("u1", {"application": "app"}))
    assert reply["runs_on"].startswith("The works are public")
    grid.grid.put_application(an_application("own", owner="alice", rights=0o700))
    reply = grid.ask(m.Submit("u2", {"application": "own"}))
    assert "under your own identity" in reply["runs_on"]


def test_cancelling_stops_what_runs_and_leaves_what_waits_out(grid: GridUnderTest) -> None:
    state = grid.arrives(cores=1)
    works = grid.submit(5)
    grid.ask(m.Cancel((works[0].rsplit("-", 1)[0],)))
    assert all(grid.status(work) == "gone" for work in works)
    assert {said.task for said in grid.pushes(m.Abandon)} == {f"{w}.1" for w in works[:2]}
    assert not state.tasks and not grid.grid.scheduler.waiting


def test_nobody_cancels_anothers_works(grid: GridUnderTest) -> None:
    (work,) = grid.submit()
    grid.add_user(a_user("bob", level=UserLevel.ADVANCED))
    with pytest.raises(AccessDenied):
        grid.ask(m.Cancel((work,)), login="bob")


@pytest.mark.feature("XW-USR-3")
def test_a_login_is_taken_once(grid: GridUnderTest) -> None:
    grid.ask(m.SendUser("u1", "bob", "advanced"), login="admin")
    with pytest.raises(AlreadyThere, match="'bob'"):
        grid.ask(m.SendUser("u2", "bob"), login="admin")
    with pytest.raises(BadRequest, match="emperor"):
        grid.ask(m.SendUser("u3", "carol", "emperor"), login="admin")


@pytest.mark.feature("XW-USR-13")
def test_revoking_a_user_stops_what_his_workers_run(grid: GridUnderTest) -> None:
    state = grid.arrives()
    (work,) = grid.submit()
    session = state.session
    grid.ask(m.Revoke("worker"), login="admin")
    assert grid.status(work) == "WAITING"
    assert (session, "not-authenticated", "its user was revoked") in grid.out.closing
    assert grid.grid.users["worker"].is_revoked


@pytest.mark.feature("XW-USR-5", "XW-AR-13")
def test_a_standard_users_application_is_private_an_advanced_ones_public(
    grid: GridUnderTest,
) -> None:
    asked = m.SendApplication("a1", "tool", "any", "any", "program")
    assert grid.ask(asked)["rights"] == 0o700
    grid.add_user(a_user("ann", level=UserLevel.ADVANCED))
    asked = m.SendApplication("a2", "tool2", "any", "any", "program")
    assert grid.ask(asked, login="ann")["rights"] == 0o755
    with pytest.raises(AccessDenied):
        grid.ask(m.SendApplication("a3", "t3", "any", "any", "program", rights=0o755))


def test_others_content_is_not_to_be_had_by_naming_its_digest(grid: GridUnderTest) -> None:
    grid.grid.put_data(a_data("bobs", owner="bob", rights=0o700, sha256="b" * 64))
    reply = grid.ask(m.SendData("d1", "mine", "b" * 64, 10))
    assert reply["available"] is False


@pytest.mark.feature("XW-UM-1")
def test_a_user_lists_himself_an_administrator_all(grid: GridUnderTest) -> None:
    def logins(login: str) -> set[str]:
        rows = grid.ask(m.ListObjects("users"), login=login)["rows"]
        return {row["login"] for row in rows}

    assert logins("alice") == {"alice"}
    assert logins("admin") == {"admin", "worker", "alice"}


def test_lists_come_in_pages_and_name_what_they_do_not_know(grid: GridUnderTest) -> None:
    page = grid.ask(m.ListObjects("users", limit=2), login="admin")
    rest = grid.ask(m.ListObjects("users", limit=2, after=page["next"]), login="admin")
    assert len(page["rows"]) == 2 and len(rest["rows"]) == 1 and rest["next"] is None
    with pytest.raises(BadRequest, match="there are no 'elephants'"):
        grid.ask(m.ListObjects("elephants"))
    with pytest.raises(BadRequest, match="colour"):
        grid.ask(m.ListObjects("users", where={"colour": "red"}))


# --- pilots -----------------------------------------------------------------------------------


def pilots(grid: GridUnderTest, count: int, prefix: str = "p") -> dict:
    stamps = {f"{prefix}{n}": VERIFIER for n in range(count)}
    return grid.ask(m.SubmitPilots("pool", stamps), login="admin")


def test_the_caps_hold_and_name_themselves(grid: GridUnderTest) -> None:
    pilots(grid, 2)
    assert len(grid.changes(c.PilotInserted)) == 2
    with pytest.raises(LimitExceeded, match="max_idle = 2"):
        pilots(grid, 1, "q")
    running = {f"p{n}": {"status": "Running"} for n in range(2)}
    grid.ask(m.PilotReport(running), login="admin")
    with pytest.raises(LimitExceeded, match="max_pilots = 3"):
        pilots(grid, 2, "q")
    pilots(grid, 1, "q")
    later = {"p0": {"status": "Done"}, "p1": {"status": "Done"}, "q0": {"status": "Running"}}
    grid.ask(m.PilotReport(later), login="admin")
    with pytest.raises(LimitExceeded, match="max_an_hour = 4"):
        pilots(grid, 2, "r")
    grid.after(hours(1.1))
    assert pilots(grid, 1, "r")["stamps"] == ["r0"]


def test_an_unknown_site_is_told_the_known_ones(grid: GridUnderTest) -> None:
    with pytest.raises(UnknownObject, match="sites are: pool"):
        grid.ask(m.SubmitPilots("lab", {"s1": VERIFIER}), login="admin")


def test_a_pilot_that_is_over_stays_over(grid: GridUnderTest) -> None:
    pilots(grid, 1)
    grid.ask(m.PilotReport({"p0": {"status": "Failed", "reason": "held"}}), login="admin")
    grid.ask(m.PilotReport({"p0": {"status": "Running"}}), login="admin")
    assert grid.grid.pilots["p0"].status.value == "Failed"
    sentences = why(grid.grid, who(grid.grid.users["admin"]), "p0", NOON)
    assert "held." in sentences


def test_standard_users_submit_no_pilots(grid: GridUnderTest) -> None:
    with pytest.raises(AccessDenied):
        grid.ask(m.SubmitPilots("pool", {"s1": VERIFIER}))


# --- removal ----------------------------------------------------------------------------------


@pytest.mark.feature("XW-GEN-1")
def test_what_is_removed_is_gone_whether_it_was_over_or_not(grid: GridUnderTest) -> None:
    (work,) = grid.submit()
    grid.grid.put_data(a_data("mine", owner="alice"))
    grid.ended = {"old-0": "alice", "old-1": "alice"}
    reply = grid.ask(m.Remove((work, "mine", "old")))
    assert set(reply["removed"]) == {work, "mine", "old-0", "old-1"}
    assert {row.uid for row in grid.changes(c.WorkRemoved)} == {work, "old-0", "old-1"}
    with pytest.raises(UnknownObject):
        grid.ask(m.Remove(("mine",)))


def test_a_removal_of_several_removes_all_or_none(grid: GridUnderTest) -> None:
    (work,) = grid.submit()
    for wrong, error in (("nothing", UnknownObject), ("program", AccessDenied)):
        with pytest.raises(error):
            grid.ask(m.Remove((work, wrong)))
        assert grid.status(work) == "WAITING"
    grid.ended = {"bobs": "bob"}
    with pytest.raises(AccessDenied):
        grid.ask(m.Remove((work, "bobs")))
    assert grid.status(work) == "WAITING"


def test_what_a_user_may_not_ask_is_known_before_anything_is_prepared(grid: GridUnderTest) -> None:
    asked = m.SendUser("u2", "eve", password="long enough to be hashed for a fifth of a second")
    with pytest.raises(AccessDenied, match="level standard may not insert users"):
        requests.permitted(who(grid.grid.users["alice"]), asked)
    assert requests.permitted(who(grid.grid.users["admin"]), asked)


class Counted(str):
    """A word that notes how often it is compared."""

    compared = 0

    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return str.__eq__(self, other)

    def startswith(self, *args: Any) -> bool:
        Counted.compared += 1
        return str.startswith(self, *args)


@pytest.mark.parametrize("asked", [m.Remove, lambda uids: m.ListObjects("apps", uids=uids)])
def test_many_names_are_not_each_compared_with_all(
    grid: GridUnderTest, asked: Callable[[tuple[str, ...]], m.Request]
) -> None:
    Counted.compared = 0
    count = 300
    names = [Counted(f"w-{number}") for number in range(count)]
    grid.ended = dict.fromkeys(names, "alice")
    for name in names:
        grid.grid.put_application(an_application(f"app{name}"))
    grid.ask(asked(tuple(names)))
    assert Counted.compared < 20 * count


def test_who_is_refused_hears_it_in_words_of_people() -> None:
    assert requests.WORDS.keys() == requests.REQUESTS.keys()
