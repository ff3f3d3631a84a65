"""Giving works to hosts as tasks, and what becomes of a work when its task is over.

Pure but for the grid in memory: changes and pushes go into the Outcome.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from desktopgrid.model.accounting import Cause
from desktopgrid.model.errors import LocalProtocolError
from desktopgrid.model.lifecycle import (
    TASKS,
    WORKS,
    TaskEvent,
    TaskStatus,
    WorkEvent,
    WorkStatus,
    after,
)
from desktopgrid.model.objects import Data, Host, Task, Work
from desktopgrid.server import changes as c
from desktopgrid.server.bookkeeping import CAUSES, book
from desktopgrid.server.scheduler import HostState, demand_of, executable_for
from desktopgrid.server.state import Batch, Grid, Outcome, bounded, clean, timestamp, work_row
from desktopgrid.wire import messages as m

# --- giving work ----------------------------------------------------------------------------------


def fill(grid: Grid, state: HostState, now: datetime, out: Outcome, ahead: bool = True) -> None:
    """Give ``state`` what it has room for."""
    for work in grid.scheduler.fill(state, now, ahead):
        _assign(grid, work, state, now, out)


def offer(grid: Grid, now: datetime, out: Outcome, only: str | None = None) -> None:
    """Works have come to wait: offer them to the hosts with room, those with a free core first;
    to the host ``only`` if no other may have them.
    """
    if only is not None:
        if only in grid.scheduler.hosts:
            fill(grid, grid.scheduler.hosts[only], now, out)
        return
    for state, ahead in grid.scheduler.hosts_with_room(now):
        if not grid.scheduler.waiting:
            return
        fill(grid, state, now, out, ahead)


def _assign(grid: Grid, work: Work, state: HostState, now: datetime, out: Outcome) -> None:
    submission = work.submission
    description = submission.description
    work.attempts += 1
    work.status = after(WORKS, work.status, WorkEvent.MATCHED)
    host = state.host
    task = Task(
        f"{work.uid}.{work.attempts}",
        work.uid,
        host.uid,
        grid.new_epoch(),
        TaskStatus.PENDING,
        now,
    )
    work.task = task
    grid.tasks[task.uid] = task
    state.give(task, demand_of(description, submission.rights))
    grid.scheduler.share(submission.owner, now).start(description.cores, now)
    out.changes.append(
        c.TaskInserted(task.uid, work.uid, host.uid, task.epoch, task.status.value, now.timestamp())
    )
    out.changes.append(work_row(work))
    out.push(state.session, assignment(grid, work, task, host))


def assignment(grid: Grid, work: Work, task: Task, host: Host) -> m.Assign:
    """The message that gives ``task`` to ``host``."""
    description = work.submission.description
    application = grid.applications[description.application]
    executable = executable_for(application, host)
    if executable is None:
        raise LocalProtocolError(f"{host.uid} was matched without an executable")
    datas = grid.datas
    return m.Assign(
        task=task.uid,
        epoch=task.epoch,
        work=work.uid,
        application=application.name,
        executable=_file(application.name, datas[executable]),
        arguments=work.arguments,
        stdin=_file("stdin", datas[description.stdin]) if description.stdin else None,
        env=_file("env", datas[description.env]) if description.env else None,
        inputs=tuple(_file(name, datas[uid]) for name, uid in description.inputs),
        variables=description.variables,
        outputs=description.outputs,
        cores=description.cores,
        memory_mib=description.memory_mib,
        disk_mib=description.disk_mib,
        wall_time=description.wall_time,
        for_user=grid.users[work.submission.owner].login,
        origin=description.origin,
        subject=subject_of(grid, work),
    )


def subject_of(grid: Grid, work: Work) -> str:
    """The name in certificates of the user who is behind ``work``: that of the credential which it
    carries, else the first by which he is known here; empty if there is none.
    """
    delegation = grid.delegations.get(work.submission.description.delegation or "")
    if delegation is not None and delegation.subject:
        return delegation.subject
    return grid.users[work.submission.owner].certified_name


def _file(name: str, data: Data) -> m.File:
    uri = data.uri if data.is_elsewhere else ""
    return m.File(name, data.uid, data.sha256, data.size, uri)


# --- the end of a task ----------------------------------------------------------------------------


def end_task(
    grid: Grid,
    task: Task,
    event: TaskEvent,
    reason: str,
    now: datetime,
    out: Outcome,
    finished: m.Finished | None = None,
    cause: Cause | None = None,
) -> Work:
    """``task`` is over: its row is written, its use booked, and its host has room again. What
    becomes of its work is the caller's business; ``cause`` is why nothing came of the task, where
    the event does not tell it.
    """
    task.status = after(TASKS, task.status, event)
    work = grid.works[task.work]
    grid.release(task, now)
    done = finished or m.Finished(task.uid, task.epoch, reason=reason)
    reported = finished.usage if finished is not None else None
    cause = cause or CAUSES[event]
    usage, account, cause_text, is_doubtful = book(grid, task, work, cause, reported, now, out)
    exit_code = bounded(done.exit_code) if done.exit_code is not None else None
    out.changes.append(
        c.TaskUpdated(
            task.uid,
            task.status.value,
            timestamp(task.started_at),
            now.timestamp(),
            exit_code,
            clean(reason),
            done.stdout or None,
            done.stderr or None,
            _outputs_text(done.outputs),
            *usage,
            account,
            cause_text,
            is_doubtful,
        )
    )
    return work


def _outputs_text(outputs: tuple[m.Stored, ...]) -> str | None:
    return msgspec.json.encode(outputs).decode() if outputs else None


def requeue(grid: Grid, work: Work, now: datetime, out: Outcome) -> None:
    """``work`` waits again, before those that came after it."""
    work.status = after(WORKS, work.status, WorkEvent.REQUEUED)
    out.changes.append(work_row(work))
    owner = grid.users[work.submission.owner]
    grid.scheduler.add(work, owner, now, again=True)


def conclude(
    grid: Grid,
    work: Work,
    event: WorkEvent,
    reason: str,
    now: datetime,
    out: Outcome,
    task: str | None = None,
    finished: m.Finished | None = None,
    host: str = "",
) -> None:
    """``work`` is final: its row is written, who watches is told, memory forgets it."""
    work.status = after(WORKS, work.status, event)
    work.reason = clean(reason)
    out.changes.append(work_row(work, now, task))
    batch = grid.batches[work.submission.uid]
    if batch.watchers:
        _tell(batch, work, finished, host, out)
    grid.drop_work(work)


def abort(grid: Grid, work: Work, reason: str, now: datetime, out: Outcome) -> None:
    """``work`` is taken back: what runs of it is stopped."""
    task = work.task
    if task is not None:
        state = grid.host_of(task)
        if state is not None:
            out.push(state.session, m.Abandon(task.uid, task.epoch, reason))
        end_task(grid, task, TaskEvent.ABORTED, reason, now, out, cause=Cause.CANCELLED)
    elif work.status is WorkStatus.WAITING:
        grid.scheduler.forget(work, grid.users[work.submission.owner], now)
    conclude(grid, work, WorkEvent.ABORTED, reason, now, out)
    grid.counts["aborted"] += 1


def _tell(batch: Batch, work: Work, finished: m.Finished | None, host: str, out: Outcome) -> None:
    done = finished or m.Finished("", 0)
    ended = m.Ended(
        work.uid,
        work.status.value,
        done.exit_code,
        work.reason,
        done.stdout,
        done.stderr,
        done.outputs,
        host,
    )
    for session in batch.watchers:
        out.push(session, ended)


def lose(
    grid: Grid, task: Task, event: TaskEvent, reason: str, now: datetime, out: Outcome
) -> None:
    """``task`` came to nothing through no fault of its work, which waits again; too many losses and
    it is given up.
    """
    work = end_task(grid, task, event, reason, now, out)
    most = grid.policy.losses_per_retry * max(1, work.submission.description.retries)
    if work.attempts >= most:
        conclude(
            grid,
            work,
            WorkEvent.FAILED,
            f"given up after {work.attempts} tasks; the last: {reason}",
            now,
            out,
        )
        grid.counts["failed"] += 1
    else:
        requeue(grid, work, now, out)
    grid.counts["lost"] += 1


def data_arrived(grid: Grid, data: Data, now: datetime, out: Outcome) -> None:
    """The server has ``data`` whole: works that waited for it may run."""
    for uid in grid.awaiting.pop(data.uid, ()):
        work = grid.works.get(uid)
        if work is None or work.status is not WorkStatus.DATAREQUEST:
            continue
        if any(uid in waiting for waiting in grid.awaiting.values()):
            continue
        work.status = after(WORKS, work.status, WorkEvent.DATA_ARRIVED)
        out.changes.append(work_row(work))
        grid.scheduler.add(work, grid.users[work.submission.owner], now)
    offer(grid, now, out)
