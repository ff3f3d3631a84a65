"""Which work for this host: fair share, priority, order of arrival, and what makes a match."""

from __future__ import annotations

from dataclasses import replace

import pytest

from desktopgrid.model.objects import Platform, Site
from desktopgrid.model.origins import Origin
from desktopgrid.model.rights import UserLevel
from desktopgrid.server.scheduler import Share
from desktopgrid.server.tasks import offer
from desktopgrid.wire import messages as m
from tests.builders import (
    NOON,
    GridUnderTest,
    a_user,
    an_application,
    hours,
    seconds,
)


@pytest.fixture
def grid() -> GridUnderTest:
    return GridUnderTest(sites={"here": Site("here", "local")})


def order_of(grid: GridUnderTest, count: int, **host: object) -> list[str]:
    """The works that a fresh host of one core is given, one after the other."""
    state = grid.arrives("probe", cores=1, **host)
    given = []
    while state.tasks and len(given) < count:
        task = next(iter(state.tasks.values()))
        given.append(task.work)
        grid.finishes(state, task.work)
    return given


def test_works_run_in_order_of_arrival(grid: GridUnderTest) -> None:
    works = grid.submit(3) + grid.submit(2)
    assert order_of(grid, 5) == works


def test_a_higher_priority_goes_first(grid: GridUnderTest) -> None:
    low, high = grid.submit(1, priority=-1), grid.submit(1, priority=5)
    middle = grid.submit(1)
    assert order_of(grid, 3) == high + middle + low


@pytest.mark.feature("XW-ARC-8")
def test_users_take_turns_whatever_they_submitted(grid: GridUnderTest) -> None:
    grid.add_user(a_user("bob"))
    alices = grid.submit(50)
    bobs = grid.submit(3, login="bob")
    first = order_of(grid, 8)
    assert len(set(first) & set(bobs)) == 3
    assert set(first) - set(bobs) <= set(alices)


def test_a_priority_does_not_outbid_other_users(grid: GridUnderTest) -> None:
    grid.add_user(a_user("bob"))
    grid.submit(20, priority=1000)
    bobs = grid.submit(1, login="bob")
    assert bobs[0] in order_of(grid, 3)


def test_past_use_fades_by_half_a_day() -> None:
    share = Share(NOON)
    share.start(1, NOON)
    share.end(1, NOON, NOON + hours(2))
    assert share.used(NOON + hours(2)) == pytest.approx(7200)
    assert share.used(NOON + hours(26)) == pytest.approx(3600)


def test_running_tasks_count_against_the_share_while_they_run() -> None:
    share = Share(NOON)
    share.start(4, NOON)
    assert share.used(NOON + seconds(100)) == pytest.approx(401)


@pytest.mark.feature("XW-ARC-7")
def test_an_application_for_another_platform_is_never_given(grid: GridUnderTest) -> None:
    windows = {Platform("x86_64", "win32"): "program"}
    grid.grid.put_application(an_application("winapp", executables=windows))
    grid.submit(application="winapp")
    assert order_of(grid, 1) == []
    assert order_of(grid, 1, os="win32") != []


@pytest.mark.parametrize(
    "asks", [{"cores": 3}, {"memory_mib": 8192}, {"disk_mib": 10**6}], ids=lambda asks: str(asks)
)
def test_a_work_that_asks_for_more_than_the_host_has_waits(grid: GridUnderTest, asks: dict) -> None:
    (work,) = grid.submit(**asks)
    assert not grid.arrives(cores=2).tasks
    big = grid.arrives("big", cores=64, memory_mib=1 << 20, disk_mib=1 << 21)
    assert [task.work for task in big.tasks.values()] == [work]


def test_memory_of_running_tasks_is_not_given_twice(grid: GridUnderTest) -> None:
    state = grid.arrives(cores=4, memory_mib=4096)
    grid.submit(1, memory_mib=3000)
    grid.submit(1, memory_mib=3000)
    assert len(state.tasks) == 1


@pytest.mark.feature("XW-CLI-14")
def test_an_expected_host_is_waited_for_while_others_are_free(grid: GridUnderTest) -> None:
    other = grid.arrives("other")
    (work,) = grid.submit(expected_host="chosen")
    assert not other.tasks
    chosen = grid.arrives("chosen")
    assert [task.work for task in chosen.tasks.values()] == [work]


def test_a_host_whose_batch_job_ends_too_soon_is_not_given_a_long_work(grid: GridUnderTest) -> None:
    state = grid.arrives("pilot", lifetime=3600)
    (long,) = grid.submit(wall_time=7200)
    (short,) = grid.submit(wall_time=600)
    assert [task.work for task in state.tasks.values()] == [short]
    assert grid.status(long) == "WAITING"


def test_a_requirement_is_asked_for_once_a_host_and_then_known(grid: GridUnderTest) -> None:
    state = grid.arrives("desk1")
    grid.submit(3, requirements="Memory > 1000")
    scheduler = grid.grid.scheduler
    assert scheduler.unjudged == {("Memory > 1000", "desk1")}
    assert not state.tasks

    scheduler.judge({("Memory > 1000", "desk1"): True})
    assert not scheduler.unjudged
    offer(grid.grid, grid.now, grid.out)
    assert len(state.tasks) == 3


@pytest.mark.feature("XW-PIL-9")
def test_a_work_is_not_given_to_a_host_that_would_send_it_back(grid: GridUnderTest) -> None:
    origin = Origin(("lal", "grid-b"), "1.0")
    asked = m.Submit(origin.uid("alice"), {"application": "app", "origin": str(origin)})
    grid.ask(replace(asked, single=True))
    back = grid.arrives("bridge", attributes={"LeadsTo": "elsewhere grid-b"})
    assert not back.tasks
    said = grid.ask(m.Why(origin.uid("alice")))["sentences"]
    assert any("came from grid-b, where this host would send it" in each for each in said)
    onward = grid.arrives("other", attributes={"LeadsTo": "elsewhere"})
    assert [task.work for task in onward.tasks.values()] == [origin.uid("alice")]


def test_works_of_several_cores_wait_until_they_are_free_together(grid: GridUnderTest) -> None:
    state = grid.arrives(cores=4)
    grid.submit(3)
    (wide,) = grid.submit(cores=4)
    assert grid.status(wide) == "WAITING"
    for _ in range(3):
        grid.finishes(state)
    assert grid.status(wide) == "PENDING"


def test_a_cancelled_work_is_dropped_from_the_queue(grid: GridUnderTest) -> None:
    first, second = grid.submit(1), grid.submit(1)
    grid.ask(m.Cancel(tuple(first)))
    assert grid.grid.scheduler.waiting == 1
    assert order_of(grid, 2) == second


@pytest.mark.feature("XW-GRP-5")
def test_a_private_application_waits_for_its_owners_worker(grid: GridUnderTest) -> None:
    grid.grid.put_application(an_application("own", owner="alice", rights=0o700))
    (work,) = grid.submit(application="own")
    assert not grid.arrives("public").tasks
    own = grid.arrives("laptop", login="alice")
    assert [task.work for task in own.tasks.values()] == [work]


def test_only_a_worker_identity_or_the_owner_gets_works_at_all(grid: GridUnderTest) -> None:
    grid.add_user(a_user("bob", level=UserLevel.SUPER))
    grid.submit(1)
    assert not grid.arrives("bobs", login="bob").tasks
