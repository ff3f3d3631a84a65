"""What is kept of the use of the grid: for whom cores were busy, where, and what came of it.

A task that used a core is booked once, when it is over: under its account, the day (UTC) on which
it ended, and the cause for which nothing came of it, if so. Times that workers report are bounded
by what the server saw; which were not believable is counted. What cores are worth is not said here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import Enum
from typing import Any, NamedTuple, Optional


class Cause(str, Enum):
    """Why core-time was wasted."""

    NONE = ""
    """It was not: the program ended by itself, and its result counts."""
    CANCELLED = "cancelled"
    """The user took the work back."""
    LIMIT = "limit"
    """The work broke a limit of its own, or could not be run as described."""
    FAILED = "failed"
    """The host could not run it."""
    RETURNED = "returned"
    """The worker gave the task back, or left."""
    LOST = "lost"
    """The host went silent, or its word was not taken any more."""
    IDLE = "idle"
    """A pilot had cores and no task for them."""


OF_USER = frozenset((Cause.CANCELLED, Cause.LIMIT))
"""Waste that the user caused; all other is the host's or the site's."""


class Account(NamedTuple):
    """For whom, and where: what of a task its use is reported by.

    A pilot's idle time has its owner as user, its site's VO, and no application. ``vo`` is what the
    user's credential showed that went with a work. ``site`` is where the pilot was
    that ran it, empty on a desktop; ``route`` are the places that a work passed which was a job
    elsewhere (``lal>desktop``), empty for what was submitted here.
    """

    user: str
    group: Optional[str]
    vo: str
    site: str
    route: str
    application: Optional[str]
    kind: str
    cores: int


GROUPINGS = (
    "day",
    "month",
    "user",
    "group",
    "vo",
    "site",
    "route",
    "application",
    "kind",
    "cores",
    "subject",
)
"""What a report may be divided by; ``subject`` is the user's name in certificates."""
NOT_WAITED = -1
"""The bucket of tasks of which no waiting is counted: not the first of their works."""


def day_of(at: datetime) -> int:
    """The day of ``at``, which is in UTC, as a number in which it can be read: 20261125."""
    return at.year * 10_000 + at.month * 100 + at.day


def day_number(day: date) -> int:
    """``day`` as :func:`day_of` has it."""
    return day.year * 10_000 + day.month * 100 + day.day


def day_text(number: int) -> str:
    """A day, or a month (202611), as people write it."""
    text = f"{number:06d}"
    return "-".join(part for part in (text[:4], text[4:6], text[6:]) if part)


def bucket_of(waited: float) -> int:
    """The bucket of a waiting time: bucket n holds those below 2^n seconds."""
    return int(waited).bit_length() if waited > 0.0 else 0


@dataclass
class Tally:
    """Sums over tasks, and over the pilots that ended."""

    tasks: int = 0
    works: int = 0
    core_time: float = 0.0
    """Seconds of cores that led to a result."""
    cpu_time: float = 0.0
    """What of that the processors were busy."""
    doubtful: int = 0
    pilots: int = 0
    waste: dict[Cause, float] = field(default_factory=dict)
    """Seconds of cores by the cause for which they led to none."""
    waits: dict[int, int] = field(default_factory=dict)

    def add(
        self, cause: Cause, bucket: int, tasks: int, core_time: float, cpu_time: float, bad: int
    ) -> None:
        """Count so many tasks of one kind; ``bad`` of them reported what nobody can believe."""
        self.tasks += tasks
        self.doubtful += bad
        if cause is Cause.NONE:
            self.works += tasks
            self.core_time += core_time
            self.cpu_time += cpu_time
        else:
            self.waste[cause] = self.waste.get(cause, 0.0) + core_time
        if bucket != NOT_WAITED:
            self.waits[bucket] = self.waits.get(bucket, 0) + tasks

    def add_pilot(self, idle: float) -> None:
        """Count a pilot that ended; ``idle`` seconds of its cores had no task."""
        self.pilots += 1
        self.waste[Cause.IDLE] = self.waste.get(Cause.IDLE, 0.0) + idle

    @property
    def wasted(self) -> float:
        """Seconds of cores that led to nothing."""
        return sum(self.waste.values())

    @property
    def efficiency(self) -> Optional[float]:
        """What part of the core-time that led to results the processors were busy."""
        return self.cpu_time / self.core_time if self.core_time else None

    def waited(self, part: float) -> Optional[int]:
        """Seconds below which so large a part of the works waited; exact to a factor of two."""
        ranked = sorted(self.waits.items())
        missing = part * sum(count for _, count in ranked)
        for bucket, count in ranked:
            missing -= count
            if missing <= 0:
                return 1 << bucket
        return None

    def row(self) -> dict[str, Any]:
        """The sums as they are told: hours, seconds, and numbers."""
        return {
            "works": self.works,
            "tasks": self.tasks,
            "core_hours": hours(self.core_time),
            "cpu_hours": hours(self.cpu_time),
            "efficiency": None if self.efficiency is None else round(self.efficiency, 4),
            "wasted_core_hours": hours(self.wasted),
            "waste": {c.value: hours(t) for c, t in sorted(self.waste.items()) if t},
            "waited_p50_s": self.waited(0.5),
            "waited_p95_s": self.waited(0.95),
            "pilots": self.pilots,
            "doubtful": self.doubtful,
        }


def hours(seconds: float) -> float:
    """``seconds`` in hours, to less than a hundredth of a second."""
    return round(seconds / 3600, 6)


@dataclass(frozen=True)
class Entry:
    """What a report is made from: the tasks of one day, account and cause, or a pilot's idle time.
    ``labels`` is what it may be divided by.
    """

    labels: Mapping[str, Any]
    cause: Cause
    bucket: int = NOT_WAITED
    tasks: int = 0
    core_time: float = 0.0
    cpu_time: float = 0.0
    doubtful: int = 0


def tallied(
    entries: Iterable[Entry], by: tuple[str, ...]
) -> tuple[dict[tuple[Any, ...], Tally], Tally]:
    """The sums for each combination of what ``by`` names, and over all."""
    total = Tally()
    rows: dict[tuple[Any, ...], Tally] = {}
    for entry in entries:
        key = tuple(entry.labels[name] for name in by)
        for tally in (rows.setdefault(key, Tally()), total):
            if entry.cause is Cause.IDLE:
                tally.add_pilot(entry.core_time)
            else:
                tally.add(
                    entry.cause,
                    entry.bucket,
                    entry.tasks,
                    entry.core_time,
                    entry.cpu_time,
                    entry.doubtful,
                )
    return rows, total
