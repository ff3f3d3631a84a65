"""Pilots go when they are idle; a busy one is not taken without being asked for."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from desktopgrid.model.errors import UnknownObject
from desktopgrid.model.lifecycle import PilotStatus
from desktopgrid.model.objects import Site
from desktopgrid.server import hosts
from desktopgrid.server.scheduler import HostState
from desktopgrid.wire import messages as m
from pilot.ce.base import ComputingElementUnavailable
from pilot.factory.removal import Removal, choose, remove_pilots
from tests.builders import facts
from tests.unit.factory.test_watch import ONE, World


@pytest.fixture
def world() -> World:
    return World()


def makes_contact(world: World, stamp: str) -> HostState:
    """The worker of a pilot says hello."""
    server = world.grid.server
    said = m.Hello(
        1,
        "pilot",
        stamp,
        "",
        f"s-{stamp}",
        host=f"h-{stamp}",
        facts={**facts(stamp, cores=1).__dict__},
    )
    # The server knows no hosts that came through a fake door.
    server.grid.sites = {**server.grid.sites, "lal": Site("lal", "condor")}
    who = server.grid.who(server.grid.users["worker"])
    return hosts.host_arrived(server.grid, who, said, False, server.now, server.out)


class Time:
    """A clock that moves when one sleeps; ``then`` happens meanwhile."""

    def __init__(self, then: Callable[[], None] = lambda: None) -> None:
        self.seconds, self.then = 0.0, then

    def now(self) -> float:
        return self.seconds

    def sleep(self, span: float) -> None:
        self.seconds += span
        self.then()


def remove(world: World, *stamps: str, time: Time | None = None, **options: bool) -> Removal:
    time = time or Time()
    pilots = choose(world.record, stamps or world.stamps, None)
    return remove_pilots(
        world.record,
        world.sites,
        pilots,
        timedelta(seconds=5),
        clock=time.now,
        sleep=time.sleep,
        **options,
    )


def test_pilots_that_wait_are_removed_at_once(world: World) -> None:
    removal = remove(world)
    assert sorted(removal.removed) == sorted(world.stamps)
    assert world.statuses == ["Deleted"] * 3
    assert len(world.doors["lal"].having(PilotStatus.DELETED)) == 3


def test_a_busy_pilot_stays_and_takes_no_more(world: World) -> None:
    state = makes_contact(world, world.stamps[0])
    world.grid.server.submit()
    time = Time()
    removal = remove(world, world.stamps[0], time=time)
    assert removal == Removal(busy=(world.stamps[0],))
    assert time.seconds >= 5
    assert state.is_draining
    assert world.statuses[0] == "Running"
    assert not world.doors["lal"].having(PilotStatus.DELETED)


def test_a_pilot_that_becomes_idle_in_time_is_removed(world: World) -> None:
    state = makes_contact(world, world.stamps[0])
    world.grid.server.submit()

    def it_ends() -> None:
        if state.tasks:
            world.grid.server.finishes(state)

    removal = remove(world, world.stamps[0], time=Time(it_ends))
    assert removal == Removal(removed=(world.stamps[0],))
    assert world.statuses[0] == "Deleted"


def test_a_busy_pilot_is_taken_at_once_if_that_is_wanted(world: World) -> None:
    makes_contact(world, world.stamps[0])
    world.grid.server.submit()
    time = Time()
    removal = remove(world, world.stamps[0], time=time, is_urgent=True)
    assert (removal.removed, time.seconds) == ((world.stamps[0],), 0)
    assert world.doors["lal"].having(PilotStatus.DELETED) == [ONE]


def test_what_is_over_is_said_to_be_over(world: World) -> None:
    remove(world, world.stamps[0])
    assert remove(world, world.stamps[0]) == Removal(over=(world.stamps[0],))


def test_of_a_site_that_cannot_be_asked_nobody_is_even_drained(world: World) -> None:
    state = makes_contact(world, world.stamps[0])
    world.doors["lal"].unavailable_because = "its network is down"
    with pytest.raises(ComputingElementUnavailable):
        remove(world)
    assert not state.is_draining
    assert world.statuses == ["Running", "Waiting", "Waiting"]


def test_a_pilot_that_never_reached_its_site_is_taken_off_the_record(world: World) -> None:
    world.doors["lal"].forget(ONE)
    assert remove(world, world.stamps[0]).removed == (world.stamps[0],)
    assert world.statuses[0] == "Deleted"


def test_pilots_are_chosen_by_stamp_or_by_site(world: World) -> None:
    first, *others = world.stamps
    assert [pilot.stamp for pilot in choose(world.record, [first], None)] == [first]
    remove(world, first)
    assert {pilot.stamp for pilot in choose(world.record, [], "lal")} == set(others)
    assert len(choose(world.record, [], "lal", with_ended=True)) == 3
    assert choose(world.record, [], "cern") == []
    with pytest.raises(UnknownObject, match="no site 'nowhere'; sites are: cern, lal"):
        choose(world.record, [], "nowhere")
    with pytest.raises(UnknownObject, match="there is no pilot 'nobody'"):
        choose(world.record, [first, "nobody"], None)
