"""The worker's decisions: what happens, and what is to be done about it."""

from __future__ import annotations

import signal

import pytest

from desktopgrid.wire import messages as m
from pilot.node.slots import Capacity, Verdict
from pilot.node.worker import (
    MAX_REASON,
    BreakOff,
    CleanUp,
    Ending,
    Kill,
    Policy,
    Quit,
    Say,
    SayAlive,
    Stage,
    Start,
    Store,
    Worker,
)
from tests.unit.node.fakes import WELCOME, an_assign

ENDING = Ending(0, (1.0, 0.5, 0.1, 2048), b"out", b"err")
FINISHED = m.Finished(
    "w.1", 1, exit_code=0, stdout=b"out", stderr=b"err", usage=(1.0, 0.5, 0.1, 2048)
)


def a_worker(cores: int = 2, memory_mib: int = 1000, **policy: object) -> Worker:
    return Worker(Capacity(cores, memory_mib), Policy(**policy), now=0.0)  # type: ignore[arg-type]


def running(worker: Worker, now: float = 0.0, **fields: object) -> m.Assign:
    """A task that the worker has started."""
    assign = an_assign(**fields)  # type: ignore[arg-type]
    assert worker.heard(assign, now) == [Stage(assign)]
    assert worker.staged(assign.epoch, now) == [Start(assign)]
    return assign


def told(assign: m.Assign, outcome: str, reason: str, **fields: object) -> Say:
    message = m.Finished(assign.task, assign.epoch, outcome=outcome, reason=reason, **fields)  # type: ignore[arg-type]
    return Say(message, assign.epoch)


def given_back(assign: m.Assign, reason: str) -> Say:
    return Say(m.Returned(assign.task, assign.epoch, reason), assign.epoch)


# A task's life.


@pytest.mark.feature("XW-WRK-4")
def test_a_task_is_staged_started_and_reported() -> None:
    worker = a_worker()
    assign = running(worker)
    assert worker.exited(1, ENDING, 1.0) == [Say(FINISHED, 1), CleanUp(1)]
    assert worker.tasks_done == 1
    assert assign.task not in repr(worker)


def test_what_a_task_leaves_is_stored_before_it_is_finished() -> None:
    worker = a_worker()
    assign = running(worker)
    ending = Ending(0, leaves_files=True, reason="left out x")
    assert worker.exited(1, ending, 1.0) == [Store(assign)]
    outputs = (m.Stored("picture.png", "ab", 3),)
    finished = m.Finished("w.1", 1, exit_code=0, reason="left out x", outputs=outputs)
    assert worker.stored(1, outputs, 2.0) == [Say(finished, 1), CleanUp(1)]


def test_a_task_waits_for_room_and_is_staged_when_there_is() -> None:
    worker = a_worker(cores=1)
    running(worker)
    second = an_assign(2)
    assert worker.heard(second, 0.0) == []
    assert worker.exited(1, ENDING, 1.0) == [Say(FINISHED, 1), CleanUp(1), Stage(second)]


def test_a_task_larger_than_the_host_fails_at_once() -> None:
    worker = a_worker(cores=2, memory_mib=1000)
    large = an_assign(cores=3)
    reason = "the task wants 3 cores and 0 MiB; this host has 2 and 1000"
    assert worker.heard(large, 0.0) == [told(large, "failed", reason)]


def test_a_task_that_cannot_be_staged_fails() -> None:
    worker = a_worker()
    assign = an_assign()
    worker.heard(assign, 0.0)
    assert worker.failed(1, Verdict("failed", "no room"), 1.0) == [
        told(assign, "failed", "no room"),
        CleanUp(1),
    ]


def test_a_task_that_cannot_be_spawned_fails() -> None:
    worker = a_worker()
    assign = running(worker)
    assert worker.failed(1, Verdict("failed", "exec"), 1.0) == [
        told(assign, "failed", "exec"),
        CleanUp(1),
    ]


def test_a_long_reason_is_cut() -> None:
    worker = a_worker()
    worker.heard(an_assign(), 0.0)
    say = worker.failed(1, Verdict("failed", "x" * 5000), 1.0)[0]
    assert isinstance(say, Say)
    assert isinstance(say.message, m.Finished)
    assert say.message.reason == "x" * MAX_REASON


def test_a_reason_is_text_that_can_travel() -> None:
    worker = a_worker()
    assign = an_assign()
    worker.heard(assign, 0.0)
    verdict = Verdict("failed", "no such file: a\udcff")
    assert worker.failed(1, verdict, 1.0)[0] == told(assign, "failed", "no such file: a?")


# What the server says twice, too late, or about somebody else.


def test_a_task_assigned_twice_is_one_task() -> None:
    worker = a_worker()
    assign = running(worker)
    assert worker.heard(assign, 0.0) == []
    worker.exited(1, ENDING, 1.0)
    assert worker.heard(assign, 0.0) == []


@pytest.mark.parametrize("message", [m.Abandon("x.1", 9), m.Recall("x.1", 9)])
def test_a_word_about_an_unknown_task_is_no_error(message: m.Message) -> None:
    assert a_worker().heard(message, 0.0) == []


def test_a_message_that_is_not_for_workers_is_let_pass() -> None:
    assert a_worker().heard(m.Reply(1), 0.0) == []


# Abandon and recall.


def test_an_abandoned_task_that_waits_ends_at_once() -> None:
    worker = a_worker(cores=1)
    running(worker)
    waiting = an_assign(2)
    worker.heard(waiting, 0.0)
    assert worker.heard(m.Abandon("w.2", 2, "cancelled"), 1.0) == [
        told(waiting, "aborted", "cancelled")
    ]
    assert worker.exited(1, ENDING, 1.0) == [Say(FINISHED, 1), CleanUp(1)]


def test_an_abandoned_task_that_is_staged_is_broken_off() -> None:
    worker = a_worker()
    assign = an_assign()
    worker.heard(assign, 0.0)
    assert worker.heard(m.Abandon("w.1", 1, "cancelled"), 1.0) == [BreakOff(1)]
    assert worker.heard(m.Abandon("w.1", 1, "cancelled"), 1.0) == []
    assert worker.staged(1, 2.0) == [told(assign, "aborted", "cancelled"), CleanUp(1)]


def test_an_abandoned_task_that_runs_gets_its_grace() -> None:
    worker = a_worker(grace=10.0)
    assign = running(worker)
    assert worker.heard(m.Abandon("w.1", 1, "cancelled"), 1.0) == [Kill(1, signal.SIGTERM)]
    assert worker.heard(m.Abandon("w.1", 1, "cancelled"), 1.0) == []
    assert worker.tick(10.9) == []
    assert worker.tick(11.0) == [Kill(1, signal.SIGKILL)]
    assert worker.tick(12.0) == []
    usage = (12.0, 0.0, 0.0, 0)
    assert worker.exited(1, Ending(-9, usage), 12.1) == [
        told(assign, "aborted", "cancelled", usage=usage),
        CleanUp(1),
    ]


def test_an_abandoned_task_that_is_stored_is_broken_off() -> None:
    worker = a_worker()
    assign = running(worker)
    worker.exited(1, Ending(0, leaves_files=True), 1.0)
    assert worker.heard(m.Abandon("w.1", 1), 1.0) == [BreakOff(1)]
    assert worker.failed(1, Verdict("failed", "broken off"), 2.0) == [
        told(assign, "aborted", ""),
        CleanUp(1),
    ]


def test_an_abandoned_task_that_has_ended_is_not_held_any_more() -> None:
    worker = a_worker()
    running(worker)
    worker.exited(1, ENDING, 1.0)
    assert worker.heard(m.Abandon("w.1", 1), 2.0) == []
    assert worker.held() == ()


def test_a_task_is_recalled_only_before_it_starts() -> None:
    worker = a_worker(cores=2)
    running(worker)
    staging, waiting = an_assign(2), an_assign(3)
    worker.heard(staging, 0.0)
    worker.heard(waiting, 0.0)
    assert worker.heard(m.Recall("w.1", 1), 1.0) == []
    assert worker.heard(m.Recall("w.3", 3), 1.0) == [given_back(waiting, "recalled")]
    assert worker.heard(m.Recall("w.2", 2), 1.0) == [BreakOff(2)]
    assert worker.failed(2, Verdict("failed", "broken off"), 1.0) == [
        given_back(staging, "recalled"),
        CleanUp(2),
    ]


# Limits.


def test_a_task_that_runs_too_long_is_stopped_and_told_so() -> None:
    worker = a_worker()
    assign = running(worker, wall_time=60)
    assert worker.tick(60.0) == [Say(m.Started("w.1", 1))]
    assert worker.tick(60.1) == [Kill(1, signal.SIGTERM)]
    ending = Ending(-15, stdout=b"so far")
    assert worker.exited(1, ending, 61.0) == [
        told(assign, "limit", "it ran longer than 60 s", stdout=b"so far"),
        CleanUp(1),
    ]


def test_a_task_without_a_wall_time_may_run() -> None:
    worker = a_worker()
    running(worker, wall_time=0)
    assert worker.tick(1e9) == [Say(m.Started("w.1", 1))]


@pytest.mark.feature("XW-WCF-16")
@pytest.mark.parametrize(
    "limit, memory_mib, disk_mib, reason",
    [
        pytest.param(
            {"memory_mib": 100}, 101, 0, "it used 101 MiB of memory; its limit is 100", id="memory"
        ),
        pytest.param({"disk_mib": 7}, 0, 8, "it used 8 MiB of disk; its limit is 7", id="disk"),
    ],
)
def test_a_task_that_uses_too_much_is_killed(
    limit: dict[str, int], memory_mib: int, disk_mib: int, reason: str
) -> None:
    worker = a_worker()
    assign = running(worker, **limit)
    assert worker.sampled(1, memory_mib - 1, disk_mib - 1, 1.0) == []
    assert worker.sampled(1, memory_mib, disk_mib, 1.0) == [Kill(1, signal.SIGKILL)]
    assert worker.sampled(1, memory_mib, disk_mib, 1.0) == []
    assert worker.exited(1, Ending(-9), 1.0) == [told(assign, "limit", reason), CleanUp(1)]


def test_a_sample_of_a_task_that_is_gone_is_no_error() -> None:
    assert a_worker().sampled(5, 1, 1, 0.0) == []


def test_a_program_that_died_of_a_limit_is_told_so() -> None:
    worker = a_worker()
    assign = running(worker, disk_mib=7)
    reason = "it wrote a file of more than 7 MiB of disk"
    assert worker.exited(1, Ending(-signal.SIGXFSZ, leaves_files=True), 1.0) == [
        told(assign, "limit", reason),
        CleanUp(1),
    ]


def test_a_program_that_failed_beyond_its_memory_is_told_so() -> None:
    worker = a_worker()
    usage = (1.0, 1.0, 1.0, 200 << 10)
    assign = running(worker, memory_mib=100)
    assert worker.exited(1, Ending(1, usage), 1.0) == [
        told(assign, "limit", "it used 200 MiB of memory; its limit is 100", usage=usage),
        CleanUp(1),
    ]


def test_a_program_that_succeeded_beyond_its_memory_is_through() -> None:
    worker = a_worker()
    usage = (1.0, 1.0, 1.0, 200 << 10)
    running(worker, memory_mib=100)
    finished = m.Finished("w.1", 1, exit_code=0, usage=usage)
    assert worker.exited(1, Ending(0, usage), 1.0) == [Say(finished, 1), CleanUp(1)]


# The session.


def test_started_is_said_once_and_not_of_short_tasks() -> None:
    worker = a_worker()
    running(worker, now=5.0)
    assert worker.tick(5.1) == []
    assert worker.tick(5.2) == [Say(m.Started("w.1", 1))]
    assert worker.tick(5.3) == []


@pytest.mark.feature("XW-WRK-5")
def test_alive_is_said_at_the_servers_period_after_a_silence() -> None:
    worker = a_worker()
    assert worker.tick(1000.0) == [], "nobody has said how often"
    worker.welcomed(m.Welcome(False, 0, 30.0, "t", "u", 10), 1000.0)
    assert worker.tick(1029.0) == []
    assert worker.tick(1030.0) == [SayAlive()]
    assert worker.tick(1031.0) == []
    assign = an_assign()
    worker.heard(assign, 1050.0)
    worker.failed(1, Verdict("failed", ""), 1050.0)
    assert worker.tick(1079.0) == [], "something else was said at 1050"
    assert worker.tick(1080.0) == [SayAlive()]


def test_a_worker_holds_what_waits_runs_or_is_not_acknowledged() -> None:
    worker = a_worker(cores=2)
    running(worker, epoch=1)
    worker.exited(1, ENDING, 1.0)
    running(worker, epoch=2)
    worker.heard(an_assign(3), 1.0)
    worker.heard(an_assign(4), 1.0)
    assert worker.held() == (
        m.Held("w.2", 2),
        m.Held("w.3", 3, "PENDING"),
        m.Held("w.4", 4, "PENDING"),
        m.Held("w.1", 1),
    )


def test_a_result_is_held_until_it_is_acknowledged() -> None:
    worker = a_worker()
    running(worker)
    worker.exited(1, ENDING, 1.0)
    worker.acknowledged(99)
    assert worker.held() == (m.Held("w.1", 1),), "it has not been said yet"
    worker.said(1, 7)
    worker.acknowledged(6)
    assert worker.held() == (m.Held("w.1", 1),)
    worker.acknowledged(7)
    assert worker.held() == ()
    worker.said(1, 8)  # of a task that was abandoned meanwhile


# Leaving.


def test_a_drained_worker_gives_back_what_has_not_started_and_goes_when_the_rest_has_ended() -> (
    None
):
    worker = a_worker(cores=1)
    running(worker)
    waiting = an_assign(2)
    worker.heard(waiting, 0.0)
    assert worker.heard(m.Drain("maintenance"), 1.0) == [
        Say(m.Draining("maintenance")),
        given_back(waiting, "maintenance"),
    ]
    assert worker.heard(m.Drain("maintenance"), 1.0) == []
    late = an_assign(3)
    assert worker.heard(late, 2.0) == [given_back(late, "maintenance")]
    assert worker.exited(1, ENDING, 3.0) == [
        Say(FINISHED, 1),
        CleanUp(1),
        Quit("maintenance"),
    ]
    assert worker.tick(4.0) == []


def test_an_empty_worker_that_is_drained_goes_at_once() -> None:
    reason = "the server asked for it"
    assert a_worker().heard(m.Drain(), 0.0) == [Say(m.Draining(reason)), Quit(reason)]


def test_a_server_that_forgot_the_session_is_told_again_that_the_worker_drains() -> None:
    worker = a_worker()
    assert worker.welcomed(WELCOME, 0.0) == []
    running(worker)
    worker.drain("maintenance", 1.0)
    assert worker.welcomed(m.Welcome(True, 3, 60.0, "t", "u", 10), 2.0) == []
    assert worker.welcomed(WELCOME, 3.0) == [Say(m.Draining("maintenance"))]


def test_a_worker_that_is_told_to_go_gives_all_back() -> None:
    worker = a_worker(cores=2, grace=5.0)
    runs = running(worker)
    staging, waiting = an_assign(2), an_assign(3)
    worker.heard(staging, 0.0)
    worker.heard(waiting, 0.0)
    assert worker.terminate("SIGTERM", 1.0) == [
        Say(m.Draining("SIGTERM", is_told=True)),
        given_back(waiting, "SIGTERM"),
        Kill(1, signal.SIGTERM),
        BreakOff(2),
    ]
    assert worker.failed(2, Verdict("failed", "broken off"), 1.0) == [
        given_back(staging, "SIGTERM"),
        CleanUp(2),
    ]
    assert worker.tick(5.9) == []
    assert worker.tick(6.0) == [Kill(1, signal.SIGKILL)]
    assert worker.exited(1, Ending(-9), 6.1) == [
        given_back(runs, "SIGTERM"),
        CleanUp(1),
        Quit("SIGTERM"),
    ]


def test_a_worker_that_is_told_twice_does_not_wait() -> None:
    worker = a_worker()
    running(worker)
    worker.terminate("SIGTERM", 1.0)
    assert worker.terminate("SIGTERM", 2.0) == [Kill(1, signal.SIGKILL)]


def test_a_result_that_is_being_stored_has_its_grace_when_the_worker_is_told_to_go() -> None:
    worker = a_worker(grace=5.0)
    assign = running(worker)
    worker.exited(1, Ending(0, leaves_files=True), 1.0)
    assert worker.terminate("SIGTERM", 1.0) == [Say(m.Draining("SIGTERM", is_told=True))]
    assert worker.tick(5.0) == []
    assert worker.tick(6.0) == [BreakOff(1)]
    assert worker.failed(1, Verdict("failed", "broken off"), 6.0) == [
        given_back(assign, "SIGTERM"),
        CleanUp(1),
        Quit("SIGTERM"),
    ]


def test_a_staging_task_is_not_broken_off_twice() -> None:
    worker = a_worker()
    worker.heard(an_assign(), 0.0)
    worker.terminate("SIGTERM", 1.0)
    assert worker.terminate("SIGTERM", 2.0) == []


@pytest.mark.feature("XW-WCF-14")
def test_an_idle_worker_leaves_after_its_time() -> None:
    worker = a_worker(idle_time=300.0)
    assert worker.tick(299.0) == []
    running(worker, now=299.5)
    assert worker.tick(900.0) == [Say(m.Started("w.1", 1))]
    worker.exited(1, ENDING, 1000.0)
    assert worker.tick(1299.0) == []
    reason = "it had no task for 300 s"
    assert worker.tick(1300.0) == [Say(m.Draining(reason)), Quit(reason)]


@pytest.mark.feature("XW-WCF-14")
def test_a_worker_leaves_after_so_many_tasks() -> None:
    worker = a_worker(cores=1, max_tasks=1)
    running(worker)
    waiting = an_assign(2)
    worker.heard(waiting, 0.0)
    reason = "it was to do 1 tasks"
    assert worker.exited(1, ENDING, 1.0) == [
        Say(FINISHED, 1),
        CleanUp(1),
        Say(m.Draining(reason)),
        given_back(waiting, reason),
        Quit(reason),
    ]


def test_a_worker_whose_host_ends_drains_and_goes_before_that() -> None:
    worker = a_worker(lifetime=1000.0, drain_before=60.0, grace=10.0)
    assign = running(worker)
    assert worker.lifetime(100.4) == 899
    assert worker.tick(100.0) == [Say(m.Started("w.1", 1))]
    assert worker.tick(940.0) == [Say(m.Draining("its time on this host is nearly over"))]
    assert worker.tick(984.0) == []
    assert worker.tick(985.0) == [Kill(1, signal.SIGTERM)]
    assert worker.tick(986.0) == []
    reason = "its time on this host is over"
    assert worker.exited(1, Ending(-15), 987.0) == [
        given_back(assign, reason),
        CleanUp(1),
        Quit("its time on this host is nearly over"),
    ]
    assert worker.lifetime(2000.0) == 0


def test_a_worker_on_a_desktop_has_no_end() -> None:
    assert a_worker().lifetime(0.0) is None
