"""Booking tasks that are over: under which account, how much, and for which cause if they led to
nothing.

Workers lie, and clocks jump: what a worker says of a task's time is bounded by what the server saw
of it, and what was not believable is marked. Pure but for the grid in memory.
"""

from __future__ import annotations

from datetime import datetime

from desktopgrid.model.accounting import NOT_WAITED, Account, Cause, bucket_of, day_of
from desktopgrid.model.lifecycle import TaskEvent
from desktopgrid.model.objects import Host, Pilot, Submission, Task, Work
from desktopgrid.server import changes as c
from desktopgrid.server.state import MOST_INTEGER, Grid, Outcome

ALLOWANCE = 60.0
"""Seconds that a worker may count more than the server, whose clock is set now and then."""
MOST_ACCOUNTS = 5_000
"""Accounts of a user; what would be more is booked as OTHERS."""
OTHERS = "*"
"""The route of what is booked together, since its user has too many accounts."""
TICKS = 1.0
"""Seconds of CPU time that the kernel's way of counting may make of nothing."""
Reported = tuple[float, float, float, int]
NOTHING: Reported = (0.0, 0.0, 0.0, 0)


Booked = tuple[Reported, int | None, str | None, bool]
"""What of a task stands in the books: its use, its account, the cause for which nothing came of it,
and whether its worker said what cannot be. Without an account it used no core.
"""
UNUSED: Booked = (NOTHING, None, None, False)


def book(
    grid: Grid,
    task: Task,
    work: Work,
    cause: Cause,
    reported: Reported | None,
    now: datetime,
    out: Outcome,
) -> Booked:
    """Book ``task``, which is over; ``reported`` is its worker's word, None: there is none."""
    started_at = task.started_at
    host = grid.known_hosts[task.host]
    if reported is not None:
        usage = believed(reported, (now - task.created_at).total_seconds(), host.facts.cores)
    elif started_at is not None:
        usage = (max(0.0, (now - started_at).total_seconds()), 0.0, 0.0, 0)
    else:
        return UNUSED
    is_doubtful = reported is not None and usage is not reported
    submission = work.submission
    bucket = NOT_WAITED
    if work.attempts == 1:
        began_at = started_at or task.created_at
        bucket = bucket_of((began_at - submission.submitted_at).total_seconds())
    number = account_of(grid, submission, host, out)
    core_time = usage[0] * submission.description.cores
    cpu_time = usage[1] + usage[2]
    day, word, bad = day_of(now), cause.value, int(is_doubtful)
    out.changes.append(c.UsageAdded(day, number, word, bucket, 1, core_time, cpu_time, bad))
    if host.pilot is not None:
        out.changes.append(c.PilotUsed(host.pilot, core_time))
    return usage, number, word, is_doubtful


def believed(said: Reported, seen: float, cores: int) -> Reported:
    """What of a worker's word can be true of a task that the server saw for ``seen`` seconds, on a
    host with so many cores: the word itself where all of it can.
    """
    wall, user, system, memory = said
    if (
        0.0 <= wall <= seen + ALLOWANCE
        and user >= 0.0
        and system >= 0.0
        and user + system <= wall * cores + TICKS
        and 0 <= memory <= MOST_INTEGER
    ):
        return said
    # A comparison with what is no number is false.
    wall = wall if wall >= 0.0 else 0.0
    user = user if user >= 0.0 else 0.0
    system = system if system >= 0.0 else 0.0
    if wall > max(0.0, seen) + ALLOWANCE:
        wall = max(0.0, seen)
    most = wall * cores + TICKS
    if user + system > most:
        user = min(user, most)
        system = min(system, most - user)
    return wall, user, system, max(0, min(memory, MOST_INTEGER))


def account_of(grid: Grid, submission: Submission, host: Host, out: Outcome) -> int:
    """The number of the account of what ``host`` does for the works of ``submission``."""
    description = submission.description
    owner = submission.owner
    pilot = grid.pilots.get(host.pilot) if host.pilot is not None else None
    # Looked up for every task: a plain tuple is as good as an account, and quicker made.
    account = (
        owner,
        grid.users[owner].group,
        submission.vo,
        "" if pilot is None else pilot.site,
        description.origin.partition("/")[0],
        description.application,
        host.facts.kind,
        description.cores,
    )
    return grid.accounts.get(account) or _number(grid, Account(*account), out)  # type: ignore[call-overload]


def account_of_pilot(grid: Grid, pilot: Pilot, host: Host, out: Outcome) -> int:
    """The number of the account of the cores of ``pilot`` that have no task."""
    group = grid.owner_group(pilot.owner)
    site = grid.sites.get(pilot.site)  # its file may have been removed meanwhile
    vo = site.vo if site is not None else ""
    facts = host.facts
    account = Account(pilot.owner, group, vo, pilot.site, "", None, facts.kind, facts.cores)
    return _number(grid, account, out)


def _number(grid: Grid, account: Account, out: Outcome) -> int:
    if account not in grid.accounts and grid.accounts_of[account.user] >= MOST_ACCOUNTS:
        # Sites, kinds and cores are the administrator's; all else a user may think of without end.
        account = account._replace(vo="", route=OTHERS, application=None)
    number = grid.accounts.get(account)
    if number is None:
        grid.accounts_of[account.user] += 1
        number = grid.next_account
        grid.next_account += 1
        grid.accounts[account] = number
        out.changes.append(c.AccountInserted(number, *account))
    return number


CAUSES = {
    TaskEvent.COMPLETED: Cause.NONE,
    TaskEvent.FAILED: Cause.FAILED,
    TaskEvent.ABORTED: Cause.RETURNED,
    TaskEvent.LOST: Cause.LOST,
}
"""The cause that an event tells of, unless more is known."""
