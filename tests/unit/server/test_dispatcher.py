"""What workers' messages lead to: by value, no clock, no socket, no database."""

from __future__ import annotations

import pytest

from desktopgrid.model.errors import AccessDenied, BadRequest
from desktopgrid.model.lifecycle import WorkStatus
from desktopgrid.model.rights import UserLevel
from desktopgrid.server import changes as c
from desktopgrid.server import hosts, upkeep
from desktopgrid.server.scheduler import FAILURES_TO_PAUSE
from desktopgrid.server.state import Outcome
from desktopgrid.wire import messages as m
from tests.builders import GridUnderTest, a_user, seconds


@pytest.fixture
def grid() -> GridUnderTest:
    return GridUnderTest()


@pytest.mark.feature("XW-WRK-4")
def test_a_fresh_worker_is_given_a_waiting_work_unasked(grid: GridUnderTest) -> None:
    (work,) = grid.submit()
    assert grid.status(work) == "WAITING"

    state = grid.arrives()

    assert grid.status(work) == "PENDING"
    (assign,) = grid.pushes(m.Assign)
    assert (assign.work, assign.task) == (work, f"{work}.1")
    assert [row.uid for row in grid.changes(c.TaskInserted)] == [assign.task]
    assert list(state.tasks) == [assign.task]


def test_a_work_for_an_idle_host_is_stored_and_given_in_one_decision(grid: GridUnderTest) -> None:
    grid.arrives()
    grid.submit()
    assert len(grid.changes(c.WorkInserted)) == len(grid.changes(c.TaskInserted)) == 1
    assert len(grid.pushes(m.Assign)) == 1


def test_a_slot_has_one_task_ahead_while_tasks_are_long(grid: GridUnderTest) -> None:
    state = grid.arrives(cores=2)
    grid.submit(10)
    assert len(state.tasks) == 4
    grid.finishes(state, usage=(60.0, 0.0, 0.0, 0))
    assert len(state.tasks) == 4


def test_short_tasks_are_given_ahead_by_time(grid: GridUnderTest) -> None:
    state = grid.arrives(cores=1)
    grid.submit(200)
    grid.finishes(state, usage=(0.01, 0.0, 0.0, 0))
    assert len(state.tasks) == 1 + 10


def test_a_result_is_stored_once(grid: GridUnderTest) -> None:
    state = grid.arrives()
    grid.submit()
    (task,) = state.tasks.values()
    finished = m.Finished(task.uid, task.epoch, exit_code=0, stdout=b"42")

    grid.says(state, finished)
    assert [row.stdout for row in grid.changes(c.TaskUpdated)] == [b"42"]
    grid.says(state, finished)
    assert not grid.out.changes


def test_the_watcher_is_told_with_the_result(grid: GridUnderTest) -> None:
    state = grid.arrives()
    grid.ask(m.Submit("u1", {"application": "app"}, single=True, watch=True))
    grid.finishes(state, stdout=b"42", exit_code=3)
    (ended,) = grid.pushes(m.Ended)
    assert (ended.work, ended.status, ended.exit_code, ended.stdout) == (
        "u1",
        "COMPLETED",
        3,
        b"42",
    )


@pytest.mark.feature("XW-ARC-2")
def test_a_worker_that_speaks_of_anothers_task_is_refused(grid: GridUnderTest) -> None:
    honest, liar = grid.arrives("desk1"), grid.arrives("desk2")
    (work,) = grid.submit()
    (task,) = honest.tasks.values()
    with pytest.raises(AccessDenied):
        grid.says(liar, m.Finished(task.uid, task.epoch, exit_code=0, stdout=b"forged"))
    assert grid.status(work) == "PENDING"


def test_a_result_under_another_epoch_has_no_effect(grid: GridUnderTest) -> None:
    state = grid.arrives()
    (work,) = grid.submit()
    (task,) = state.tasks.values()
    grid.says(state, m.Finished(task.uid, task.epoch - 1, exit_code=0))
    assert grid.status(work) == "PENDING"
    assert not grid.out.changes


def test_an_unknown_outcome_is_refused(grid: GridUnderTest) -> None:
    state = grid.arrives()
    grid.submit()
    with pytest.raises(BadRequest, match="completed, limit, failed, aborted"):
        grid.finishes(state, outcome="splendid")


@pytest.mark.feature("XW-ARC-10")
def test_a_task_that_fails_for_its_hosts_sake_is_tried_again(grid: GridUnderTest) -> None:
    state = grid.arrives()
    (work,) = grid.submit()
    grid.finishes(state, outcome="failed", exit_code=None, reason="no room on disk")
    assert grid.status(work) == "PENDING"
    assert list(state.tasks) == [f"{work}.2"]


def test_retries_have_a_limit_and_the_reason_stays(grid: GridUnderTest) -> None:
    (work,) = grid.submit(retries=1)
    for name in ("desk1", "desk2"):
        state = grid.arrives(name)
        grid.finishes(state, work, outcome="failed", exit_code=None, reason="no interpreter")
        grid.says(state, m.Bye())
    assert grid.status(work) == "gone"


def test_a_broken_limit_is_the_works_own_fault(grid: GridUnderTest) -> None:
    state = grid.arrives()
    (work,) = grid.submit()
    grid.finishes(state, outcome="limit", exit_code=-9, reason="more than 100 MiB of memory")
    assert grid.status(work) == "gone"
    (row,) = grid.changes(c.WorkUpdated)
    assert (row.status, row.reason) == ("ERROR", "more than 100 MiB of memory")


def test_a_host_that_fails_everything_gets_no_more_works_until_its_pause_is_over(
    grid: GridUnderTest,
) -> None:
    black = grid.arrives("black", cores=1)
    works = grid.submit(10)
    for _ in range(FAILURES_TO_PAUSE):
        grid.finishes(black, outcome="failed", exit_code=None, reason="no libc")
    while black.tasks:
        grid.finishes(black, outcome="failed", exit_code=None, reason="no libc")
    assert all(grid.status(work) == "WAITING" for work in works)

    grid.after(seconds(3600))
    black.lease_ends_at = grid.now + seconds(60)
    upkeep.look_after(grid.grid, grid.now, grid.out)
    assert len(black.tasks) == 1, "one task must show that the host is well again"


def test_one_broken_submission_does_not_pause_a_host(grid: GridUnderTest) -> None:
    state = grid.arrives(cores=1)
    grid.submit(50)
    for _ in range(30):
        grid.finishes(state, exit_code=1, usage=(0.1, 0.0, 0.0, 0))
    assert state.paused_until is None


@pytest.mark.feature("XW-WRK-6")
def test_the_works_of_a_silent_host_run_elsewhere(grid: GridUnderTest) -> None:
    silent = grid.arrives("silent")
    (work,) = grid.submit()
    grid.after(grid.grid.policy.lease)
    other = grid.arrives("other")

    out = Outcome()
    upkeep.lose_silent_hosts(grid.grid, grid.now, out)

    assert silent.host.uid not in grid.grid.scheduler.hosts
    assert list(other.tasks) == [f"{work}.2"]


def test_a_worker_back_after_its_lease_is_registered_again_and_drops_what_is_not_its(
    grid: GridUnderTest,
) -> None:
    state = grid.arrives("desk1")
    (work,) = grid.submit()
    (task,) = state.tasks.values()
    grid.after(grid.grid.policy.lease)
    upkeep.lose_silent_hosts(grid.grid, grid.now, grid.out)

    hello = m.Hello(
        1, "worker", "token-worker", "", "sessiondesk1", host="desk1",
        facts={**state.host.facts.__dict__}, held=(m.Held(task.uid, task.epoch),),
    )  # fmt: skip
    grid.out = Outcome()
    worker = grid.grid.who(grid.grid.users["worker"])
    hosts.host_arrived(grid.grid, worker, hello, True, grid.now, grid.out)
    assert [said.task for said in grid.pushes(m.Abandon)] == [task.uid]
    assert [said.task for said in grid.pushes(m.Assign)] == [f"{work}.2"]


def test_a_worker_that_lost_its_tasks_gets_them_rescheduled_at_once(grid: GridUnderTest) -> None:
    state = grid.arrives("desk1", cores=1)
    (work,) = grid.submit()
    assert list(state.tasks) == [f"{work}.1"]
    grid.arrives("desk1", cores=1)
    assert list(state.tasks) == [f"{work}.2"]


def test_a_returned_task_waits_before_those_that_came_later(grid: GridUnderTest) -> None:
    state = grid.arrives("desk1", cores=1)
    works = grid.submit(5)
    grid.says(state, m.Draining("shutting down"))
    first = next(iter(state.tasks.values()))
    grid.says(state, m.Returned(first.uid, first.epoch, "SIGTERM"))
    assert grid.status(works[0]) == "WAITING"

    other = grid.arrives("desk2", cores=1)
    assert next(iter(other.tasks.values())).work == works[0]


def test_a_draining_host_gets_nothing_more(grid: GridUnderTest) -> None:
    state = grid.arrives()
    grid.says(state, m.Draining("lunch"))
    (work,) = grid.submit()
    assert grid.status(work) == "WAITING"
    assert not state.tasks


def test_a_host_of_another_user_cannot_be_taken_over(grid: GridUnderTest) -> None:
    grid.add_user(a_user("bob", level=UserLevel.STANDARD))
    grid.arrives("desk1", login="worker")
    with pytest.raises(AccessDenied, match="belongs to another user"):
        grid.arrives("desk1", login="bob")


def test_a_host_must_describe_itself_believably(grid: GridUnderTest) -> None:
    with pytest.raises(BadRequest, match="cores"):
        grid.arrives(cores=0)


def test_a_started_task_shows_as_running(grid: GridUnderTest) -> None:
    state = grid.arrives()
    (work,) = grid.submit()
    (task,) = state.tasks.values()
    grid.says(state, m.Started(task.uid, task.epoch))
    assert grid.status(work) == WorkStatus.RUNNING.value
    assert grid.grid.tasks[task.uid].started_at == grid.now


def test_a_task_beyond_its_wall_time_is_taken_from_a_worker_that_does_not_say_so(
    grid: GridUnderTest,
) -> None:
    state = grid.arrives()
    grid.submit(wall_time=60)
    (task,) = state.tasks.values()
    grid.says(state, m.Started(task.uid, task.epoch))
    grid.after(seconds(60) + upkeep.GRACE)
    grid.out = Outcome()
    upkeep.end_overdue_tasks(grid.grid, grid.now, grid.out)
    assert [said.task for said in grid.pushes(m.Abandon)] == [task.uid]


def test_a_job_that_registers_again_is_on_record(grid: GridUnderTest) -> None:
    state = grid.arrives()
    grid.submit()
    (task,) = state.tasks.values()
    grid.says(state, m.Registered(task.uid, task.epoch))
    assert grid.changes(c.TaskRegistered) == [c.TaskRegistered(task.uid, grid.now.timestamp())]


def test_a_task_that_waits_behind_a_long_one_is_recalled_for_a_free_host(
    grid: GridUnderTest,
) -> None:
    grid.arrives("busy", cores=1)
    grid.submit(2)
    grid.arrives("free", cores=1)
    grid.after(seconds(2))
    grid.out = Outcome()
    upkeep.recall_for_free_hosts(grid.grid, grid.now, grid.out)
    assert len(grid.pushes(m.Recall)) == 1
