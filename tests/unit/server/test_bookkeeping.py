"""What is booked of a task when it is over, whatever its worker says and the clock does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from desktopgrid.model.accounting import Account
from desktopgrid.model.lifecycle import DelegationStatus
from desktopgrid.model.objects import Delegation, Site
from desktopgrid.model.origins import Origin
from desktopgrid.model.rights import UserLevel, Who
from desktopgrid.server import bookkeeping, hosts, upkeep
from desktopgrid.server import changes as c
from desktopgrid.server.bookkeeping import ALLOWANCE, believed
from desktopgrid.server.database.records import added_up
from desktopgrid.server.state import Outcome
from desktopgrid.wire import messages as m
from tests.builders import NOON, GridUnderTest, a_user, hours, seconds

HOUR = 3600.0


@pytest.fixture
def grid() -> GridUnderTest:
    return GridUnderTest(sites={"lal": Site("lal", "condor")})


def starts(grid: GridUnderTest, state: hosts.HostState) -> m.Started:
    """The first task of a host runs."""
    task = next(iter(state.tasks.values()))
    said = m.Started(task.uid, task.epoch)
    grid.says(state, said)
    return said


def booked(grid: GridUnderTest) -> c.UsageAdded:
    """What the last decision booked: one task."""
    (added,) = grid.changes(c.UsageAdded)
    assert isinstance(added, c.UsageAdded)
    return added


def test_a_result_is_booked_under_its_user_application_host_and_cores(grid: GridUnderTest) -> None:
    grid.ask(m.SendGroup("lab", "usergroup", "lab"), "admin")
    grid.add_user(a_user("ann", group="lab"))
    state = grid.arrives()
    (work,) = grid.submit(login="ann", cores=2)
    grid.after(seconds(5))
    starts(grid, state)
    grid.after(hours(1))
    grid.finishes(state, work, usage=(HOUR, 5000.0, 40.0, 2048))
    (account,) = grid.changes(c.AccountInserted)
    assert Account(*account[1:]) == Account("ann", "lab", "", "", "", "app", "desktop", 2)
    # It waited five seconds: below eight, which is bucket 3.
    assert booked(grid) == (20261120, account.number, "", 3, 1, 2 * HOUR, 5040.0, 0)
    (task,) = grid.changes(c.TaskUpdated)
    assert (task.account, task.cause, task.is_doubtful) == (account.number, "", False)
    assert (task.wall, task.user_time, task.system_time) == (HOUR, 5000.0, 40.0)


def test_a_job_that_a_bridge_brought_is_booked_under_the_places_that_it_passed(
    grid: GridUnderTest,
) -> None:
    state = grid.arrives()
    origin = Origin(("lal", "desktop"), "schedd#1.0")
    description = {"application": "app", "origin": str(origin)}
    grid.ask(m.Submit(origin.uid("alice"), description, single=True))
    grid.finishes(state)
    (account,) = grid.grid.accounts
    assert account.route == "lal>desktop"


def test_a_user_cannot_make_accounts_without_end(
    grid: GridUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bookkeeping, "MOST_ACCOUNTS", 2)
    state = grid.arrives()
    for number in range(4):
        origin = Origin((f"place{number}",), "job")
        description = {"application": "app", "origin": str(origin)}
        grid.ask(m.Submit(origin.uid("alice"), description, single=True))
        grid.finishes(state)
    grid.submit(login="admin")
    grid.finishes(state)
    routes = [(account.user, account.route) for account in grid.grid.accounts]
    assert routes == [("alice", "place0"), ("alice", "place1"), ("alice", "*"), ("admin", "")]


def test_a_work_with_a_credential_is_booked_under_the_vo_that_it_shows(grid: GridUnderTest) -> None:
    usable = DelegationStatus.SIGNED
    shown = Delegation("d", "alice", "b", "proxy", usable, NOON, NOON + hours(9), vo="atlas")
    grid.grid.delegations["d"] = shown
    state = grid.arrives()
    grid.submit(delegation="d")
    # Nobody needs it any more, and the work is over after it.
    del grid.grid.delegations["d"]
    grid.finishes(state)
    (account,) = grid.grid.accounts
    assert account.vo == "atlas"


def test_an_account_is_made_once(grid: GridUnderTest) -> None:
    state = grid.arrives()
    for _ in range(2):
        grid.submit()
        grid.finishes(state)
    assert grid.changes(c.AccountInserted) == []
    assert len(grid.grid.accounts) == 1


def test_a_user_who_changes_his_group_has_another_account(grid: GridUnderTest) -> None:
    state = grid.arrives()
    grid.ask(m.SendGroup("lab", "usergroup", "lab"), "admin")
    for _ in range(2):
        grid.submit()
        grid.finishes(state)
        grid.ask(m.ChangeUser("alice", group="lab"), "admin")
    assert [account.group for account in grid.grid.accounts] == [None, "lab"]


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ({"exit_code": 3}, ""),
        ({"exit_code": None, "outcome": "limit", "reason": "too long"}, "limit"),
        ({"exit_code": None, "outcome": "failed", "reason": "no disk"}, "failed"),
        ({"exit_code": None, "outcome": "aborted", "reason": "told to go"}, "returned"),
    ],
)
def test_waste_has_the_cause_that_the_worker_tells(
    grid: GridUnderTest, said: dict[str, object], cause: str
) -> None:
    state = grid.arrives()
    (work,) = grid.submit()
    starts(grid, state)
    grid.after(seconds(60))
    grid.finishes(state, work, **said)
    assert (booked(grid).cause, booked(grid).core_time) == (cause, 60.0)


def test_a_cancelled_work_is_its_users_waste(grid: GridUnderTest) -> None:
    state = grid.arrives()
    (work,) = grid.submit()
    starts(grid, state)
    grid.after(hours(2))
    grid.ask(m.Cancel((work,)))
    assert (booked(grid).cause, booked(grid).core_time) == ("cancelled", 2 * HOUR)


def test_a_lost_task_is_booked_with_the_time_that_the_server_saw(grid: GridUnderTest) -> None:
    state = grid.arrives()
    grid.submit()
    starts(grid, state)
    grid.after(hours(1))
    grid.out = Outcome()
    upkeep.look_after(grid.grid, grid.now, grid.out)
    assert (booked(grid).cause, booked(grid).core_time) == ("lost", HOUR)
    assert booked(grid).cpu_time == 0.0


def test_a_task_that_never_started_is_not_booked(grid: GridUnderTest) -> None:
    state = grid.arrives()
    (work,) = grid.submit()
    grid.after(hours(1))
    task = next(iter(state.tasks.values()))
    grid.says(state, m.Returned(task.uid, task.epoch, "recalled"))
    assert grid.changes(c.UsageAdded) == []
    (row,) = grid.changes(c.TaskUpdated)
    assert (row.account, row.cause) == (None, None)
    assert grid.status(work) == "PENDING"


def test_a_work_tried_again_is_wasted_once_and_waited_for_once(grid: GridUnderTest) -> None:
    state = grid.arrives()
    (work,) = grid.submit()
    found = []
    for outcome in ("failed", "failed", "completed"):
        starts(grid, state)
        grid.after(seconds(60))
        grid.finishes(state, work, outcome=outcome, exit_code=None)
        found.append(booked(grid))
    assert [(each.cause, each.bucket >= 0) for each in found] == [
        ("failed", True),
        ("failed", False),
        ("", False),
    ]
    assert len(found) == len(grid.grid.accounts) + 2
    # A worker that says it again is heard, and nothing is booked.
    grid.says(state, m.Finished(f"{work}.1", 1, outcome="failed"))
    assert grid.changes(c.UsageAdded) == []


def test_a_pilots_task_is_booked_at_its_site_and_counts_as_its_use(grid: GridUnderTest) -> None:
    grid.add_user(a_user("ada", level=UserLevel.ADVANCED))
    grid.ask(m.SubmitPilots("lal", {"stamp": "0" * 64}), "ada")
    grid.out = Outcome()
    said = m.Hello(
        1, "pilot", "stamp", "", "s-pilot", host="node1", facts={**grid_facts(), "cores": 4}
    )
    who = Who("ada", UserLevel.WORKER)
    state = hosts.host_arrived(grid.grid, who, said, False, grid.now, grid.out)
    (arrived,) = grid.changes(c.PilotUpdated)
    assert (arrived.started_at, arrived.cores) == (NOON.timestamp(), 4)
    assert grid.grid.pilots["stamp"].account == arrived.account
    (work,) = grid.submit(cores=2)
    starts(grid, state)
    grid.after(seconds(100))
    grid.finishes(state, work, usage=(100.0, 0.0, 0.0, 0))
    (account,) = grid.changes(c.AccountInserted)
    assert (account.user, account.site, account.kind) == ("alice", "lal", "htcondor")
    assert grid.changes(c.PilotUsed) == [("stamp", 200.0)]


def grid_facts() -> dict[str, object]:
    return {"name": "n", "cpu": "x86_64", "os": "linux", "memory_mib": 4096, "disk_mib": 9000}


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("said", "believable"),
    [
        ((50.0, 80.0, 10.0, 5), (50.0, 80.0, 10.0, 5)),
        ((-1.0, -1.0, -1.0, -5), (0.0, 0.0, 0.0, 0)),
        ((NAN, NAN, NAN, 5), (0.0, 0.0, 0.0, 5)),
        ((1e18, 1e18, 1e18, 10**18), (100.0, 201.0, 0.0, 2**31 - 1)),
        ((INF, 0.0, INF, 5), (100.0, 0.0, 201.0, 5)),
        ((100.0 + ALLOWANCE, 0.0, 0.0, 5), (100.0 + ALLOWANCE, 0.0, 0.0, 5)),
        ((50.0, 0.0, 120.0, 5), (50.0, 0.0, 101.0, 5)),
        ((0.0, 0.4, 0.3, 5), (0.0, 0.4, 0.3, 5)),
    ],
    ids=str,
)
def test_what_a_worker_says_is_bounded_by_what_the_server_saw(
    said: tuple[float, float, float, int], believable: tuple[float, float, float, int]
) -> None:
    assert believed(said, 100.0, 2) == believable


SAID = st.tuples(*[st.floats()] * 3, st.integers(-(10**20), 10**20))


@given(SAID, st.floats(0, 1e9), st.integers(1, 65_536))
def test_no_word_of_a_worker_makes_the_books_absurd(
    said: tuple[float, float, float, int], seen: float, cores: int
) -> None:
    wall, user, system, memory = believed(said, seen, cores)
    assert 0 <= wall <= seen + ALLOWANCE
    assert min(user, system) >= 0 and user + system <= (wall * cores + 1.0) * 1.000001
    assert 0 <= memory < 2**31


def test_a_lie_is_bounded_and_marked(grid: GridUnderTest) -> None:
    state = grid.arrives()
    (work,) = grid.submit()
    starts(grid, state)
    grid.after(seconds(10))
    grid.finishes(state, work, usage=(1e18, 1e18, 0.0, 10**18))
    assert (booked(grid).core_time, booked(grid).doubtful) == (10.0, 1)
    (task,) = grid.changes(c.TaskUpdated)
    assert (task.wall, task.is_doubtful) == (10.0, True)


@pytest.mark.parametrize("jump", [-hours(30), hours(24 * 365)])
def test_a_clock_that_jumps_leaves_the_books_in_order(grid: GridUnderTest, jump: object) -> None:
    state = grid.arrives()
    (work,) = grid.submit()
    starts(grid, state)
    grid.now += jump  # type: ignore[operator]
    grid.finishes(state, work, usage=(30.0, 20.0, 0.0, 0))
    assert booked(grid).core_time in (0.0, 30.0)
    assert booked(grid).core_time >= 0
    assert booked(grid).day == int(grid.now.strftime("%Y%m%d"))


def test_what_is_added_within_a_transaction_is_one_row_a_key() -> None:
    one, two = c.UsageAdded(1, 7, "", 0, 1, 2.0, 1.0, 0), c.UsageAdded(1, 7, "", 1, 1, 4.0, 1.0, 1)
    assert added_up([one, two, two], 4) == [one, (1, 7, "", 1, 2, 8.0, 2.0, 2)]
