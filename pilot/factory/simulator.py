"""A grid, its users and unreliable sites on which the planning code itself is tried: a week in
seconds, the same each time.

What the server does is done in small: a free slot goes to the crowd that has had least, caps are
held, news told. What sites do is up to a trace (trace.py). What is reported: which pilots did
works, how long works waited, beside an oracle to which all the slots of all sites belong all the
time.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from desktopgrid.model.demand import SLACK, Demand, PilotNews, SiteRecord, Situation, Supply
from desktopgrid.model.lifecycle import PilotStatus
from pilot.factory.health import Health
from pilot.factory.history import History
from pilot.factory.plan import USUAL, Drain, Observed, Plan, Policy, Submit, Withdraw, plan
from pilot.factory.reasons import Because, Reason
from pilot.factory.trace import NEVER, Arrival, Behaviour, Crowd, Trace

BEGIN = datetime(2026, 1, 5, tzinfo=UTC)
"""A Monday."""
FORGOTTEN_AFTER = 300.0
HALF_LIFE = 86_400.0
"""Of what a crowd has had, in the fair share."""
FAILS_WITHIN = 20.0
"""Seconds that a pilot lives which fails as it starts."""

WAITING, RUNNING, OVER = range(3)
COUNTED = ("submitted", "useful", "useless", "failed", "withdrawn", "core_hours", "idle_core_hours")
"""What is counted of each site."""


class Work:
    """One work of a crowd."""

    __slots__ = ("arrived_at", "crowd", "duration", "is_gone", "started_at")

    def __init__(self, crowd: Crowd, arrived_at: float, duration: float) -> None:
        self.crowd, self.arrived_at, self.duration = crowd, arrived_at, duration
        self.started_at: float | None = None
        self.is_gone = False


class Host:
    """A pilot, or the desktops together, whose life is endless."""

    __slots__ = (
        "at",
        "busy",
        "cores",
        "done",
        "ends_at",
        "free",
        "heap",
        "idle_since",
        "idle_time",
        "longest",
        "mean",
        "memory",
        "rate",
        "site",
        "started_at",
        "state",
        "submitted_at",
        "works",
    )

    def __init__(self, site: str, cores: int, memory: int, at: float) -> None:
        self.site, self.cores, self.free, self.memory = site, cores, cores, memory
        self.submitted_at, self.at = at, 0.0
        self.started_at, self.ends_at = 0.0, NEVER
        self.longest = NEVER
        """The longest work that it may be given, if it does not end itself."""
        self.state = WAITING
        self.works: dict[int, Work] = {}
        self.idle_since, self.idle_time = 0.0, NEVER
        self.done, self.busy, self.mean = 0, 0.0, 0.0
        self.heap: tuple[str, int, int, float] | None = None
        self.rate = 0.0


@dataclass
class Report:
    """What came of it."""

    works: int = 0
    vanished: int = 0
    waits: list[float] = field(default_factory=list)
    oracle_waits: list[float] = field(default_factory=list)
    submitted: int = 0
    withdrawn: int = 0
    started: int = 0
    useful: int = 0
    failed: int = 0
    """Pilots that failed as they started, or were lost by their site."""
    core_seconds: float = 0.0
    idle_core_seconds: float = 0.0
    violations: int = 0
    """Times that more pilots were there, or were asked for, than a cap allows."""
    cycles: int = 0
    by_site: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def useful_share(self) -> float:
        """Of the pilots that started, those that ran a work."""
        return self.useful / self.started if self.started else 1.0

    @property
    def useful_of_submitted(self) -> float:
        """Of the pilots that were submitted, those that ran a work."""
        return self.useful / self.submitted if self.submitted else 1.0

    @property
    def idle_share(self) -> float:
        """The part of the core time inside pilots that ran nothing."""
        return self.idle_core_seconds / self.core_seconds if self.core_seconds else 0.0

    @property
    def waiting_ratio(self) -> float:
        """How long works waited (p95), beside the oracle's."""
        return percentile(self.waits, 95) / max(1.0, percentile(self.oracle_waits, 95))

    @property
    def rows(self) -> list[dict[str, object]]:
        """What came of each site's pilots."""
        return [
            {"site": site, **{name: round(counts[name], 1) for name in COUNTED}}
            for site, counts in self.by_site.items()
        ]

    @property
    def sentences(self) -> list[str]:
        """The whole, for people."""
        mine, best = percentile(self.waits, 95), percentile(self.oracle_waits, 95)
        return [
            f"{self.works} works came, {self.vanished} of them were taken back before they ran.",
            f"{self.submitted} pilots were sent, {self.withdrawn} of them taken back while they"
            f" waited; {self.started} started, and {self.useful_share:.1%} of these ran works.",
            f"{self.idle_share:.1%} of their {self.core_seconds / 3600:.0f} core hours were idle.",
            f"95 % of the works waited for {mine:.0f} s at most; if all slots of all sites were"
            f" there all the time, it would be {best:.0f} s ({self.waiting_ratio:.2f} times).",
            f"Caps were broken {self.violations} times.",
        ]


def percentile(values: list[float], share: float) -> float:
    """The value that ``share`` percent are not above; 0 of none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(share / 100 * len(ordered)) - 1)]


class Simulation:
    """One run of a trace under a policy."""

    def __init__(self, trace: Trace, policy: Policy = USUAL, is_ideal: bool = False) -> None:
        """``is_ideal``: there is no factory; as many pilots as may be are there all the time, each
        as young as a work needs it, and nothing ever fails.
        """
        self.trace, self.policy, self.is_ideal = trace, policy, is_ideal
        self.now = 0.0
        self.report = Report(by_site={name: dict.fromkeys(COUNTED, 0.0) for name in trace.sites})
        self.history, self.health = History(), Health()
        self.last_plan = Plan()
        self._events: list[tuple[float, int, str, object]] = []
        self._number = 0
        self._queues: dict[Crowd, deque[Work]] = {crowd: deque() for crowd in trace.crowds}
        self._waiting: Counter[Crowd] = Counter()
        self._used: dict[Crowd, float] = dict.fromkeys(trace.crowds, 0.0)
        self._free: dict[Host, None] = {}
        self._waiting_pilots: dict[str, dict[Host, None]] = {name: {} for name in trace.sites}
        self._running_pilots: dict[str, dict[Host, None]] = {name: {} for name in trace.sites}
        self._heaps: dict[tuple[str, int, int, float], list[float]] = {}
        self._recent: dict[str, deque[float]] = {name: deque() for name in trace.sites}
        self._useful: dict[str, float] = {}
        self._news: list[PilotNews] = []
        self._aborted = self._submitted = 0
        self._chances = {name: trace.chance(name) for name in trace.sites}
        self._outages = {name: trace.spells(name, "outage") for name in trace.sites}
        self._black_holes = {name: trace.spells(name, "black hole") for name in trace.sites}
        self._queued: dict[str, list[tuple[float, int, Host]]] = {name: [] for name in trace.sites}
        self._always_there(trace.course.desktop_cores, 1, 1 << 20)

    def _always_there(self, count: int, cores: int, memory: int, longest: float = NEVER) -> None:
        for _ in range(count):
            host = Host("", cores, memory, 0.0)
            host.state, host.longest = RUNNING, longest
            self._free[host] = None

    # --- the clockwork ----------------------------------------------------------------------------

    def run(self) -> Report:
        """From the beginning to the end."""
        for arrival in self.trace.arrivals():
            self._at(arrival.at, "arrive", arrival)
        if self.is_ideal:
            for name, config in self.trace.sites.items():
                count = min(config.max_pilots, self.trace.behaviours[name].slots)
                life = config.life.total_seconds()
                self._always_there(count, config.cores, config.memory_mib, life)
        else:
            self._at(1.0, "cycle", None)
        while self._events:
            self.now, _, what, whom = heapq.heappop(self._events)
            if self.now > self.trace.end:
                break
            getattr(self, f"_on_{what}")(whom)
        self.now = self.trace.end
        for pilots in self._running_pilots.values():
            for pilot in pilots:
                self._account(pilot)
        if not self.is_ideal:
            self.report.oracle_waits = Simulation(self.trace, is_ideal=True).run().waits
        return self.report

    def _at(self, moment: float, what: str, whom: object) -> None:
        self._number += 1
        heapq.heappush(self._events, (moment, self._number, what, whom))

    # --- works ------------------------------------------------------------------------------------

    def _on_arrive(self, arrival: Arrival) -> None:
        works = [Work(arrival.crowd, self.now, duration) for duration in arrival.durations]
        self.report.works += len(works)
        self._submitted += len(works)
        self._queues[arrival.crowd].extend(works)
        self._waiting[arrival.crowd] += len(works)
        if arrival.vanishes_at < NEVER:
            self._at(arrival.vanishes_at, "vanish", works)
        for host in list(self._free):
            if not self._waiting[arrival.crowd]:
                return
            self._fill(host)

    def _on_vanish(self, works: list[Work]) -> None:
        for work in works:
            if work.started_at is None and not work.is_gone:
                work.is_gone = True
                self._waiting[work.crowd] -= 1
                self._aborted += 1
                self.report.vanished += 1

    def _fill(self, host: Host) -> None:
        """Give ``host`` what it has room for: of the crowd that has had least, as the server."""
        life = min(host.longest, host.ends_at - self.now)
        while host.free:
            best: Crowd | None = None
            for crowd, queue in self._queues.items():
                while queue and queue[0].is_gone:
                    queue.popleft()
                if not queue or crowd.cores > host.free or crowd.memory_mib > host.memory:
                    continue
                if crowd.wall_time.total_seconds() + SLACK > life:
                    continue
                if best is None or self._used[crowd] < self._used[best]:
                    best = crowd
            if best is None:
                break
            self._start(host, self._queues[best].popleft())
        if host.free and host.state == RUNNING:
            self._free[host] = None
        else:
            self._free.pop(host, None)
        self._regroup(host)

    def _start(self, host: Host, work: Work) -> None:
        self._waiting[work.crowd] -= 1
        if work.started_at is None:
            self.report.waits.append(self.now - work.arrived_at)
        work.started_at = self.now
        # Charged when it starts; what is long past counts less and less.
        self._used[work.crowd] += work.duration * work.crowd.cores * 2 ** (self.now / HALF_LIFE)
        host.free -= work.crowd.cores
        host.memory -= work.crowd.memory_mib
        self._number += 1
        host.works[self._number] = work
        self._at(self.now + work.duration, "end_work", (host, self._number))

    def _regroup(self, host: Host) -> None:
        """Keep account of what is alike, as the server would find it."""
        if host.heap is not None:
            heap = self._heaps[host.heap]
            heap[0] -= 1
            heap[1] -= host.rate
            if not heap[0]:
                del self._heaps[host.heap]
            host.heap = None
        if host.site and host.state == RUNNING:
            host.heap = (host.site, host.free, host.memory, host.ends_at // 1_800 * 1_800)
            host.rate = len(host.works) / host.mean if host.mean else 0.0
            heap = self._heaps.setdefault(host.heap, [0.0, 0.0])
            heap[0] += 1
            heap[1] += host.rate

    def _on_end_work(self, task: tuple[Host, int]) -> None:
        host, number = task
        work = host.works.pop(number, None)
        if work is None:
            return  # its pilot was ended before
        host.free += work.crowd.cores
        host.memory += work.crowd.memory_mib
        host.done += 1
        if host.site:
            self._useful[host.site] = max(host.started_at, self._useful.get(host.site, 0.0))
        host.busy += work.duration * work.crowd.cores
        host.mean = work.duration if not host.mean else 0.8 * host.mean + 0.2 * work.duration
        self._fill(host)
        self._rest(host)

    def _rest(self, host: Host) -> None:
        """A pilot that has nothing to do goes after its idle time."""
        if host.site and host.state == RUNNING and not host.works:
            host.idle_since = self.now
            self._at(self.now + host.idle_time, "idle", (host, self.now))

    def _on_idle(self, since: tuple[Host, float]) -> None:
        host, at = since
        if host.state == RUNNING and not host.works and host.idle_since == at:
            self._end(host, PilotStatus.DONE)

    # --- pilots -----------------------------------------------------------------------------------

    def _submit(self, order: Submit) -> None:
        config = self.trace.sites[order.site]
        behaviour, chance = self.trace.behaviours[order.site], self._chances[order.site]
        for _ in range(order.count):
            pilot = Host(order.site, config.cores, config.memory_mib, self.now)
            pilot.idle_time = order.idle_time.total_seconds()
            self._waiting_pilots[order.site][pilot] = None
            self._recent[order.site].append(self.now)
            self.report.submitted += 1
            self.report.by_site[order.site]["submitted"] += 1
            spread = chance.lognormvariate(0, behaviour.latency_spread)
            pilot.at = self.now + behaviour.latency.total_seconds() * spread
            if chance.random() < behaviour.losing:
                self._at(self.now + FORGOTTEN_AFTER, "forgotten", pilot)
            else:
                self._number += 1
                heapq.heappush(self._queued[order.site], (pilot.at, self._number, pilot))
                self._at(pilot.at, "slot", order.site)
        self._check_caps(order.site)

    def _on_slot(self, site: str) -> None:
        """A slot may be free, or a pilot's turn may have come."""
        behaviour, queue = self.trace.behaviours[site], self._queued[site]
        until = _spell(self._outages[site], self.now)
        if until is not None:
            self._at(until, "slot", site)
            return
        while (
            queue and queue[0][0] <= self.now and len(self._running_pilots[site]) < behaviour.slots
        ):
            _, _, pilot = heapq.heappop(queue)
            if pilot.state == WAITING:
                self._begin(pilot, behaviour)

    def _begin(self, pilot: Host, behaviour: Behaviour) -> None:
        site, chance = pilot.site, self._chances[pilot.site]
        self.report.started += 1
        del self._waiting_pilots[site][pilot]
        self._running_pilots[site][pilot] = None
        pilot.state, pilot.started_at = RUNNING, self.now
        submitted_at, started_at = _time(pilot.submitted_at), _time(self.now)
        self._news.append(PilotNews(site, PilotStatus.RUNNING, submitted_at, started_at))
        life = self.trace.sites[site].life.total_seconds()
        pilot.ends_at = self.now + life
        is_swallowed = _spell(self._black_holes[site], self.now) is not None
        if is_swallowed or chance.random() < behaviour.failing:
            pilot.free = 0
            self._regroup(pilot)
            self._at(self.now + FAILS_WITHIN, "fail", pilot)
            return
        if behaviour.preempting:
            after = chance.expovariate(behaviour.preempting / 3_600)
            if after < life:
                self._at(self.now + after, "preempt", pilot)
        self._at(pilot.ends_at, "expire", pilot)
        self._fill(pilot)
        self._rest(pilot)

    def _on_forgotten(self, pilot: Host) -> None:
        if pilot.state == WAITING:
            self.report.failed += 1
            self.report.by_site[pilot.site]["failed"] += 1
            self._end(pilot, PilotStatus.ABORTED)

    def _on_fail(self, pilot: Host) -> None:
        if pilot.state == RUNNING:
            self.report.failed += 1
            self.report.by_site[pilot.site]["failed"] += 1
            self._end(pilot, PilotStatus.FAILED)

    def _on_preempt(self, pilot: Host) -> None:
        if pilot.state == RUNNING:
            self._end(pilot, PilotStatus.ABORTED)

    def _on_expire(self, pilot: Host) -> None:
        if pilot.state == RUNNING:
            self._end(pilot, PilotStatus.DONE)

    def _end(self, pilot: Host, status: PilotStatus) -> None:
        """A pilot is over; its works wait again, before all others."""
        was_running = pilot.state == RUNNING
        if was_running:
            self._account(pilot)
            self._at(self.now, "slot", pilot.site)
        (self._running_pilots if was_running else self._waiting_pilots)[pilot.site].pop(pilot)
        pilot.state = OVER
        self._free.pop(pilot, None)
        self._regroup(pilot)
        for work in pilot.works.values():
            self._waiting[work.crowd] += 1
            self._queues[work.crowd].appendleft(work)
        self._news.append(
            PilotNews(
                pilot.site,
                status,
                _time(pilot.submitted_at),
                _time(pilot.started_at) if was_running else None,
                _time(self.now),
                pilot.done,
            )
        )
        if pilot.works:
            pilot.works.clear()
            for host in list(self._free):
                self._fill(host)

    def _account(self, pilot: Host) -> None:
        if pilot.state != RUNNING:
            return
        counts = self.report.by_site[pilot.site]
        is_useful = bool(pilot.done or pilot.works)
        self.report.useful += is_useful
        counts["useful" if is_useful else "useless"] += 1
        busy = pilot.busy + sum(
            (self.now - (work.started_at or self.now)) * work.crowd.cores
            for work in pilot.works.values()
        )
        had = (self.now - pilot.started_at) * pilot.cores
        self.report.core_seconds += had
        self.report.idle_core_seconds += had - busy
        counts["core_hours"] += had / 3_600
        counts["idle_core_hours"] += (had - busy) / 3_600

    # --- the factory ------------------------------------------------------------------------------

    def _on_cycle(self, _: None) -> None:
        self.report.cycles += 1
        period = self.trace.course.period.total_seconds()
        self._at(self.now + period, "cycle", None)
        situation = self._situation()
        self.history.observe(situation)
        observed = {name: self._observed(name) for name in self.trace.sites}
        self.last_plan = plan(
            situation, self.trace.sites, observed, self.history, _time(self.now), self.policy
        )
        for order in self.last_plan.orders:
            match order:
                case Submit():
                    self._submit(order)
                case Withdraw():
                    self._withdraw(order)
                case Drain():
                    pass  # no cap is lowered in a trace

    def _withdraw(self, order: Withdraw) -> None:
        waiting = self._waiting_pilots[order.site]
        for pilot in sorted(waiting, key=lambda each: -each.submitted_at)[: order.count]:
            self.report.withdrawn += 1
            self.report.by_site[pilot.site]["withdrawn"] += 1
            self._end(pilot, PilotStatus.DELETED)

    def _observed(self, site: str) -> Observed:
        now = _time(self.now)
        silence = self.health.rests(site, now)
        if silence is None and _spell(self._outages[site], self.now) is not None:
            self.health.failed(site, "an outage", now)
            silence = Reason(site, Because.SITE_SILENT, {"why": "an outage"})
        elif silence is None:
            self.health.answered(site)
        waiting, running = len(self._waiting_pilots[site]), len(self._running_pilots[site])
        return Observed(waiting, running, silence)

    def _situation(self) -> Situation:
        """What the server would tell."""
        news, self._news = self._news, []
        return Situation(
            _time(self.now),
            1,
            tuple(self._demands()),
            tuple(self._supplies()),
            {name: self._record(name) for name in self.trace.sites},
            tuple(news),
            submitted=self._submitted,
            aborted=self._aborted,
        )

    def _demands(self) -> Iterator[Demand]:
        for crowd, queue in self._queues.items():
            while queue and queue[0].is_gone:
                queue.popleft()
            if queue:
                yield Demand(
                    self._waiting[crowd],
                    _time(queue[0].arrived_at),
                    crowd.cores,
                    crowd.memory_mib,
                    0,
                    int(crowd.wall_time.total_seconds()),
                )

    def _supplies(self) -> Iterator[Supply]:
        """As the server tells it: what is alike together."""
        for site, pilots in self._waiting_pilots.items():
            minutes = Counter(pilot.submitted_at // 60 * 60 for pilot in pilots)
            for at, count in minutes.items():
                yield Supply(site, False, count, _time(at))
        now = _time(self.now)
        for (site, free, memory, ends_at), (hosts, rate) in self._heaps.items():
            config = self.trace.sites[site]
            has = (config.cores, config.memory_mib, config.disk_mib)
            yield Supply(site, True, int(hosts), now, *has, free, memory, _time(ends_at), rate)

    def _record(self, site: str) -> SiteRecord:
        recent = self._recent[site]
        while recent and recent[0] <= self.now - 3_600:
            recent.popleft()
        config, useful = self.trace.sites[site], self._useful.get(site)
        waiting = len(self._waiting_pilots[site])
        return SiteRecord(
            site,
            config.max_pilots,
            config.max_idle,
            config.max_an_hour,
            config.max_of_vo if config.vo else 0,
            waiting + len(self._running_pilots[site]),
            waiting,
            len(recent),
            self._of_vo(config.vo) if config.vo else 0,
            _time(useful) if useful is not None else None,
        )

    def _of_vo(self, vo: str) -> int:
        sites = [name for name, config in self.trace.sites.items() if config.vo == vo]
        both = (self._waiting_pilots, self._running_pilots)
        return sum(len(pilots[name]) for pilots in both for name in sites)

    def _check_caps(self, site: str) -> None:
        record = self._record(site)
        self.report.violations += (
            record.open > record.max_pilots
            or record.idle > record.max_idle
            or record.an_hour > record.max_an_hour
            or bool(record.max_of_vo and record.of_vo > record.max_of_vo)
        )


def _time(seconds: float) -> datetime:
    return BEGIN + timedelta(seconds=seconds)


def _spell(spells: list[tuple[float, float]], now: float) -> float | None:
    """When the spell ends that ``now`` lies in; None if it lies in none."""
    return max((until for since, until in spells if since <= now < until), default=None)
