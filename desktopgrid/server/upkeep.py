"""What time alone brings about: leases and deadlines that ran out, so that nothing stays where it
is for ever.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial

from desktopgrid.model.lifecycle import FINAL_PILOTS, PilotEvent, TaskEvent, TaskStatus, WorkEvent
from desktopgrid.server import delegations
from desktopgrid.server.hosts import end_pilot, host_left, lose_hosts
from desktopgrid.server.scheduler import HostState
from desktopgrid.server.state import Grid, Outcome
from desktopgrid.server.tasks import conclude, fill, lose, offer
from desktopgrid.wire import messages as m

GRACE = timedelta(minutes=5)
"""How long beyond its wall time the server lets a task run before it no longer believes the worker.
"""
DATA_PATIENCE = timedelta(days=1)
"""How long a work waits for a data that was announced and does not come."""
PILOT_MEMORY = timedelta(hours=1)
"""How long a pilot that has ended is remembered: the caps count those of an hour."""
WORTH_RECALLING = 1.0
"""Seconds that a host's tasks must last on average before one that waits there is recalled for a
free host.
"""


def look_after(grid: Grid, now: datetime, out: Outcome) -> None:
    """One round of all duties."""
    lose_silent_hosts(grid, now, out)
    end_expired_tokens(grid, now, out)
    delegations.expire(grid, now, out)
    end_overdue_tasks(grid, now, out)
    end_overdue_pilots(grid, now, out)
    forget_ended_pilots(grid, now)
    fail_works_without_data(grid, now, out)
    recall_for_free_hosts(grid, now, out)
    for state in list(grid.scheduler.hosts.values()):
        fill(grid, state, now, out)  # a pause may be over


def lose_silent_hosts(grid: Grid, now: datetime, out: Outcome) -> None:
    """A host whose lease ran out is lost, and its works wait again."""
    for state in list(grid.scheduler.hosts.values()):
        if now >= state.lease_ends_at:
            out.notes.append(
                f"Lost host {state.host.uid} with {len(state.tasks)} tasks: it went silent"
            )
            if state.session is not None:
                out.closing.append((state.session, "lost", "nothing was heard for too long"))
            host_left(grid, state, TaskEvent.LOST, "its host went silent", now, out)


def end_expired_tokens(grid: Grid, now: datetime, out: Outcome) -> None:
    """A token that has come to its end ends the sessions that it opened."""
    for token in list(grid.credentials.values()):
        if token.expires_at is None or now < token.expires_at:
            continue
        del grid.credentials[token.uid]
        reason = "its token has expired"
        lose_hosts(grid, partial(_is_by, token.uid), reason, now, out)
        out.closing.append((f"by:{token.uid}", "not-authenticated", reason))


def _is_by(token: str, state: HostState) -> bool:
    return state.credential == token


def end_overdue_tasks(grid: Grid, now: datetime, out: Outcome) -> None:
    """A task that ran beyond its wall time and the worker's chance to say so is over: the worker is
    not believed any more.
    """
    for task in list(grid.tasks.values()):
        work = grid.works[task.work]
        limit = work.submission.description.wall_time or grid.policy.longest_wall_time
        since = task.started_at
        if task.status is TaskStatus.PENDING or since is None:
            continue
        if now < since + timedelta(seconds=limit) + GRACE:
            continue
        state = grid.host_of(task)
        if state is not None:
            out.push(state.session, m.Abandon(task.uid, task.epoch, "beyond its wall time"))
        lose(grid, task, TaskEvent.LOST, f"beyond its wall time of {limit} s", now, out)
    offer(grid, now, out)


def end_overdue_pilots(grid: Grid, now: datetime, out: Outcome) -> None:
    """A pilot that never made contact, or is still on record after its time, has failed."""
    for pilot in list(grid.pilots.values()):
        if pilot.status in FINAL_PILOTS or now < pilot.deadline_at:
            continue
        if pilot.host is not None and pilot.host in grid.scheduler.hosts:
            continue
        end_pilot(
            grid, pilot, PilotEvent.FAILED, "its time was over before it was heard of", now, out
        )


def forget_ended_pilots(grid: Grid, now: datetime) -> None:
    """A pilot that ended long ago, and that no cap counts any more, is in the database alone."""
    for pilot in list(grid.pilots.values()):
        ended_at = pilot.ended_at
        if ended_at is not None and max(ended_at, pilot.submitted_at) + PILOT_MEMORY <= now:
            del grid.pilots[pilot.stamp]


def fail_works_without_data(grid: Grid, now: datetime, out: Outcome) -> None:
    """A work whose data was announced and never came is in error."""
    for data, works in list(grid.awaiting.items()):
        for uid in list(works):
            work = grid.works.get(uid)
            if work is None:
                works.discard(uid)
            elif now >= work.submission.submitted_at + DATA_PATIENCE:
                conclude(grid, work, WorkEvent.FAILED, f"data {data} never arrived", now, out)
                works.discard(uid)
        if not works:
            del grid.awaiting[data]


def recall_for_free_hosts(grid: Grid, now: datetime, out: Outcome) -> None:
    """Where a host has nothing to do and another has works waiting behind long tasks, one of those
    is called back.
    """
    scheduler = grid.scheduler
    if scheduler.waiting:
        return
    free = [s for s in scheduler.hosts.values() if s.is_free and s.takes_any(now) and not s.tasks]
    if not free:
        return
    for state in scheduler.hosts.values():
        if (state.mean_duration or 0.0) < WORTH_RECALLING and state.works_done:
            continue
        if state.cores_given <= state.host.facts.cores:
            continue
        for task in reversed(list(state.tasks.values())):
            if not free:
                return
            if task.status is TaskStatus.PENDING and now - task.created_at > timedelta(seconds=1):
                out.push(state.session, m.Recall(task.uid, task.epoch))
                free.pop()
                break
