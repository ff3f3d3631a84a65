"""The monitoring table (manual, 6: `monitoring.sh`): what the server's machine and the grid do, a
row a minute, a CSV file a day. Linux only: it reads /proc.
"""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from desktopgrid.server.counting import Look
from desktopgrid.server.logs import append, put_aside

PROC = Path("/proc")
MACHINE = (
    "cpu_percent",
    "load",
    "free_memory_mib",
    "free_disk_mib",
    "server_cpu_percent",
    "server_memory_mib",
    "open_files",
)
"""What stands in a row of the machine, and of the server's process: of the server's CPU time 100 is
one core. Memory is free that programs may have; disk is that of the grid's directory.
"""
GRID = (
    "works_waiting",
    "works_datarequest",
    "works_pending",
    "works_running",
    "tasks",
    "hosts",
    "connections",
    "journal_backlog",
)
"""What stands in a row of the grid; empty while the server has none."""
HEADER = ("time", *MACHINE, *GRID)
PUT_ASIDE = 9
FILE = re.compile(r"monitoring-(\d{4}-\d\d-\d\d)\.csv(\.\d+)?")


class Spent(NamedTuple):
    """The CPU time that was spent until ``at``: of the machine's ``total`` it was ``busy``, in
    ticks; the server's own in seconds.
    """

    at: datetime
    busy: int
    total: int
    own: float


class Monitoring:
    """Writes a row when it is told to. Days and times are in UTC; the files of ``days`` days are
    kept.
    """

    def __init__(
        self, directory: Path, disk: Path, days: int, now: datetime, proc: Path = PROC
    ) -> None:
        self._directory, self._disk, self._days, self._proc = directory, disk, days, proc
        self._before = self._spent(now)

    def run_once(self, grid: Mapping[str, int], now: datetime) -> None:
        """Write the row of ``now``; raises OSError."""
        row = {"time": now.isoformat(timespec="seconds"), **self._machine(now), **grid}
        path = self._directory / f"monitoring-{now.date()}.csv"
        if path.exists() and not _has_our_header(path):
            put_aside(path, PUT_ASIDE)
        header = [] if path.exists() else [HEADER]
        append(path, _lines([*header, [row.get(name, "") for name in HEADER]]))
        self._forget(now.date())

    def _machine(self, now: datetime) -> dict[str, float]:
        before, after = self._before, self._spent(now)
        self._before = after
        passed = max(1e-6, (now - before.at).total_seconds())
        found = {
            "cpu_percent": 100 * (after.busy - before.busy) / max(1, after.total - before.total),
            "load": os.getloadavg()[0],
            "free_memory_mib": self._kib("meminfo", "MemAvailable") / 1024,
            "free_disk_mib": shutil.disk_usage(self._disk).free / (1 << 20),
            "server_cpu_percent": 100 * (after.own - before.own) / passed,
            "server_memory_mib": self._kib("self/status", "VmRSS") / 1024,
            "open_files": len(os.listdir(self._proc / "self" / "fd")),
        }
        return {name: round(value, 2) for name, value in found.items()}

    def _spent(self, now: datetime) -> Spent:
        # cpu  user nice system idle iowait irq softirq steal guest guest_nice (proc(5)); the last
        # two are in the first two already.
        ticks = [int(word) for word in (self._proc / "stat").read_text().split()[1:9]]
        times = os.times()
        return Spent(now, sum(ticks) - ticks[3] - ticks[4], sum(ticks), times.user + times.system)

    def _kib(self, file: str, key: str) -> int:
        for line in (self._proc / file).read_text().splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1])
        raise OSError(f"{self._proc / file} has no {key}")

    def _forget(self, today: date) -> None:
        for path in self._directory.glob("monitoring-*.csv*"):
            found = FILE.fullmatch(path.name)
            if found and date.fromisoformat(found[1]) <= today - timedelta(days=self._days):
                path.unlink(missing_ok=True)


def _has_our_header(path: Path) -> bool:
    """Whether the table is ours: that of an earlier version may have other columns."""
    with path.open("rb") as file:
        return file.readline() == _lines([HEADER])


def _lines(rows: Sequence[Sequence[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def of_grid(seen: Look, connections: int, backlog: int) -> dict[str, int]:
    """What a row says of the grid."""
    works = {f"works_{status.lower()}": count for status, count in seen.works.items()}
    return {
        **works,
        "tasks": sum(host.tasks for host in seen.hosts),
        "hosts": len(seen.connected),
        "connections": connections,
        "journal_backlog": backlog,
    }
