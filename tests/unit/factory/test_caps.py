"""No interleaving of rounds, submissions by hand, failures and kills breaks a cap, or leaves a
pilot at a site that is not on record.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from desktopgrid.model.errors import GridError
from desktopgrid.wire import messages as m
from pilot.factory.provision import submit_pilots
from tests.unit.factory.test_daemon import LAL, World, run_and_kill


def a_round(world: World, number: int) -> None:
    world.round(timedelta(seconds=30 * number + 1))


def is_killed(world: World, number: int) -> None:
    run_and_kill(world, number)
    world.factory = world.build()


def by_hand(world: World, number: int) -> None:
    with contextlib.suppress(GridError):
        submit_pilots(world.grid.client, LAL, number % 4 + 1, world.doors["lal"])


def works_come(world: World, number: int) -> None:
    world.grid.server.submit(number % 7 + 1)


def works_go(world: World, number: int) -> None:
    works = [work.uid for work in world.grid.server.grid.works.values()]
    world.grid.server.ask(m.Cancel(tuple(works[: number + 1])))


def the_site_is_silent(world: World, number: int) -> None:
    door = world.doors["lal"]
    door.unavailable_because = None if door.unavailable_because else "its network is down"


def the_site_breaks_off(world: World, number: int) -> None:
    world.doors["lal"].breaks_off_because = "it timed out"


def the_site_goes_on(world: World, number: int) -> None:
    world.doors["lal"].step()


def time_goes_by(world: World, number: int) -> None:
    world.grid.server.after(timedelta(minutes=7 * number))


STEPS: list[Callable[[World, int], None]] = [
    a_round,
    is_killed,
    by_hand,
    works_come,
    works_go,
    the_site_is_silent,
    the_site_breaks_off,
    the_site_goes_on,
    time_goes_by,
]


@pytest.mark.feature("XW-PIL-1")
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)
@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 20)), max_size=25))
def test_no_interleaving_breaks_a_cap_or_doubles_a_pilot(
    steps: list[tuple[Callable[[World, int], None], int]],
) -> None:
    world = World()
    for step, number in [(works_come, 6), *steps]:
        step(world, number)
        pilots = world.grid.server.grid.pilots
        on_record = [p for p in pilots.values() if p.status.value in OPEN]
        assert len(on_record) <= LAL.max_pilots
        hour_ago = world.grid.server.now - timedelta(hours=1)
        assert sum(p.submitted_at > hour_ago for p in pilots.values()) <= LAL.max_an_hour
        assert set(world.at_the_door.values()) <= {1}
        assert set(world.at_the_door) <= set(pilots)


OPEN = ("Submitted", "Waiting", "Running")
