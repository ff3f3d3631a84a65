"""Why a work or a pilot is where it is, in sentences (`xw why UID`)."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from desktopgrid.model.demand import UNSAID
from desktopgrid.model.errors import UnknownObject
from desktopgrid.model.lifecycle import FINAL_PILOTS, WorkStatus
from desktopgrid.model.objects import Pilot, Work
from desktopgrid.model.rights import READ, Who, grants, may_see_pilot
from desktopgrid.server.demand import why_site
from desktopgrid.server.scheduler import HostState, demand_of
from desktopgrid.server.state import Grid


def why(grid: Grid, who: Who, uid: str, now: datetime) -> list[str]:
    """Sentences on the open work, submission, pilot or site ``uid``; none if memory does not have
    it: the database may.
    """
    if uid in grid.sites:
        return why_site(grid, uid, now)
    if uid in grid.pilots:
        return _why_pilot(grid, who, grid.pilots[uid], now)
    batch = grid.batches.get(uid)
    if batch is not None and uid not in grid.works:
        open_ = [grid.works[name] for name in batch.names() if name in grid.works]
        statuses = Counter(work.status.value for work in open_)
        counts = ", ".join(f"{n} {status}" for status, n in sorted(statuses.items()))
        first = _why_work(grid, who, open_[0], now)
        return [
            f"Of {batch.total} works {len(open_)} are open: {counts}.",
            f"Of {open_[0].uid}:",
            *first,
        ]
    work = grid.works.get(uid)
    return _why_work(grid, who, work, now) if work is not None else []


def _why_work(grid: Grid, who: Who, work: Work, now: datetime) -> list[str]:
    submission = work.submission
    group = grid.owner_group(submission.owner)
    if not grants(who, READ, submission.owner, group, submission.rights):
        raise UnknownObject.named("work", work.uid)
    said = []
    if work.reason:
        said.append(f"Its last task {work.reason}.")
    if work.attempts > 1:
        said.append(f"It has had {work.attempts} tasks, {work.failures} of which failed.")
    if work.status is WorkStatus.DATAREQUEST:
        missing = sorted(data for data, works in grid.awaiting.items() if work.uid in works)
        return [*said, f"It waits for its data to arrive on the server: {', '.join(missing)}."]
    task = work.task
    if task is not None:
        state = grid.host_of(task)
        where = state.host.facts.name if state is not None else task.host
        if work.status is WorkStatus.RUNNING:
            return [*said, f"It runs on {where}, as task {task.uid}, since {task.started_at}."]
        silent = (
            "" if state is not None and state.is_connected else " That host is silent at present."
        )
        return [
            *said,
            f"Host {where} has it (task {task.uid}) and starts it when a slot is free.{silent}",
        ]
    return [*said, *_why_waiting(grid, work, now)]


def _why_waiting(grid: Grid, work: Work, now: datetime) -> list[str]:
    scheduler = grid.scheduler
    submission = work.submission
    owner = grid.users[submission.owner]
    demand = demand_of(submission.description, submission.rights)
    credential = _why_no_credential(grid, work, now)
    if not scheduler.hosts:
        return [*credential, "No worker is connected."]
    reasons: Counter[str] = Counter()
    able = busy = 0
    for state in scheduler.hosts.values():
        obstacles = list(scheduler.obstacles(owner, demand, state))
        if not obstacles:
            obstacles = _momentary(state, demand.wall_time, now)
        if obstacles:
            reasons[obstacles[0]] += 1
        else:
            able += 1
            busy += not state.is_free
    said = credential + [
        f"{n} of {len(scheduler.hosts)} hosts cannot take it: {text}."
        for text, n in reasons.most_common()
    ]
    if not able:
        return [*said, "No connected host can run it now."]
    share = scheduler.share(owner.uid, now)
    ahead = sum(queue.waiting for queue in share.queues.values()) - 1
    others = sum(1 for other in scheduler.shares.values() if other is not share and other.queues)
    said.append(f"{able} hosts can run it, {busy} of them busy.")
    said.append(
        f"{ahead} other works of {owner.login} wait; {others} other users have works waiting."
    )
    return said


def _why_no_credential(grid: Grid, work: Work, now: datetime) -> list[str]:
    """What is wrong with the credential that a work carries, if anything is."""
    found = grid.delegations.get(work.submission.description.delegation or "")
    if found is None or found.is_usable(now):
        return []
    because = f": {found.reason}" if found.reason else ""
    return [
        f"The credential that it carries ({found.uid}) is {found.status.value}{because};"
        " no site that wants one runs it."
    ]


def _momentary(state: HostState, wall_time: int, now: datetime) -> list[str]:
    if not state.is_connected:
        return ["it is silent at present"]
    if state.is_draining:
        return ["it takes no more works (draining)"]
    if state.paused_until is not None and now < state.paused_until:
        return [f"it failed everything quickly and is paused until {state.paused_until:%H:%M:%S}"]
    if (wall_time or UNSAID) > state.remaining(now):
        return ["its batch job ends too soon"]
    return []


def _why_pilot(grid: Grid, who: Who, pilot: Pilot, now: datetime) -> list[str]:
    if not may_see_pilot(who, pilot.owner):
        raise UnknownObject.named("pilot", pilot.stamp)
    said = [
        f"Pilot {pilot.stamp} at site {pilot.site} is {pilot.status.value}"
        + (
            f" as {pilot.reference}."
            if pilot.reference
            else ", and no reference of the site is known."
        )
    ]
    if pilot.reason:
        said.append(f"{pilot.reason}.")
    if pilot.status in FINAL_PILOTS:
        said.append(f"It did {pilot.tasks_done} tasks.")
        return said
    state = grid.scheduler.hosts.get(pilot.host) if pilot.host is not None else None
    if state is not None:
        said.append(
            f"Its worker is host {state.host.uid} ({state.host.facts.name})"
            f" with {len(state.tasks)} tasks, {state.works_done} done;"
            f" it is lost if not heard of before {state.lease_ends_at:%H:%M:%S}."
        )
    elif pilot.session_verifier:
        said.append("Its worker made contact and is gone.")
    else:
        said.append(
            "Its worker has not made contact;"
            f" it is given up at {pilot.deadline_at:%Y-%m-%d %H:%M:%S}."
        )
    return said
