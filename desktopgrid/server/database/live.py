"""The works that are not over: a million of them in seconds, and in few bytes each.

Values that many works have in common are kept once. Strings of the database are new for each row.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec
from sqlalchemy import Connection, Integer, bindparam, case, cast, func, or_, select

from desktopgrid.model.lifecycle import TaskStatus, WorkStatus
from desktopgrid.model.objects import Description, Submission, Task, Work
from desktopgrid.server.database.portions import STREAMED, parts
from desktopgrid.server.database.schema import submissions, tasks, works

_description: Callable[[str], Description] = msgspec.json.Decoder(Description).decode
_arguments: Callable[[str], tuple[str, ...]] = msgspec.json.Decoder(tuple[str, ...]).decode
_at = partial(datetime.fromtimestamp, tz=UTC)


@dataclass(eq=False)
class LiveWorks:
    """The works that are not over, in the order of their numbers, each with its submission and its
    task; ``totals`` has how many works each sweep among the submissions had in all.
    """

    works: list[Work] = field(default_factory=list)
    submissions: dict[str, Submission] = field(default_factory=dict)
    totals: dict[str, int] = field(default_factory=dict)


def live_works(connection: Connection, shard: int) -> LiveWorks:
    """The works of a shard that are not over."""
    into = LiveWorks()
    with _uncollected():
        _read(connection, shard, into)
    return into


@contextmanager
def _uncollected() -> Iterator[None]:
    """Make a million objects without looking every so often which of them are garbage."""
    is_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if is_enabled:
            gc.enable()


def _read(connection: Connection, shard: int, into: LiveWorks) -> None:
    share = _Shared()
    after = -1
    while rows := connection.execute(_live_works, {"shard": shard, "after": after}).all():
        after = rows[-1].number
        with_first = [row[_FIELDS:] for row in rows if row[_FIELDS] is not None]
        into.submissions.update((row[0], share.submission(*row)) for row in with_first)
        unknown = {row.submission for row in rows}.difference(into.submissions)
        for some in parts(unknown):
            for row in connection.execute(_some_submissions, {"uids": some}):
                into.submissions[row.uid] = share.submission(*row)
        into.works.extend(_work(row[:_FIELDS], into.submissions, share) for row in rows)
    _totals(connection, into)


_work_columns = (
    works.c.uid,
    works.c.number,
    works.c.submission,
    works.c.arguments,
    works.c.status,
    works.c.attempts,
    works.c.failures,
    works.c.reason,
    works.c.task,
    tasks.c.host,
    tasks.c.epoch,
    tasks.c.status.label("task_status"),
    tasks.c.created_at,
    tasks.c.started_at,
)
_FIELDS = len(_work_columns)
_submission_columns = (
    submissions.c.uid.label("submission_uid"),
    submissions.c.owner,
    submissions.c.description,
    submissions.c.rights,
    submissions.c.submitted_at,
    submissions.c.vo,
)
_is_first = or_(works.c.uid == works.c.submission, works.c.uid == works.c.submission.concat("-0"))
# A submission comes with its first work, and not again with each of the others; where the first is
# over it is asked for by itself.
_live_works = (
    select(*_work_columns, *_submission_columns)
    .select_from(
        works.outerjoin(tasks, tasks.c.uid == works.c.task).outerjoin(
            submissions, submissions.c.uid == case((_is_first, works.c.submission))
        )
    )
    .where(
        works.c.shard == bindparam("shard"),
        works.c.ended_at.is_(None),
        works.c.number > bindparam("after"),
    )
    .order_by(works.c.number)
    .limit(STREAMED)
)
_some_submissions = select(
    submissions.c.uid,
    *_submission_columns[1:],
).where(submissions.c.uid.in_(bindparam("uids", expanding=True)))


class _Shared:
    """Values that many of a million works have in common, each kept once."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.arguments: dict[str, tuple[str, ...]] = {}
        self.descriptions: dict[str, Description] = {}

    def text(self, text: str) -> str:
        """The one copy of ``text``."""
        return self.texts.setdefault(text, text)

    def arguments_of(self, text: str) -> tuple[str, ...]:
        """The arguments that ``text`` says."""
        found = self.arguments.get(text)
        if found is None:
            found = _arguments(text)
            if len(self.arguments) < STREAMED:
                self.arguments[text] = found
        return found

    def description_of(self, text: str) -> Description:
        """The description that ``text`` says."""
        found = self.descriptions.get(text)
        if found is None:
            found = self.descriptions[text] = _description(text)
        return found

    def submission(
        self, uid: str, owner: str, description: str, rights: int, submitted_at: float, vo: str
    ) -> Submission:
        """The submission that a row describes."""
        described = self.description_of(description)
        at, vo = _at(submitted_at), self.text(vo)
        return Submission(uid, self.text(owner), described, rights, at, vo)


def _work(row: Any, shared: dict[str, Submission], share: _Shared) -> Work:
    uid, number, name, arguments, status, attempts, failures, reason, task, *rest = row
    submission = shared[name]
    work = Work(
        submission.uid if uid == name else uid,
        number,
        submission,
        share.arguments_of(arguments),
        _WORK_STATUSES[status],
        attempts,
        failures,
        None,
        reason,
    )
    if task is not None:
        host, epoch, status, created_at, started_at = rest
        work.task = Task(
            task,
            work.uid,
            share.text(host),
            epoch,
            _TASK_STATUSES[status],
            _at(created_at),
            None if started_at is None else _at(started_at),
        )
    return work


_WORK_STATUSES = {status.value: status for status in WorkStatus}
_TASK_STATUSES = {status.value: status for status in TaskStatus}


def _totals(connection: Connection, into: LiveWorks) -> None:
    """Find how far submissions go that may have more than one work. The first ones need not be
    there: a sweep may be sent in parts of different names.
    """
    number = func.substr(works.c.uid, func.length(works.c.submission) + len("-") + 1)
    sweeps = {w.submission.uid for w in into.works if w.uid is not w.submission.uid}
    for some in parts(sweeps):
        counted = (
            select(works.c.submission, func.max(cast(number, Integer)) + 1)
            .where(works.c.submission.in_(some))
            .group_by(works.c.submission)
        )
        into.totals.update((uid, total) for uid, total in connection.execute(counted))
