"""The factory keeps its promises whatever fails under it, and wherever it is killed."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from desktopgrid.client.trustee import Held
from desktopgrid.model.errors import BadRequest
from desktopgrid.model.lifecycle import DelegationStatus, PilotStatus
from desktopgrid.model.objects import Delegation
from desktopgrid.model.rights import EVERYTHING, Scope
from desktopgrid.model.sites import FakeSite, SiteConfig
from desktopgrid.wire import messages as m
from pilot.ce.fake import FakeCE
from pilot.factory.daemon import Factory, Round, mark_of, only_one
from pilot.factory.plan import Drain, Submit, Withdraw
from pilot.factory.provision import submit_pilots
from pilot.factory.reasons import Because
from tests.builders import an_application, hours, seconds
from tests.unit.factory.asked import AskedGrid
from tests.unit.factory.test_watch import FakeSites

LAL = FakeSite("lal", max_pilots=4, max_idle=3, max_an_hour=9, ramp_up=9)


class World:
    """A server and two sites in memory, and the works of alice; the factory is ada's."""

    def __init__(self) -> None:
        self.grid = AskedGrid()
        self.doors = {"lal": FakeCE(slots=9), "cern": FakeCE(slots=9)}
        self.configurations: dict[str, SiteConfig] = {"lal": LAL}
        self.factory = self.build()

    def build(self) -> Factory:
        """A factory that was started just now."""
        sites = FakeSites(self.configurations, self.doors)
        return Factory(self.grid.client, sites, clock=lambda: self.grid.server.now)

    def round(self, after: timedelta | None = None) -> Round:
        """One round, half a minute or so later."""
        self.grid.server.after(after or seconds(30))
        return self.factory.run_once()

    @property
    def at_the_door(self) -> Counter[str]:
        """How often each stamp is there and alive."""
        door = self.doors["lal"]
        return Counter(door.jobs[name].stamp for name in [*alive(door)])

    @property
    def on_record(self) -> Counter[str]:
        """The pilots that are open on record."""
        pilots = self.grid.server.grid.pilots.values()
        return Counter(p.stamp for p in pilots if p.status.value in ("Submitted", "Waiting"))

    def statuses(self) -> Counter[str]:
        """What is on record."""
        return Counter(p.status.value for p in self.grid.server.grid.pilots.values())

    def because(self, done: Round, site: str = "lal") -> set[Because]:
        """The reasons about a site."""
        return {reason.because for reason in done.plan.reasons if reason.site == site}


def alive(door: FakeCE) -> Sequence[Any]:
    statuses = (PilotStatus.WAITING, PilotStatus.RUNNING)
    return [name for status in statuses for name in door.having(status)]


@pytest.fixture
def world() -> World:
    return World()


def test_pilots_are_sent_for_what_waits_and_the_server_is_told_why(world: World) -> None:
    world.grid.server.submit(2)
    done = world.round()
    assert done.plan.orders == (Submit("lal", 2, timedelta(seconds=60)),)
    assert done.done == ("Sent 2 pilots to lal.",)
    assert world.at_the_door == world.on_record
    assert all(stamp.startswith(mark_of("ada")) for stamp in world.on_record)
    (job, _) = world.doors["lal"].jobs.values()
    assert "--idle 60" in " ".join(job.arguments)
    assert "2 pilots are sent" in " ".join(world.grid.client.why("lal"))
    assert not world.round().plan.orders


def test_a_dry_run_changes_nothing(world: World) -> None:
    world.grid.server.submit(2)
    assert world.factory.run_once(is_dry=True).plan.orders
    assert not world.grid.server.grid.pilots
    assert not world.grid.server.grid.decisions


def test_pilots_for_which_the_demand_has_vanished_are_taken_back(world: World) -> None:
    works = world.grid.server.submit(3)
    world.round()
    assert len(world.at_the_door) == 3
    world.grid.server.ask(m.Cancel(tuple(works)))
    done = world.round()
    assert done.plan.orders == (Withdraw("lal", 3),)
    assert not world.at_the_door
    assert world.statuses() == {"Deleted": 3}


def test_a_pilot_that_started_meanwhile_is_not_taken_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    works = world.grid.server.submit(2)
    world.round()
    world.grid.server.ask(m.Cancel(tuple(works)))
    first, second = world.on_record
    server = world.grid.server

    def starts_just_now(stamps: list[str]) -> list[str]:
        pilot = server.grid.pilots[first]
        server.grid.pilots[first] = replace(pilot, session_verifier="a" * 64)
        return withdraw(stamps)

    withdraw = world.factory.record.withdraw
    monkeypatch.setattr(world.factory.record, "withdraw", starts_just_now)
    world.round()
    assert list(world.at_the_door) == [first]
    assert server.grid.pilots[second].status.value == "Deleted"


def test_pilots_that_were_sent_by_hand_are_left_alone(world: World) -> None:
    submit_pilots(world.grid.client, LAL, 2, world.doors["lal"])
    for _ in range(5):
        assert not world.round().plan.orders
    assert len(world.at_the_door) == 2


def test_one_site_that_fails_touches_no_other(world: World) -> None:
    world.configurations["cern"] = FakeSite("cern", ramp_up=9)
    world.factory = world.build()
    world.grid.server.submit(8)
    assert {order.site for order in world.round().plan.orders} == {"lal", "cern"}
    world.doors["cern"].unavailable_because = "its network is down"
    world.grid.server.submit(20)
    done = world.round()
    assert Because.SITE_SILENT in world.because(done, "cern")
    assert all(order.site == "lal" for order in done.plan.orders)
    assert Because.SITE_RESTS in world.because(world.round(seconds(10)), "cern")
    world.doors["cern"].unavailable_because = None
    done = world.round(seconds(60))
    assert not {Because.SITE_RESTS, Because.SITE_SILENT} & world.because(done, "cern")


def test_whatever_a_door_raises_is_the_trouble_of_its_site(world: World) -> None:
    class BrokenCE(FakeCE):
        def find(self, stamps: Sequence[str]) -> Any:
            raise KeyError("QDate")

    world.doors["cern"] = BrokenCE()
    world.configurations["cern"] = FakeSite("cern", ramp_up=9)
    world.factory = world.build()
    world.grid.server.submit(8)
    done = world.round()
    assert "Sent" in " ".join(done.done)
    assert Because.REFUSED in world.because(done, "cern")
    assert "its door failed: KeyError: 'QDate'" in " ".join(done.plan.because("cern"))


def test_a_door_that_hangs_holds_up_no_other(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = threading.Event()

    class HangingCE(FakeCE):
        def find(self, stamps: Sequence[str]) -> Any:
            ends.wait(60)
            return super().find(stamps)

    monkeypatch.setattr("pilot.factory.daemon.ACT_WITHIN", 2.0)
    world.doors["cern"] = HangingCE()
    world.configurations["cern"] = FakeSite("cern", ramp_up=9)
    world.factory = world.build()
    world.grid.server.submit(8)
    try:
        assert "has not answered for 2 s" in " ".join(world.round().plan.because("cern"))
        assert world.at_the_door
    finally:
        ends.set()


def test_a_server_that_is_silent_freezes_everything(world: World) -> None:
    world.grid.server.submit(2)
    world.grid.fails_at = m.Demand
    done = world.round()
    assert world.because(done) == {Because.SERVER_SILENT}
    assert not done.plan.orders
    assert not world.at_the_door


def test_a_cap_that_somebody_else_used_up_meanwhile_is_said(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.grid.server.submit(3)
    situation = world.factory.record.situation

    def and_then_somebody_submits(since: Any = None) -> Any:
        told = situation(since)
        submit_pilots(world.grid.client, LAL, 1, world.doors["lal"])
        return told

    monkeypatch.setattr(world.factory.record, "situation", and_then_somebody_submits)
    done = world.round()
    assert "max_idle = 3; 3 more are too many" in " ".join(done.plan.because("lal"))
    assert len(world.at_the_door) == 1


def test_a_site_that_refuses_again_and_again_is_left_alone_for_a_while(world: World) -> None:
    world.doors["lal"].refused_because = "it is closed"
    world.grid.server.submit(1)
    for _ in range(3):
        assert "it is closed" in " ".join(world.round(seconds(100)).plan.because("lal"))
    assert Because.BLACK_HOLE in world.because(world.round())
    world.doors["lal"].refused_because = None
    assert Because.SENT in world.because(world.round(hours(0.5)))


def test_when_a_cap_was_lowered_running_pilots_drain(world: World) -> None:
    world.grid.server.submit(3)
    world.round()
    door = world.doors["lal"]
    door.step()
    for stamp in list(world.on_record):
        pilot = world.grid.server.grid.pilots[stamp]
        world.grid.server.grid.pilots[stamp] = replace(pilot, session_verifier="a" * 64)
        state = world.grid.server.arrives(f"host-{stamp}", "ada", cores=1)
        state.host = replace(state.host, pilot=stamp)
        world.grid.server.grid.pilots[stamp] = replace(
            world.grid.server.grid.pilots[stamp], host=f"host-{stamp}", status=PilotStatus.RUNNING
        )
    world.configurations["lal"] = replace(LAL, max_pilots=1)
    world.factory = world.build()
    done = world.round()
    assert Drain("lal", 2) in done.plan.orders
    assert len(world.at_the_door) == 1


# Killed at any step


class Killed(BaseException):
    """What kill -9 is to a process."""


class Steps:
    """Counts the steps that a factory takes, and kills it before or after one of them."""

    def __init__(self, last: int) -> None:
        self.taken, self.last = 0, last

    def step(self) -> None:
        """One more."""
        if self.taken == self.last:
            raise Killed
        self.taken += 1

    def around(self, do: Callable[..., Any]) -> Callable[..., Any]:
        """``do``, with a step before and one after it."""

        def stepping(*args: Any, **kwargs: Any) -> Any:
            self.step()
            done = do(*args, **kwargs)
            self.step()
            return done

        return stepping


ASKED_OF_A_DOOR = ("submit", "find", "statuses", "remove")


def run_and_kill(world: World, last: int) -> bool:
    """A round that is killed at a step; whether it came so far."""
    steps = Steps(last)
    door = world.doors["lal"]
    factory = world.build()
    kept = {name: getattr(door, name) for name in ASKED_OF_A_DOOR}
    ask = world.grid.ask
    try:
        for name, do in kept.items():
            setattr(door, name, steps.around(do))
        world.grid.ask = steps.around(ask)  # type: ignore[method-assign]
        factory.run_once()
    except Killed:
        return True
    finally:
        for name in kept:
            delattr(door, name)
        del world.grid.ask
    return False


def settle(world: World) -> None:
    """Rounds of a factory that lives, until nothing is left to be found out."""
    world.factory = world.build()
    for _ in range(4):
        world.round(timedelta(minutes=3))


def test_a_factory_killed_at_any_step_neither_loses_nor_doubles_a_pilot() -> None:
    killed_at = 0
    while True:
        world = World()
        world.grid.server.submit(3)
        was_killed = run_and_kill(world, killed_at)
        settle(world)
        assert world.at_the_door == world.on_record, f"killed at step {killed_at}"
        assert set(world.at_the_door.values()) == {1}
        assert len(world.at_the_door) == 3
        if not was_killed:
            break
        killed_at += 1
    assert killed_at > 10


def test_a_factory_killed_as_it_takes_pilots_back_leaves_none_behind() -> None:
    killed_at = 0
    while True:
        world = World()
        works = world.grid.server.submit(3)
        world.round()
        world.grid.server.ask(m.Cancel(tuple(works)))
        was_killed = run_and_kill(world, killed_at)
        settle(world)
        assert not world.at_the_door, f"killed at step {killed_at}"
        assert world.statuses() == {"Deleted": 3}
        if not was_killed:
            break
        killed_at += 1
    assert killed_at > 10


def test_what_it_was_taken_back_is_taken_back_at_the_site_when_that_answers_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    works = world.grid.server.submit(2)
    world.round()
    world.grid.server.ask(m.Cancel(tuple(works)))
    door = world.doors["lal"]
    remove = door.remove

    def breaks_off(references: Any) -> None:
        door.unavailable_because = "its network is down"
        remove(references)

    monkeypatch.setattr(door, "remove", breaks_off)
    world.round()
    monkeypatch.undo()
    assert world.statuses() == {"Deleted": 2}
    assert len(world.at_the_door) == 2
    door.unavailable_because = None
    world.round(hours(0.5))
    assert not world.at_the_door


def test_there_is_one_factory_of_a_user_on_a_machine(tmp_path: Path) -> None:
    with only_one(tmp_path / "state", "ada"):
        with (
            pytest.raises(BadRequest, match=r"runs here already: process [0-9]+"),
            only_one(tmp_path / "state", "ada"),
        ):
            pass
        with only_one(tmp_path / "state", "eve"):
            pass
    with only_one(tmp_path / "state", "ada"):
        pass


# Users' credentials


@pytest.mark.feature("XW-PIL-3")
def test_pilots_for_works_that_carry_a_credential_are_sent_by_it(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server = world.grid.server
    server.grid.sites["lal"] = replace(server.grid.sites["lal"], submits_as="either")
    world.configurations["lal"] = replace(LAL, submits_as="either")
    server.grid.put_application(an_application("mine", rights=0o700, owner="alice"))
    server.grid.delegations["d1"] = Delegation(
        "d1", "alice", "ada", "proxy", DelegationStatus.ACTIVE, server.now, server.now + hours(9)
    )
    works = server.submit(2, application="mine", delegation="d1")

    world.grid.scope = EVERYTHING | Scope.BRIDGE
    assert "a bridge's business" in " ".join(world.build().run_once().plan.because("lal"))
    held = a_held(tmp_path, server.now + hours(9))
    sites = FakeSites(world.configurations, world.doors)
    clock = partial(getattr, server, "now")
    factory = Factory(world.grid.client, sites, clock=clock, held={"d1": held}.__getitem__)
    theirs = FakeCE()
    shown: list[Any] = []

    def build(site: SiteConfig, state: Path, credential: Any) -> FakeCE:
        shown.append(credential.file)
        return theirs

    monkeypatch.setattr("pilot.factory.daemon.build_computing_element", build)
    server.after(seconds(40))
    factory.run_once()
    assert set(shown) == {held.path}
    assert len(theirs.jobs) == 2
    assert {pilot.delegation for pilot in server.grid.pilots.values()} == {"d1"}
    assert not world.doors["lal"].jobs, "nothing is asked for as somebody else"
    theirs.unavailable_because = "the proxy ran out"
    server.after(seconds(40))
    done = factory.run_once()
    assert Because.SITE_SILENT not in world.because(done), "that is no trouble of the site's"
    theirs.unavailable_because = None
    server.ask(m.Cancel(tuple(works)))
    server.after(seconds(40))
    factory.run_once()
    assert not alive(theirs)
    assert world.statuses() == {"Deleted": 2}


def a_held(directory: Path, until: Any) -> Held:
    """What a bridge holds of alice."""
    subject = "/DC=org/CN=Alice"
    return Held("d1", "proxy", directory / "proxy.pem", 1, "alice", subject, "", (), until)
