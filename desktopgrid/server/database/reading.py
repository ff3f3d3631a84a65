"""Reading what is durable: the live objects at a server's start, and the results of works.

Rows become model objects here. Lists for people are in listing.py, under the same names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, Select, func, or_, select

from desktopgrid.model.lifecycle import PilotStatus, TaskStatus, WorkStatus
from desktopgrid.model.objects import (
    Application,
    Credential,
    Data,
    Description,
    Facts,
    Group,
    Host,
    Output,
    Pilot,
    Platform,
    Result,
    Session,
    Submission,
    Task,
    Usage,
    User,
    UserGroup,
    Work,
)
from desktopgrid.model.rights import UserLevel, Who
from desktopgrid.server.database.listing import list_objects, visible_to
from desktopgrid.server.database.records import Shard
from desktopgrid.server.database.schema import (
    applications,
    bags,
    credentials,
    datas,
    executables,
    hosts,
    pilots,
    replies,
    submissions,
    tasks,
    usergroups,
    users,
    works,
)

STREAMED = 5_000
"""Rows fetched at a time where there may be a million."""
NAMED = 1_000
"""Names in one question."""
PILOT_MEMORY = 3600.0
"""Seconds before the newest pilot for which final ones are read too: the caps count an hour."""

_description: Callable[[str], Description] = msgspec.json.Decoder(Description).decode
_facts: Callable[[str], Facts] = msgspec.json.Decoder(Facts).decode
_arguments: Callable[[str], tuple[str, ...]] = msgspec.json.Decoder(tuple[str, ...]).decode
_outputs: Callable[[str], tuple[Output, ...]] = msgspec.json.Decoder(tuple[Output, ...]).decode
_at = partial(datetime.fromtimestamp, tz=UTC)


@dataclass(frozen=True)
class RecordedReply:
    """The answer to a request that changed something: ``body`` as it was recorded."""

    user: str
    body: str
    recorded_at: datetime


@dataclass(eq=False)
class Snapshot:
    """Everything alive in a shard, and what all shards share.

    ``works`` are in the order of their numbers; each holds its submission, and its task if it has
    one. ``totals`` has for each submission with open works how many it was in all.
    """

    users: list[User] = field(default_factory=list)
    user_groups: list[UserGroup] = field(default_factory=list)
    credentials: list[Credential] = field(default_factory=list)
    datas: list[Data] = field(default_factory=list)
    applications: list[Application] = field(default_factory=list)
    bags: list[Session | Group] = field(default_factory=list)
    hosts: list[Host] = field(default_factory=list)
    pilots: list[Pilot] = field(default_factory=list)
    submissions: dict[str, Submission] = field(default_factory=dict)
    totals: dict[str, int] = field(default_factory=dict)
    works: list[Work] = field(default_factory=list)
    replies: dict[tuple[str, int], RecordedReply] = field(default_factory=dict)
    next_number: int = 1


def load(connection: Connection, shard: Shard) -> Snapshot:
    """The live objects of ``shard``, to be read after it was taken."""
    number = shard.number
    return Snapshot(
        users=[_user(row) for row in connection.execute(select(users))],
        user_groups=[
            UserGroup(row.uid, row.name) for row in connection.execute(select(usergroups))
        ],
        credentials=_credentials(connection),
        datas=_datas(connection),
        applications=_applications(connection),
        bags=[_bag(row) for row in connection.execute(select(bags))],
        hosts=_hosts(connection, number),
        pilots=_pilots(connection, number),
        submissions=(shared := _submissions(connection, number)),
        totals=_totals(connection, number),
        works=_works(connection, number, shared),
        replies=_replies(connection, number),
        next_number=_next_number(connection, number),
    )


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else _at(seconds)


def _user(row: Row[Any]) -> User:
    return User(
        row.uid, row.login, UserLevel(row.level), row.group, row.email, bool(row.is_revoked)
    )


def _credentials(connection: Connection) -> list[Credential]:
    wanted = select(credentials).where(credentials.c.is_revoked.is_(False))
    return [
        Credential(
            row.uid, row.user, row.kind, row.verifier, _at(row.created_at), _time(row.expires_at)
        )
        for row in connection.execute(wanted)
    ]


def _datas(connection: Connection) -> list[Data]:
    columns = [datas.c[name] for name in Data.__dataclass_fields__]
    wanted = select(*columns).where(datas.c.is_deleted.is_(False)).order_by(datas.c.number)
    return [Data(*row) for row in _streamed(connection, wanted)]


def _applications(connection: Connection) -> list[Application]:
    """All of them: a work may wait for one that was deleted since."""
    programs: dict[str, dict[Platform, str]] = {}
    for row in connection.execute(select(executables)):
        programs.setdefault(row.application, {})[Platform(row.cpu, row.os)] = row.data
    return [
        Application(
            row.uid, row.name, row.owner, row.rights, programs.get(row.uid, {}), row.is_deleted
        )
        for row in connection.execute(select(applications).order_by(applications.c.number))
    ]


def _bag(row: Row[Any]) -> Session | Group:
    return (Session if row.kind == "session" else Group)(row.uid, row.name, row.owner)


def _hosts(connection: Connection, shard: int) -> list[Host]:
    wanted = select(hosts).where(hosts.c.shard == shard)
    return [
        Host(
            row.uid,
            row.owner,
            _facts(row.facts),
            _at(row.first_seen_at),
            _at(row.last_seen_at),
            _time(row.ends_at),
            row.pilot,
        )
        for row in _streamed(connection, wanted)
    ]


def _pilots(connection: Connection, shard: int) -> list[Pilot]:
    newest = select(func.max(pilots.c.submitted_at)).scalar_subquery()
    is_recent = pilots.c.submitted_at >= newest - PILOT_MEMORY
    wanted = select(pilots).where(
        pilots.c.shard == shard, or_(pilots.c.ended_at.is_(None), is_recent)
    )
    return [
        Pilot(
            row.stamp,
            row.site,
            row.owner,
            PilotStatus(row.status),
            row.verifier,
            _at(row.submitted_at),
            _at(row.deadline_at),
            row.wall_time,
            row.reference,
            row.session_verifier,
            row.host,
            row.reason,
            row.tasks_done,
        )
        for row in connection.execute(wanted.order_by(pilots.c.number))
    ]


def _alive(shard: int) -> ColumnElement[bool]:
    return (works.c.shard == shard) & works.c.ended_at.is_(None)


def _submissions(connection: Connection, shard: int) -> dict[str, Submission]:
    """The submissions of live works."""
    alive = select(works.c.submission).where(_alive(shard))
    columns = (
        submissions.c.uid,
        submissions.c.owner,
        submissions.c.description,
        submissions.c.rights,
        submissions.c.submitted_at,
    )
    descriptions: dict[str, Description] = {}
    found = {}
    for uid, owner, text, rights, submitted_at in _streamed(
        connection, select(*columns).where(submissions.c.uid.in_(alive))
    ):
        description = descriptions.get(text)
        if description is None:
            description = descriptions[text] = _description(text)
        found[uid] = Submission(uid, owner, description, rights, _at(submitted_at))
    return found


def _totals(connection: Connection, shard: int) -> dict[str, int]:
    alive = select(works.c.submission).where(_alive(shard))
    wanted = (
        select(works.c.submission, func.count())
        .where(works.c.submission.in_(alive))
        .group_by(works.c.submission)
    )
    return {uid: total for uid, total in _streamed(connection, wanted)}


def _works(connection: Connection, shard: int, shared: dict[str, Submission]) -> list[Work]:
    wanted = (
        select(
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
            tasks.c.status,
            tasks.c.created_at,
            tasks.c.started_at,
        )
        .select_from(works.outerjoin(tasks, tasks.c.uid == works.c.task))
        .where(_alive(shard))
        .order_by(works.c.number)
    )
    # A million works of one sweep have few different words among them.
    same: dict[str, tuple[str, ...]] = {}
    statuses = {status.value: status for status in WorkStatus}
    task_statuses = {status.value: status for status in TaskStatus}
    found = []
    for row in _streamed(connection, wanted):
        uid, number, submission, text, status, attempts, failures, reason, task, *rest = row
        arguments = same.get(text)
        if arguments is None:
            arguments = _arguments(text)
            if len(same) < STREAMED:
                same[text] = arguments
        work = Work(
            uid,
            number,
            shared[submission],
            arguments,
            statuses[status],
            attempts,
            failures,
            None,
            reason,
        )
        if task is not None:
            host, epoch, word, created_at, started_at = rest
            work.task = Task(
                task,
                uid,
                host,
                epoch,
                task_statuses[word],
                _at(created_at),
                _time(started_at),
            )
        found.append(work)
    return found


def _replies(connection: Connection, shard: int) -> dict[tuple[str, int], RecordedReply]:
    wanted = select(replies).where(replies.c.shard == shard)
    return {
        (row.session, row.sequence): RecordedReply(row.user, row.body, _at(row.recorded_at))
        for row in _streamed(connection, wanted)
    }


def _next_number(connection: Connection, shard: int) -> int:
    """The first free number of the shard; each has 2^40 of its own."""
    first = shard << 40
    last = connection.execute(
        select(func.max(works.c.number)).where(works.c.number.between(first, first + (1 << 40) - 1))
    ).scalar()
    return first + 1 if last is None else int(last) + 1


def _streamed(connection: Connection, wanted: Select[Any]) -> Iterator[Any]:
    for part in connection.execution_options(yield_per=STREAMED).execute(wanted).partitions():
        yield from part


def results(
    connection: Connection, names: Iterable[str], who: Who | None = None
) -> Iterator[Result]:
    """What came of the works of these names, or of the submissions of these names, as it is read.

    Those of works that go on have their status and no more; removed works, and what ``who`` may not
    read (None: all may be read), are left out. Outputs may be long: stop when you have enough.
    """
    everything = list(names)
    for start in range(0, len(everything), NAMED):
        some = everything[start : start + NAMED]
        for name in (works.c.uid, works.c.submission):
            wanted = _results.where(name.in_(some), visible_to(who, "works"))
            if name is works.c.submission:
                wanted = wanted.where(works.c.uid != works.c.submission)
            for row in _streamed(connection, wanted.order_by(works.c.number)):
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


_KEYS = {
    "works": works.c.uid,
    "submissions": submissions.c.uid,
    "pilots": pilots.c.stamp,
    "datas": datas.c.uid,
    "credentials": credentials.c.uid,
}


def taken(connection: Connection, kind: str, uids: Iterable[str]) -> set[str]:
    """Which of ``uids`` an object of ``kind`` has, or had; memory does not hold those of old."""
    key = _KEYS[kind]
    everything = list(uids)
    found: set[str] = set()
    for start in range(0, len(everything), NAMED):
        some = everything[start : start + NAMED]
        found.update(connection.execute(select(key).where(key.in_(some))).scalars())
    return found


def owner_of_submission(connection: Connection, uid: str) -> str | None:
    """Whose submission ``uid`` is, whether its works are over or not; None if there is none."""
    wanted = select(submissions.c.owner).where(submissions.c.uid == uid)
    found: str | None = connection.execute(wanted).scalar()
    return found


__all__ = [
    "RecordedReply",
    "Snapshot",
    "list_objects",
    "load",
    "owner_of_submission",
    "results",
    "taken",
    "visible_to",
]
