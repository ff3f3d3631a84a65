"""What each message of a worker leads to: one function a message, (grid, host, message, now) ->
changes and pushes in an Outcome.

Pure but for the grid in memory: nothing is sent or written here. The journal makes the changes
durable, and only then are the pushes said. Requests of clients are in requests.py; what time alone
brings about is in upkeep.py.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from desktopgrid.model.accounting import Cause
from desktopgrid.model.errors import AccessDenied, BadRequest
from desktopgrid.model.lifecycle import TASKS, WORKS, TaskEvent, TaskStatus, WorkEvent, after
from desktopgrid.model.objects import Task
from desktopgrid.server import changes as c
from desktopgrid.server.hosts import host_left
from desktopgrid.server.scheduler import HostState
from desktopgrid.server.state import Grid, Outcome, bounded, clean, work_row
from desktopgrid.server.tasks import conclude, end_task, fill, lose, offer, requeue
from desktopgrid.wire import messages as m

MOST_LOAD = 1e6
"""Beyond which nobody believes a load average."""


def _own_task(grid: Grid, state: HostState, uid: str, epoch: int) -> Task | None:
    """The live task that a worker speaks of; None where it is about a life that is over. A worker
    that speaks of a task that another host has, lies.
    """
    task = grid.tasks.get(uid)
    if task is None:
        return None
    if task.host != state.host.uid:
        raise AccessDenied(f"host {state.host.uid} spoke of task {uid}, which another host has")
    return task if task.epoch == epoch else None


def on_started(grid: Grid, state: HostState, said: m.Started, now: datetime, out: Outcome) -> None:
    """A task runs."""
    task = _own_task(grid, state, said.task, said.epoch)
    if task is None or task.status is not TaskStatus.PENDING:
        return
    task.status, task.started_at = after(TASKS, task.status, TaskEvent.STARTED), now
    work = grid.works[task.work]
    work.status = after(WORKS, work.status, WorkEvent.STARTED)
    out.changes.append(
        c.TaskUpdated(
            task.uid,
            task.status.value,
            now.timestamp(),
            None,
            None,
            "",
            None,
            None,
            None,
            0,
            0,
            0,
            0,
        )
    )
    out.changes.append(work_row(work))


def on_finished(
    grid: Grid, state: HostState, said: m.Finished, now: datetime, out: Outcome
) -> None:
    """A task is through: its result is stored once, or its work tried again."""
    task = _own_task(grid, state, said.task, said.epoch)
    if task is None:
        return
    try:
        settle = OUTCOMES[said.outcome]
    except KeyError:
        raise BadRequest(
            f"{said.outcome[:40]!r} is no outcome; outcomes are {', '.join(OUTCOMES)}"
        ) from None
    _check_size(said)
    settle(grid, state, task, said, now, out)
    fill(grid, state, now, out)


def _check_size(said: m.Finished) -> None:
    """Raises BadRequest if a result is larger than the protocol allows: it would not fit into a
    message to its user.
    """
    if max(len(said.stdout), len(said.stderr)) > m.MAX_INLINE:
        raise BadRequest(f"of standard output and error at most {m.MAX_INLINE} bytes are said")
    names = sum(len(output.name.encode("utf-8", "replace")) for output in said.outputs)
    if len(said.outputs) > m.MAX_OUTPUTS or names > m.MAX_NAMES:
        raise BadRequest(f"a task has at most {m.MAX_OUTPUTS} outputs")


def _completed(
    grid: Grid, state: HostState, task: Task, said: m.Finished, now: datetime, out: Outcome
) -> None:
    reason = said.reason if said.exit_code is None else ""
    work = end_task(grid, task, TaskEvent.COMPLETED, reason, now, out, said)
    conclude(grid, work, WorkEvent.COMPLETED, reason, now, out, task.uid, said, state.host.uid)
    grid.counts["completed"] += 1
    duration = said.usage[0]
    if said.exit_code == 0:
        state.ended_well(duration)
    elif state.ended_badly(work.submission.uid, duration, False, now):
        _say_paused(state, out)


def _limited(
    grid: Grid, state: HostState, task: Task, said: m.Finished, now: datetime, out: Outcome
) -> None:
    work = end_task(grid, task, TaskEvent.FAILED, said.reason, now, out, said, Cause.LIMIT)
    conclude(grid, work, WorkEvent.FAILED, said.reason, now, out, task.uid, said, state.host.uid)
    grid.counts["failed"] += 1


def _failed(
    grid: Grid, state: HostState, task: Task, said: m.Finished, now: datetime, out: Outcome
) -> None:
    name = state.host.facts.name
    work = end_task(grid, task, TaskEvent.FAILED, said.reason, now, out, said)
    work.failures += 1
    if state.ended_badly(work.submission.uid, said.usage[0], True, now):
        _say_paused(state, out)
    if work.failures > work.submission.description.retries:
        reason = f"failed {work.failures} times; the last on {name}: {said.reason}"
        conclude(grid, work, WorkEvent.FAILED, reason, now, out, task.uid, said, state.host.uid)
        grid.counts["failed"] += 1
        return
    work.reason = clean(f"failed on {name}: {said.reason}")
    requeue(grid, work, now, out)
    offer(grid, now, out)


def _aborted(
    grid: Grid, state: HostState, task: Task, said: m.Finished, now: datetime, out: Outcome
) -> None:
    lose(grid, task, TaskEvent.ABORTED, said.reason or "stopped by its worker", now, out)
    offer(grid, now, out)


OUTCOMES: dict[str, Callable[[Grid, HostState, Task, m.Finished, datetime, Outcome], None]] = {
    "completed": _completed,
    "limit": _limited,
    "failed": _failed,
    "aborted": _aborted,
}


def _say_paused(state: HostState, out: Outcome) -> None:
    out.notes.append(
        f"Host {state.host.uid} failed everything quickly;"
        f" it gets no works until {state.paused_until}"
    )


def on_returned(
    grid: Grid, state: HostState, said: m.Returned, now: datetime, out: Outcome
) -> None:
    """A worker gives a task back unfinished: its work waits again, at once."""
    task = _own_task(grid, state, said.task, said.epoch)
    if task is not None:
        lose(grid, task, TaskEvent.ABORTED, f"returned: {said.reason}", now, out)
        offer(grid, now, out)


def on_registered(
    grid: Grid, state: HostState, said: m.Registered, now: datetime, out: Outcome
) -> None:
    """A running job registers once more: the registry says when (JM-8)."""
    task = _own_task(grid, state, said.task, said.epoch)
    if task is None:
        out.push(state.session, m.Abandon(said.task, said.epoch, "the server does not know it"))
    else:
        out.changes.append(c.TaskRegistered(task.uid, now.timestamp()))


def on_alive(grid: Grid, state: HostState, said: m.Alive, now: datetime, out: Outcome) -> None:
    """A worker lives. Its lease was renewed by whoever heard it; room may have come with time."""
    state.load = min(max(0.0, said.load), MOST_LOAD)
    state.free_disk_mib = max(0, bounded(said.free_disk_mib))
    fill(grid, state, now, out)


def on_draining(
    grid: Grid, state: HostState, said: m.Draining, now: datetime, out: Outcome
) -> None:
    """A worker takes no more tasks."""
    state.is_draining = True
    state.is_told_to_go = said.is_told


def on_bye(grid: Grid, state: HostState, said: m.Bye, now: datetime, out: Outcome) -> None:
    """A worker leaves for good."""
    host_left(grid, state, TaskEvent.ABORTED, said.reason or "its worker left", now, out)


WORKER_SAYS: dict[type[m.Message], Callable[[Grid, HostState, Any, datetime, Outcome], None]] = {
    m.Alive: on_alive,
    m.Started: on_started,
    m.Finished: on_finished,
    m.Returned: on_returned,
    m.Registered: on_registered,
    m.Draining: on_draining,
    m.Bye: on_bye,
}
