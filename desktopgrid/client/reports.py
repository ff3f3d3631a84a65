"""What was used, as reports show it. Decides; asks nothing.

For programs a line has the server's numbers, in units that its name says, and a number for each
cause of waste. For people the table is narrower, has a total, and sentences say what it does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from desktopgrid.client.replies import field
from desktopgrid.model.accounting import Cause

CAUSES = {
    Cause.CANCELLED: "cancelled by users",
    Cause.LIMIT: "stopped at a limit, or unable to run as described",
    Cause.FAILED: "failed on their host",
    Cause.RETURNED: "given back by workers",
    Cause.LOST: "lost with their host",
    Cause.IDLE: "pilots without a task",
}
"""Waste, in words."""
Row = dict[str, Any]


@dataclass(frozen=True)
class UsageReport:
    """The answer to one question about use: of which days, divided by what."""

    since: str
    until: str
    by: tuple[str, ...]
    rows: tuple[Mapping[str, Any], ...]
    total: Mapping[str, Any]

    @classmethod
    def of(cls, reply: Mapping[str, Any], by: Sequence[str]) -> UsageReport:
        """What the server's ``reply`` tells; raises RemoteProtocolError."""
        return cls(
            str(field(reply, "since", str)),
            str(field(reply, "until", str)),
            tuple(by),
            tuple(field(reply, "rows", list)),
            field(reply, "total", dict),
        )

    @property
    def is_empty(self) -> bool:
        """Whether nothing was used in that time."""
        return not self.total.get("tasks") and not self.total.get("pilots")

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of a line for programs."""
        return (*self.by, *self.lines_of([self.total])[0])

    def for_programs(self) -> list[Row]:
        """A line for each of what it is divided by; one in all if by nothing."""
        return self.lines_of(self.rows if self.by else [self.total])

    def lines_of(self, rows: Sequence[Mapping[str, Any]]) -> list[Row]:
        """``rows`` with each cause of waste a number of its own."""
        lines = []
        for row in rows:
            waste = row.get("waste") or {}
            plain = {name: value for name, value in row.items() if name != "waste"}
            causes = {f"{c.value}_core_hours": waste.get(c.value, 0.0) for c in CAUSES}
            lines.append({**plain, **causes})
        return lines

    def for_people(self) -> tuple[list[Row], tuple[str, ...]]:
        """The lines and columns of a table: the total is the last line."""
        shows_pilots = bool(self.total.get("pilots"))
        lines = [{**row, **_told(row)} for row in self.rows]
        first = dict.fromkeys(self.by, "") | ({self.by[0]: "TOTAL"} if self.by else {})
        lines.append({**first, **_told(self.total)})
        sums = [name for name in _told(self.total) if name != "pilots" or shows_pilots]
        return lines, (*self.by, *sums)

    def sentences(self) -> list[str]:
        """What the table does not say."""
        days = f"from {self.since} to {self.until} (UTC)"
        if self.is_empty:
            return [f"Nothing was used {days}."]
        said = [f"Used {days}, counted on the day on which each task ended."]
        waste = self.total.get("waste") or {}
        parts = [
            f"{waste[cause.value]:.2f} {words}"
            for cause, words in CAUSES.items()
            if waste.get(cause.value)
        ]
        if parts:
            said.append(f"Wasted core-hours: {'; '.join(parts)}.")
        doubtful = self.total.get("doubtful") or 0
        if doubtful:
            tasks = "1 task" if doubtful == 1 else f"{doubtful} tasks"
            said.append(
                f"The workers of {tasks} reported what cannot be; they count as far as the"
                " server saw them."
            )
        return said


def _told(row: Mapping[str, Any]) -> Row:
    efficiency = row.get("efficiency")
    return {
        "works": row.get("works"),
        "tasks": row.get("tasks"),
        "core_hours": _two(row.get("core_hours")),
        "cpu_hours": _two(row.get("cpu_hours")),
        "efficiency_%": None if efficiency is None else round(100 * efficiency, 1),
        "wasted_core_hours": _two(row.get("wasted_core_hours")),
        "waited_p50_s": _below(row.get("waited_p50_s")),
        "waited_p95_s": _below(row.get("waited_p95_s")),
        "pilots": row.get("pilots"),
    }


def _two(hours: Any) -> float:
    return round(float(hours or 0.0), 2)


def _below(seconds: Any) -> str:
    return "" if seconds is None else f"<{seconds}"
