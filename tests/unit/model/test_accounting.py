"""Sums over tasks by whatever they are divided by."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from desktopgrid.model.accounting import (
    GROUPINGS,
    NOT_WAITED,
    Cause,
    Entry,
    Tally,
    bucket_of,
    day_number,
    day_of,
    day_text,
    hours,
    tallied,
)


def an_entry(cause: Cause = Cause.NONE, **fields: Any) -> Entry:
    """A task of an hour on one core, half of which it computed."""
    labels = {name: fields.pop(name, "") for name in GROUPINGS}
    default: dict[str, Any] = {"tasks": 1, "core_time": 3600.0, "cpu_time": 1800.0}
    return Entry(labels, cause, **{**default, **fields})


def test_what_came_to_a_result_is_not_waste() -> None:
    _, total = tallied([an_entry(), an_entry(Cause.LOST), an_entry(Cause.CANCELLED)], ())
    row = total.row()
    assert (row["works"], row["tasks"]) == (1, 3)
    assert (row["core_hours"], row["cpu_hours"], row["efficiency"]) == (1.0, 0.5, 0.5)
    assert row["waste"] == {"cancelled": 1.0, "lost": 1.0}
    assert row["wasted_core_hours"] == 2.0


def test_idle_pilots_waste_and_are_no_tasks() -> None:
    _, total = tallied([an_entry(Cause.IDLE), an_entry(Cause.IDLE, core_time=0.0)], ())
    assert (total.pilots, total.tasks, total.waste) == (2, 0, {Cause.IDLE: 3600.0})


def test_nothing_has_no_efficiency_and_waited_for_nothing() -> None:
    row = Tally().row()
    assert row["efficiency"] is row["waited_p50_s"] is row["waited_p95_s"] is None
    assert row["tasks"] == row["core_hours"] == row["wasted_core_hours"] == 0


@pytest.mark.parametrize(
    ("waited", "bucket"),
    [(-5.0, 0), (0.0, 0), (0.99, 0), (1.0, 1), (3.9, 2), (4.0, 3), (86_400.0, 17)],
)
def test_waiting_times_fall_into_powers_of_two(waited: float, bucket: int) -> None:
    assert bucket_of(waited) == bucket


def test_percentiles_of_waiting_are_bounds() -> None:
    waits = [0.5] * 50 + [3.0] * 45 + [1000.0] * 5
    _, total = tallied([an_entry(bucket=bucket_of(waited)) for waited in waits], ())
    assert (total.waited(0.5), total.waited(0.95), total.waited(1.0)) == (1, 4, 1024)


def test_a_second_task_of_a_work_has_no_part_in_waiting() -> None:
    _, total = tallied([an_entry(bucket=NOT_WAITED)], ())
    assert total.waited(0.5) is None


def test_days_are_numbers_that_can_be_read() -> None:
    late = datetime(2026, 11, 25, 23, 59, 59, tzinfo=UTC)
    assert day_of(late) == day_number(date(2026, 11, 25)) == 20261125
    assert (day_text(20261125), day_text(202611)) == ("2026-11-25", "2026-11")


ENTRIES = st.lists(
    st.builds(
        lambda cause, cut, tasks, core_time, part, labels: an_entry(
            cause,
            bucket=cut,
            tasks=tasks,
            core_time=float(core_time),
            cpu_time=core_time * part,
            **labels,
        ),
        st.sampled_from(Cause),
        st.integers(NOT_WAITED, 31),
        st.integers(0, 1000),
        st.integers(0, 10**9),
        st.sampled_from((0.0, 0.25, 1.0)),
        st.fixed_dictionaries({name: st.sampled_from("ab") for name in GROUPINGS}),
    ),
    max_size=30,
)


@given(ENTRIES, st.lists(st.sampled_from(GROUPINGS), unique=True))
def test_the_sum_over_any_division_is_the_total(entries: list[Entry], by: list[str]) -> None:
    rows, total = tallied(entries, tuple(by))
    for name in ("tasks", "works", "core_time", "cpu_time", "doubtful", "pilots", "wasted"):
        assert sum(getattr(row, name) for row in rows.values()) == getattr(total, name)
    for cause in Cause:
        assert sum(row.waste.get(cause, 0.0) for row in rows.values()) == total.waste.get(cause, 0)
    assert sum(e.core_time for e in entries) == total.core_time + total.wasted
    for bucket in range(32):
        parts = sum(row.waits.get(bucket, 0) for row in rows.values())
        assert parts == total.waits.get(bucket, 0)


@pytest.mark.parametrize("seconds", [0.0, 0.01, 1.0, 1e9 + 0.37])
def test_hours_are_exact_to_a_hundredth_of_a_second(seconds: float) -> None:
    assert hours(seconds) * 3600 == pytest.approx(seconds, abs=0.01)
