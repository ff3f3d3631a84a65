"""Lists of objects for people: a page at a time, newest first, only what the asker may read.

Each kind has one query, the columns of its rows, the fields that may narrow it, and the rule of who
sees what. The rules are those of model/rights.py, said in SQL; a test holds the two together.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    FromClause,
    Label,
    Row,
    Select,
    and_,
    false,
    func,
    or_,
    select,
    true,
)

from desktopgrid.model.errors import BadRequest
from desktopgrid.model.rights import READ, UserLevel, Who
from desktopgrid.server.database import history
from desktopgrid.server.database.portions import NAMED, askable
from desktopgrid.server.database.schema import (
    applications,
    bags,
    credentials,
    datas,
    executables,
    hosts,
    pilots,
    submissions,
    tasks,
    usergroups,
    users,
    works,
)

HISTORY = frozenset(("works", "tasks"))
"""The kinds of which there may be millions."""
MOST = 10_000
"""Rows in a page at most."""


class Page(NamedTuple):
    """Some rows, and what to ask for the next ones with; None after the last."""

    rows: list[dict[str, Any]]
    next: str | None


@dataclass(frozen=True)
class Kind:
    """How objects of a kind are listed. ``number`` orders them, ``uids`` are names of theirs."""

    source: FromClause
    number: Column[int]
    names: tuple[Column[Any], ...]
    columns: Mapping[str, ColumnElement[Any]]
    fields: tuple[str, ...]
    """The columns that a ``where`` may name."""
    visible: Callable[[Who], ColumnElement[bool]]
    present: ColumnElement[bool] | None = None
    """What an object must be to be listed at all."""
    decode: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)


def readable(
    who: Who, owner: Column[Any], owner_group: Column[Any], rights: Column[int]
) -> ColumnElement[bool]:
    """:func:`desktopgrid.model.rights.grants` for READ, in SQL."""
    if who.level >= UserLevel.SUPER:
        return true()
    of_owner = and_(owner == who.user, rights.bitwise_and(READ << 6) != 0)
    of_all = and_(owner != who.user, rights.bitwise_and(READ) != 0)
    if who.group is None:
        return or_(of_owner, of_all)
    of_group = and_(owner != who.user, owner_group == who.group, rights.bitwise_and(READ << 3) != 0)
    return or_(of_owner, of_group, of_all)


def _own(who: Who, owner: ColumnElement[Any]) -> ColumnElement[bool]:
    return true() if who.level >= UserLevel.SUPER else owner == who.user


def _own_group(who: Who) -> ColumnElement[bool]:
    if who.level >= UserLevel.SUPER:
        return true()
    return false() if who.group is None else usergroups.c.uid == who.group


def _of_submission(who: Who) -> ColumnElement[bool]:
    return readable(who, submissions.c.owner, users.c.group, submissions.c.rights)


def _moment(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, tz=UTC).isoformat(timespec="milliseconds")


def _uri(uri: str) -> str:
    """As one writes it in `xw submit --input`; older rows have the way to the content there."""
    return uri.replace("xw:///v1/datas/", "xw:///")


def _columns(*columns: ColumnElement[Any]) -> dict[str, ColumnElement[Any]]:
    return {column.name: column for column in columns if isinstance(column, Column | Label)}


_owners = users.c.login.label("owner")
_work_parts = works.join(submissions, submissions.c.uid == works.c.submission).join(
    users, users.c.uid == submissions.c.owner
)
_TIMES = dict.fromkeys(
    (
        "submitted_at",
        "created_at",
        "started_at",
        "ended_at",
        "registered_at",
        "first_seen_at",
        "last_seen_at",
        "ends_at",
        "deadline_at",
        "expires_at",
        "last_used_at",
    ),
    _moment,
)


KINDS: dict[str, Kind] = {
    "works": Kind(
        # A work that is over is no host's any more; its last task was.
        _work_parts.join(applications, applications.c.uid == submissions.c.application)
        .outerjoin(tasks, tasks.c.uid == works.c.task)
        .outerjoin(hosts, hosts.c.uid == func.coalesce(works.c.host, tasks.c.host)),
        works.c.number,
        (works.c.uid, works.c.submission),
        _columns(
            works.c.uid,
            works.c.status,
            applications.c.name.label("application"),
            works.c.arguments,
            _owners,
            submissions.c.label,
            submissions.c.origin,
            submissions.c.session,
            submissions.c.group,
            works.c.submission,
            works.c.attempts,
            works.c.failures,
            hosts.c.name.label("host"),
            works.c.task,
            works.c.reason,
            submissions.c.delegation,
            submissions.c.vo,
            submissions.c.submitted_at,
            works.c.ended_at,
        ),
        (
            "status",
            "application",
            "owner",
            "label",
            "origin",
            "session",
            "group",
            "submission",
            "host",
        ),
        _of_submission,
        works.c.removed_at.is_(None),
        {"arguments": json.loads},
    ),
    "tasks": Kind(
        tasks.join(_work_parts, works.c.uid == tasks.c.work).join(
            hosts, hosts.c.uid == tasks.c.host
        ),
        tasks.c.epoch,
        (tasks.c.uid, tasks.c.work),
        _columns(
            tasks.c.uid,
            tasks.c.status,
            tasks.c.work,
            hosts.c.name.label("host"),
            _owners,
            tasks.c.epoch,
            tasks.c.exit_code,
            tasks.c.reason,
            tasks.c.wall,
            tasks.c.user_time,
            tasks.c.system_time,
            tasks.c.memory_kib,
            tasks.c.cause,
            tasks.c.is_doubtful,
            tasks.c.created_at,
            tasks.c.started_at,
            tasks.c.ended_at,
            tasks.c.registered_at,
        ),
        ("status", "work", "host", "owner"),
        _of_submission,
        works.c.removed_at.is_(None),
        {"is_doubtful": bool},
    ),
    "apps": Kind(
        applications.join(users, users.c.uid == applications.c.owner),
        applications.c.number,
        (applications.c.uid, applications.c.name),
        _columns(applications.c.uid, applications.c.name, _owners, applications.c.rights),
        ("name", "owner"),
        lambda who: readable(who, applications.c.owner, users.c.group, applications.c.rights),
        applications.c.is_deleted.is_(False),
    ),
    "datas": Kind(
        datas.join(users, users.c.uid == datas.c.owner),
        datas.c.number,
        (datas.c.uid, datas.c.name),
        _columns(
            datas.c.uid,
            datas.c.name,
            _owners,
            datas.c.rights,
            datas.c.size,
            datas.c.type,
            datas.c.sha256,
            datas.c.uri,
            datas.c.cpu,
            datas.c.os,
            datas.c.is_available,
        ),
        ("name", "owner", "type", "sha256", "uri"),
        lambda who: readable(who, datas.c.owner, users.c.group, datas.c.rights),
        datas.c.is_deleted.is_(False),
        {"is_available": bool, "uri": _uri},
    ),
    "users": Kind(
        users.outerjoin(usergroups, usergroups.c.uid == users.c.group),
        users.c.number,
        (users.c.uid, users.c.login),
        _columns(
            users.c.uid,
            users.c.login,
            users.c.level,
            usergroups.c.name.label("group"),
            users.c.email,
            users.c.is_revoked,
        ),
        ("login", "group"),
        lambda who: _own(who, users.c.uid),
        users.c.is_deleted.is_(False),
        decode={"level": lambda level: UserLevel(level).name.lower(), "is_revoked": bool},
    ),
    "tokens": Kind(
        credentials.join(users, users.c.uid == credentials.c.user),
        credentials.c.number,
        (credentials.c.uid, users.c.login),
        _columns(
            credentials.c.uid,
            users.c.login.label("user"),
            credentials.c.label,
            credentials.c.scope,
            credentials.c.source,
            credentials.c.created_at,
            credentials.c.expires_at,
            credentials.c.last_used_at,
            credentials.c.is_revoked.label("revoked"),
        ),
        ("user", "label", "scope", "source"),
        lambda who: _own(who, credentials.c.user),
        credentials.c.kind == "token",
        {"revoked": bool},
    ),
    "usergroups": Kind(
        usergroups,
        usergroups.c.number,
        (usergroups.c.uid, usergroups.c.name),
        _columns(usergroups.c.uid, usergroups.c.name),
        ("name",),
        _own_group,
        usergroups.c.is_deleted.is_(False),
    ),
    "pilots": Kind(
        pilots.join(users, users.c.uid == pilots.c.owner).outerjoin(
            hosts, hosts.c.uid == pilots.c.host
        ),
        pilots.c.number,
        (pilots.c.stamp,),
        _columns(
            pilots.c.stamp,
            pilots.c.site,
            pilots.c.status,
            pilots.c.reference,
            _owners,
            hosts.c.name.label("host"),
            pilots.c.tasks_done,
            pilots.c.reason,
            pilots.c.submitted_at,
            pilots.c.deadline_at,
            pilots.c.ended_at,
        ),
        ("site", "status", "owner", "reference"),
        lambda who: _own(who, pilots.c.owner),
    ),
    "hosts": Kind(
        hosts.join(users, users.c.uid == hosts.c.owner),
        hosts.c.number,
        (hosts.c.uid, hosts.c.name),
        _columns(
            hosts.c.uid,
            hosts.c.name,
            _owners,
            hosts.c.facts,
            hosts.c.pilot,
            hosts.c.first_seen_at,
            hosts.c.last_seen_at,
            hosts.c.ends_at,
        ),
        ("name", "owner", "pilot"),
        # What a host says of itself is nothing personal; a worker learns of its own only.
        lambda who: true() if who.level >= UserLevel.STANDARD else hosts.c.owner == who.user,
        decode={"facts": json.loads},
    ),
}
for _kind, _word in (("sessions", "session"), ("groups", "group")):
    KINDS[_kind] = Kind(
        bags.join(users, users.c.uid == bags.c.owner),
        bags.c.number,
        (bags.c.uid, bags.c.name),
        _columns(bags.c.uid, bags.c.name, _owners, bags.c.rights),
        ("name", "owner"),
        lambda who: readable(who, bags.c.owner, users.c.group, bags.c.rights),
        and_(bags.c.kind == _word, bags.c.is_deleted.is_(False)),
    )


def visible_to(who: Who | None, kind: str) -> ColumnElement[bool]:
    """The condition under which ``who`` may see an object of ``kind``; None may see all.

    It speaks of the tables that the kind's query joins.
    """
    return true() if who is None else KINDS[kind].visible(who)


def list_objects(
    connection: Connection,
    kind: str,
    who: Who | None = None,
    *,
    uids: Iterable[str] = (),
    where: Mapping[str, Any] | None = None,
    limit: int = 1_000,
    after: str | None = None,
) -> Page:
    """A page of the objects of ``kind`` that ``who`` may see (None: all), newest first.

    ``uids`` narrows to objects of these UIDs or names, or of these submissions or works, ``where``
    to those whose fields are so. Raises BadRequest on an unknown kind, field or token.
    """
    listed = KINDS.get(kind)
    if listed is None:
        raise BadRequest(f"{kind[:40]!r} is no kind of object; kinds are {', '.join(KINDS)}")
    limit = max(1, min(limit, MOST))
    wanted = (
        select(listed.number.label("number"), *_labelled(listed.columns))
        .select_from(listed.source)
        .where(visible_to(who, kind), *_narrowed(connection, kind, listed, where))
        .order_by(listed.number.desc())
        .limit(limit + 1)
    )
    if after is not None:
        wanted = wanted.where(listed.number < _number(after))
    names = list(uids)
    if kind in HISTORY and not names:
        found = _in_history(connection, wanted, kind, _values(where or {}), limit + 1)
    else:
        found = _found(connection, wanted, listed.names, names, limit + 1)
    decode = {**_TIMES, **listed.decode}
    rows = [
        {
            name: decode[name](value) if name in decode and value is not None else value
            for name, value in zip(listed.columns, row[1:], strict=True)
        }
        for row in found[:limit]
    ]
    if kind == "apps":
        _add_platforms(connection, rows)
    return Page(rows, str(found[limit - 1].number) if len(found) > limit else None)


def _found(
    connection: Connection,
    wanted: Select[*tuple[Any, ...]],
    columns: Iterable[Column[Any]],
    names: list[str],
    most: int,
) -> Sequence[Row[*tuple[Any, ...]]]:
    """The first rows that have one of ``names``, if there are any, in one of ``columns``.

    A question a column: an OR over columns is answered by sorting all that fit, page after page.
    """
    if not names:
        return connection.execute(wanted).all()
    names = askable(names)
    rows: dict[int, Row[*tuple[Any, ...]]] = {}
    for column in columns:
        named = column == names[0] if len(names) == 1 else column.in_(names)
        for row in connection.execute(wanted.where(named)):
            rows[row.number] = row
    return [rows[number] for number in sorted(rows, reverse=True)[:most]]


def _in_history(
    connection: Connection,
    wanted: Select[*tuple[Any, ...]],
    kind: str,
    where: history.Values,
    most: int,
) -> Sequence[Row[*tuple[Any, ...]]]:
    """The first rows of works or tasks, by the way that is the shorter one."""
    numbers = history.few(connection, kind, where)
    if numbers is None:
        return connection.execute(history.walked(connection, wanted, kind, where)).all()
    rows: list[Row[*tuple[Any, ...]]] = []
    for start in range(0, len(numbers), NAMED):
        some = KINDS[kind].number.in_(numbers[start : start + NAMED])
        rows += connection.execute(wanted.where(some))
        if len(rows) >= most:
            break
    return rows[:most]


def _labelled(columns: Mapping[str, ColumnElement[Any]]) -> list[ColumnElement[Any]]:
    return [column.label(name) for name, column in columns.items()]


def _narrowed(
    connection: Connection, kind: str, listed: Kind, where: Mapping[str, Any] | None
) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if listed.present is not None:
        conditions.append(listed.present)
    for name, value in (where or {}).items():
        if name not in listed.fields:
            fields = ", ".join(listed.fields)
            raise BadRequest(f"{kind} cannot be asked for by {name[:40]!r}; fields are {fields}")
        column = listed.columns[name]
        column = column.element if isinstance(column, Label) else column
        values = _several(value)
        if not all(isinstance(each, str | None) for each in values):
            raise BadRequest(f"{name} must be a text or a list of texts")
        known = _askable(values)
        if value is None:
            # What a finished work is listed with is its last task's host; it has none itself.
            is_host = (kind, name) == ("works", "host")
            conditions.append((works.c.host if is_host else column).is_(None))
        elif kind in HISTORY:
            conditions.append(history.narrowed(connection, kind, name, column, known))
        else:
            conditions.append(column.in_(known))
    return conditions


def _several(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else [value]


def _askable(values: Sequence[str | None]) -> list[str]:
    return askable(each for each in values if each is not None)


def _values(where: Mapping[str, Any]) -> dict[str, list[str]]:
    """What the fields may be; those are not there of which it is asked that they be nothing."""
    return {name: _askable(_several(value)) for name, value in where.items() if value is not None}


def _number(token: str) -> int:
    if not token.isascii() or not token.isdigit() or len(token) > 18:
        raise BadRequest("that is no token of a next page")
    return int(token)


def _add_platforms(connection: Connection, rows: list[dict[str, Any]]) -> None:
    uids = [row["uid"] for row in rows]
    platforms: dict[str, list[str]] = {uid: [] for uid in uids}
    wanted = select(executables).where(executables.c.application.in_(uids))
    for row in connection.execute(wanted.order_by(executables.c.cpu, executables.c.os)):
        platforms[row.application].append(f"{row.cpu}/{row.os}")
    for listed in rows:
        listed["platforms"] = platforms[listed["uid"]]
