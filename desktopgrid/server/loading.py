"""The grid in memory, made from what the database has: at start, and after a commit that failed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from desktopgrid.model.lifecycle import WorkStatus
from desktopgrid.model.objects import Site, Task, Work
from desktopgrid.server.database.reading import Snapshot
from desktopgrid.server.scheduler import HostState, demand_of
from desktopgrid.server.state import Grid, Policy


def grid_from(
    snapshot: Snapshot,
    policy: Policy,
    incarnation: int,
    sites: Mapping[str, Site],
    now: datetime,
) -> Grid:
    """The grid that ``snapshot`` describes. Hosts with tasks get a lease to come back in; all
    others are not there until they say hello.
    """
    grid = Grid(policy, incarnation, sites)
    for user in snapshot.users:
        grid.put_user(user)
    grid.user_groups = {group.uid: group for group in snapshot.user_groups}
    grid.credentials = {credential.uid: credential for credential in snapshot.credentials}
    for data in snapshot.datas:
        grid.put_data(data)
    for application in snapshot.applications:
        grid.put_application(application)
    for bag in snapshot.bags:
        grid.put_bag(bag)
    grid.bridges = {bridge.user: bridge for bridge in snapshot.bridges}
    grid.offers = {offer.uid: offer for offer in snapshot.offers}
    grid.delegations.update((each.uid, each) for each in snapshot.delegations)
    grid.pilots = {pilot.stamp: pilot for pilot in snapshot.pilots}
    grid.known_hosts = {host.uid: host for host in snapshot.hosts}
    grid.next_number = snapshot.next_number
    grid.accounts, grid.next_account = snapshot.accounts, snapshot.next_account
    grid.accounts_of.update(account.user for account in grid.accounts)
    for work in snapshot.works:
        _put(grid, work, snapshot.totals, now)
    return grid


def _put(grid: Grid, work: Work, totals: Mapping[str, int], now: datetime) -> None:
    submission = work.submission
    grid.works[work.uid] = work
    total = totals.get(submission.uid, 1)
    batch = grid.put_batch(submission, total, is_single=work.uid == submission.uid)
    batch.open += 1
    if work.task is not None:
        _put_task(grid, work, work.task, now)
    elif work.status is WorkStatus.DATAREQUEST:
        for uid in submission.description.datas:
            if not grid.datas[uid].is_available:
                grid.awaiting.setdefault(uid, set()).add(work.uid)
    else:
        grid.scheduler.add(work, grid.users[submission.owner], now)


def _put_task(grid: Grid, work: Work, task: Task, now: datetime) -> None:
    grid.tasks[task.uid] = task
    submission = work.submission
    hosts = grid.scheduler.hosts
    if task.host not in hosts:
        host = grid.known_hosts[task.host]
        who = grid.who(grid.users[host.owner])
        hosts[task.host] = HostState(host, who, None, now + grid.policy.lease)
    hosts[task.host].give(task, demand_of(submission.description, submission.rights))
    share = grid.scheduler.share(submission.owner, now)
    share.start(submission.description.cores, task.created_at)
