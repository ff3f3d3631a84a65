"""Pilots on record: within the caps, enrolled once, ended once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from desktopgrid.model.errors import (
    AccessDenied,
    AlreadyThere,
    BadRequest,
    LimitExceeded,
    NotAuthenticated,
    UnknownObject,
)
from desktopgrid.model.objects import Pilot, Site
from desktopgrid.model.rights import Scope, UserLevel
from desktopgrid.server import changes as c
from desktopgrid.server import hosts, pilots, upkeep
from desktopgrid.server.scheduler import HostState
from desktopgrid.server.state import Outcome
from desktopgrid.wire import messages as m
from desktopgrid.wire.proof import new_secret, prove, verifier_of
from tests.builders import GridUnderTest, a_user, an_application, facts, hours, seconds

SECRET = new_secret()
NONCE = "nonce"


@pytest.fixture
def grid() -> GridUnderTest:
    site = Site("lal", "condor", max_pilots=4, max_idle=3, max_an_hour=6)
    grid = GridUnderTest(sites={"lal": site})
    grid.add_user(a_user("ada", level=UserLevel.ADVANCED))
    grid.add_user(a_user("eve", level=UserLevel.ADVANCED))
    return grid


def submit(grid: GridUnderTest, *stamps: str, login: str = "ada", **fields: Any) -> Any:
    asked = {stamp: verifier_of(SECRET) for stamp in stamps}
    return grid.ask(m.SubmitPilots("lal", asked, **fields), login)


@pytest.mark.feature("XW-SEC-7")
def test_a_site_may_take_works_of_certified_users_only(grid: GridUnderTest) -> None:
    grid.grid.sites = {"lal": replace(grid.grid.sites["lal"], certified_users_only=True)}
    submit(grid, "p1")
    said = hello("p1")
    who = pilots.authenticate(grid.grid, said, NONCE, grid.now, grid.out)
    hosts.host_arrived(grid.grid, who, said, False, grid.now, grid.out)
    [work] = grid.submit()
    assert grid.status(work) == "WAITING"
    sentences = " ".join(grid.ask(m.Why(work))["sentences"])
    assert "users with a certificate only" in sentences
    token_of_an_issuer = "https://iam.example.org/#alice"
    grid.ask(m.ChangeUser("alice", add_subjects=(token_of_an_issuer,)), "admin")
    assert grid.status(work) == "WAITING", "what an issuer says is no certificate"
    grid.ask(m.ChangeUser("alice", add_subjects=("/DC=org/CN=Alice",)), "admin")
    assert grid.status(work) == "PENDING"
    grid.ask(m.ChangeUser("alice", remove_subjects=("/DC=org/CN=Alice",)), "admin")
    [later] = grid.submit()
    assert grid.status(later) == "WAITING"


@pytest.mark.feature("XW-SEC-7")
def test_another_site_takes_works_of_all(grid: GridUnderTest) -> None:
    submit(grid, "p1")
    said = hello("p1")
    who = pilots.authenticate(grid.grid, said, NONCE, grid.now, grid.out)
    hosts.host_arrived(grid.grid, who, said, False, grid.now, grid.out)
    [work] = grid.submit()
    assert grid.status(work) == "PENDING"


def report(grid: GridUnderTest, stamp: str, login: str = "ada", **said: str) -> Pilot:
    grid.ask(m.PilotReport({stamp: said}), login)
    return grid.grid.pilots[stamp]


def hello(stamp: str, secret: str = SECRET, key: str = "a" * 64, by: str = "enrolment") -> m.Hello:
    session = f"session-{stamp}"
    return m.Hello(
        1,
        "pilot",
        stamp,
        prove(secret, NONCE, "pilot", stamp, session),
        session,
        host=f"host-{stamp}",
        facts={**facts(stamp, cores=1).__dict__},
        proved_by=by,
        key=key if by == "enrolment" else "",
    )


def enrol(grid: GridUnderTest, stamp: str, **fields: Any) -> HostState:
    said = hello(stamp, **fields)
    grid.out = Outcome()
    who = pilots.authenticate(grid.grid, said, NONCE, grid.now, grid.out)
    return hosts.host_arrived(grid.grid, who, said, False, grid.now, grid.out)


def status(grid: GridUnderTest, stamp: str) -> str:
    return grid.grid.pilots[stamp].status.value


# Caps


@pytest.mark.parametrize(
    "count, cap",
    [
        pytest.param(4, "max_idle = 3", id="more would wait than may"),
        pytest.param(5, "max_pilots = 4", id="more would be there than may"),
    ],
)
def test_a_submission_that_breaks_a_cap_is_refused_whole(
    grid: GridUnderTest, count: int, cap: str
) -> None:
    with pytest.raises(LimitExceeded, match=cap):
        submit(grid, *(f"p{n}" for n in range(count)))
    assert not grid.grid.pilots
    assert not grid.out.changes


def test_a_cap_holds_for_all_users_together(grid: GridUnderTest) -> None:
    submit(grid, "a1", "a2")
    with pytest.raises(LimitExceeded, match="2 pilots count against max_idle = 3; 2 more"):
        submit(grid, "e1", "e2", login="eve")
    submit(grid, "e1", login="eve")


def test_an_ended_pilot_makes_room_but_counts_for_an_hour(grid: GridUnderTest) -> None:
    for batch in (("a1", "a2", "a3"), ("b1", "b2", "b3")):
        submit(grid, *batch)
        for stamp in batch:
            report(grid, stamp, status="Done")
    with pytest.raises(LimitExceeded, match="max_an_hour = 6"):
        submit(grid, "c1")
    grid.after(hours(1.1))
    submit(grid, "c1")


@pytest.mark.parametrize(
    "asked, error",
    [
        pytest.param(m.SubmitPilots("nowhere", {"p": "0" * 64}), UnknownObject, id="no such site"),
        pytest.param(m.SubmitPilots("lal", {}), BadRequest, id="none"),
        pytest.param(m.SubmitPilots("lal", {"p": "xyz"}), BadRequest, id="no verifier"),
        pytest.param(m.SubmitPilots("lal", {"p/q": "0" * 64}), BadRequest, id="no stamp"),
        pytest.param(m.SubmitPilots("lal", {"p": "0" * 64}, 0, 1), BadRequest, id="no time"),
    ],
)
def test_what_makes_no_sense_is_refused(
    grid: GridUnderTest, asked: m.SubmitPilots, error: type[Exception]
) -> None:
    with pytest.raises(error):
        grid.ask(asked, "ada")
    assert not grid.grid.pilots


def test_a_stamp_is_used_once(grid: GridUnderTest) -> None:
    submit(grid, "p")
    with pytest.raises(AlreadyThere):
        submit(grid, "p")


def test_a_standard_user_has_no_pilots(grid: GridUnderTest) -> None:
    with pytest.raises(AccessDenied):
        submit(grid, "p", login="alice")


# Enrolment


def test_an_enrolment_secret_makes_a_pilot_a_host(grid: GridUnderTest) -> None:
    submit(grid, "p")
    state = enrol(grid, "p")
    assert (state.host.pilot, state.host.facts.kind) == ("p", "htcondor")
    assert status(grid, "p") == "Running"


def test_an_enrolment_secret_is_good_once_and_the_first_goes_on(grid: GridUnderTest) -> None:
    submit(grid, "p")
    own = new_secret()
    first = enrol(grid, "p", key=verifier_of(own))
    with pytest.raises(NotAuthenticated, match="has been used"):
        enrol(grid, "p", key="b" * 64)
    assert grid.out.notes == ["The enrolment secret of pilot p was used a second time"]
    assert enrol(grid, "p", secret=own, by="token") is first


def test_a_hello_whose_welcome_was_lost_is_the_same_pilot(grid: GridUnderTest) -> None:
    submit(grid, "p")
    assert enrol(grid, "p") is enrol(grid, "p")


def test_another_secret_enrols_nobody(grid: GridUnderTest) -> None:
    submit(grid, "p")
    with pytest.raises(NotAuthenticated):
        enrol(grid, "p", secret=new_secret())


def test_a_secret_is_no_good_when_its_pilot_is_over(grid: GridUnderTest) -> None:
    submit(grid, "p", "q", queue_limit=60, wall_time=60)
    report(grid, "p", status="Deleted")
    with pytest.raises(NotAuthenticated):
        enrol(grid, "p")
    grid.after(hours(1))
    with pytest.raises(NotAuthenticated):
        enrol(grid, "q")


# What sites say


def test_a_late_answer_of_the_site_does_not_undo_contact(grid: GridUnderTest) -> None:
    submit(grid, "p")
    enrol(grid, "p")
    pilot = report(grid, "p", status="Waiting", reference="schedd#1.0")
    assert (pilot.status.value, pilot.reference) == ("Running", "schedd#1.0")


def test_of_a_pilot_that_is_over_nothing_is_believed(grid: GridUnderTest) -> None:
    submit(grid, "p")
    report(grid, "p", status="Aborted", reason="the site said so")
    pilot = report(grid, "p", status="Running", reason="no")
    assert (pilot.status.value, pilot.reason) == ("Aborted", "the site said so")


def test_a_word_that_is_no_status_changes_nothing_for_any_pilot(grid: GridUnderTest) -> None:
    submit(grid, "p", "q")
    with pytest.raises(BadRequest, match="'Dancing' is no status"):
        grid.ask(m.PilotReport({"p": {"status": "Done"}, "q": {"status": "Dancing"}}), "ada")
    assert status(grid, "p") == "Submitted"


def test_another_users_pilots_are_his(grid: GridUnderTest) -> None:
    submit(grid, "p")
    with pytest.raises(AccessDenied):
        report(grid, "p", login="eve", status="Done")
    with pytest.raises(AccessDenied):
        grid.ask(m.DrainPilots(("p",)), "eve")
    report(grid, "p", login="admin", status="Done")


def test_works_of_a_dead_pilot_do_not_wait_for_its_lease(grid: GridUnderTest) -> None:
    submit(grid, "p")
    state = enrol(grid, "p")
    (done, work) = grid.submit(2)
    grid.finishes(state, done)
    state.is_connected = False
    pilot = report(grid, "p", status="Failed", reason="killed by signal 9")
    assert grid.status(work) == "WAITING"
    assert (pilot.status.value, pilot.tasks_done) == ("Failed", 1)
    assert pilot.reason == "killed by signal 9"


def test_a_pilot_that_is_connected_keeps_its_works_whatever_its_site_says(
    grid: GridUnderTest,
) -> None:
    submit(grid, "p")
    state = enrol(grid, "p")
    (work,) = grid.submit()
    report(grid, "p", status="Failed", reason="on hold")
    assert grid.status(work) == "PENDING"
    assert state.tasks


# How they end


def test_a_pilot_that_leaves_by_itself_is_done(grid: GridUnderTest) -> None:
    submit(grid, "p")
    state = enrol(grid, "p")
    grid.says(state, m.Draining("it had no task for 60 s"))
    grid.says(state, m.Bye("it had no task for 60 s"))
    assert status(grid, "p") == "Done"


def test_a_pilot_that_its_site_told_to_go_is_aborted_and_its_work_waits(
    grid: GridUnderTest,
) -> None:
    submit(grid, "p")
    state = enrol(grid, "p")
    (work,) = grid.submit()
    (task,) = state.tasks.values()
    grid.says(state, m.Draining("told to go (SIGTERM)", is_told=True))
    grid.says(state, m.Returned(task.uid, task.epoch, "told to go"))
    assert grid.status(work) == "WAITING"
    grid.says(state, m.Bye("told to go (SIGTERM)"))
    assert status(grid, "p") == "Aborted"


def test_a_pilot_that_we_drained_is_deleted_when_it_leaves(grid: GridUnderTest) -> None:
    submit(grid, "p")
    state = enrol(grid, "p")
    assert grid.ask(m.DrainPilots(("p",)), "ada") == {"pilots": {"p": "idle"}}
    grid.says(state, m.Draining("its pilot is to be removed"))
    grid.says(state, m.Bye("its pilot is to be removed"))
    assert status(grid, "p") == "Deleted"
    assert grid.ask(m.DrainPilots(("p",)), "ada") == {"pilots": {"p": "gone"}}


def test_a_pilot_with_tasks_is_busy_until_they_end_and_gets_no_more(grid: GridUnderTest) -> None:
    submit(grid, "p", "q")
    state = enrol(grid, "p")
    grid.submit()
    assert grid.ask(m.DrainPilots(("p", "q")), "ada") == {"pilots": {"p": "busy", "q": "unseen"}}
    assert grid.pushes(m.Drain)
    grid.finishes(state)
    grid.submit()
    assert not state.tasks
    assert grid.ask(m.DrainPilots(("p",)), "ada") == {"pilots": {"p": "idle"}}
    assert not grid.pushes(m.Drain)


def test_a_pilot_that_goes_silent_has_failed(grid: GridUnderTest) -> None:
    submit(grid, "p")
    enrol(grid, "p")
    grid.after(hours(1))
    grid.out = Outcome()
    upkeep.lose_silent_hosts(grid.grid, grid.now, grid.out)
    assert status(grid, "p") == "Failed"


def test_a_pilot_that_never_makes_contact_is_given_up_at_its_deadline(grid: GridUnderTest) -> None:
    submit(grid, "p", queue_limit=60, wall_time=60)
    for span, expected in ((seconds(119), "Submitted"), (seconds(1), "Failed")):
        grid.after(span)
        grid.out = Outcome()
        upkeep.end_overdue_pilots(grid.grid, grid.now, grid.out)
        assert status(grid, "p") == expected
    assert [row.status for row in grid.changes(c.PilotUpdated)] == ["Failed"]


def test_a_pilot_that_ended_is_forgotten_when_no_cap_counts_it(grid: GridUnderTest) -> None:
    submit(grid, "p", "q")
    report(grid, "p", status="Done")
    grid.after(hours(0.9))
    upkeep.forget_ended_pilots(grid.grid, grid.now)
    assert set(grid.grid.pilots) == {"p", "q"}
    grid.after(hours(0.2))
    upkeep.forget_ended_pilots(grid.grid, grid.now)
    assert set(grid.grid.pilots) == {"q"}


def test_a_pilot_of_a_site_that_was_removed_is_welcome(grid: GridUnderTest) -> None:
    submit(grid, "p")
    grid.grid.sites = {}
    assert enrol(grid, "p").host.facts.kind == "local"


def test_a_pilot_is_explained(grid: GridUnderTest) -> None:
    submit(grid, "p")
    first, second = grid.ask(m.Why("p"), "ada")["sentences"]
    assert first == "Pilot p at site lal is Submitted, and no reference of the site is known."
    assert second.startswith("Its worker has not made contact; it is given up at 2026-11-22")
    enrol(grid, "p")
    worker = grid.ask(m.Why("p"), "ada")["sentences"][1]
    assert worker.startswith("Its worker is host host-p (p) with 0 tasks")
    report(grid, "p", status="Failed", reason="exit code 4")
    assert grid.ask(m.Why("p"), "ada")["sentences"][1:] == ["exit code 4.", "It did 0 tasks."]


@pytest.mark.parametrize("change", [{"level": "super"}, {"email": "ada@lab"}, {"group": "lab"}])
def test_a_pilot_stays_a_worker_whatever_becomes_of_its_user(
    grid: GridUnderTest, change: dict[str, str]
) -> None:
    """Else her private works would go to a batch job that was to pull public ones only."""
    grid.ask(m.SendGroup("lab", "usergroup", "lab"), login="admin")
    submit(grid, "p1")
    state = enrol(grid, "p1")
    grid.ask(m.ChangeUser("ada", **change), login="admin")
    assert (state.who.level, state.who.group) == (UserLevel.WORKER, change.get("group"))
    grid.grid.put_application(an_application("mine", owner="ada", rights=0o700))
    grid.ask(m.Submit("w", {"application": "mine"}), login="ada")
    assert not state.tasks


@pytest.mark.feature("XW-SEC-1")
def test_a_pilot_is_good_for_running_works_and_nothing_else(grid: GridUnderTest) -> None:
    submit(grid, "p1")
    state = enrol(grid, "p1")
    grid.ask(m.ChangeUser("ada", email="a@b"), "admin")
    assert state.who.scope is Scope.RUN


def test_who_may_see_a_pilot_may_ask_why_and_nobody_else(grid: GridUnderTest) -> None:
    """Others of its user's group are told no more than that they may see none."""
    for login in ("ada", "eve"):
        user = grid.grid.users.get(login) or a_user(login)
        grid.add_user(replace(user, group="g"))
    submit(grid, "p")
    assert [row["uid"] for row in grid.ask(m.ListObjects("pilots"), "ada")["rows"]] == ["p"]
    assert grid.ask(m.Why("p"), "ada")["sentences"]
    assert grid.ask(m.Why("p"), "admin")["sentences"]
    assert grid.ask(m.ListObjects("pilots"), "eve")["rows"] == []
    with pytest.raises(UnknownObject, match="no pilot 'p' that you may see"):
        grid.ask(m.Why("p"), "eve")
