"""What the server tells of demand and supply, as a client reads it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from desktopgrid.client.demand import situation_of
from desktopgrid.model.demand import Demand, Situation, Supply
from desktopgrid.model.errors import AccessDenied, LimitExceeded, RemoteProtocolError
from desktopgrid.model.lifecycle import DelegationStatus, PilotStatus
from desktopgrid.model.objects import Delegation, Platform, Site
from desktopgrid.model.rights import UserLevel
from desktopgrid.server import demand, hosts, pilots
from desktopgrid.server.scheduler import HostState
from desktopgrid.server.state import Outcome
from desktopgrid.wire import messages as m
from desktopgrid.wire.proof import new_secret, prove, verifier_of
from tests.builders import NOON, GridUnderTest, a_user, an_application, facts, hours, seconds

SECRET = new_secret()


@pytest.fixture
def grid() -> GridUnderTest:
    sites = {
        "lal": Site("lal", "fake", max_pilots=9, max_idle=9, vo="biomed", max_of_vo=4),
        "cern": Site("cern", "fake", vo="biomed", max_of_vo=4),
        "cnaf": Site("cnaf", "fake"),
    }
    grid = GridUnderTest(sites=sites)
    grid.add_user(a_user("ada", level=UserLevel.ADVANCED))
    return grid


def told(grid: GridUnderTest, since: datetime | None = None) -> Situation:
    at = since.timestamp() if since is not None else 0.0
    return situation_of(grid.ask(m.Demand(at), "ada"))


def a_pilot(grid: GridUnderTest, stamp: str, site: str = "lal", login: str = "ada") -> None:
    grid.ask(m.SubmitPilots(site, {stamp: verifier_of(SECRET)}), login)


def arrives(grid: GridUnderTest, stamp: str, life: int | None = 7_200, **said: Any) -> HostState:
    session = f"session-{stamp}"
    proof = prove(SECRET, "nonce", "pilot", stamp, session)
    hello = m.Hello(
        1,
        "pilot",
        stamp,
        proof,
        session,
        host=f"host-{stamp}",
        facts={**facts(stamp, **{"cores": 1, **said}).__dict__},
        lifetime=life,
        proved_by="enrolment",
        key="a" * 64,
    )
    grid.out = Outcome()
    who = pilots.authenticate(grid.grid, hello, "nonce", grid.now, grid.out)
    return hosts.host_arrived(grid.grid, who, hello, False, grid.now, grid.out)


# Demand


def test_works_that_ask_for_the_same_are_one_demand_whoever_sent_them(grid: GridUnderTest) -> None:
    grid.add_user(a_user("bob"))
    grid.submit(2, cores=4, memory_mib=512)
    grid.after(seconds(30))
    grid.submit(3, "bob", cores=4, memory_mib=512)
    grid.submit(1, wall_time=600)
    assert told(grid).demands == (
        Demand(5, NOON, cores=4, memory_mib=512, platforms=("any/any",)),
        Demand(1, NOON + seconds(30), wall_time=600, platforms=("any/any",)),
    )


def test_what_no_pilot_of_the_asker_may_run_is_counted_and_not_told(grid: GridUnderTest) -> None:
    mine = an_application("mine", rights=0o700, owner="alice")
    grid.grid.put_application(mine)
    grid.submit(2, application="mine")
    grid.submit(1, expected_host="desk9")
    grid.submit(1)
    situation = told(grid)
    assert [demand.works for demand in situation.demands] == [1]
    assert (situation.others, situation.waiting) == (3, 1)


def test_a_group_s_pilots_see_the_works_of_the_group(grid: GridUnderTest) -> None:
    for login in ("ada", "alice"):
        grid.add_user(replace(grid.grid.users[login], group="physics"))
    grid.grid.put_application(an_application("ours", rights=0o750, owner="ada"))
    grid.submit(2, application="ours")
    grid.submit(3)
    situation = told(grid)
    assert [demand.works for demand in situation.demands] == [2]
    assert situation.others == 3


def test_a_demand_tells_who_is_certified_and_what_it_runs_on(grid: GridUnderTest) -> None:
    grid.ask(m.ChangeUser("alice", add_subjects=("/DC=org/CN=Alice",)), "admin")
    linux = an_application("linux", executables={Platform("x86_64", "linux"): "program"})
    grid.grid.put_application(linux)
    grid.submit(1, application="linux")
    (wanted,) = told(grid).demands
    assert wanted.is_certified
    assert not wanted.is_validated
    grid.ask(m.Validate("linux"), "admin")
    assert told(grid).demands[0].is_validated
    assert wanted.platforms == ("x86_64/linux",)


def test_a_site_s_rules_are_told_with_each_demand_that_they_concern(grid: GridUnderTest) -> None:
    sites = {**grid.grid.sites, "gate": Site("gate", "arc", certified_users_only=True)}
    grid.grid.sites = sites
    grid.submit(2)
    (wanted,) = told(grid).demands
    assert wanted.refusals == {"gate": "its site takes works of users with a certificate only"}
    grid.ask(m.ChangeUser("alice", add_subjects=("/DC=org/CN=Alice",)), "admin")
    assert told(grid).demands[0].refusals == {}


def test_works_that_carry_a_credential_are_told_to_the_bridge_that_has_it(
    grid: GridUnderTest,
) -> None:
    grid.grid.put_application(an_application("mine", rights=0o700, owner="alice"))
    for bridge in ("ada", "another"):
        grid.grid.delegations[f"by-{bridge}"] = Delegation(
            f"by-{bridge}",
            "alice",
            bridge,
            "proxy",
            DelegationStatus.ACTIVE,
            NOON,
            NOON + hours(9),
            vo="biomed",
        )
        grid.submit(1, application="mine", delegation=f"by-{bridge}")
    situation = told(grid)
    (wanted,) = situation.demands
    assert (wanted.delegation, wanted.vo, wanted.is_common) == ("by-ada", "biomed", False)
    assert situation.others == 1
    grid.after(hours(10))
    assert told(grid).demands == ()


def test_an_aborted_work_is_no_demand(grid: GridUnderTest) -> None:
    first, second = grid.submit(2)
    grid.ask(m.Cancel((first,)))
    grid.after(seconds(5))
    (wanted,) = told(grid).demands
    assert wanted.works == 1
    grid.ask(m.Cancel((second,)))
    situation = told(grid)
    assert situation.demands == ()
    assert (situation.submitted, situation.aborted) == (2, 2)


def test_sites_are_remembered_by_the_requirements_that_their_hosts_met(grid: GridUnderTest) -> None:
    grid.submit(1, requirements="HasGpu")
    for number in range(3):
        a_pilot(grid, f"p{number}")
        arrives(grid, f"p{number}")
        verdict = {("HasGpu", f"host-p{number}"): False}
        assert told(grid).demands[0].unfitting == ()
        grid.grid.scheduler.judge(verdict)
    assert told(grid).demands[0].unfitting == ("lal",)
    a_pilot(grid, "q", "cnaf")
    arrives(grid, "q")
    grid.grid.scheduler.judge({("HasGpu", "host-q"): True})
    hosts.host_left(
        grid.grid,
        grid.grid.scheduler.hosts["host-q"],
        demand_event(),
        "gone",
        grid.now,
        Outcome(),
    )
    (wanted,) = told(grid).demands
    assert (wanted.fitting, wanted.unfitting) == (("cnaf",), ("lal",))


def demand_event() -> Any:
    return hosts.TaskEvent.LOST


def test_a_long_answer_is_cut_and_says_how_much_was_left_off(
    grid: GridUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demand, "MOST_DEMANDS", 2)
    for memory in (1, 2, 3):
        grid.submit(memory, memory_mib=memory)
    situation = told(grid)
    assert [wanted.works for wanted in situation.demands] == [3, 2]
    assert (situation.left_off, situation.waiting) == (1, 6)


# Supply


def test_hosts_that_are_alike_are_one_supply(grid: GridUnderTest) -> None:
    grid.arrives("desk1", cores=4)
    grid.arrives("desk2", cores=4)
    for stamp in ("p1", "p2"):
        a_pilot(grid, stamp)
    grid.after(seconds(61))
    arrives(grid, "p1", memory_mib=2048)
    desk, lal, waiting = sorted(told(grid).supplies, key=lambda s: (s.site, not s.is_running))
    assert (desk.count, desk.site, desk.free_cores, desk.ends_at) == (2, "", 4, None)
    assert (lal.count, lal.site, lal.free_cores, lal.free_memory_mib) == (1, "lal", 1, 2048)
    assert lal.ends_at == grid.now + hours(2)
    assert waiting == Supply("lal", False, 1, NOON + seconds(1))


def test_a_busy_host_tells_how_fast_its_tasks_end(grid: GridUnderTest) -> None:
    a_pilot(grid, "p1")
    state = arrives(grid, "p1")
    grid.submit(3)
    assert told(grid).supplies[0].ends_per_second == 0.0
    grid.finishes(state)
    assert told(grid).supplies[0].ends_per_second == pytest.approx(1 / 60)


def test_draining_and_other_people_s_hosts_are_no_supply(grid: GridUnderTest) -> None:
    grid.arrives("mine", "alice")  # a private worker
    a_pilot(grid, "p1")
    arrives(grid, "p1")
    grid.ask(m.DrainPilots(("p1",)), "ada")
    situation = told(grid)
    assert situation.supplies == ()
    assert situation.sites["lal"].open == 1


def test_sites_tell_what_counts_against_their_caps(grid: GridUnderTest) -> None:
    for stamp, site in (("p1", "lal"), ("p2", "lal"), ("p3", "cern")):
        a_pilot(grid, stamp, site)
    grid.after(seconds(10))
    state = arrives(grid, "p1")
    grid.submit(1)
    grid.finishes(state)
    lal = told(grid).sites["lal"]
    assert (lal.open, lal.idle, lal.an_hour, lal.of_vo, lal.max_of_vo) == (2, 1, 2, 3, 4)
    assert lal.useful_since == grid.now
    assert told(grid).sites["cnaf"].max_of_vo == 0


def test_a_vo_has_so_many_pilots_at_all_its_sites(grid: GridUnderTest) -> None:
    for stamp, site in (("p1", "lal"), ("p2", "lal"), ("p3", "cern")):
        a_pilot(grid, stamp, site)
    grid.ask(m.SubmitPilots("cern", {"p4": verifier_of(SECRET)}), "ada")
    with pytest.raises(LimitExceeded, match="site lal: 4 pilots count against max_of_vo = 4"):
        a_pilot(grid, "p5")
    a_pilot(grid, "p6", "cnaf")


def test_news_are_what_happened_since(grid: GridUnderTest) -> None:
    a_pilot(grid, "p1")
    a_pilot(grid, "p2")
    grid.after(seconds(10))
    arrives(grid, "p1")
    assert [each.status for each in told(grid).news] == [PilotStatus.RUNNING]
    grid.after(seconds(10))
    grid.ask(m.PilotReport({"p2": {"status": "Failed"}}), "ada")
    (news,) = told(grid, grid.now - seconds(5)).news
    assert (news.status, news.started_at, news.ended_at) == (PilotStatus.FAILED, None, grid.now)
    assert told(grid, grid.now).news == ()


# Who asks, and what is believed


def test_only_who_may_have_pilots_is_told(grid: GridUnderTest) -> None:
    with pytest.raises(AccessDenied, match="standard may not see what pilots"):
        grid.ask(m.Demand(), "alice")


def test_what_a_factory_decided_is_told_to_who_asks_for_the_site(grid: GridUnderTest) -> None:
    a_pilot(grid, "p1")
    first, last = grid.ask(m.Why("lal"))["sentences"]
    assert first.startswith("Pilots of site lal that count against its caps: 1 of 9 (max_pilots),")
    assert "`pilot factory`" in last
    said = ("Nothing was done: nothing waits.",) * 99
    assert grid.ask(m.SiteReport({"lal": said, "nowhere": ()}), "ada") == {"sites": ["lal"]}
    _, by, *sentences = grid.ask(m.Why("lal"))["sentences"]
    assert by == "The factory of ada decided at 2026-11-20 12:00:00 UTC:"
    assert sentences == ["  Nothing was done: nothing waits."] * demand.MOST_SENTENCES


@pytest.mark.parametrize(
    "spoilt, said",
    [
        pytest.param({"demands": None}, "lacks demands", id="cut off"),
        pytest.param({"left_off": "0"}, "lacks left_off", id="a text for a number"),
        pytest.param({"at": "noon"}, "at = 'noon'", id="no time"),
        pytest.param({"demands": [{"works": 1}]}, "lacks oldest_at", id="not whole"),
        pytest.param(
            {"demands": [{"works": True, "oldest_at": 0}]}, "works = 'True'", id="no count"
        ),
        pytest.param({"supplies": ["s"]}, "Supply 's'", id="no object"),
        pytest.param(
            {"demands": [{"works": 1, "oldest_at": 0, "platforms": [1]}]},
            "platforms",
            id="no names",
        ),
        pytest.param(
            {"news": [{"site": "lal", "status": "Lazy", "submitted_at": 0}]}, "Lazy", id="no status"
        ),
    ],
)
def test_an_answer_that_is_not_whole_is_an_error_and_never_a_zero(
    grid: GridUnderTest, spoilt: dict[str, Any], said: str
) -> None:
    reply = grid.ask(m.Demand(), "ada")
    with pytest.raises(RemoteProtocolError, match=said):
        situation_of({**reply, **spoilt})
