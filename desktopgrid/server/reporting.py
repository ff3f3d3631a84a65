"""Whether a question about the use of the grid is one: its days, and what it divides the use by."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime

from desktopgrid.model.accounting import GROUPINGS
from desktopgrid.model.errors import BadRequest
from desktopgrid.wire import messages as m

MOST_OPEN = 1_000
"""Tasks in one question for those that went on."""
MOST_SHARDS = 1_000
_HIGHEST = 2**63 - 1


def whole(asked: m.Report, now: datetime) -> m.Report:
    """``asked`` with both its days; raises BadRequest."""
    since = _day(asked.since, "since") if asked.since else now.date().replace(day=1)
    until = _day(asked.until, "until") if asked.until else max(since, now.date())
    if until < since:
        raise BadRequest(f"until {until} is before since {since}")
    for name in asked.by:
        if name not in GROUPINGS:
            raise BadRequest(
                f"use is not divided by {name[:40]!r}; it can be by {', '.join(GROUPINGS)}"
            )
    if len(set(asked.by)) != len(asked.by):
        raise BadRequest(f"by {', '.join(asked.by)} names something twice")
    return replace(asked, since=since.isoformat(), until=until.isoformat())


def _day(text: str, name: str) -> date:
    try:
        found = date.fromisoformat(text)
    except ValueError:
        found = None
    # ISO 8601 has weeks, and days without hyphens; people do not.
    if found is None or found.isoformat() != text:
        raise BadRequest(f"{name} is a day such as 2026-11-25, not {text[:40]!r}")
    if found >= date.max:
        raise BadRequest(f"{name} is too late a day: {text}")
    return found


def checked(asked: m.UsageRecords) -> m.UsageRecords:
    """``asked``, if every database can be asked for that; raises BadRequest."""
    if len(asked.open) > MOST_OPEN or len(asked.after) > MOST_SHARDS:
        raise BadRequest(f"at most {MOST_OPEN} open tasks, and {MOST_SHARDS} shards, are asked for")
    for epoch in (*asked.open, *asked.after.values()):
        if not 0 <= epoch <= _HIGHEST:
            raise BadRequest(f"{epoch} is no epoch of a task")
    return asked
