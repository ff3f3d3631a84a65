"""What each message of a worker leads to: one function a message, (grid, host, message, now) ->
changes and pushes in an Outcome.

Pure but for the grid in memory: nothing is sent or written here. The journal makes the changes
durable, and only then are the pushes said. Requests of clients are in requests.py; what time alone
brings about is in upkeep.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import msgspec

from desktopgrid.model.errors import AccessDenied, BadRequest, LocalProtocolError
from desktopgrid.model.lifecycle import (
    FINAL_PILOTS,
    PILOTS,
    TASKS,
    WORKS,
    PilotEvent,
    TaskEvent,
    TaskStatus,
    WorkEvent,
    WorkStatus,
    after,
)
from desktopgrid.model.objects import Data, Facts, Host, HostKind, Pilot, Task, Work
from desktopgrid.model.rights import Who
from desktopgrid.server import changes as c
from desktopgrid.server.scheduler import HostState, demand_of, executable_for
from desktopgrid.server.state import (
    Batch,
    Grid,
    Outcome,
    bounded,
    clean,
    host_row,
    pilot_row,
    timestamp,
    work_row,
)
from desktopgrid.wire import messages as m

MOST_MIB = 1 << 40
"""Memory or disk that a host may say it has: 2^60 bytes."""

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
    )


def _file(name: str, data: Data) -> m.File:
    return m.File(name, data.uid, data.sha256, data.size)


# --- the end of a task ----------------------------------------------------------------------------


def end_task(
    grid: Grid,
    task: Task,
    event: TaskEvent,
    reason: str,
    now: datetime,
    out: Outcome,
    finished: m.Finished | None = None,
) -> Work:
    """``task`` is over: its row is written and its host has room again. What becomes of its work is
    the caller's business.
    """
    task.status = after(TASKS, task.status, event)
    work = grid.works[task.work]
    grid.release(task, now)
    done = finished or m.Finished(task.uid, task.epoch, reason=reason)
    wall, user, system = (min(max(0.0, seconds), 1e12) for seconds in done.usage[:3])
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
            wall,
            user,
            system,
            bounded(done.usage[3]),
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


# --- what workers say -----------------------------------------------------------------------------


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
    settle(grid, state, task, said, now, out)
    fill(grid, state, now, out)


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
    work = end_task(grid, task, TaskEvent.FAILED, said.reason, now, out, said)
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


SITE_KINDS = {
    "condor": HostKind.HTCONDOR,
    "local": HostKind.LOCAL,
    "arc": HostKind.ARC,
    "gram": HostKind.GRAM,
    "slurm": HostKind.SLURM,
}
"""What a host is called that came through such a computing element; `local` through any other."""

# --- hosts come and go ----------------------------------------------------------------------------


def host_arrived(
    grid: Grid, who: Who, hello: m.Hello, resumed: bool, now: datetime, out: Outcome
) -> HostState:
    """A worker said hello: its host is known, its lease runs, and what it holds agrees with what we
    believe.
    """
    host = _host_of(grid, who, hello, now)
    grid.known_hosts[host.uid] = host
    scheduler = grid.scheduler
    scheduler.forget_verdicts(host.uid)
    state = scheduler.hosts.get(host.uid)
    lease_ends_at = now + grid.policy.lease
    if state is None:
        # Given up as lost, it may be, while its session was kept: what it holds is not its any
        # more.
        resumed = False
        state = scheduler.hosts[host.uid] = HostState(host, who, hello.session, lease_ends_at)
    elif state.session != hello.session and state.is_connected and state.session is not None:
        out.closing.append((state.session, "replaced", "another session of this host was opened"))
    state.host, state.who, state.session = host, who, hello.session
    state.lease_ends_at, state.is_connected = lease_ends_at, True
    if not resumed:
        state.is_draining = False
        state.is_told_to_go = False
    state.matches.clear()
    out.changes.append(host_row(host))
    if host.pilot is not None:
        _pilot_arrived(grid, grid.pilots[host.pilot], host, out)
    if not resumed:
        _reconcile(grid, state, hello.held, now, out)
    fill(grid, state, now, out)
    return state


def _reconcile(
    grid: Grid, state: HostState, held: tuple[m.Held, ...], now: datetime, out: Outcome
) -> None:
    """Agree with a worker whose session is new on what it has."""
    holds = {(h.task, h.epoch) for h in held}
    for task in list(state.tasks.values()):
        if (task.uid, task.epoch) not in holds:
            lose(grid, task, TaskEvent.LOST, "its worker does not have it any more", now, out)
    for task_uid, epoch in holds:
        known = state.tasks.get(task_uid)
        if known is None or known.epoch != epoch:
            out.push(state.session, m.Abandon(task_uid, epoch, "the server does not know it"))
    offer(grid, now, out)


def host_left(
    grid: Grid, state: HostState, event: TaskEvent, reason: str, now: datetime, out: Outcome
) -> None:
    """A host is gone: its works wait again."""
    state.is_connected = False
    state.session = None
    for task in list(state.tasks.values()):
        lose(grid, task, event, reason, now, out)
    del grid.scheduler.hosts[state.host.uid]
    grid.scheduler.forget_verdicts(state.host.uid)
    stamp = state.host.pilot
    if stamp is not None and stamp in grid.pilots:
        end_pilot(
            grid, grid.pilots[stamp], _end_of(state, event), reason, now, out, state.works_done
        )
    offer(grid, now, out)


def _end_of(state: HostState, event: TaskEvent) -> PilotEvent:
    """How the pilot of a host that left has ended: by itself, or whose doing it was."""
    if event is TaskEvent.LOST:
        return PilotEvent.FAILED
    if state.is_taken_back:
        return PilotEvent.DELETED
    return PilotEvent.ABORTED if state.is_told_to_go else PilotEvent.ENDED


def end_pilot(
    grid: Grid,
    pilot: Pilot,
    event: PilotEvent,
    reason: str,
    now: datetime,
    out: Outcome,
    tasks_done: int = 0,
) -> None:
    """``pilot`` is over; one that is over already stays as it was."""
    if pilot.status in FINAL_PILOTS:
        return
    status = after(PILOTS, pilot.status, event)
    pilot = replace(
        pilot,
        status=status,
        reason=clean(reason),
        tasks_done=pilot.tasks_done + tasks_done,
        ended_at=now,
    )
    grid.pilots[pilot.stamp] = pilot
    out.changes.append(pilot_row(pilot, now))


def _pilot_arrived(grid: Grid, pilot: Pilot, host: Host, out: Outcome) -> None:
    if pilot.status.value != "Running":
        pilot = replace(pilot, status=after(PILOTS, pilot.status, PilotEvent.STARTED))
    pilot = replace(pilot, host=host.uid)
    grid.pilots[pilot.stamp] = pilot
    out.changes.append(pilot_row(pilot))


def _host_of(grid: Grid, who: Who, hello: m.Hello, now: datetime) -> Host:
    """The host as the worker describes it, within bounds; raises BadRequest."""
    if hello.host is None or hello.facts is None:
        raise BadRequest("a worker's hello names its host and its facts")
    check_uid(hello.host)
    try:
        facts = msgspec.convert(hello.facts, Facts)
    except msgspec.ValidationError as error:
        raise BadRequest(f"the facts of host {hello.host}: {error}") from None
    if not facts.name or any(clean(text, 255) != text for text in _texts(facts)):
        raise BadRequest(f"the facts of host {hello.host}: a name or word is not believable")
    sizes = (facts.memory_mib, facts.disk_mib)
    if not 1 <= facts.cores <= 65_536 or not all(0 <= size <= MOST_MIB for size in sizes):
        raise BadRequest(
            f"the facts of host {hello.host}: {facts.cores} cores, {facts.memory_mib} MiB of memory"
            f" and {facts.disk_mib} MiB of disk are not believable"
        )
    pilot = grid.pilots.get(hello.identity) if hello.kind == "pilot" else None
    if pilot is not None:
        site = grid.sites.get(pilot.site)  # its file may have been removed meanwhile
        door = site.computing_element if site is not None else ""
        facts = replace(facts, kind=SITE_KINDS.get(door, HostKind.LOCAL).value)
    elif facts.kind != HostKind.DESKTOP.value:
        facts = replace(facts, kind=HostKind.DESKTOP.value)
    known = grid.known_hosts.get(hello.host)
    if known is not None and known.owner != who.user:
        raise AccessDenied(f"host {hello.host} belongs to another user")
    ends_at = None
    if hello.lifetime is not None:
        ends_at = now + timedelta(seconds=max(0, min(hello.lifetime, 10**9)))
    first = known.first_seen_at if known is not None else now
    stamp = pilot.stamp if pilot is not None else None
    return Host(hello.host, who.user, facts, first, now, ends_at, stamp)


def _texts(facts: Facts) -> tuple[str, ...]:
    return (facts.name, facts.cpu, facts.os, facts.address, facts.version)


def check_uid(uid: str) -> str:
    """``uid`` if it has the form of one; raises BadRequest."""
    if not 0 < len(uid) <= 64 or not all(
        ch.isascii() and (ch.isalnum() or ch == "-") for ch in uid
    ):
        raise BadRequest(f"{uid[:80]!r} is no UID: 1 to 64 letters, digits and hyphens")
    return uid


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
