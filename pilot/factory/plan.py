"""How many pilots for which site: facts in, orders out, and a reason for each and for each that is
not given. Pure.

Demand counts at the sites whose pilots could run it. What free slots, waiting pilots, and slots
that fall free before a new pilot would start will take of it is supply; pilots are sent for the
rest, within the caps, to several sites by their weight, cost and latency. Waiting pilots for which
no work will be left when they start are taken back. Unknown is not zero: what cannot be asked stays
as it is (docs/decisions/0021-pilots-from-one-answer.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from desktopgrid.model.demand import Demand, SiteRecord, Situation, Supply
from desktopgrid.model.sites import SiteConfig
from pilot.factory.history import History, SiteHistory
from pilot.factory.reasons import Because, Reason
from pilot.factory.room import Room, Rooms

TOLD_DEMANDS = 5
"""Kinds of demand about which a site's reasons say something; the largest ones."""


@dataclass(frozen=True)
class Policy:
    """How a factory plans, beside what each site's file says."""

    stale_after: timedelta = timedelta(minutes=2)
    """What the server told counts for so long."""
    usual_latency: timedelta = timedelta(minutes=5)
    """How long a pilot is taken to wait at a site that has started none yet."""
    overdue_after: float = 3.0
    """A pilot that waits for so many latencies is not counted on any more."""
    least_overdue: timedelta = timedelta(minutes=10)
    withdrawn_share: float = 0.25
    """The part of a site's pilots that is taken back at once; more when it is seen again."""
    withdrawn_anyway: int = 5
    confirmed_after: timedelta = timedelta(seconds=60)
    lasting: float = 8.0
    """Works that must wait for each pilot that may run one at a time, before those that run several
    are sent: the last cores of such a pilot idle while its last work ends.
    """


USUAL = Policy()


@dataclass(frozen=True)
class Observed:
    """What is known of a site's door: our own pilots there, or why it says nothing."""

    waiting: int = 0
    """Pilots of the factory's own that have not started."""
    running: int = 0
    silence: Reason | None = None


@dataclass(frozen=True)
class Submit:
    """Send pilots to a site; each goes after ``idle_time`` without a work."""

    site: str
    count: int
    idle_time: timedelta
    delegation: str = ""


@dataclass(frozen=True)
class Withdraw:
    """Take back pilots that wait at a site, those first that would start last."""

    site: str
    count: int


@dataclass(frozen=True)
class Drain:
    """Let running pilots of a site go when they are idle, or at once."""

    site: str
    count: int
    is_forced: bool = False


Order = Submit | Withdraw | Drain


@dataclass(frozen=True)
class Plan:
    """What to do, and why."""

    orders: tuple[Order, ...] = ()
    reasons: tuple[Reason, ...] = ()

    def because(self, site: str) -> list[str]:
        """The reasons about a site, as sentences."""
        return [reason.sentence for reason in self.reasons if reason.site == site]


def plan(
    situation: Situation,
    sites: Mapping[str, SiteConfig],
    observed: Mapping[str, Observed],
    history: History,
    now: datetime,
    policy: Policy = USUAL,
) -> Plan:
    """The orders that follow from ``situation``, from which ``history`` has learned already."""
    age = (now - situation.at).total_seconds()
    if age > policy.stale_after.total_seconds():
        return frozen(sites, Because.STALE, age=age)
    planner = _Planner(situation, sites, observed, history, now, policy)
    planner.decide()
    return Plan(tuple(planner.orders), tuple(planner.reasons))


def frozen(sites: Iterable[str], because: Because, **numbers: object) -> Plan:
    """Nothing is done anywhere, for the same reason."""
    return Plan(reasons=tuple(Reason(site, because, numbers) for site in sorted(sites)))


@dataclass
class _Site:
    """A site while it is planned for."""

    config: SiteConfig
    record: SiteRecord
    history: SiteHistory
    latency: float
    """Seconds until a pilot that is sent now will start, cautiously."""
    room: int
    """Pilots that may be sent."""
    is_open: bool
    waiting: Rooms
    is_lost: bool = False
    """Whether it swallows pilots, so that those that wait there are taken back."""
    wanted: int = 0
    """Works that its pilots could run."""
    sent: dict[str, int] = field(default_factory=dict)
    """Pilots to be sent, by the delegation they are sent with."""
    limit: Reason | None = None
    """What bounds its room."""

    @property
    def preference(self) -> float:
        """Its share of demand beside others: the sooner, cheaper and more reliable the more."""
        trust = self.history.reliability**2
        return self.config.weight * trust / self.config.cost / (self.latency + 60.0)

    def for_demand(self, demand: Demand, count: int = 1) -> Room:
        """Pilots as it would start them for ``demand``."""
        return self.fresh(count, credential_for(self.config, demand))

    def fresh(self, count: int, delegation: str) -> Room:
        """Pilots as it would start them, submitted by a delegation or by its own credential."""
        config = self.config
        life = config.life.total_seconds()
        return Room(
            config.name, count, config.cores, config.memory_mib, config.disk_mib, life, delegation
        )


class _Planner:
    """One plan in the making."""

    def __init__(
        self,
        situation: Situation,
        sites: Mapping[str, SiteConfig],
        observed: Mapping[str, Observed],
        history: History,
        now: datetime,
        policy: Policy,
    ) -> None:
        self.situation, self.observed, self.history = situation, observed, history
        self.now, self.policy = now, policy
        self.orders: list[Order] = []
        self.reasons: list[Reason] = []
        self._vos: dict[str, int] = {}
        waiting: dict[str, list[Supply]] = {}
        for supply in situation.supplies:
            if not supply.is_running:
                waiting.setdefault(supply.site, []).append(supply)
        self.sites = [
            self._site(sites[name], waiting.get(name, ()))
            for name in sorted(sites)
            if name in situation.sites
        ]
        for name in sorted(sites):
            if name not in situation.sites:
                self._say(name, Because.NOT_ON_THE_GRID)

    def _say(self, site: str, because: Because, **numbers: object) -> None:
        self.reasons.append(Reason(site, because, numbers))

    # --- what a site may get ----------------------------------------------------------------------

    def _site(self, config: SiteConfig, waiting: Sequence[Supply]) -> _Site:
        record, history = self.situation.sites[config.name], self.history.of(config.name)
        usual = self.policy.usual_latency.total_seconds()
        ages = [((self.now - each.since).total_seconds(), each) for each in waiting]
        latency = max(history.latency(usual), history.stalls(_median(ages), self.now))
        overdue = max(
            self.policy.overdue_after * history.latency(usual),
            self.policy.least_overdue.total_seconds(),
        )
        site = _Site(config, record, history, latency, 0, False, Rooms())
        breaks = history.breaker.opens_again_at
        site.is_lost = breaks is not None and self.now < breaks
        if not site.is_lost:
            # One that waits far too long is not counted on: others are sent, elsewhere it may be.
            site.waiting = Rooms(
                site.fresh(each.count, each.delegation) for age, each in ages if age < overdue
            )
        silence = self.observed.get(config.name, Observed()).silence
        if silence is not None:
            self.reasons.append(silence)
        elif not config.by_demand:
            self._say(config.name, Because.NOT_BY_DEMAND)
        elif site.is_lost:
            self._say(config.name, Because.BLACK_HOLE, until=breaks, count=history.breaker.useless)
        else:
            site.is_open = True
            self._bound(site, is_on_probation=breaks is not None)
        return site

    def _bound(self, site: _Site, is_on_probation: bool) -> None:
        """How many pilots the site may be sent; the server holds to the same caps."""
        config, record = site.config, site.record
        caps = [
            (record.open, min(config.max_pilots, record.max_pilots), "max_pilots"),
            (record.idle, min(config.max_idle, record.max_idle), "max_idle"),
            (record.an_hour, min(config.max_an_hour, record.max_an_hour), "max_an_hour"),
        ]
        if config.vo and record.max_of_vo:
            caps.append((record.of_vo, record.max_of_vo, "max_of_vo"))
            left = max(0, record.max_of_vo - record.of_vo)
            self._vos[config.vo] = min(left, self._vos.get(config.vo, left))
        have, limit, cap = min(caps, key=lambda each: each[1] - each[0])
        site.room = max(0, limit - have)
        numbers: dict[str, object] = {"room": site.room, "have": have, "cap": cap, "limit": limit}
        site.limit = Reason(config.name, Because.CAPPED, numbers)
        if config.ramp_up < site.room:
            site.room = config.ramp_up
            site.limit = Reason(config.name, Because.RAMPED, {"room": site.room})
        if is_on_probation:
            site.room = min(site.room, 0 if record.idle else 1)
            count = site.history.breaker.useless
            site.limit = Reason(config.name, Because.ON_PROBATION, {"count": count})

    def _room(self, site: _Site) -> int:
        """Pilots that may be sent still, with what other sites of its VO were promised."""
        return min(site.room, self._vos.get(site.config.vo, site.room))

    # --- demand against supply --------------------------------------------------------------------

    def decide(self) -> None:
        """Give the orders."""
        demands = sorted(
            self.situation.demands, key=lambda d: (-d.cores, -d.memory_mib, d.oldest_at)
        )
        running = Rooms(
            _room_of(each, self.now) for each in self.situation.supplies if each.is_running
        )
        rates = list(self._rates(demands))
        self.new = Rooms()
        for demand, rate in zip(demands, rates, strict=True):
            self._meet(demand, rate, running)
        for site in self.sites:
            self._send(site)
            if self.observed.get(site.config.name, Observed()).silence is None:
                self._withdraw(site)
                self._drain(site)
        self.history.wanted({site.config.name: site.wanted > 0 for site in self.sites})

    def _rates(self, demands: Sequence[Demand]) -> Iterator[float]:
        """Works of each demand that busy slots will take a second: those that fit several are
        divided among these by their numbers.
        """
        rates = [0.0] * len(demands)
        for supply in self.situation.supplies:
            if not supply.ends_per_second:
                continue
            room = _room_of(supply, self.now)
            room.cores, room.memory_mib = supply.cores, supply.memory_mib
            fitting = [
                index
                for index, demand in enumerate(demands)
                if room.holds(demand) and not _is_strange(demand, supply.site)
            ]
            works = sum(demands[index].works for index in fitting)
            for index in fitting:
                rates[index] += supply.ends_per_second * demands[index].works / works
        yield from rates

    def _meet(self, demand: Demand, rate: float, running: Rooms) -> None:
        works = math.ceil(demand.works * (1 - self.history.vanishing))
        free = running.place(demand, works)
        need = works - free
        able: list[_Site] = []
        for site in self.sites:
            obstacle = obstacle_of(site.config, demand)
            if obstacle is None:
                site.wanted += demand.works
                able.append(site)
            elif self._is_told(demand):
                numbers = {"works": demand.works, "shape": demand.shape, "obstacle": obstacle}
                self._say(site.config.name, Because.UNFIT, **numbers)
        able.sort(key=lambda site: (site.latency, site.config.name))
        coming = 0
        for site in able:
            # They wait already, but nobody knows for how long still.
            lasting = need - coming - rate * site.latency
            coming += site.waiting.place(demand, max(0, math.floor(lasting)))
        need -= coming
        already = self.new.place(demand, need)
        need -= already
        sent = self._share_out(demand, need, rate, able)
        if self._is_told(demand):
            self._tell(demand, rate, able, sent, free, coming + already)

    def _is_told(self, demand: Demand) -> bool:
        return demand in self.situation.demands[:TOLD_DEMANDS]

    def _tell(
        self,
        demand: Demand,
        rate: float,
        able: Sequence[_Site],
        sent: Mapping[str, tuple[int, int]],
        free: int,
        coming: int,
    ) -> None:
        for site in able:
            name = site.config.name
            about = {"works": demand.works, "shape": demand.shape}
            if name in sent:
                pilots, works = sent[name]
                self._say(name, Because.SENT_FOR, **{**about, "pilots": pilots, "works": works})
            elif not site.is_open:
                continue
            elif not self._room(site):
                continue  # the cap is told with the rest
            elif sent:
                self._say(name, Because.ELSEWHERE, **about)
            elif _is_strange(demand, name):
                numbers = {"works": demand.works, "requirements": demand.requirements}
                self._say(name, Because.TRIED, **numbers)
            else:
                ending = min(float(demand.works), rate * site.latency)
                numbers = {"free": free, "coming": coming, "latency": site.latency}
                self._say(name, Because.SUPPLIED, **about, **numbers, ending=ending)

    def _share_out(
        self, demand: Demand, need: int, rate: float, able: Sequence[_Site]
    ) -> dict[str, tuple[int, int]]:
        """Pilots, and the works they are for, by site; ``able`` begins with the quickest."""
        sent: dict[str, tuple[int, int]] = {}
        placed = 0
        able = self._worth_filling(demand, need, able)
        for is_first in (True, False):
            takers = [site for site in able if site.is_open and self._room(site) > 0]
            total = sum(site.preference for site in takers)
            whole, given, due = need - placed, 0, 0.0
            for site in takers:
                # What will be left for a pilot that starts there when it starts.
                left = math.floor(need - placed - rate * site.latency)
                due += whole * site.preference / total if total else 0.0
                share = round(due) - given if is_first and total else left
                given += share
                works = min(left, share)
                if _is_strange(demand, site.config.name):
                    works = min(works, 0 if site.record.idle or site.sent else 1)
                pilots = min(self._pilots(site, demand, works, placed), self._room(site))
                if pilots > 0:
                    works = min(works, pilots * site.for_demand(demand).holds(demand))
                    placed += works
                    self._promise(site, demand, pilots, works)
                    before = sent.get(site.config.name, (0, 0))
                    sent[site.config.name] = (before[0] + pilots, before[1] + works)
        return sent

    def _worth_filling(self, demand: Demand, need: int, able: Sequence[_Site]) -> Sequence[_Site]:
        """Those of the sites to which to send pilots for so many works: one that runs several works
        at a time is for demand that lasts, where there are others.
        """
        slim = [site for site in able if site.for_demand(demand).holds(demand) == 1]
        capacity = sum(site.config.max_pilots for site in slim)
        if not slim or need > self.policy.lasting * capacity:
            return able
        return slim

    def _pilots(self, site: _Site, demand: Demand, works: int, placed: int) -> int:
        """Pilots for so many works: a further one if it is half full, or the only one."""
        each = site.for_demand(demand).holds(demand)
        if works <= 0 or not each:
            return 0
        pilots, rest = divmod(works, each)
        is_worth = rest * 2 >= each or (rest and not pilots and not placed)
        return pilots + bool(is_worth)

    def _promise(self, site: _Site, demand: Demand, pilots: int, works: int) -> None:
        site.room -= pilots
        if site.config.vo in self._vos:
            self._vos[site.config.vo] -= pilots
        delegation = credential_for(site.config, demand)
        site.sent[delegation] = site.sent.get(delegation, 0) + pilots
        self.new.begin(site.for_demand(demand, pilots), demand, works)

    # --- orders -----------------------------------------------------------------------------------

    def _send(self, site: _Site) -> None:
        name, idle_time = site.config.name, site.history.idle_time(site.config.idle_time)
        for delegation, count in sorted(site.sent.items()):
            self.orders.append(Submit(name, count, idle_time, delegation))
            self._say(name, Because.SENT, count=count, idle=idle_time.total_seconds())
        if not site.is_open:
            return
        if site.wanted and not self._room(site) and site.limit is not None:
            self.reasons.append(site.limit)
        if not site.wanted and not self.situation.demands:
            self._say(name, Because.NOTHING_WAITS)
        if self.situation.others:
            self._say(name, Because.OTHERS_WAIT, works=self.situation.others)

    def _withdraw(self, site: _Site) -> None:
        """Take back the waiting pilots for which no work will be left, or which would be lost."""
        name, idle, history = site.config.name, site.record.idle, site.history
        is_wanted = site.wanted > 0 and not site.is_lost
        own = self.observed.get(name, Observed()).waiting
        surplus = min(own, site.waiting.count if is_wanted else idle)
        if not site.config.by_demand or surplus <= 0 or site.sent:
            history.superfluous_since = None
            return
        if self.situation.left_off and not site.is_lost:
            self._say(name, Because.CUT_SHORT, works=self.situation.left_off)
            return
        since = history.superfluous_since = history.superfluous_since or self.now
        count = surplus
        is_sure = site.is_lost or self.history.is_borne_out
        if not is_sure and self.now - since < self.policy.confirmed_after:
            count = min(surplus, self._at_once(site, is_wanted, surplus))
            seconds = self.policy.confirmed_after.total_seconds()
            if count < surplus:
                self._say(name, Because.UNCONFIRMED, count=surplus - count, seconds=seconds)
        if count:
            self.orders.append(Withdraw(name, count))
            wanted = idle - surplus
            self._say(name, Because.WITHDRAWN, count=count, waiting=idle, wanted=wanted)

    def _at_once(self, site: _Site, is_wanted: bool, surplus: int) -> int:
        """Pilots to be taken back of which that has been seen only once."""
        if is_wanted and surplus <= max(1, site.record.idle // 10):
            return 0  # as many as an estimate may be wrong by
        share = math.floor(self.policy.withdrawn_share * site.record.open)
        return max(self.policy.withdrawn_anyway, share)

    def _drain(self, site: _Site) -> None:
        """What becomes of pilots that are more than there may be."""
        config, record = site.config, site.record
        limit = min(config.max_pilots, record.max_pilots)
        running = self.observed.get(config.name, Observed()).running
        count = min(running, record.open - record.idle - limit)
        if count <= 0 or not config.by_demand:
            return
        numbers = {"count": count, "have": record.open, "limit": limit}
        if config.drain == "none":
            self._say(config.name, Because.TOLERATED, **numbers)
            return
        is_forced = config.drain == "forced"
        self.orders.append(Drain(config.name, count, is_forced))
        self._say(config.name, Because.FORCED if is_forced else Because.DRAINED, **numbers)


def obstacle_of(site: SiteConfig, demand: Demand) -> str | None:
    """Why no pilot of ``site`` could run a work of ``demand``; None if one could."""
    if demand.cores > site.cores:
        return f"they have cores = {site.cores}"
    if demand.memory_mib > site.memory_mib:
        return f"they have memory_mib = {site.memory_mib}"
    if demand.disk_mib > site.disk_mib:
        return f"they have disk_mib = {site.disk_mib}"
    if demand.life > site.life.total_seconds():
        return f"they live for {site.life.total_seconds():.0f} s"
    if not demand.is_common and not credential_for(site, demand):
        return "only pilots by their user's credential may run them, and the site takes its own"
    if site.name in demand.refusals:
        return demand.refusals[site.name]
    if site.name in demand.unfitting:
        return "hosts of it were tried, and do not meet the requirements"
    return None


def credential_for(site: SiteConfig, demand: Demand) -> str:
    """The delegation by which pilots for ``demand`` are submitted to ``site``; none: its own."""
    return demand.delegation if site.submits_as != "robot" else ""


def _is_strange(demand: Demand, site: str) -> bool:
    """Whether nobody knows if hosts of ``site`` meet what the works require."""
    return bool(demand.requirements) and site not in demand.fitting


def _room_of(supply: Supply, now: datetime) -> Room:
    life = (supply.ends_at - now).total_seconds() if supply.ends_at is not None else math.inf
    return Room(
        supply.site,
        supply.count,
        supply.free_cores,
        supply.free_memory_mib,
        supply.disk_mib,
        life,
        supply.delegation,
    )


def _median(ages: Sequence[tuple[float, Supply]]) -> float:
    """The age that half of the waiting pilots have reached; 0 if none waits."""
    half = sum(supply.count for _, supply in ages) / 2
    for age, supply in sorted(ages, key=lambda each: -each[0]):
        half -= supply.count
        if half <= 0:
            return age
    return 0.0
