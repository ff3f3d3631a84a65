"""How many there are of what, in the grid at this moment, for all who watch it: Prometheus,
Ganglia, the monitoring table.

A look costs what is connected and what runs, not what waits: a server has 10^6 waiting works, and
is looked at four times a minute.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from desktopgrid.model.lifecycle import WorkStatus
from desktopgrid.model.objects import Facts
from desktopgrid.server.state import Grid

WITH_A_TASK = (WorkStatus.PENDING, WorkStatus.RUNNING)


class HostLook(NamedTuple):
    """A host that has a lease: what it has, is given, and said last."""

    uid: str
    facts: Facts
    is_connected: bool
    cores_given: int
    tasks: int
    load: float
    free_disk_mib: int
    silent: float
    """Seconds since it was heard."""


@dataclass(frozen=True)
class Look:
    """The grid at one moment."""

    incarnation: int
    works: dict[str, int]
    """Those that are open, by status."""
    ended: dict[str, int]
    """What `counts` of the grid holds: since the server started, or loaded its database again."""
    hosts: tuple[HostLook, ...]
    users: int
    pilots: dict[str, int]

    @property
    def connected(self) -> list[HostLook]:
        """The hosts that are connected."""
        return [host for host in self.hosts if host.is_connected]

    @property
    def cores(self) -> int:
        """Cores of the hosts that are connected."""
        return sum(host.facts.cores for host in self.connected)

    @property
    def cores_given(self) -> int:
        """Those of them that compute."""
        return sum(min(host.cores_given, host.facts.cores) for host in self.connected)


def look(grid: Grid, now: datetime) -> Look:
    """``grid`` as it is now."""
    heard_now = now + grid.policy.lease  # when the lease of a host ends that is heard now
    return Look(
        grid.incarnation,
        open_works(grid),
        dict(grid.counts),
        tuple(
            HostLook(
                state.host.uid,
                state.host.facts,
                state.is_connected,
                state.cores_given,
                len(state.tasks),
                state.load,
                state.free_disk_mib,
                (heard_now - state.lease_ends_at).total_seconds(),
            )
            for state in grid.scheduler.hosts.values()
        ),
        sum(not user.is_revoked for user in grid.users.values()),
        Counter(pilot.status.value for pilot in grid.pilots.values()),
    )


def open_works(grid: Grid) -> dict[str, int]:
    """Open works by status; those that wait are not looked at one by one."""
    found = Counter(grid.works[task.work].status for task in grid.tasks.values())
    waiting, running = grid.scheduler.waiting, sum(found[status] for status in WITH_A_TASK)
    return {
        WorkStatus.WAITING.value: waiting,
        WorkStatus.DATAREQUEST.value: max(0, len(grid.works) - waiting - running),
        **{status.value: found[status] for status in WITH_A_TASK},
    }
