"""Hosts come and go, and pilots with them: what a worker's hello, its end or its silence leads to.

Pure but for the grid in memory: changes and pushes go into the Outcome.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import msgspec

from desktopgrid.model.errors import AccessDenied, BadRequest
from desktopgrid.model.lifecycle import FINAL_PILOTS, PILOTS, PilotEvent, TaskEvent, after
from desktopgrid.model.objects import Facts, Host, HostKind, Pilot
from desktopgrid.model.rights import Who
from desktopgrid.server.bookkeeping import account_of_pilot
from desktopgrid.server.scheduler import HostState
from desktopgrid.server.state import Grid, Outcome, check_uid, clean, host_row, pilot_row
from desktopgrid.server.tasks import fill, lose, offer
from desktopgrid.wire import messages as m

MOST_MIB = 1 << 40
"""Memory or disk that a host may say it has: 2^60 bytes."""
SITE_KINDS = {
    "condor": HostKind.HTCONDOR,
    "local": HostKind.LOCAL,
    "arc": HostKind.ARC,
    "gram": HostKind.GRAM,
    "slurm": HostKind.SLURM,
}
"""What a host is called that came through such a computing element; `local` through any other."""


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
    state.credential = hello.identity
    pilot = grid.pilots.get(host.pilot) if host.pilot is not None else None
    state.site = pilot.site if pilot is not None else ""
    state.rules = grid.sites.get(state.site)
    state.delegation = pilot.delegation if pilot is not None else None
    if not resumed:
        state.is_draining = False
        state.is_told_to_go = False
    state.matches.clear()
    out.changes.append(host_row(host))
    if host.pilot is not None:
        _pilot_arrived(grid, grid.pilots[host.pilot], host, now, out)
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


def lose_hosts(
    grid: Grid,
    is_meant: Callable[[HostState], bool],
    reason: str,
    now: datetime,
    out: Outcome,
) -> None:
    """The grid will have no more to do with these hosts: their sessions end, others get their
    works.
    """
    for state in [state for state in grid.scheduler.hosts.values() if is_meant(state)]:
        if state.session is not None:
            out.closing.append((state.session, "not-authenticated", reason))
        host_left(grid, state, TaskEvent.LOST, reason, now, out)
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


def _pilot_arrived(grid: Grid, pilot: Pilot, host: Host, now: datetime, out: Outcome) -> None:
    if pilot.status.value != "Running":
        pilot = replace(pilot, status=after(PILOTS, pilot.status, PilotEvent.STARTED))
    pilot = replace(
        pilot,
        host=host.uid,
        started_at=pilot.started_at or now,
        cores=host.facts.cores,
        account=account_of_pilot(grid, pilot, host, out),
    )
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
