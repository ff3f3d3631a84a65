"""Questions about use that the server takes, and those it refuses before it asks the database."""

from __future__ import annotations

import pytest

from desktopgrid.model.errors import AccessDenied, BadRequest
from desktopgrid.server import reporting
from desktopgrid.wire import messages as m
from tests.builders import NOON, GridUnderTest


@pytest.mark.parametrize(
    ("since", "until", "whole"),
    [
        ("", "", ("2026-11-01", "2026-11-20")),
        ("2026-10-05", "", ("2026-10-05", "2026-11-20")),
        ("", "2026-11-03", ("2026-11-01", "2026-11-03")),
        ("2027-01-01", "", ("2027-01-01", "2027-01-01")),
    ],
)
def test_days_that_are_not_named_are_this_months(
    since: str, until: str, whole: tuple[str, str]
) -> None:
    found = reporting.whole(m.Report(since, until), NOON)
    assert (found.since, found.until) == whole


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (m.Report("2026-11-31"), "since is a day such as 2026-11-25, not '2026-11-31'"),
        (m.Report("20261101"), "since is a day"),
        (m.Report("2026-W45-1"), "since is a day"),
        (m.Report("x" * 70_000), "since is a day"),
        (m.Report("", "9999-12-31"), "until is too late a day"),
        (m.Report("2026-11-20", "2026-11-19"), "until 2026-11-19 is before since 2026-11-20"),
        (m.Report(by=("colour",)), "use is not divided by 'colour'; it can be by day, month"),
        (m.Report(by=("user", "user")), "names something twice"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_is_no_question_is_refused(asked: m.Report, said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        reporting.whole(asked, NOON)


@pytest.mark.parametrize(
    "asked",
    [
        m.UsageRecords({"0": -1}),
        m.UsageRecords({"0": 1 << 63}),
        m.UsageRecords(open=(10**30,)),
        m.UsageRecords(open=tuple(range(1001))),
        m.UsageRecords({str(n): 1 for n in range(1001)}),
    ],
    ids=lambda value: str(value)[:40],
)
def test_epochs_that_no_task_has_are_not_asked_for(asked: m.UsageRecords) -> None:
    with pytest.raises(BadRequest):
        reporting.checked(asked)


def test_records_are_for_super_users() -> None:
    grid = GridUnderTest()
    with pytest.raises(AccessDenied, match="a user of level standard may not read the records"):
        grid.ask(m.UsageRecords())
    assert grid.ask(m.UsageRecords(), "admin").question == m.UsageRecords()
