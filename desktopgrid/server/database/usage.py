"""What was used: sums for reports, and a record for each task, as far as an asker may see them.

A report reads the daily sums, which are few, and the pilots that ended; never the tasks. Records
are read in the order in which tasks were given out, each once: see :func:`records`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Integer,
    Row,
    func,
    literal_column,
    select,
)

from desktopgrid.model.accounting import (
    Cause,
    Entry,
    day_number,
    day_of,
    day_text,
    tallied,
)
from desktopgrid.model.errors import LimitExceeded
from desktopgrid.model.rights import UserLevel, Who
from desktopgrid.server.database.portions import streamed
from desktopgrid.server.database.schema import (
    accounts,
    applications,
    hosts,
    pilots,
    shards,
    subjects,
    tasks,
    usages,
    usergroups,
    users,
)

MOST_ROWS = 10_000
"""Lines of a report at most."""
MOST_RECORDS = 1_000
"""Records in one answer."""
_MONTH = 100


def report(
    connection: Connection, who: Who, since: date, until: date, by: Sequence[str]
) -> dict[str, Any]:
    """The use of the grid from ``since`` to ``until``, both included, by each of ``by``; a user's
    own, or a super user's view of everybody's. Raises LimitExceeded if nobody would read it all.
    """
    naming = _Naming(connection, by)
    entries = [
        *_sums(connection, who, naming, since, until, by),
        *_idle(connection, who, naming, since, until),
    ]
    rows, total = tallied(entries, tuple(by))
    if len(rows) > MOST_ROWS:
        raise LimitExceeded(
            f"the report has {len(rows)} lines, and at most {MOST_ROWS} are given:"
            " ask for a shorter time, or divide it by fewer things"
        )
    named = [
        {**dict(zip(by, key, strict=True)), **tally.row()} for key, tally in sorted(rows.items())
    ]
    return {
        "since": since.isoformat(),
        "until": until.isoformat(),
        "rows": named if by else [],
        "total": total.row(),
    }


_OF_ACCOUNTS: Mapping[str, Column[Any]] = {
    "user": accounts.c.user,
    "group": accounts.c.group,
    "vo": accounts.c.vo,
    "site": accounts.c.site,
    "route": accounts.c.route,
    "application": accounts.c.application,
    "kind": accounts.c.kind,
    "cores": accounts.c.cores,
    "subject": accounts.c.user,
}


class _Naming:
    """Which columns of accounts a report by ``by`` must keep apart, and what is called how.

    Databases add up by UIDs; names are looked up afterwards, for lines and not for rows.
    """

    def __init__(self, connection: Connection, by: Sequence[str]) -> None:
        self._fields = [name for name in by if name in _OF_ACCOUNTS]
        self.columns = list(dict.fromkeys(_OF_ACCOUNTS[name] for name in self._fields))
        self._names = {
            name: lookup(connection) for name, lookup in _LOOKUPS.items() if name in self._fields
        }

    def labels(self, row: Row[Any], period: int) -> dict[str, Any]:
        """What the line is called that ``row`` of the time ``period`` belongs to."""
        found = row._mapping
        labels: dict[str, Any] = _when(period)
        for name in self._fields:
            value = found[_OF_ACCOUNTS[name].name]
            names = self._names.get(name)
            labels[name] = value if names is None else names.get(value, "")
        return labels


def _lookup(uid: Column[str], name: Column[str]) -> Callable[[Connection], Mapping[str, str]]:
    def names(connection: Connection) -> dict[str, str]:
        return {row[0]: row[1] for row in connection.execute(select(uid, name))}

    return names


def certified_names(connection: Connection) -> dict[str, str]:
    """The name in certificates of each user that has one; of several the first."""
    wanted = (
        select(subjects.c.user, func.min(subjects.c.subject))
        .where(subjects.c.user.is_not(None), subjects.c.subject.not_like("https://%"))
        .group_by(subjects.c.user)
    )
    return {user: subject for user, subject in connection.execute(wanted)}


_LOOKUPS: Mapping[str, Callable[[Connection], Mapping[str, str]]] = {
    "user": _lookup(users.c.uid, users.c.login),
    "group": _lookup(usergroups.c.uid, usergroups.c.name),
    "application": _lookup(applications.c.uid, applications.c.name),
    "subject": certified_names,
}


def _sums(
    connection: Connection,
    who: Who,
    naming: _Naming,
    since: date,
    until: date,
    by: Sequence[str],
) -> Iterator[Entry]:
    period = _period_of(by)
    columns = [*naming.columns, usages.c.cause, usages.c.bucket]
    source = usages.join(accounts) if naming.columns else usages
    wanted = (
        select(
            (literal_column("0") if period is None else period).label("period"),
            *columns,
            func.sum(usages.c.tasks).label("tasks"),
            func.sum(usages.c.core_time).label("core_time"),
            func.sum(usages.c.cpu_time).label("cpu_time"),
            func.sum(usages.c.doubtful).label("doubtful"),
        )
        .select_from(source)
        .where(usages.c.day.between(day_number(since), day_number(until)))
        .group_by(*columns, *(() if period is None else (period,)))
    )
    if who.level < UserLevel.SUPER:
        own = select(accounts.c.number).where(accounts.c.user == who.user)
        wanted = wanted.where(usages.c.account.in_(own))
    for row in streamed(connection, wanted):
        yield Entry(
            naming.labels(row, int(row.period)),
            Cause(row.cause),
            row.bucket,
            int(row.tasks),
            float(row.core_time),
            float(row.cpu_time),
            int(row.doubtful),
        )


def _period_of(by: Sequence[str]) -> ColumnElement[int] | None:
    """What of a day a report by ``by`` must keep apart."""
    if "day" in by:
        return usages.c.day
    # To a database two parameters are never the same, and what it groups by must be what it gives.
    return usages.c.day // literal_column(str(_MONTH), Integer) if "month" in by else None


def _when(period: int) -> dict[str, str]:
    """What a day, or a month, is called; a month has six digits."""
    is_month = period < 10**6
    month = period if is_month else period // _MONTH
    return {"day": "" if is_month else day_text(period), "month": day_text(month)}


def _idle(
    connection: Connection, who: Who, naming: _Naming, since: date, until: date
) -> Iterator[Entry]:
    """The core-time for which the pilots that ended in that time had no task."""
    first = datetime.combine(since, time(), UTC).timestamp()
    last = datetime.combine(until + timedelta(days=1), time(), UTC).timestamp()
    wanted = (
        select(
            pilots.c.cores.label("pilots_cores"),
            pilots.c.busy,
            pilots.c.wall_time,
            pilots.c.started_at,
            pilots.c.ended_at,
            *naming.columns,
        )
        .join(accounts, accounts.c.number == pilots.c.account)
        .where(pilots.c.ended_at >= first, pilots.c.ended_at < last)
    )
    if who.level < UserLevel.SUPER:
        wanted = wanted.where(pilots.c.owner == who.user)
    for row in streamed(connection, wanted):
        # Its end is noticed after it; no site lets it run for longer than it asked for.
        lasted = min(max(0.0, row.ended_at - row.started_at), float(row.wall_time))
        idle = max(0.0, lasted * row.pilots_cores - row.busy)
        day = day_of(datetime.fromtimestamp(row.ended_at, UTC))
        yield Entry(naming.labels(row, day), Cause.IDLE, core_time=idle)


# --- records --------------------------------------------------------------------------------------

_record = (
    select(
        tasks.c.epoch,
        tasks.c.uid,
        tasks.c.cause,
        tasks.c.wall,
        tasks.c.user_time,
        tasks.c.system_time,
        tasks.c.memory_kib,
        tasks.c.started_at,
        tasks.c.ended_at,
        tasks.c.account,
        hosts.c.name.label("host"),
        accounts.c.user,
        accounts.c.vo,
        accounts.c.site,
        accounts.c.route,
        accounts.c.kind,
        accounts.c.cores,
        users.c.login,
        usergroups.c.name.label("group_name"),
        applications.c.name.label("application_name"),
    )
    .outerjoin(accounts, accounts.c.number == tasks.c.account)
    .outerjoin(users, users.c.uid == accounts.c.user)
    .outerjoin(usergroups, usergroups.c.uid == accounts.c.group)
    .outerjoin(applications, applications.c.uid == accounts.c.application)
    .outerjoin(hosts, hosts.c.uid == tasks.c.host)
)


def records(
    connection: Connection, after: Mapping[str, int], limit: int = MOST_RECORDS
) -> dict[str, Any]:
    """The records of tasks that were given out after those ``after`` names, by shard, in order.

    ``open`` are those among them that go on: they are asked for by :func:`records_of` later, since
    ``after`` of the answer is beyond them. So whoever asks keeps the two, and misses nothing.
    """
    answer: dict[str, Any] = {"records": [], "open": [], "after": dict(after), "more": False}
    names = certified_names(connection)
    for shard in connection.scalars(select(shards.c.shard).order_by(shards.c.shard)).all():
        start = int(after.get(str(shard), 0))
        wanted = _record.where(tasks.c.epoch > start, tasks.c.shard == shard)
        rows = connection.execute(wanted.order_by(tasks.c.epoch).limit(limit + 1)).all()
        _sort_out(rows[:limit], names, answer)
        if rows:
            answer["after"][str(shard)] = rows[:limit][-1].epoch
        answer["more"] |= len(rows) > limit
    return answer


def records_of(connection: Connection, epochs: Sequence[int]) -> dict[str, Any]:
    """The records of those tasks among ``epochs`` that are over, and which are not."""
    answer: dict[str, Any] = {"records": [], "open": [], "after": {}, "more": False}
    wanted = _record.where(tasks.c.epoch.in_(epochs)).order_by(tasks.c.epoch)
    _sort_out(connection.execute(wanted).all(), certified_names(connection), answer)
    return answer


def _sort_out(rows: Sequence[Any], names: Mapping[str, str], answer: dict[str, Any]) -> None:
    for row in rows:
        if row.ended_at is None:
            answer["open"].append(row.epoch)
        elif row.account is not None:
            answer["records"].append(_as_record(row, names))


def _as_record(row: Row[Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {
        "epoch": row.epoch,
        "task": row.uid,
        "cause": row.cause,
        "wall": row.wall,
        "cpu": row.user_time + row.system_time,
        "memory_kib": row.memory_kib,
        "started_at": row.started_at,
        "ended_at": row.ended_at,
        "host": row.host,
        "user": row.login,
        "group": row.group_name or "",
        "vo": row.vo,
        "site": row.site,
        "route": row.route,
        "application": row.application_name or "",
        "kind": row.kind,
        "cores": row.cores,
        "subject": names.get(row.user, ""),
    }
