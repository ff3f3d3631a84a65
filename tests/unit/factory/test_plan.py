"""How many pilots for which site, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from desktopgrid.model.demand import Demand, PilotNews, SiteRecord, Situation, Supply
from desktopgrid.model.lifecycle import PilotStatus
from desktopgrid.model.sites import FakeSite, SiteConfig
from pilot.factory.history import History
from pilot.factory.plan import Drain, Observed, Order, Plan, Submit, Withdraw, frozen, plan
from pilot.factory.reasons import Because, Reason
from tests.builders import NOON, hours, seconds

MINUTE = timedelta(minutes=1)


def works(count: int, **fields: Any) -> Demand:
    return Demand(count, **{"oldest_at": NOON, **fields})


def a_site(name: str = "lal", **fields: Any) -> SiteConfig:
    default = {"max_pilots": 50, "max_idle": 40, "max_an_hour": 100, "ramp_up": 50}
    return FakeSite(name, **{**default, **fields})


def waiting(count: int, age: float = 60, site: str = "lal") -> Supply:
    return Supply(site, False, count, NOON - seconds(age))


def running(count: int, free: int = 0, life: float = 8, rate: float = 0.0, **f: Any) -> Supply:
    default: dict[str, Any] = {
        "site": "lal",
        "is_running": True,
        "count": count,
        "since": NOON,
        "cores": 1,
        "memory_mib": 1024,
        "disk_mib": 2048,
        "free_cores": free,
        "free_memory_mib": 1024,
        "ends_at": NOON + hours(life),
        "ends_per_second": rate,
    }
    return Supply(**{**default, **f})


def record_of(site: SiteConfig, supplies: tuple[Supply, ...], **fields: Any) -> SiteRecord:
    ours = [each for each in supplies if each.site == site.name]
    idle = sum(each.count for each in ours if not each.is_running)
    default = {
        "max_pilots": site.max_pilots,
        "max_idle": site.max_idle,
        "max_an_hour": site.max_an_hour,
        "max_of_vo": site.max_of_vo,
        "open": sum(each.count for each in ours),
        "idle": idle,
    }
    return SiteRecord(site.name, **{**default, **fields})


class Case:
    """What is told to `plan`; each test says what it is about."""

    def __init__(self, *demands: Demand, sites: tuple[SiteConfig, ...] = (a_site(),)) -> None:
        self.demands, self.sites = demands, sites
        self.supplies: tuple[Supply, ...] = ()
        self.records: dict[str, dict[str, Any]] = {}
        self.silences: dict[str, Reason] = {}
        self.history = History()
        self.at = self.now = NOON
        self.told: dict[str, Any] = {}

    def having(self, *supplies: Supply) -> Case:
        self.supplies = supplies
        return self

    @property
    def situation(self) -> Situation:
        records = {
            site.name: record_of(site, self.supplies, **self.records.get(site.name, {}))
            for site in self.sites
        }
        return Situation(self.at, 1, tuple(self.demands), self.supplies, records, **self.told)

    @property
    def plan(self) -> Plan:
        situation = self.situation
        observed = {
            site.name: Observed(
                situation.sites[site.name].idle,
                situation.sites[site.name].open - situation.sites[site.name].idle,
                self.silences.get(site.name),
            )
            for site in self.sites
            if site.name in situation.sites
        }
        sites = {site.name: site for site in self.sites}
        return plan(situation, sites, observed, self.history, self.now)

    @property
    def orders(self) -> list[Order]:
        return list(self.plan.orders)

    @property
    def sent(self) -> Mapping[str, int]:
        return {order.site: order.count for order in self.orders if isinstance(order, Submit)}

    def because(self, site: str = "lal") -> set[Because]:
        return {reason.because for reason in self.plan.reasons if reason.site == site}


# Demand against supply


@pytest.mark.parametrize(
    "demands, supplies, sent",
    [
        pytest.param([], [], 0, id="nothing waits"),
        pytest.param([works(7)], [], 7, id="one pilot a work"),
        pytest.param([works(7)], [waiting(3)], 4, id="pilots that wait already are counted"),
        pytest.param([works(7)], [waiting(9)], 0, id="more wait than are needed"),
        pytest.param([works(7)], [running(2, free=1)], 5, id="free slots take works"),
        pytest.param(
            [works(7, wall_time=7_200)],
            [running(2, free=1, life=1)],
            7,
            id="a slot that ends too soon is no supply",
        ),
        pytest.param([works(90)], [running(9, rate=0.1)], 40, id="slots fall free too slowly"),
        pytest.param(
            [works(30)], [running(9, rate=0.1)], 0, id="slots fall free before a pilot starts"
        ),
        pytest.param(
            [works(7)], [waiting(3, age=3_600)], 7, id="who waits too long is not counted on"
        ),
        pytest.param([works(200)], [], 40, id="a cap bounds it"),
        pytest.param(
            [works(3, memory_mib=900), works(3, memory_mib=100)],
            [],
            6,
            id="each demand counts",
        ),
        pytest.param([works(3, cores=2)], [], 0, id="its pilots have too few cores"),
        pytest.param([works(3, memory_mib=2_000)], [], 0, id="its pilots have too little memory"),
        pytest.param([works(3, disk_mib=4_000)], [], 0, id="its pilots have too little disk"),
        pytest.param([works(3, wall_time=90_000)], [], 0, id="its pilots do not live so long"),
        pytest.param([works(3, refusals={"lal": "of VO x only"})], [], 0, id="its rules forbid it"),
        pytest.param([works(3, refusals={"cern": "of VO x only"})], [], 3, id="another's do"),
        pytest.param([works(3, is_common=False, delegation="d")], [], 0, id="by its own only"),
        pytest.param([works(3, requirements="HasGpu")], [], 1, id="nobody knows: one tries"),
        pytest.param(
            [works(3, requirements="HasGpu")], [waiting(1)], 0, id="one is on its way to try"
        ),
        pytest.param(
            [works(3, requirements="HasGpu", fitting=("lal",))], [], 3, id="hosts there were seen"
        ),
        pytest.param(
            [works(3, requirements="HasGpu", unfitting=("lal",))], [], 0, id="were seen not to"
        ),
        pytest.param(
            [works(3)], [replace(running(5, free=1), site="")], 0, id="desktops are supply"
        ),
    ],
)
def test_pilots_are_sent_for_what_will_wait(
    demands: list[Demand], supplies: list[Supply], sent: int
) -> None:
    case = Case(*demands).having(*supplies)
    assert case.sent.get("lal", 0) == sent
    assert not any(isinstance(order, Drain) for order in case.orders)


@pytest.mark.parametrize(
    "demand, sent",
    [
        pytest.param(works(1), 1, id="the only work gets its pilot"),
        pytest.param(works(8), 1, id="eight works, eight cores"),
        pytest.param(works(10), 1, id="two more are not worth a pilot"),
        pytest.param(works(12), 2, id="half a pilot is"),
        pytest.param(works(8, memory_mib=2_000), 2, id="memory counts too"),
        pytest.param(works(2, cores=5), 2, id="cores that are left over do not"),
    ],
)
def test_pilots_of_many_cores_run_many_works(demand: Demand, sent: int) -> None:
    site = a_site(cores=8, memory_mib=8_192)
    assert Case(demand, sites=(site,)).sent == {"lal": sent}


def test_works_that_ask_for_different_things_share_a_pilot() -> None:
    site = a_site(cores=8, memory_mib=8_192)
    demands = [works(1, memory_mib=size) for size in range(100, 108)]
    assert Case(*demands, sites=(site,)).sent == {"lal": 1}
    case = Case(*demands, sites=(site,)).having(waiting(1))
    assert not case.orders


def test_pilots_of_many_cores_are_for_demand_that_lasts() -> None:
    sites = (a_site("slim"), a_site("wide", cores=8, memory_mib=8_192))
    assert Case(works(30), sites=sites).sent == {"slim": 30}
    assert Case(works(9_999), sites=sites).sent == {"slim": 40, "wide": 40}
    assert Case(works(30), sites=sites[1:]).sent == {"wide": 4}


def test_a_share_of_demand_that_always_vanishes_gets_no_pilots() -> None:
    case = Case(works(10))
    case.told = {"submitted": 1_000, "aborted": 500}
    earlier = Situation(NOON - MINUTE, 1, submitted=0, aborted=0)
    case.history.observe(earlier)
    case.history.observe(case.situation)
    assert case.history.vanishing == pytest.approx(0.5)
    assert case.sent == {"lal": 5}


def test_pilots_for_works_that_carry_a_credential_are_submitted_by_it() -> None:
    carrying = works(3, delegation="d", is_common=False)
    case = Case(carrying, works(2), sites=(a_site(submits_as="either"),))
    assert case.orders == [
        Submit("lal", 2, seconds(60)),
        Submit("lal", 3, seconds(60), "d"),
    ]
    private = replace(waiting(3), delegation="d")
    assert case.having(private).orders == [Submit("lal", 2, seconds(60))]
    assert case.having(waiting(3)).orders == [Submit("lal", 3, seconds(60), "d")]
    common = Case(works(3, delegation="d"))
    assert common.orders == [Submit("lal", 3, seconds(60))], "a robot's pilots will do"


# Several sites


def test_sites_share_demand_by_weight_and_cost() -> None:
    sites = (a_site("a"), a_site("b", weight=2), a_site("c", cost=4), a_site("z", weight=0))
    sent = Case(works(26), sites=sites).sent
    assert sent == {"a": 8, "b": 16, "c": 2}
    assert Case(works(4), sites=(a_site("z", weight=0),)).sent == {"z": 4}


def test_who_starts_pilots_sooner_gets_more() -> None:
    case = Case(works(30), sites=(a_site("quick"), a_site("slow")))
    case.history.of("quick").starts.extend([30.0] * 5)
    case.history.of("slow").starts.extend([600.0] * 5)
    sent = case.sent
    assert sent["quick"] > 5 * sent["slow"] > 0


def test_what_one_site_may_not_have_goes_to_another() -> None:
    case = Case(works(60), sites=(a_site("a", ramp_up=5), a_site("b")))
    assert case.sent == {"a": 5, "b": 40}
    assert Because.RAMPED in case.because("a")
    assert Because.CAPPED in case.because("b")


def test_sites_of_one_vo_share_its_cap() -> None:
    limit = {"vo": "biomed", "max_of_vo": 12}
    case = Case(works(60), sites=(a_site("a", **limit), a_site("b", **limit), a_site("c")))
    case.records = {"a": {"of_vo": 2}, "b": {"of_vo": 2}}
    sent = case.sent
    assert sent["a"] + sent.get("b", 0) == 10
    assert sent["c"] == 40


@pytest.mark.parametrize(
    "record, room",
    [
        pytest.param({"open": 47}, 3, id="max_pilots"),
        pytest.param({"idle": 38}, 2, id="max_idle"),
        pytest.param({"an_hour": 99}, 1, id="max_an_hour"),
        pytest.param({"open": 60}, 0, id="more there than may be"),
        pytest.param({"max_pilots": 4}, 4, id="the server's cap is lower than the file's"),
    ],
)
def test_every_cap_is_held(record: dict[str, Any], room: int) -> None:
    case = Case(works(90))
    case.records = {"lal": record}
    assert case.sent.get("lal", 0) == room
    assert Because.CAPPED in case.because()


# What is not done, and why


def test_what_is_stale_or_silent_or_off_gets_no_orders() -> None:
    case = Case(works(9)).having(waiting(30))
    case.now = NOON + timedelta(minutes=5)
    assert not case.orders
    assert case.because() == {Because.STALE}
    case.now = NOON
    case.demands = ()
    case.silences = {"lal": Reason("lal", Because.SITE_SILENT, {"why": "its network is down"})}
    assert not case.orders
    assert case.plan.because("lal") == [
        "Nothing is changed: the site cannot be asked: its network is down."
    ]
    off = Case(works(9), sites=(a_site(by_demand=False),)).having(waiting(30))
    assert not off.orders
    assert off.because() == {Because.NOT_BY_DEMAND}


def test_a_site_that_the_server_does_not_know_gets_nothing() -> None:
    case = Case(works(9))
    situation = replace(case.situation, sites={})
    made = plan(situation, {"lal": a_site()}, {}, History(), NOON)
    assert made == frozen(["lal"], Because.NOT_ON_THE_GRID)


def test_each_reason_is_a_sentence_and_a_row() -> None:
    demands = (works(3), works(2, cores=4), works(1, requirements="HasGpu"))
    case = Case(*demands)
    case.told = {"others": 4}
    assert case.plan.because("lal") == [
        "2 works wait that its pilots cannot run (4 cores): they have cores = 1.",
        "3 pilots are for 3 works (1 core).",
        "1 works want a host that meets HasGpu: the pilots that are there, or on their way, show"
        " whether this site has some.",
        "3 pilots are sent; each goes after 60 s without a work.",
        "4 works wait that no pilot of yours may run.",
    ]
    assert case.plan.reasons[0].row == {
        "site": "lal",
        "because": "unfit",
        "works": 2,
        "shape": "4 cores",
        "obstacle": "they have cores = 1",
        "sentence": case.plan.reasons[0].sentence,
    }


def test_a_site_that_is_left_out_is_told_why() -> None:
    case = Case(works(3), sites=(a_site(), a_site("z", weight=0)))
    assert Because.ELSEWHERE in case.because("z")
    assert Because.SUPPLIED in Case(works(3)).having(waiting(5)).because()
    assert Because.NOTHING_WAITS in Case().because()
    refused = Case(works(3, refusals={"lal": "its site takes works of VO x only"}))
    assert "works of VO x only" in " ".join(refused.plan.because("lal"))
    private = Case(works(3, is_common=False, delegation="d"))
    assert "by their user's credential" in " ".join(private.plan.because("lal"))


@pytest.mark.parametrize("because", Because)
def test_every_sentence_ends_as_one(because: Because) -> None:
    assert because.value.endswith(".")
    assert because.value[0].isupper() or because.value[0] == "{"


# Taking back


def seen_twice(case: Case) -> list[Order]:
    """The orders when the same is seen again two minutes later."""
    assert case.orders is not None
    case.now += timedelta(seconds=61)
    return case.orders


@pytest.mark.parametrize(
    "demands, supplies, at_once, later",
    [
        pytest.param([], [waiting(4)], 4, 4, id="nothing waits any more"),
        pytest.param([], [waiting(40)], 10, 40, id="not all at once before it is seen again"),
        pytest.param([works(5)], [waiting(20)], 5, 15, id="more wait than works do"),
        pytest.param([works(19)], [waiting(20)], 0, 1, id="an estimate may be wrong by a few"),
        pytest.param([works(20)], [waiting(20)], 0, 0, id="each has its work"),
        pytest.param([], [waiting(3, age=7_200)], 3, 3, id="those that wait too long as well"),
        pytest.param([works(9)], [waiting(3, age=7_200)], 0, 0, id="but not while works wait"),
    ],
)
def test_waiting_pilots_are_taken_back_when_no_work_is_left_for_them(
    demands: list[Demand], supplies: list[Supply], at_once: int, later: int
) -> None:
    def withdrawn(orders: list[Order]) -> int:
        return sum(order.count for order in orders if isinstance(order, Withdraw))

    case = Case(*demands, sites=(a_site(max_an_hour=0),)).having(*supplies)
    assert withdrawn(case.orders) == at_once
    assert withdrawn(seen_twice(case)) == later


def test_pilots_are_not_taken_back_by_an_answer_that_was_cut_short() -> None:
    case = Case().having(waiting(9))
    case.told = {"left_off": 1}
    assert not case.orders
    assert Because.CUT_SHORT in case.because()


@pytest.mark.parametrize(
    "drain, order, because",
    [
        ("none", None, Because.TOLERATED),
        ("drain", Drain("lal", 3), Because.DRAINED),
        ("forced", Drain("lal", 3, True), Because.FORCED),
    ],
)
def test_what_becomes_of_running_pilots_that_are_too_many(
    drain: str, order: Order | None, because: Because
) -> None:
    case = Case(works(99), sites=(a_site(max_pilots=5, drain=drain),)).having(running(8))
    assert case.orders == ([] if order is None else [order])
    assert because in case.because()


def test_running_pilots_are_never_taken_back_for_want_of_demand() -> None:
    assert not seen_twice(Case().having(running(30, free=1)))


# Black holes


def ended(minute: float, status: PilotStatus = PilotStatus.FAILED, **fields: Any) -> PilotNews:
    at = NOON - hours(1) + timedelta(minutes=minute)
    default: dict[str, Any] = {"started_at": at - seconds(20), "ended_at": at}
    return PilotNews("lal", status, at - hours(0.1), **{**default, **fields})


def learned(*news: PilotNews) -> Case:
    case = Case(works(20)).having(waiting(8))
    case.told = {"news": news}
    case.history.observe(case.situation)
    return case


def test_a_site_that_swallows_pilots_gets_none_and_those_that_wait_come_back() -> None:
    case = learned(*(ended(minute) for minute in (57, 58, 59)))
    assert case.orders == [Withdraw("lal", 8)]
    assert Because.BLACK_HOLE in case.because()
    case.having()
    case.now += timedelta(seconds=100)
    assert not case.orders


@pytest.mark.parametrize(
    "news",
    [
        pytest.param([ended(58), ended(59)], id="two are no proof"),
        pytest.param([ended(57), ended(58), ended(59, tasks_done=4)], id="one did works"),
        pytest.param([ended(n, PilotStatus.DELETED) for n in (57, 58, 59)], id="we did it"),
        pytest.param([ended(n, PilotStatus.DONE) for n in (57, 58, 59)], id="no demand was there"),
        pytest.param(
            [ended(n, started_at=NOON - hours(9)) for n in (57, 58, 59)], id="they lived long"
        ),
        pytest.param(
            [ended(n, is_reached=False, started_at=None) for n in (57, 58, 59)],
            id="the site never had them",
        ),
    ],
)
def test_a_site_is_trusted_without_three_failures_in_a_row(news: list[PilotNews]) -> None:
    assert learned(*news).sent


def test_after_the_pause_one_pilot_tries_and_one_that_works_ends_the_suspicion() -> None:
    case = learned(*(ended(minute) for minute in (57, 58, 59)))
    case.having()
    later = NOON + timedelta(minutes=10)
    situation = replace(case.situation, at=later, news=())
    made = plan(situation, {"lal": a_site()}, {}, case.history, later)
    assert [order.count for order in made.orders] == [1]
    case.having(waiting(1))
    case.at = case.now = later
    assert not case.orders, "the one that tries is left alone"
    assert case.because() >= {Because.ON_PROBATION}

    failed = PilotNews("lal", PilotStatus.FAILED, later, later, later + MINUTE)
    case.history.observe(replace(situation, at=later + MINUTE, news=(failed,)))
    again = case.history.of("lal").breaker.opens_again_at
    assert again == later + MINUTE + timedelta(minutes=20), "each pause is twice as long"

    useful = replace(situation.sites["lal"], useful_since=later + hours(0.5))
    sites = {"lal": useful}
    case.history.observe(replace(situation, at=later + hours(1), sites=sites))
    assert case.history.of("lal").breaker.opens_again_at is None


def test_pilots_that_leave_while_works_wait_for_them_are_a_black_hole_s() -> None:
    case = Case(works(20))
    case.history.observe(case.situation)
    assert case.sent
    done = [PilotNews("lal", PilotStatus.DONE, NOON, NOON, NOON + n * MINUTE) for n in (1, 2, 3)]
    case.history.observe(replace(case.situation, at=NOON + 4 * MINUTE, news=tuple(done)))
    assert case.history.of("lal").breaker.opened_at is not None


# What is learned


def test_a_pilot_idles_for_a_small_part_of_what_its_like_have_worked() -> None:
    case = Case(works(1))
    assert case.orders == [Submit("lal", 1, seconds(60))]
    news = ended(59, PilotStatus.DONE, started_at=NOON - hours(3), tasks_done=9)
    case.told = {"news": (news,)}
    case.history.observe(case.situation)
    (order,) = case.orders
    assert isinstance(order, Submit)
    assert order.idle_time == 0.01 * (hours(2) + timedelta(minutes=59))
    case.sites = (a_site(idle_time=seconds(20)),)
    assert case.orders == [Submit("lal", 1, seconds(20))], "what the site's file says bounds it"


def test_nothing_is_learned_twice_and_a_new_server_counts_anew() -> None:
    history = History()
    news = (ended(59, PilotStatus.RUNNING, ended_at=None),)
    first = Situation(NOON, 1, news=news, submitted=10)
    history.observe(first)
    history.observe(first)
    assert list(history.of("lal").starts) == [340.0]
    history.observe(Situation(NOON + MINUTE, 2, news=news, submitted=5, aborted=5))
    assert list(history.of("lal").starts) == [340.0]
    assert history.vanishing == 0.0
    assert "open: []" in repr(history)
