"""The tables of statuses: what is legal, what is final, and that the page about them is true."""

from __future__ import annotations

import itertools

import pytest

from desktopgrid.model.errors import IllegalTransition
from desktopgrid.model.lifecycle import (
    FINAL_PILOTS,
    FINAL_TASKS,
    FINAL_WORKS,
    PILOTS,
    TASKS,
    WORKS,
    PilotEvent,
    PilotStatus,
    TaskEvent,
    TaskStatus,
    WorkEvent,
    WorkStatus,
    after,
)
from tests import states_page

TABLES = [
    pytest.param(WORKS, WorkStatus, WorkEvent, id="works"),
    pytest.param(TASKS, TaskStatus, TaskEvent, id="tasks"),
    pytest.param(PILOTS, PilotStatus, PilotEvent, id="pilots"),
]


@pytest.mark.parametrize("table, statuses, events", TABLES)
def test_every_pair_is_a_transition_or_an_error(table, statuses, events) -> None:
    assert set(table) == set(statuses)
    for status, event in itertools.product(statuses, events):
        if event in table[status]:
            assert after(table, status, event) is table[status][event]
        else:
            with pytest.raises(IllegalTransition, match=f"{status.value} cannot be {event.value}"):
                after(table, status, event)


@pytest.mark.parametrize("table, statuses, events", TABLES)
def test_every_status_leads_to_a_final_one_and_every_event_happens_somewhere(
    table, statuses, events
) -> None:
    happen = {event for row in table.values() for event in row}
    assert happen == set(events)
    for status in statuses:
        reached, todo = {status}, [status]
        while todo:
            for following in table[todo.pop()].values():
                if following not in reached:
                    reached.add(following)
                    todo.append(following)
        assert any(not table[one] for one in reached), f"{status} never ends"


def test_what_is_final() -> None:
    assert {s.value for s in FINAL_WORKS} == {"COMPLETED", "ERROR", "ABORTED"}
    assert {s.value for s in FINAL_TASKS} == {"COMPLETED", "ERROR", "ABORTED", "LOST"}
    assert {s.value for s in FINAL_PILOTS} == {"Done", "Failed", "Deleted", "Aborted"}


def test_the_page_about_states_is_true() -> None:
    assert states_page.PAGE.read_text() == states_page.page(), (
        "stale: run `python -m tests.states_page`"
    )
