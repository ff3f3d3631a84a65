"""Which work for this host. Pure, in memory; time is an argument.

Works that ask for the same things form one queue for each owner (an *autocluster*), so a match
costs the number of distinct demands that wait, not of works. Among the queues that fit a host the
owner who has had least comes first (fair share), then the higher priority, then the older work.

A host is given what fits its cores and memory, and about :data:`AHEAD` of work more, at least one
task a core, so that it never waits for a round trip (docs/decisions/0002-ahead-by-time.md).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from desktopgrid.model.demand import SLACK, UNSAID
from desktopgrid.model.errors import LocalProtocolError
from desktopgrid.model.lifecycle import WorkStatus
from desktopgrid.model.objects import (
    ANY_PLATFORM,
    Application,
    Delegation,
    Description,
    Host,
    Platform,
    Site,
    Task,
    User,
    Work,
)
from desktopgrid.model.origins import places_of
from desktopgrid.model.rights import Who, may_run
from desktopgrid.server import siterules

AHEAD = 0.1
"""Seconds of work that a host has waiting a core, so that a finished task is followed by the next
at once.
"""
MOST_AHEAD = 64
"""Tasks waiting a core at most, however short they are."""
HALF_LIFE = timedelta(days=1)
"""After which past use counts half in the fair share."""
LEAST_CHARGE = 1.0
"""Core seconds that a task in flight counts for at least, so that users with short tasks take
turns.
"""
FAILURES_TO_PAUSE = 3
"""Tasks in a row that fail for the host's sake before it is paused."""
SUSPICIONS_TO_PAUSE = 8
"""Tasks in a row, of at least two submissions, that end badly within QUICK before it is paused."""
MOST_REMEMBERED = 10_000
"""Requirements of which the scheduler knows whether hosts of a site met them."""
QUICK = 5.0
LEADS_TO = "LeadsTo"
"""The attribute by which a host that is a bridge names the places behind it."""
FIRST_PAUSE = timedelta(minutes=1)
LONGEST_PAUSE = timedelta(hours=1)


class Demand(NamedTuple):
    """What works ask for as far as a match is concerned: works with equal ones are one queue."""

    application: str
    rights: int
    cores: int
    memory_mib: int
    disk_mib: int
    wall_time: int
    requirements: str
    expected_host: str | None
    passed: tuple[str, ...] = ()
    """Places where they were, and are not sent back to."""
    delegation: str | None = None


def demand_of(description: Description, rights: int) -> Demand:
    """What a work of this description asks of a host."""
    return Demand(
        description.application,
        rights,
        description.cores,
        description.memory_mib,
        description.disk_mib,
        description.wall_time,
        description.requirements,
        description.expected_host,
        places_of(description.origin) if description.origin else (),
        description.delegation,
    )


class Queue:
    """The waiting works of one owner with one demand, by priority and then in order of arrival."""

    __slots__ = ("_by_priority", "demand", "owner", "waiting")

    def __init__(self, owner: User, demand: Demand) -> None:
        self.owner, self.demand = owner, demand
        self._by_priority: dict[int, deque[Work]] = {}
        self.waiting = 0

    def __repr__(self) -> str:
        return f"<Queue of {self.owner.login}: {self.waiting} works of {self.demand.application}>"

    def add(self, work: Work) -> None:
        """``work`` waits, behind those of its priority."""
        priority = work.submission.description.priority
        if priority not in self._by_priority:
            self._by_priority[priority] = deque()
            self._by_priority = dict(sorted(self._by_priority.items(), reverse=True))
        self._by_priority[priority].append(work)
        self.waiting += 1

    def put_back(self, work: Work) -> None:
        """``work`` waits again, before those of its priority: it is older than they are."""
        self.add(work)
        works = self._by_priority[work.submission.description.priority]
        works.rotate(1)

    def forget(self) -> None:
        """One of the works was aborted; it is dropped when it comes to the front."""
        self.waiting -= 1

    def head(self) -> Work | None:
        """The work that is next, which stays."""
        for priority, works in list(self._by_priority.items()):
            first = self._first(works)
            if first is not None:
                return first
            del self._by_priority[priority]
        return None

    def oldest_at(self) -> datetime | None:
        """Since when the first of them waits."""
        firsts = (self._first(works) for works in self._by_priority.values())
        return min((w.submission.submitted_at for w in firsts if w is not None), default=None)

    def _first(self, works: deque[Work]) -> Work | None:
        while works and works[0].status is not WorkStatus.WAITING:
            works.popleft()
        return works[0] if works else None

    def take(self) -> Work:
        """The work that is next, which leaves the queue."""
        work = self.head()
        if work is None:
            raise LocalProtocolError("take() follows a head() that found a work")
        self._by_priority[work.submission.description.priority].popleft()
        self.waiting -= 1
        return work


class Share:
    """What one owner has had: core seconds, halved every HALF_LIFE, and what runs now."""

    __slots__ = ("_at", "_cores", "_past", "_starts", "in_flight", "queues")

    def __init__(self, now: datetime) -> None:
        self._past, self._at = 0.0, now
        self._cores, self._starts = 0, 0.0
        self.in_flight = 0
        self.queues: dict[Demand, Queue] = {}

    def used(self, now: datetime) -> float:
        """Core seconds had by ``now``, those of running tasks included."""
        running = self._cores * now.timestamp() - self._starts
        return self._past * self._fading(now) + running + LEAST_CHARGE * self.in_flight

    def start(self, cores: int, now: datetime) -> None:
        """A task of so many cores is given to a host."""
        self._cores += cores
        self._starts += cores * now.timestamp()
        self.in_flight += 1

    def end(self, cores: int, since: datetime, now: datetime) -> None:
        """A task given at ``since`` is over."""
        self._cores -= cores
        self._starts -= cores * since.timestamp()
        self.in_flight -= 1
        spent = cores * max(0.0, (now - since).total_seconds())
        self._past, self._at = self._past * self._fading(now) + spent, now

    def _fading(self, now: datetime) -> float:
        return math.exp2(-max(0.0, (now - self._at) / HALF_LIFE))


class HostState:
    """A host that is connected, or just was: what it can take, what it has, how it behaved."""

    __slots__ = (
        "_suspects",
        "cores_given",
        "credential",
        "delegation",
        "failures",
        "free_disk_mib",
        "host",
        "is_connected",
        "is_draining",
        "is_taken_back",
        "is_told_to_go",
        "lease_ends_at",
        "load",
        "matches",
        "mean_duration",
        "memory_given",
        "pause",
        "paused_until",
        "rules",
        "session",
        "site",
        "suspicions",
        "tasks",
        "who",
        "works_done",
    )

    def __init__(self, host: Host, who: Who, session: str | None, lease_ends_at: datetime) -> None:
        self.host, self.who, self.session, self.lease_ends_at = host, who, session, lease_ends_at
        self.site = ""
        """Where it runs as a pilot; empty for a desktop's."""
        self.rules: Site | None = None
        """What that site demands of the works that it gets."""
        self.delegation: str | None = None
        """The user's credential by which its pilot was submitted."""
        self.credential = ""
        """The token, or the stamp, by which its worker said hello."""
        self.tasks: dict[str, Task] = {}
        self.cores_given = 0
        self.memory_given = 0
        self.mean_duration: float | None = None
        self.is_connected = session is not None
        self.is_draining = False
        self.is_taken_back = False
        self.is_told_to_go = False
        self.matches: dict[tuple[str, Demand], bool] = {}
        self.failures = 0
        self.suspicions = 0
        self._suspects: set[str] = set()
        self.pause = FIRST_PAUSE
        self.paused_until: datetime | None = None
        self.works_done = 0
        self.load, self.free_disk_mib = 0.0, host.facts.disk_mib
        """What its worker said last of them."""

    def __repr__(self) -> str:
        facts = self.host.facts
        given = f"{self.cores_given} of {facts.cores} cores given"
        return f"<Host {facts.name} ({facts.kind}): {given}, {len(self.tasks)} tasks>"

    @property
    def depth(self) -> int:
        """Tasks a core that may wait on the host, by how short its tasks have been."""
        if self.mean_duration is None:
            return 1
        return max(1, min(MOST_AHEAD, math.ceil(AHEAD / max(self.mean_duration, 1e-6))))

    @property
    def is_free(self) -> bool:
        """Whether a core has nothing to do."""
        return self.cores_given < self.host.facts.cores

    def takes_any(self, now: datetime) -> bool:
        """Whether the host takes tasks at all now."""
        if not self.is_connected or self.is_draining:
            return False
        return self.paused_until is None or now >= self.paused_until

    def has_room(self, ahead: bool) -> bool:
        """Whether a further core may be given, on top of what runs if ``ahead``."""
        facts = self.host.facts
        if self.paused_until is not None and self.tasks:
            return False  # after a pause one task must show that the host is well again
        return self.cores_given < facts.cores * (1 + (self.depth if ahead else 0))

    def remaining(self, now: datetime) -> float:
        """Seconds of life that a new task may count on."""
        if self.host.ends_at is None:
            return math.inf
        return (self.host.ends_at - now).total_seconds() - SLACK

    def give(self, task: Task, demand: Demand) -> None:
        """Record that the host has ``task``."""
        self.tasks[task.uid] = task
        self.cores_given += demand.cores
        self.memory_given += demand.memory_mib

    def take_back(self, task: Task, demand: Demand) -> None:
        """Record that the host has ``task`` no more."""
        del self.tasks[task.uid]
        self.cores_given -= demand.cores
        self.memory_given -= demand.memory_mib

    def ended_well(self, duration: float) -> None:
        """A task ended as it should: the host is trusted again."""
        mean = self.mean_duration
        self.mean_duration = duration if mean is None else 0.8 * mean + 0.2 * duration
        self.works_done += 1
        self.failures = self.suspicions = 0
        self._suspects.clear()
        self.pause, self.paused_until = FIRST_PAUSE, None

    def ended_badly(
        self, submission: str, duration: float, is_hosts_fault: bool, now: datetime
    ) -> bool:
        """A task failed, or ended with an error; True if the host is paused for it (a black hole,
        it may be).
        """
        if is_hosts_fault:
            self.failures += 1
        elif duration < QUICK:
            # One broken submission must not pause every host that tries it: two different ones must
            # fail here.
            self.suspicions += 1
            self._suspects.add(submission)
        is_black = self.failures >= FAILURES_TO_PAUSE or (
            self.suspicions >= SUSPICIONS_TO_PAUSE and len(self._suspects) > 1
        )
        if is_black or self.paused_until is not None:
            self.paused_until = now + self.pause
            self.pause = min(self.pause * 2, LONGEST_PAUSE)
        return is_black


class Scheduler:
    """The waiting works and the hosts that could take them."""

    def __init__(
        self,
        applications: Mapping[str, Application],
        delegations: Mapping[str, Delegation] | None = None,
    ) -> None:
        self.applications = applications
        self.delegations = delegations if delegations is not None else {}
        self.hosts: dict[str, HostState] = {}
        self.shares: dict[str, Share] = {}
        self.verdicts: dict[tuple[str, str], bool] = {}
        """(requirements, host): what the matcher said."""
        self.unjudged: set[tuple[str, str]] = set()
        """(requirements, host) that stood in the way of a match: the matcher is to be asked."""
        self.suitability: dict[tuple[str, str], tuple[int, int]] = {}
        """(requirements, site): how many of its hosts met them so far, and how many did not."""
        self.waiting = 0

    # --- works ------------------------------------------------------------------------------------

    def add(self, work: Work, owner: User, now: datetime, again: bool = False) -> Queue:
        """``work`` waits for a host; ``again``: it comes back from one, to the front."""
        share = self.share(owner.uid, now)
        submission = work.submission
        demand = demand_of(submission.description, submission.rights)
        queue = share.queues.get(demand)
        if queue is None:
            queue = share.queues[demand] = Queue(owner, demand)
        (queue.put_back if again else queue.add)(work)
        self.waiting += 1
        return queue

    def add_many(self, works: list[Work], owner: User, now: datetime) -> Queue:
        """Works of one submission wait for hosts."""
        queue = self.add(works[0], owner, now)
        for work in works[1:]:
            queue.add(work)
        self.waiting += len(works) - 1
        return queue

    def forget(self, work: Work, owner: User, now: datetime) -> None:
        """A waiting ``work`` is aborted. Call it before its status says so is not needed: it is
        dropped lazily.
        """
        demand = demand_of(work.submission.description, work.submission.rights)
        self.share(owner.uid, now).queues[demand].forget()
        self.waiting -= 1

    def share(self, owner: str, now: datetime) -> Share:
        """What ``owner`` has had."""
        if owner not in self.shares:
            self.shares[owner] = Share(now)
        return self.shares[owner]

    # --- matching ---------------------------------------------------------------------------------

    def fill(self, state: HostState, now: datetime, ahead: bool = True) -> Iterator[Work]:
        """The works for ``state``, one after the other while there is room; the caller gives each
        before it asks for the next.
        """
        while state.takes_any(now) and state.has_room(ahead):
            queue = self._best_queue(state, now)
            if queue is None:
                return
            self.waiting -= 1
            yield queue.take()

    def hosts_with_room(self, now: datetime) -> Iterator[tuple[HostState, bool]]:
        """The hosts to offer new works to: those with a free core, then (True) those that may take
        some ahead.
        """
        for state in list(self.hosts.values()):
            if state.is_free and state.takes_any(now) and state.has_room(False):
                yield state, False
        for state in list(self.hosts.values()):
            if not state.is_free and state.takes_any(now) and state.has_room(True):
                yield state, True

    def _best_queue(self, state: HostState, now: datetime) -> Queue | None:
        for share in self._by_fairness(now):
            best: tuple[int, int] | None = None
            chosen = None
            for demand, queue in list(share.queues.items()):
                head = queue.head()
                if head is None:
                    del share.queues[demand]
                    continue
                if not self._fits_now(queue, state, now):
                    continue
                rank = (-head.submission.description.priority, head.number)
                if best is None or rank < best:
                    best, chosen = rank, queue
            if chosen is not None:
                return chosen
        return None

    def _by_fairness(self, now: datetime) -> list[Share]:
        waiting = [share for share in self.shares.values() if share.queues]
        if len(waiting) > 1:
            waiting.sort(key=lambda share: share.used(now))
        return waiting

    def _fits_now(self, queue: Queue, state: HostState, now: datetime) -> bool:
        demand, facts = queue.demand, state.host.facts
        free = facts.cores - state.cores_given
        if demand.cores > free and free > 0:
            return False  # a task of several cores waits until they are free together
        if (demand.wall_time or UNSAID) > state.remaining(now):
            return False
        if free > 0 and demand.memory_mib > facts.memory_mib - state.memory_given:
            return False
        if not self._shows_enough(demand, state, now):
            return False
        return self.matches(queue.owner, demand, state)

    def _shows_enough(self, demand: Demand, state: HostState, now: datetime) -> bool:
        """Whether the credentials that the host's site wants are good at this moment."""
        own = self.delegations.get(state.delegation) if state.delegation is not None else None
        if state.delegation is not None and not (own is not None and own.is_usable(now)):
            return False
        if state.rules is None:
            return True
        return siterules.holds(state.rules, self._delegation(demand), now)

    def _delegation(self, demand: Demand) -> Delegation | None:
        return self.delegations.get(demand.delegation) if demand.delegation is not None else None

    def matches(self, owner: User, demand: Demand, state: HostState) -> bool:
        """Whether the host could ever run such a work of ``owner``; an unasked requirement counts
        as no, and is noted.
        """
        key = (owner.uid, demand)
        known = state.matches.get(key)
        if known is None:
            known = not any(True for _ in self.obstacles(owner, demand, state))
            if (demand.requirements, state.host.uid) not in self.unjudged:
                state.matches[key] = known
        return known

    def obstacles(self, owner: User, demand: Demand, state: HostState) -> Iterator[str]:
        """Why the host can never run such a work of ``owner``, in sentences; nothing if it can."""
        host, facts = state.host, state.host.facts
        if not may_run(state.who, owner.uid, owner.group, demand.rights):
            yield "its worker may not run works of this user with these access rights"
        application = self.applications.get(demand.application)
        if state.rules is not None:
            delegation = self._delegation(demand)
            yield from siterules.obstacles(state.rules, owner, application, delegation)
        if demand.expected_host is not None and demand.expected_host != host.uid:
            yield "the work is pinned to another host"
        if back := demand.passed and _leads_to(host).intersection(demand.passed):
            yield f"the work came from {', '.join(sorted(back))}, where this host would send it"
        if application is None or executable_for(application, host) is None:
            yield f"the application has no executable for {facts.cpu}/{facts.os}"
        if demand.cores > facts.cores:
            yield f"it has {facts.cores} cores, the work asks for {demand.cores}"
        if demand.memory_mib > facts.memory_mib:
            yield f"it has {facts.memory_mib} MiB of memory, the work asks for {demand.memory_mib}"
        if demand.disk_mib > facts.disk_mib:
            yield f"it has {facts.disk_mib} MiB of disk, the work asks for {demand.disk_mib}"
        if demand.requirements:
            verdict = self.verdicts.get((demand.requirements, host.uid))
            if verdict is None:
                self.unjudged.add((demand.requirements, host.uid))
                yield "its requirements have not been judged yet"
            elif not verdict:
                yield f"the requirements {demand.requirements!r} are not met"

    def judge(self, verdicts: Mapping[tuple[str, str], bool]) -> None:
        """What the matcher said of (requirements, host) pairs."""
        self.verdicts.update(verdicts)
        self.unjudged.difference_update(verdicts)
        for (requirements, uid), verdict in verdicts.items():
            if uid in self.hosts:
                self.hosts[uid].matches.clear()
                self._remember(requirements, self.hosts[uid].site, verdict)

    def _remember(self, requirements: str, site: str, verdict: bool) -> None:
        """A host of ``site`` was judged: whoever sends pilots there wants to know, later too."""
        if not site:
            return
        met, unmet = self.suitability.pop((requirements, site), (0, 0))
        self.suitability[requirements, site] = (met + verdict, unmet + (not verdict))
        if len(self.suitability) > MOST_REMEMBERED:
            del self.suitability[next(iter(self.suitability))]

    def rematch(self) -> None:
        """Users or applications changed: what was concluded about hosts is asked anew."""
        for state in self.hosts.values():
            state.matches.clear()

    def forget_verdicts(self, host: str) -> None:
        """The host's facts changed: its verdicts are asked anew."""
        for key in [key for key in self.verdicts if key[1] == host]:
            del self.verdicts[key]
        self.unjudged = {key for key in self.unjudged if key[1] != host}


def _leads_to(host: Host) -> frozenset[str]:
    """The places to which a host that is a bridge takes works."""
    return frozenset(str(host.facts.attributes.get(LEADS_TO, "")).split())


def executable_for(application: Application, host: Host) -> str | None:
    """The data that is the application's executable for this host: made for its platform, else one
    that runs everywhere.
    """
    facts = host.facts
    for platform in (
        Platform(facts.cpu, facts.os),
        Platform(ANY_PLATFORM.cpu, facts.os),
        ANY_PLATFORM,
    ):
        if platform in application.executables:
            return application.executables[platform]
    return None
