"""Reports of use: `xw report` over a grid in memory, and the lines that people and programs get."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from desktopgrid.client.cli import xw
from desktopgrid.client.commands.shell import Shell
from desktopgrid.client.fake import FakeGrid
from desktopgrid.model.accounting import GROUPINGS, Cause, Entry
from desktopgrid.wire import messages as m

Xw = Callable[..., Result]
HOUR = 3600.0


@pytest.fixture
def fake(tmp_path: Path) -> FakeGrid:
    fake = FakeGrid(tmp_path / "grid")
    fake.used = [
        used(site="lal", user="ann"),
        used(site="lal", user="=bob", doubtful=1),
        used(site="", user="ann", cause=Cause.LOST, core_time=HOUR / 2),
    ]
    return fake


@pytest.fixture
def run(fake: FakeGrid) -> Xw:
    def run(*arguments: str) -> Result:
        shell = Shell(connect=lambda path, patience: fake.open())
        return CliRunner().invoke(xw, ["report", *arguments], obj=shell)

    return run


def used(cause: Cause = Cause.NONE, **fields: Any) -> Entry:
    """A core-hour of one task, three quarters of which it computed, after three seconds."""
    default = {"bucket": 2, "tasks": 1, "core_time": HOUR, "cpu_time": 0.75 * HOUR}
    labels = {name: fields.pop(name, "") for name in GROUPINGS}
    return Entry(labels, cause, **{**default, **fields})


def test_people_get_a_table_with_a_total_and_what_was_wasted(run: Xw) -> None:
    done = run("--by", "site,user")
    assert done.exit_code == 0
    lines = [line.split() for line in done.stdout.splitlines()]
    assert " ".join(lines[0]).startswith("site user works tasks core hours cpu hours efficiency %")
    assert "pilots" not in lines[0]
    assert lines[-1] == ["TOTAL", "2", "3", "2", "1.5", "75", "0.5", "<4", "<4"]
    assert "Used from 2026-11-01 to 2026-11-25 (UTC)" in done.stderr
    assert "Wasted core-hours: 0.50 lost with their host." in done.stderr
    assert "The workers of 1 task reported what cannot be" in done.stderr


def test_without_a_division_there_is_the_total_alone(run: Xw) -> None:
    assert len(run().stdout.splitlines()) == 2


def test_pilots_have_a_column_where_there_were_some(run: Xw, fake: FakeGrid) -> None:
    fake.used.append(used(Cause.IDLE, site="lal"))
    done = run("--by", "site")
    assert done.stdout.splitlines()[0].endswith("pilots")
    assert "1.00 pilots without a task" in done.stderr


def test_programs_get_numbers_in_units_that_names_tell(run: Xw) -> None:
    first = json.loads(run("--by", "site", "--format", "json").stdout)[0]
    assert first == {
        **{"site": "", "works": 0, "tasks": 1, "core_hours": 0.0, "cpu_hours": 0.0},
        **{"efficiency": None, "wasted_core_hours": 0.5, "pilots": 0, "doubtful": 0},
        **{"waited_p50_s": 4, "waited_p95_s": 4},
        **{f"{cause}_core_hours": 0.0 for cause in ("cancelled", "limit", "failed", "returned")},
        **{"lost_core_hours": 0.5, "idle_core_hours": 0.0},
    }


def test_a_spreadsheet_gets_no_formula(run: Xw) -> None:
    lines = run("--by", "user", "--format", "csv").stdout.splitlines()
    assert lines[0].startswith("user,works,tasks,core_hours,cpu_hours,efficiency,wasted_core_hours")
    assert lines[1].startswith("'=bob,1,1,1,0.75,0.75,0")


@pytest.mark.parametrize("format", ["table", "csv", "json"])
def test_an_empty_time_is_said_in_words(run: Xw, fake: FakeGrid, format: str) -> None:
    fake.used = []
    done = run("--from", "2026-01-01", "--to", "2026-01-31", "--by", "user", "--format", format)
    assert done.exit_code == 0
    assert done.stderr == "Nothing was used from 2026-01-01 to 2026-01-31 (UTC).\n"
    assert len(done.stdout.splitlines()) == {"table": 0, "csv": 1, "json": 1}[format]


def test_the_days_and_the_division_are_asked_of_the_server(run: Xw, fake: FakeGrid) -> None:
    run("--from", "2026-11-02", "--by", "user, user,month")
    assert fake.requests[-1] == m.Report("2026-11-02", "", ("user", "month"))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (("--by", "colour"), "use is not divided by 'colour'; it can be by day, month, user"),
        (("--from", "yesterday"), "'yesterday' does not match the format '%Y-%m-%d'"),
    ],
)
def test_a_wrong_command_line_says_what_was_expected(
    run: Xw, wrong: tuple[str, ...], said: str
) -> None:
    done = run(*wrong)
    assert (done.exit_code, said in done.stderr) == (2, True), done.stderr
