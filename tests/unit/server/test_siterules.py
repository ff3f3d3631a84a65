"""What a site demands of works: its users' credentials, and applications that were validated."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from desktopgrid.model.errors import (
    AccessDenied,
    BadRequest,
    UnknownObject,
)
from desktopgrid.model.objects import Site, new_uid
from desktopgrid.model.rights import Scope, UserLevel
from desktopgrid.server import changes as c
from desktopgrid.server.certificates import serial_of
from desktopgrid.wire import messages as m
from tests.builders import an_application, hours
from tests.delegating import ANN, CA, SUBJECT, Delegating
from tests.grid_ca import (
    NOW,
    a_proxy,
)

pytestmark = pytest.mark.feature("XW-PIL-3")


@pytest.fixture
def grid() -> Delegating:
    return Delegating()


# --- what it is for -------------------------------------------------------------------------------


def test_a_pilot_by_a_users_credential_is_his_private_worker(
    grid: Delegating, tmp_path: Path
) -> None:
    uid = grid.delegate(tmp_path, ANN)
    [hers] = grid.submit(delegation=uid)
    state = grid.starts(grid.pilot(uid))
    [his] = grid.submit(login="bob")
    grid.grid.put_application(an_application("own", owner="alice", rights=0o700))
    grid.ask(m.Submit("private", {"application": "own", "delegation": uid}, single=True))
    assert grid.status(hers) == grid.status("private") == "PENDING"
    assert grid.status(his) == "WAITING"
    assert "may not run works of this user" in " ".join(grid.ask(m.Why(his), "bob")["sentences"])
    assert (state.who.user, state.who.scope) == ("alice", Scope.RUN)


def test_pilots_are_submitted_only_for_works_that_carry_a_credential(
    grid: Delegating, tmp_path: Path
) -> None:
    uid = grid.delegate(tmp_path, ANN)
    with pytest.raises(AccessDenied, match="name a delegation"):
        grid.pilot(None)
    with pytest.raises(AccessDenied, match="no open work carries"):
        grid.pilot(uid)
    [work] = grid.submit(delegation=uid)
    with pytest.raises(UnknownObject):
        grid.ask(m.SubmitPilots("egi", {new_uid(): "0" * 64}, delegation=uid), "bridge")
    grid.pilot(uid)
    grid.after(hours(13))
    with pytest.raises(AccessDenied, match="and ends"):
        grid.pilot(uid)
    assert grid.status(work) == "WAITING"


@pytest.mark.feature("XW-SEC-7")
def test_a_work_without_a_credential_waits_and_is_told_why(
    grid: Delegating, tmp_path: Path
) -> None:
    uid = grid.delegate(tmp_path, ANN)
    [carried] = grid.submit(delegation=uid)
    grid.starts(grid.pilot(uid))
    [plain] = grid.submit()
    assert (grid.status(carried), grid.status(plain)) == ("PENDING", "WAITING")
    assert "wants works that carry their user's credential" in grid.why(plain)


def test_a_site_that_takes_its_own_credential_takes_no_others(tmp_path: Path) -> None:
    grid = Delegating(Site("egi", "arc", submits_as="robot"))
    uid = grid.delegate(tmp_path, ANN)
    grid.submit(delegation=uid)
    with pytest.raises(AccessDenied, match="by its own credential only"):
        grid.pilot(uid)
    grid.pilot(None)


def test_where_either_is_taken_both_are(tmp_path: Path) -> None:
    grid = Delegating(Site("egi", "arc", submits_as="either"))
    uid = grid.delegate(tmp_path, ANN)
    [hers] = grid.submit(delegation=uid)
    assert grid.starts(grid.pilot(uid)).who.user == "alice"
    robot = grid.starts(grid.pilot(None))
    assert robot.who.level is UserLevel.WORKER
    [his] = grid.submit(login="bob")
    assert (grid.status(hers), grid.status(his)) == ("PENDING", "PENDING")


def test_when_a_credential_runs_out_its_pilot_gets_no_more_works(
    grid: Delegating, tmp_path: Path
) -> None:
    uid = grid.delegate(tmp_path, a_proxy(ANN, ends=NOW + hours(1)), ANN)
    [first] = grid.submit(delegation=uid)
    state = grid.starts(grid.pilot(uid))
    [second] = grid.submit(delegation=uid, cores=2)
    grid.after(hours(1))
    grid.finishes(state, first)
    assert grid.status(second) == "WAITING", "before any upkeep has looked"
    state.lease_ends_at = grid.now + hours(1)
    grid.looks_after()
    assert [drain.reason for drain in grid.pushes(m.Drain)] == ["its credential is Expired"]
    assert f"is Expired (xw delegate --renew {uid})" in grid.why(second)
    with pytest.raises(BadRequest, match="not usable"):
        grid.submit(delegation=uid)


def test_a_work_carries_its_users_own_credential_only(grid: Delegating, tmp_path: Path) -> None:
    uid = grid.delegate(tmp_path, ANN)
    for login in ("bob", "admin"):
        with pytest.raises(UnknownObject):
            grid.submit(login=login, delegation=uid)


def test_what_a_worker_is_told_has_nothing_of_a_credential(
    grid: Delegating, tmp_path: Path
) -> None:
    """XW-SEC-5, by what the messages are: a name for the log, and no more."""
    uid = grid.delegate(tmp_path, ANN)
    grid.submit(delegation=uid)
    grid.starts(grid.pilot(uid))
    [assign] = grid.pushes(m.Assign)
    assert assign.subject == SUBJECT
    told = str(assign)
    found = grid.grid.delegations[uid]
    assert uid not in told and found.content not in told and "CERTIFICATE" not in told


# --- validated applications -----------------------------------------------------------------------


def a_service_grid() -> Delegating:
    """A site that runs validated applications only, by a robot's pilots."""
    return Delegating(Site("egi", "arc", validated_applications_only=True))


@pytest.mark.feature("XW-PIL-4")
def test_only_validated_applications_run_on_a_service_grid() -> None:
    grid = a_service_grid()
    grid.starts(grid.pilot(None))
    [work] = grid.submit()
    assert grid.status(work) == "WAITING"
    assert "validated applications only" in grid.why(work)
    with pytest.raises(AccessDenied):
        grid.ask(m.Validate("app"), "bridge")
    grid.ask(m.Validate("app"), "admin")
    assert grid.status(work) == "PENDING"
    [row] = grid.ask(m.ListObjects("apps"))["rows"]
    assert (row["validated_by"], row["validated_at"]) == ("admin", NOW.isoformat())


@pytest.mark.feature("XW-PIL-4")
def test_another_executable_is_not_what_was_validated() -> None:
    grid = a_service_grid()
    grid.ask(m.Validate("app"), "admin")
    grid.starts(grid.pilot(None))
    again = m.SendApplication(new_uid(), "app", "any", "any", "program")
    grid.ask(again, "admin")
    assert grid.grid.applications["app"].is_validated, "it is the same executable"
    grid.ask(replace(again, cpu="x86_64", os="linux"), "admin")
    assert not grid.grid.applications["app"].is_validated
    assert "not validated any more" in grid.out.notes[0]
    [work] = grid.submit()
    assert grid.status(work) == "WAITING"


@pytest.mark.feature("XW-PIL-4")
def test_an_administrator_takes_back_what_he_stood_for() -> None:
    grid = a_service_grid()
    grid.ask(m.Validate("app"), "admin")
    grid.starts(grid.pilot(None))
    grid.ask(m.Validate("app", is_valid=False), "admin")
    [row] = grid.changes(c.ApplicationSaved)
    assert (row.validated_by, row.validated_at) == (None, None)
    [work] = grid.submit()
    assert grid.status(work) == "WAITING"


def test_the_serials_by_which_a_ca_takes_it_back_are_on_record(
    grid: Delegating, tmp_path: Path
) -> None:
    uid = grid.delegate(tmp_path, a_proxy(ANN), ANN)
    number = ANN.certificate.serial_number
    assert grid.grid.delegations[uid].serials == (serial_of(CA.certificate.subject, number),)
