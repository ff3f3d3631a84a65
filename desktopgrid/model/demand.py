"""What waits on the grid, and what there is to run it: the facts from which pilots are planned.

The server tells them in one answer (:class:`Situation`), so that all of it is of the same moment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Optional

from desktopgrid.model.lifecycle import PilotStatus

SLACK = 30.0
"""Seconds of a pilot's remaining life kept for sending results home."""
UNSAID = 300
"""Seconds of remaining life that a work gets at least whose user did not say how long it runs."""


@dataclass(frozen=True)
class Demand:
    """Works that wait and ask for the same things, of whomever. ``wall_time`` is in seconds, 0
    where nobody said.

    ``is_common``: pilots that were submitted by a site's own credential may run them.
    ``delegation`` names the credential that they carry, if it was given to who asks: pilots that
    are submitted by it may run them, too. ``refusals``: the sites whose rules forbid it, and why.
    ``fitting`` and ``unfitting`` are the sites whose hosts were seen to meet the ``requirements``
    or not; of the others nobody knows yet.
    """

    works: int
    oldest_at: datetime
    cores: int = 1
    memory_mib: int = 0
    disk_mib: int = 0
    wall_time: int = 0
    requirements: str = ""
    platforms: tuple[str, ...] = ()
    is_certified: bool = False
    is_validated: bool = False
    vo: str = ""
    is_common: bool = True
    delegation: str = ""
    refusals: Mapping[str, str] = field(default_factory=dict)
    fitting: tuple[str, ...] = ()
    unfitting: tuple[str, ...] = ()

    @property
    def life(self) -> float:
        """Seconds that a host must have left to be given one of them."""
        return (self.wall_time or UNSAID) + SLACK

    @property
    def shape(self) -> str:
        """What one of them asks for, as people say it."""
        said = [f"{self.cores} core{'' if self.cores == 1 else 's'}"]
        if self.memory_mib:
            said.append(f"{self.memory_mib} MiB of memory")
        if self.disk_mib:
            said.append(f"{self.disk_mib} MiB of disk")
        if self.wall_time:
            said.append(f"{self.wall_time} s")
        if self.requirements:
            said.append(f"a host that meets {self.requirements}")
        return ", ".join(said)


@dataclass(frozen=True)
class Supply:
    """Hosts that are alike, or pilots that wait at a site since about the same time.

    ``site`` is empty for desktop workers. Of a pilot that waits nobody knows yet what it will
    have. ``free_cores`` and ``free_memory_mib`` are each one's; ``ends_per_second`` is how many
    tasks end on all of them together, as their past has it.
    """

    site: str
    is_running: bool
    count: int
    since: datetime
    cores: int = 0
    memory_mib: int = 0
    disk_mib: int = 0
    free_cores: int = 0
    free_memory_mib: int = 0
    ends_at: Optional[datetime] = None
    ends_per_second: float = 0.0
    delegation: str = ""


@dataclass(frozen=True)
class SiteRecord:
    """A site as the server has it: its caps, and how many pilots count against each.

    ``useful_since``: when the youngest of its pilots that has done works here made contact.
    """

    name: str
    max_pilots: int
    max_idle: int
    max_an_hour: int
    max_of_vo: int = 0
    open: int = 0
    idle: int = 0
    an_hour: int = 0
    of_vo: int = 0
    useful_since: Optional[datetime] = None


@dataclass(frozen=True)
class PilotNews:
    """What happened to a pilot lately: it made contact, or it is over, or both.

    ``is_reached``: its site is known to have had it.
    """

    site: str
    status: PilotStatus
    submitted_at: datetime
    started_at: Optional[datetime] = None
    ended_at: Optional[datetime] = None
    tasks_done: int = 0
    is_reached: bool = True


@dataclass(frozen=True)
class Situation:
    """All that the server knows of demand and supply ``at`` a moment.

    ``left_off`` works wait that are not listed, because the answer would be too long; ``others``
    wait that no pilot of the asker may run. ``submitted`` and ``aborted`` count the works of this
    ``incarnation`` of the server.
    """

    at: datetime
    incarnation: int = 0
    demands: tuple[Demand, ...] = ()
    supplies: tuple[Supply, ...] = ()
    sites: Mapping[str, SiteRecord] = field(default_factory=dict)
    news: tuple[PilotNews, ...] = ()
    left_off: int = 0
    others: int = 0
    submitted: int = 0
    aborted: int = 0

    @property
    def waiting(self) -> int:
        """The works that wait for pilots of the asker."""
        return sum(demand.works for demand in self.demands) + self.left_off
