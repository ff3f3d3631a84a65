"""Publishing the use of the grid as APEL's messages: each record once."""

from __future__ import annotations

import calendar
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Protocol

from bridge.apel.config import AccountingConfig, Form
from bridge.apel.messages import (
    INDIVIDUAL,
    grouped_by,
    is_due,
    is_published,
    job_record,
    message,
    summaries,
    summary_header,
)
from bridge.apel.spool import Spool
from desktopgrid.client.reports import UsageReport

ASKED_AT_ONCE = 1_000
"""Tasks that go on, in one question for them."""


class Books(Protocol):
    """What is asked of the grid (desktopgrid.client.Grid)."""

    def report(
        self, since: date | None = None, until: date | None = None, by: Sequence[str] = ()
    ) -> UsageReport:
        """What was used, divided by what."""

    def usage_records(
        self, after: Mapping[str, int], still_open: Sequence[int] = ()
    ) -> dict[str, Any]:
        """Records of tasks."""


@dataclass
class Published:
    """What one run put into the directory."""

    records: int = 0
    messages: int = 0
    left_out: int = 0
    """Tasks that are none of the site's use: without a result, or counted by another site."""
    open: int = 0
    """Tasks that go on; they are published later."""


def published_as(config: AccountingConfig) -> str:
    """What must stay the same for everything in one directory."""
    return f"{config.form.value} of {config.site_name} at {config.submit_host}"


# --- individual records ---------------------------------------------------------------------------


def publish_records(
    books: Books, config: AccountingConfig, spool: Spool, clock: Callable[[], datetime]
) -> Published:
    """Put a record of each task that ended since the last time into ``spool``."""
    done = Published()
    for page, after, still_open in _pages(books, spool):
        due = [record for record in page if is_due(record, clock())]
        early = [record["epoch"] for record in page if not is_due(record, clock())]
        records = [job_record(record, config) for record in due if is_published(record, config)]
        texts = [message(INDIVIDUAL, records)] if records else []
        spool.add(texts, after=after, open=sorted({*still_open, *early}))
        done.records += len(records)
        done.messages += len(texts)
        done.left_out += len(due) - len(records)
    done.open = len(spool.state.open)
    return done


def _pages(
    books: Books, spool: Spool
) -> Iterator[tuple[list[dict[str, Any]], dict[str, int], set[int]]]:
    """Records, how far they go, and which tasks before that go on."""
    waiting = spool.state.open
    for start in range(0, len(waiting), ASKED_AT_ONCE):
        some = waiting[start : start + ASKED_AT_ONCE]
        told = books.usage_records({}, some)
        others = set(spool.state.open).difference(some)
        yield told["records"], spool.state.after, others.union(told["open"])
    while True:
        told = books.usage_records(spool.state.after)
        if told["after"] != spool.state.after:
            yield told["records"], told["after"], {*spool.state.open, *told["open"]}
        # What is given out meanwhile waits for the next time, or there would be no end.
        if not told["more"]:
            return


# --- summaries ------------------------------------------------------------------------------------


def publish_summaries(
    books: Books, config: AccountingConfig, spool: Spool, since: date, until: date
) -> Published:
    """Put the sums of each month from ``since`` to ``until`` into ``spool`` that are not there as
    they are now. Whoever reads them replaces what he had of the month.
    """
    done = Published()
    for first, last in months(since, until):
        report = books.report(first, last, grouped_by(config))
        records = list(summaries(report.rows, config))
        if not records:
            continue
        text = message(summary_header(config), records)
        digest = hashlib.sha256(text.encode()).hexdigest()
        name = f"{first:%Y-%m}"
        if spool.state.months.get(name) == digest:
            done.left_out += len(records)
            continue
        spool.add([text], months={**spool.state.months, name: digest})
        done.records += len(records)
        done.messages += 1
    return done


def months(since: date, until: date) -> Iterator[tuple[date, date]]:
    """The first and the last day of each month from that of ``since`` to that of ``until``."""
    first = since.replace(day=1)
    while first <= until:
        last = first.replace(day=calendar.monthrange(first.year, first.month)[1])
        yield first, last
        first = last + timedelta(days=1)


def publish(
    books: Books,
    config: AccountingConfig,
    spool: Spool,
    since: date | None,
    until: date | None,
    clock: Callable[[], datetime],
) -> Published:
    """Publish what is new. Summaries are those of this month and the last one, unless days are
    named.
    """
    if config.form is Form.INDIVIDUAL:
        return publish_records(books, config, spool, clock)
    today = clock().date()
    last = min(until or today, today)
    first = since or (last.replace(day=1) - timedelta(days=1))
    return publish_summaries(books, config, spool, first, last)
