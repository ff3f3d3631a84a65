"""How tasks share a host, and the table of what may happen to them there."""

from __future__ import annotations

import pytest

from desktopgrid.model.errors import IllegalTransition
from pilot.node.slots import (
    TRANSITIONS,
    Capacity,
    HostedTask,
    Slots,
    TaskEvent,
    TaskState,
    after,
)
from tests.unit.node.fakes import an_assign


def slots(cores: int = 2, memory_mib: int = 1000) -> Slots:
    return Slots(Capacity(cores, memory_mib))


def queued(slots: Slots, **fields: object) -> HostedTask:
    task = HostedTask(an_assign(**fields))  # type: ignore[arg-type]
    slots.wait(task)
    return task


@pytest.mark.parametrize("state", TaskState)
@pytest.mark.parametrize("event", TaskEvent)
def test_what_the_table_does_not_have_does_not_happen(state: TaskState, event: TaskEvent) -> None:
    expected = TRANSITIONS[state].get(event)
    if expected is not None:
        assert after(state, event) is expected
    else:
        with pytest.raises(IllegalTransition, match="a task that is"):
            after(state, event)


def test_every_state_but_the_last_leads_on() -> None:
    assert [state for state in TaskState if not TRANSITIONS[state]] == [TaskState.ENDED]


def test_tasks_are_admitted_oldest_first() -> None:
    host = slots(cores=2)
    first, second, third = (queued(host, epoch=epoch) for epoch in (1, 2, 3))
    assert host.admit() == [first, second]
    assert host.admit() == []
    assert host.has_more
    host.release(first)
    assert host.admit() == [third]
    assert not host.has_more


def test_memory_is_shared_like_cores() -> None:
    host = slots(cores=4, memory_mib=1000)
    first = queued(host, epoch=1, memory_mib=700)
    second = queued(host, epoch=2, memory_mib=400)
    assert host.admit() == [first]
    host.release(first)
    assert host.admit() == [second]


def test_a_large_task_at_the_head_is_not_overtaken() -> None:
    host = slots(cores=2)
    small = queued(host, epoch=1)
    large = queued(host, epoch=2, cores=2)
    overtaker = queued(host, epoch=3)
    assert host.admit() == [small]
    assert host.waiting() == [large, overtaker]
    host.release(small)
    assert host.admit() == [large]


def test_a_withdrawn_task_is_not_admitted() -> None:
    host = slots()
    first, second = queued(host, epoch=1), queued(host, epoch=2)
    host.withdraw(first)
    assert host.admit() == [second]


def test_a_task_larger_than_the_host_cannot_be_held() -> None:
    host = slots(cores=2, memory_mib=1000)
    assert host.could_hold(an_assign(cores=2, memory_mib=1000))
    assert not host.could_hold(an_assign(cores=3))
    assert not host.could_hold(an_assign(memory_mib=1001))


def test_repr_tells_the_story() -> None:
    host = slots()
    task = queued(host)
    assert repr(host) == "<Slots 2 of 2 cores free, 1 tasks wait>"
    assert repr(task) == "<HostedTask w.1 Waiting>"
