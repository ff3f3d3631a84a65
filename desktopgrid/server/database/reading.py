"""Reading what is durable: the live objects at a server's start, results, lists, and names.

Rows become model objects; what a list for people holds are plain values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, select

from desktopgrid.model.lifecycle import WorkStatus
from desktopgrid.model.objects import Description, Output, Result, Submitted, Usage
from desktopgrid.model.rights import Who
from desktopgrid.server.database.listing import list_objects, visible_to
from desktopgrid.server.database.portions import parts, streamed
from desktopgrid.server.database.schema import (
    pilots,
    submissions,
    tasks,
    users,
    works,
)
from desktopgrid.server.database.snapshot import RecordedReply, Snapshot, load

_description: Callable[[str], Description] = msgspec.json.Decoder(Description).decode
_arguments: Callable[[str], tuple[str, ...]] = msgspec.json.Decoder(tuple[str, ...]).decode
_outputs: Callable[[str], tuple[Output, ...]] = msgspec.json.Decoder(tuple[Output, ...]).decode


def results(
    connection: Connection, names: Iterable[str], who: Who | None = None
) -> Iterator[Result]:
    """What came of the works of these names, or of the submissions of these names, as it is read.

    Those of works that go on have their status and no more; removed works, and what ``who`` may not
    read (None: all may be read), are left out. Outputs may be long: stop when you have enough.
    """
    for some in parts(names):
        for name in (works.c.uid, works.c.submission):
            wanted = _results.where(name.in_(some), visible_to(who, "works"))
            if name is works.c.submission:
                wanted = wanted.where(works.c.uid != works.c.submission)
            for row in streamed(connection, wanted.order_by(works.c.number)):
                yield _result(row)


_results = (
    select(
        works.c.uid,
        works.c.task,
        works.c.status,
        works.c.reason,
        works.c.ended_at,
        tasks.c.host,
        tasks.c.exit_code,
        tasks.c.reason.label("task_reason"),
        tasks.c.stdout,
        tasks.c.stderr,
        tasks.c.outputs,
        tasks.c.wall,
        tasks.c.user_time,
        tasks.c.system_time,
        tasks.c.memory_kib,
    )
    .select_from(
        works.join(submissions, submissions.c.uid == works.c.submission)
        .join(users, users.c.uid == submissions.c.owner)
        .outerjoin(tasks, tasks.c.uid == works.c.task)
    )
    .where(works.c.removed_at.is_(None))
)


def _result(row: Row[Any]) -> Result:
    status = WorkStatus(row.status)
    if row.ended_at is None or row.host is None:
        return Result(row.uid, row.task, status, reason=row.reason, host=row.host)
    return Result(
        row.uid,
        row.task,
        status,
        row.exit_code,
        row.reason or row.task_reason,
        row.stdout or b"",
        row.stderr or b"",
        _outputs(row.outputs) if row.outputs else (),
        Usage(row.wall, row.user_time, row.system_time, row.memory_kib),
        row.host,
    )


def stamps_taken(connection: Connection, stamps: Iterable[str]) -> set[str]:
    """Which of ``stamps`` a pilot has, or had; memory does not hold those of old."""
    key = pilots.c.stamp
    found: set[str] = set()
    for some in parts(stamps):
        found.update(connection.execute(select(key).where(key.in_(some))).scalars())
    return found


def submitted(connection: Connection, uid: str, names: Iterable[str]) -> Submitted | None:
    """The submission ``uid`` and those of its works that have one of ``names``, over or not."""
    whole = select(submissions.c.owner, submissions.c.description).where(submissions.c.uid == uid)
    found = connection.execute(whole).one_or_none()
    if found is None:
        return None
    arguments: dict[str, tuple[str, ...]] = {}
    for some in parts(names):
        wanted = select(works.c.uid, works.c.arguments).where(works.c.uid.in_(some))
        arguments.update((row.uid, _arguments(row.arguments)) for row in connection.execute(wanted))
    return Submitted(found.owner, _description(found.description), arguments)


def owners_of_submissions(connection: Connection, uids: Iterable[str]) -> dict[str, str]:
    """Whose each of these submissions is, whether its works are over or not; without those that
    are not there.
    """
    owners: dict[str, str] = {}
    for some in parts(uids):
        wanted = select(submissions.c.uid, submissions.c.owner).where(submissions.c.uid.in_(some))
        owners.update((row.uid, row.owner) for row in connection.execute(wanted))
    return owners


def owners_of_ended_works(connection: Connection, names: Iterable[str]) -> dict[str, str]:
    """The works of these names, or of the submissions of these names, that are over and not
    removed, each with its owner, in the order in which they came.
    """
    owners: dict[str, str] = {}
    for some in parts(names):
        for name in (works.c.uid, works.c.submission):
            wanted = select(works.c.uid, works.c.owner).where(
                name.in_(some), works.c.ended_at.is_not(None), works.c.removed_at.is_(None)
            )
            wanted = wanted.order_by(works.c.number)
            owners.update((row.uid, row.owner) for row in connection.execute(wanted))
    return owners


def removed_works(connection: Connection, before: float, most: int) -> list[tuple[str, str]]:
    """At most so many works that were removed before then (seconds since the epoch), each with its
    submission.
    """
    wanted = select(works.c.uid, works.c.submission).where(works.c.removed_at < before).limit(most)
    return [(row.uid, row.submission) for row in connection.execute(wanted)]


__all__ = [
    "RecordedReply",
    "Snapshot",
    "list_objects",
    "load",
    "owners_of_ended_works",
    "owners_of_submissions",
    "removed_works",
    "results",
    "stamps_taken",
    "submitted",
    "visible_to",
]
