"""Reading what is durable: the live objects at a server's start, and the results of works.

Rows become model objects here. Lists for people are in listing.py, under the same names.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, Select, bindparam, case, func, or_, select

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
    one. ``totals`` has for each sweep with open works how many it was in all; a submission that is
    not there is a single work.
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
    found = Snapshot(
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
        replies=_replies(connection, number),
        next_number=_next_number(connection, number),
    )
    with _uncollected():
        _works(connection, number, found)
    return found


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


def _works(connection: Connection, shard: int, into: Snapshot) -> None:
    """Read the live works in the order of their numbers, and with them their submissions."""
    share = _Shared()
    after = -1
    while rows := connection.execute(_live_works, {"shard": shard, "after": after}).all():
        after = rows[-1].number
        with_first = [row[_FIELDS:] for row in rows if row[_FIELDS] is not None]
        into.submissions.update((row[0], share.submission(*row)) for row in with_first)
        unknown = {row.submission for row in rows}.difference(into.submissions)
        for some in _parts(unknown):
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
        self, uid: str, owner: str, description: str, rights: int, submitted_at: float
    ) -> Submission:
        """The submission that a row describes."""
        described = self.description_of(description)
        return Submission(uid, self.text(owner), described, rights, _at(submitted_at))


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
            _time(started_at),
        )
    return work


_WORK_STATUSES = {status.value: status for status in WorkStatus}
_TASK_STATUSES = {status.value: status for status in TaskStatus}


def _totals(connection: Connection, into: Snapshot) -> None:
    """Count the works of submissions that may have more than one."""
    sweeps = {w.submission.uid for w in into.works if w.uid is not w.submission.uid}
    for some in _parts(sweeps):
        counted = (
            select(works.c.submission, func.count())
            .where(works.c.submission.in_(some))
            .group_by(works.c.submission)
        )
        into.totals.update((uid, total) for uid, total in connection.execute(counted))


def _parts(names: Iterable[str]) -> Iterator[list[str]]:
    """``names``, as many at a time as one question may have."""
    everything = list(names)
    for start in range(0, len(everything), NAMED):
        yield everything[start : start + NAMED]


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
    for some in _parts(names):
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
    found: set[str] = set()
    for some in _parts(uids):
        found.update(connection.execute(select(key).where(key.in_(some))).scalars())
    return found


def owners_of_submissions(connection: Connection, uids: Iterable[str]) -> dict[str, str]:
    """Whose each of these submissions is, whether its works are over or not; without those that
    are not there.
    """
    owners: dict[str, str] = {}
    for some in _parts(uids):
        wanted = select(submissions.c.uid, submissions.c.owner).where(submissions.c.uid.in_(some))
        owners.update((row.uid, row.owner) for row in connection.execute(wanted))
    return owners


__all__ = [
    "RecordedReply",
    "Snapshot",
    "list_objects",
    "load",
    "owners_of_submissions",
    "results",
    "taken",
    "visible_to",
]
