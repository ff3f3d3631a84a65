"""Daily sums and usage records in the database: each task once, divided by anything, as rights
allow.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest
from sqlalchemy import event

from desktopgrid.model.accounting import day_number
from desktopgrid.model.errors import LimitExceeded
from desktopgrid.model.rights import UserLevel, Who
from desktopgrid.server import changes as c
from desktopgrid.server.database import reading, schema, usage
from tests.plans import Plans
from tests.rows import HOST, NOON, PEOPLE, PROGRAM, Grid, completed, pending, row

ADMIN = Who("admin", UserLevel.SUPER)
FIRST, LAST = date(2026, 11, 1), date(2026, 11, 30)
DN = "/DC=org/CN=Alice"
HOUR = 3600.0


@pytest.fixture
def grid(bare: Grid) -> Grid:
    bare.record(*PEOPLE, *PROGRAM, *HOST, row(c.SubjectSaved, subject=DN))
    bare.record(
        row(c.SubjectSaved, subject="https://issuer.example.org/#1"),
        row(c.AccountInserted, number=1, group="physics", kind="desktop"),
        row(c.AccountInserted, number=2, site="lal", kind="htcondor", cores=4),
        row(c.AccountInserted, number=3, user="carol", vo="atlas", route="in", application="app"),
        row(c.AccountInserted, number=4, user="carol", site="lal", application=None, cores=8),
    )
    return bare


def used(account: int, day: int = 20261121, **fields: Any) -> c.UsageAdded:
    """An hour of a core, half of which it computed."""
    default = {"core_time": HOUR, "cpu_time": HOUR / 2}
    found: c.UsageAdded = row(c.UsageAdded, day=day, account=account, **{**default, **fields})
    return found


def report(grid: Grid, *by: str, who: Who = ADMIN, since: date = FIRST, until: date = LAST) -> Any:
    return grid.read(usage.report, who, since, until, by)


def test_tasks_of_one_day_and_account_are_one_row(grid: Grid) -> None:
    grid.record(used(1), used(1), used(1, cause="lost"))
    grid.record(used(1, doubtful=1))
    found = {(r["cause"]): r for r in grid.rows(schema.usages)}
    assert (found[""]["tasks"], found[""]["core_time"], found[""]["doubtful"]) == (3, 3 * HOUR, 1)
    assert (found["lost"]["tasks"], found["lost"]["cpu_time"]) == (1, HOUR / 2)


def test_a_commit_of_many_tasks_has_one_statement_more_and_a_row_a_kind_of_task(grid: Grid) -> None:
    written: list[tuple[str, int]] = []

    def note(_connection: Any, _cursor: Any, statement: str, rows: Any, *_: Any) -> None:
        if not statement.startswith(("SELECT", "BEGIN")):
            written.append((" ".join(statement.split()[:3]), len(rows)))

    event.listen(grid.engine, "before_cursor_execute", note)
    grid.record(*([used(1)] * 100), *([used(1, cause="lost", bucket=-1)] * 50))
    event.remove(grid.engine, "before_cursor_execute", note)
    assert [(how, rows) for how, rows in written if "usages" in how] == [("INSERT INTO usages", 2)]


def test_a_transaction_that_fails_books_nothing(grid: Grid) -> None:
    grid.record(used(1))
    with pytest.raises(Exception, match="touched 0 rows"):
        grid.record(used(1), row(c.WorkUpdated, uid="nobody"))
    assert [r["tasks"] for r in grid.rows(schema.usages)] == [1]


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ((), []),
        (("user",), [("alice", 3.0), ("carol", 1.0)]),
        (("group",), [("", 3.0), ("physics", 1.0)]),
        (("vo",), [("", 3.0), ("atlas", 1.0)]),
        (("site",), [("", 2.0), ("lal", 2.0)]),
        (("route",), [("", 3.0), ("in", 1.0)]),
        (("application",), [("app", 4.0)]),
        (("kind",), [("desktop", 2.0), ("htcondor", 2.0)]),
        (("cores",), [(1, 2.0), (4, 2.0)]),
        (("subject",), [("", 1.0), (DN, 3.0)]),
        (("day",), [("2026-11-21", 3.0), ("2026-11-22", 1.0)]),
        (("month",), [("2026-11", 4.0)]),
        (("user", "site"), [("alice", "", 1.0), ("alice", "lal", 2.0), ("carol", "", 1.0)]),
    ],
    ids=str,
)
def test_use_is_divided_by_what_is_asked_for(
    grid: Grid, by: tuple[str, ...], expected: list[Any]
) -> None:
    grid.record(used(1), used(2), used(2, day=20261122), used(3))
    found = report(grid, *by)
    assert [(*(r[name] for name in by), r["core_hours"]) for r in found["rows"]] == expected
    assert (found["total"]["core_hours"], found["total"]["tasks"]) == (4.0, 4)


def test_only_the_days_asked_for_count(grid: Grid) -> None:
    grid.record(*(used(1, day=day) for day in (20261031, 20261101, 20261130, 20261201)))
    assert report(grid)["total"]["tasks"] == 2
    assert [r["month"] for r in report(grid, "month", since=date(2026, 1, 1))["rows"]] == [
        "2026-10",
        "2026-11",
    ]


def test_a_user_sees_his_own_use_and_nobody_elses(grid: Grid) -> None:
    grid.record(used(1), used(2), used(3))
    carol = Who("carol", UserLevel.STANDARD)
    assert [r["user"] for r in report(grid, "user", who=carol)["rows"]] == ["carol"]
    assert report(grid, who=carol)["total"]["tasks"] == 1
    assert report(grid, who=Who("bob", UserLevel.ADVANCED))["total"]["tasks"] == 0


def test_nothing_used_is_an_empty_report(grid: Grid) -> None:
    found = report(grid, "user", "day")
    assert (found["rows"], found["total"]["tasks"]) == ([], 0)


def test_a_report_that_nobody_would_read_is_refused(
    grid: Grid, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "MOST_ROWS", 1)
    grid.record(used(1), used(3))
    with pytest.raises(LimitExceeded, match="the report has 2 lines, and at most 1 are given"):
        report(grid, "user")


def a_pilot(stamp: str, **fields: Any) -> list[Any]:
    """A pilot of eight cores that lasted an hour."""
    over = {"status": "Done", "started_at": NOON, "ended_at": NOON + HOUR, "cores": 8}
    return [
        row(c.PilotInserted, stamp=stamp, owner="carol", wall_time=7200),
        row(c.PilotUpdated, stamp=stamp, **{**over, "account": 4, **fields}),
    ]


def test_what_a_pilot_had_no_task_for_is_idle(grid: Grid) -> None:
    grid.record(*a_pilot("p1"), row(c.PilotUsed, stamp="p1", busy=5 * HOUR))
    grid.record(row(c.PilotUsed, stamp="p1", busy=HOUR))
    grid.record(*a_pilot("p2"), *a_pilot("open", status="Running", ended_at=None))
    found = report(grid, "site", "user", "day")
    assert [(r["site"], r["user"], r["day"]) for r in found["rows"]] == [
        ("lal", "carol", "2026-11-20")
    ]
    assert found["total"]["waste"] == {"idle": 2.0 + 8.0}
    assert (found["total"]["pilots"], found["total"]["tasks"]) == (2, 0)


@pytest.mark.parametrize(
    ("started_at", "idle"),
    [(NOON + 9 * HOUR, 0.0), (NOON - 24 * HOUR, 16.0)],
    ids=["ended before it began", "longer than its site lets it run"],
)
def test_a_pilot_whose_clock_jumped_is_idle_within_bounds(
    grid: Grid, started_at: float, idle: float
) -> None:
    grid.record(*a_pilot("p1", started_at=started_at))
    assert report(grid)["total"]["wasted_core_hours"] == idle


def test_a_pilot_that_was_busier_than_it_lasted_is_not_idle(grid: Grid) -> None:
    grid.record(*a_pilot("p1"), row(c.PilotUsed, stamp="p1", busy=100 * HOUR))
    assert report(grid)["total"]["wasted_core_hours"] == 0


def fill(grid: Grid) -> None:
    """Two years of sums, pilots and tasks, of which the database knows how many there are."""
    days = [day_number(date(2025, 1, 1) + timedelta(days=n)) for n in range(730)]
    grid.record(*(used(account, day) for day in days for account in (1, 2, 3)))
    for n in range(1000):
        end = NOON - n * 24 * HOUR
        grid.record(*a_pilot(f"p{n}", started_at=end - HOUR, ended_at=end))
    numbers = range(1, 2001)
    grid.record(
        row(c.SubmissionInserted),
        *(row(c.WorkInserted, uid=f"sweep-{n}", number=n) for n in numbers),
        *(change for n in numbers for change in pending(f"sweep-{n}", f"sweep-{n}.1", epoch=n)),
    )
    with grid.engine.connect() as connection:
        if grid.engine.dialect.name == "postgresql":
            connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql("ANALYZE")
        elif grid.engine.dialect.name != "sqlite":
            connection.exec_driver_sql("ANALYZE TABLE usages, pilots, tasks, accounts")


def test_no_question_reads_what_it_does_not_ask_for(grid: Grid) -> None:
    fill(grid)
    alice = Who("alice", UserLevel.STANDARD)
    last = date(2026, 11, 20)
    for name, ask in {
        "a week": lambda c: usage.report(c, ADMIN, date(2026, 11, 14), last, ("user", "day")),
        "of one user": lambda c: usage.report(c, alice, last, last, ("month", "site")),
        "records": lambda c: usage.records(c, {"0": 1950}),
        "records of some": lambda c: usage.records_of(c, [7, 8, 9]),
    }.items():
        plans = Plans(grid.engine, ask, ("usages", "pilots", "tasks"))
        assert plans.read_whole == [], (name, plans.said)
    assert not plans.is_sorted, plans.said


# --- accounts over restarts -----------------------------------------------------------------------


def test_accounts_are_known_again_at_start(grid: Grid) -> None:
    found = grid.read(reading.load, grid.shard)
    assert found.next_account == 5
    assert {account.user for account in found.accounts} == {"alice", "carol"}
    assert sorted(found.accounts.values()) == [1, 2, 3, 4]


def test_works_keep_the_vo_that_came_with_them(grid: Grid) -> None:
    grid.record(row(c.SubmissionInserted, vo="atlas"), row(c.WorkInserted))
    (work,) = grid.read(reading.load, grid.shard).works
    assert work.submission.vo == "atlas"


def test_pilots_keep_when_they_started(grid: Grid) -> None:
    grid.record(*a_pilot("p1", status="Running", ended_at=None))
    (pilot,) = grid.read(reading.load, grid.shard).pilots
    assert (pilot.started_at.timestamp(), pilot.cores, pilot.account) == (NOON, 8, 4)


# --- records --------------------------------------------------------------------------------------


@pytest.fixture
def tasks(grid: Grid) -> Grid:
    """Five works: two results, one that was lost, one that was never started, and one that goes
    on.
    """
    grid.record(
        row(c.SubmissionInserted),
        *(row(c.WorkInserted, uid=f"sweep-{n}", number=n) for n in range(1, 6)),
    )
    for n in range(1, 6):
        grid.record(*pending(f"sweep-{n}", f"sweep-{n}.1", epoch=n))
    said = {"wall": 8.0, "user_time": 3.0, "system_time": 1.0, "memory_kib": 99}
    grid.record(*completed("sweep-1", "sweep-1.1", account=2, cause="", **said))
    grid.record(*completed("sweep-3", "sweep-3.1", account=3, cause="", **said))
    lost = {"status": "LOST", "ended_at": NOON + 9, "exit_code": None}
    grid.record(row(c.TaskUpdated, uid="sweep-4.1", **lost, wall=5.0, account=1, cause="lost"))
    grid.record(row(c.TaskUpdated, uid="sweep-5.1", **lost, started_at=None))
    return grid


def test_a_record_tells_who_used_what_where_and_how_much(tasks: Grid) -> None:
    first = tasks.read(usage.records, {})["records"][0]
    assert first == {
        **{"epoch": 1, "task": "sweep-1.1", "cause": "", "wall": 8.0, "cpu": 4.0},
        **{"memory_kib": 99, "started_at": NOON + 1, "ended_at": NOON + 9, "host": "desk1"},
        **{"user": "alice", "group": "", "vo": "", "site": "lal", "route": "", "cores": 4},
        **{"application": "app", "kind": "htcondor", "subject": DN},
    }


def test_each_task_is_told_of_once_also_those_that_went_on(tasks: Grid) -> None:
    first = tasks.read(usage.records, {}, 2)
    assert ([r["epoch"] for r in first["records"]], first["open"]) == ([1], [2])
    assert (first["after"], first["more"]) == ({"0": 2}, True)
    second = tasks.read(usage.records, first["after"], 2)
    assert ([r["epoch"] for r in second["records"]], second["more"]) == ([3, 4], True)
    third = tasks.read(usage.records, second["after"], 2)
    assert (third["records"], third["open"], third["more"]) == ([], [], False)
    assert tasks.read(usage.records, third["after"]) == third
    assert tasks.read(usage.records_of, [2])["open"] == [2]
    tasks.record(*completed("sweep-2", "sweep-2.1", account=1, cause=""))
    assert [r["epoch"] for r in tasks.read(usage.records_of, [2])["records"]] == [2]


def test_a_task_that_history_forgot_is_not_waited_for(tasks: Grid) -> None:
    answer = tasks.read(usage.records_of, [77])
    assert (answer["records"], answer["open"]) == ([], [])
