"""The monitoring table: a row when it is due, a file a day, old ones gone."""

from __future__ import annotations

import csv
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from desktopgrid.server.counting import look
from desktopgrid.server.monitoring import GRID, HEADER, Monitoring, of_grid
from tests.builders import NOON, GridUnderTest, seconds


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A machine that has been idle for 900 of 1,000 ticks."""
    proc = tmp_path / "proc"
    (proc / "self" / "fd").mkdir(parents=True)
    for number in range(3):
        (proc / "self" / "fd" / str(number)).touch()
    spend(proc, busy=100, idle=900)
    (proc / "meminfo").write_text("MemTotal: 4096 kB\nMemFree: 1 kB\nMemAvailable: 2048 kB\n")
    (proc / "self" / "status").write_text("Name: x\nVmRSS:\t1024 kB\n")
    return proc


def spend(proc: Path, busy: int, idle: int) -> None:
    (proc / "stat").write_text(f"cpu  {busy} 0 0 {idle} 0 0 0 0 0 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n")


def a_table(tmp_path: Path, proc: Path, days: int = 30) -> Monitoring:
    return Monitoring(tmp_path / "log", tmp_path, days, NOON, proc)


def rows(tmp_path: Path, at: datetime = NOON) -> list[dict[str, str]]:
    with (tmp_path / "log" / f"monitoring-{at.date()}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.feature("XW-MON-3")
def test_a_row_says_what_the_machine_did_since_the_last(tmp_path, proc):
    table = a_table(tmp_path, proc)
    spend(proc, busy=130, idle=970)
    table.run_once({}, NOON + seconds(60))
    spend(proc, busy=130, idle=1070)
    table.run_once({"hosts": 2}, NOON + seconds(120))
    first, second = rows(tmp_path)
    assert tuple(first) == HEADER
    assert first["time"] == "2026-11-20T12:01:00+00:00"
    assert (float(first["cpu_percent"]), float(second["cpu_percent"])) == (30.0, 0.0)
    assert (first["free_memory_mib"], first["server_memory_mib"]) == ("2.0", "1.0")
    assert first["open_files"] == "3"
    assert float(first["free_disk_mib"]) > 0
    assert (first["hosts"], second["hosts"]) == ("", "2")


@pytest.mark.feature("XW-MON-3")
def test_each_day_has_a_file_and_old_ones_go(tmp_path, proc):
    table = a_table(tmp_path, proc, days=2)
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "monitoring-of-mine.csv").touch()
    for day in range(4):
        table.run_once({}, NOON + timedelta(days=day))
    assert sorted(path.name for path in (tmp_path / "log").iterdir()) == [
        "monitoring-2026-11-22.csv",
        "monitoring-2026-11-23.csv",
        "monitoring-of-mine.csv",
    ]


def test_a_server_that_comes_back_goes_on_with_the_days_file(tmp_path, proc):
    for minute in range(2):
        a_table(tmp_path, proc).run_once({}, NOON + timedelta(minutes=minute))
    assert len(rows(tmp_path)) == 2


def test_a_file_with_other_columns_is_put_aside(tmp_path, proc):
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "monitoring-2026-11-20.csv").write_text("time,colour\n1,red\n")
    a_table(tmp_path, proc).run_once({}, NOON)
    assert len(rows(tmp_path)) == 1
    aside = tmp_path / "log" / "monitoring-2026-11-20.csv.1"
    assert aside.read_text() == "time,colour\n1,red\n"


def test_a_row_says_what_the_grid_does():
    grid = GridUnderTest()
    grid.arrives("desk1")
    grid.submit(5, cores=1)
    found = of_grid(look(grid.grid, grid.now), 7, 3)
    assert set(found) == set(GRID)
    assert (found["hosts"], found["connections"], found["journal_backlog"]) == (1, 7, 3)
    assert found["works_waiting"] + found["tasks"] == 5
