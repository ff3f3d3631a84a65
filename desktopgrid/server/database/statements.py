"""The statement that writes each kind of change, as text that the driver takes as it is.

SQLAlchemy says how the statement reads in a database's dialect; that is asked once. What runs is
the driver's own executemany over plain tuples, which costs half of what Core's does. The one thing
to do for each row is to put its fields in the order in which the statement wants them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Dialect,
    Table,
    and_,
    bindparam,
    case,
    delete,
    insert,
    literal_column,
    null,
    select,
    update,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.sql.dml import UpdateBase

from desktopgrid.server import changes
from desktopgrid.server.database import schema

Row = tuple[Any, ...]
Bound = dict[str, ColumnElement[Any]]
Build = Callable[[Dialect, Table, Bound, tuple[str, ...]], UpdateBase]


class Statement(NamedTuple):
    """A statement as text, and what puts a change's fields in the order of its placeholders."""

    sql: str
    arrange: Callable[[Row], Row]
    touches_each: bool
    """Whether each change must touch a row: an update of what is not there is nonsense."""

    def run(self, connection: Connection, rows: Sequence[Row]) -> int:
        """Run it once for each of ``rows``; how many rows of the table it touched."""
        return connection.exec_driver_sql(self.sql, list(map(self.arrange, rows))).rowcount


class Written(NamedTuple):
    """How a kind of change is written: to which table, and for which columns it is the only word.

    ``key`` names the columns by which a later change replaces an earlier one of the same
    transaction; without it each is written. ``build`` makes the statement from the bound columns.
    """

    table: Table
    fields: tuple[str, ...]
    key: tuple[str, ...]
    build: Build


def _insert(dialect: Dialect, table: Table, bound: Bound, key: tuple[str, ...]) -> UpdateBase:
    return insert(table).inline().values(bound)


def _insert_new(dialect: Dialect, table: Table, bound: Bound, key: tuple[str, ...]) -> UpdateBase:
    """Insert where there is no such row yet.

    For what clients name: no name of theirs may make a commit fail.
    """
    if dialect.name in ("mysql", "mariadb"):
        # IGNORE would let nonsense pass as well.
        first = next(iter(bound))
        plain = mysql.insert(table).values(bound)
        return plain.on_duplicate_key_update({first: table.c[first]})
    kind = sqlite.insert if dialect.name == "sqlite" else postgresql.insert
    return kind(table).inline().values(bound).on_conflict_do_nothing()


def _update(dialect: Dialect, table: Table, bound: Bound, key: tuple[str, ...]) -> UpdateBase:
    values = {name: value for name, value in bound.items() if name not in (*key, "shard")}
    return update(table).where(*(table.c[name] == bound[name] for name in key)).values(values)


def _save(dialect: Dialect, table: Table, bound: Bound, key: tuple[str, ...]) -> UpdateBase:
    """Insert, or where a row has that key already, make it read so."""
    others = [name for name in bound if name not in (*key, "shard")]
    if dialect.name in ("mysql", "mariadb"):
        plain = mysql.insert(table).values(bound)
        is_same = and_(*(table.c[name] == plain.inserted[name] for name in key))
        # Any unique column makes a duplicate here; one that is not the key's has to be an error.
        only = {key[0]: case((is_same, table.c[key[0]]), else_=null())}
        return plain.on_duplicate_key_update(only | {name: plain.inserted[name] for name in others})
    kind = sqlite.insert if dialect.name == "sqlite" else postgresql.insert
    wanted = kind(table).values(bound)
    return wanted.inline().on_conflict_do_update(
        index_elements=list(key), set_={name: wanted.excluded[name] for name in others}
    )


def _add(dialect: Dialect, table: Table, bound: Bound, key: tuple[str, ...]) -> UpdateBase:
    """Insert, or where a row has that key already, add to it what the others say."""
    added = [name for name in bound if name not in key]
    if dialect.name in ("mysql", "mariadb"):
        plain = mysql.insert(table).values(bound)
        sums = {name: table.c[name] + plain.inserted[name] for name in added}
        return plain.on_duplicate_key_update(sums)
    kind = sqlite.insert if dialect.name == "sqlite" else postgresql.insert
    wanted = kind(table).values(bound)
    sums = {name: table.c[name] + wanted.excluded[name] for name in added}
    return wanted.inline().on_conflict_do_update(index_elements=list(key), set_=sums)


def _update_by_adding(
    dialect: Dialect, table: Table, bound: Bound, key: tuple[str, ...]
) -> UpdateBase:
    """Add to the row of that key, if there is one."""
    added = [name for name in bound if name not in (*key, "shard")]
    sums = {name: table.c[name] + bound[name] for name in added}
    return update(table).where(*(table.c[name] == bound[name] for name in key)).values(sums)


def _forget(dialect: Dialect, table: Table, bound: Bound, key: tuple[str, ...]) -> UpdateBase:
    return delete(table).where(
        table.c.session == bound["session"], table.c.sequence <= bound["sequence"]
    )


def _delete(dialect: Dialect, table: Table, bound: Bound, key: tuple[str, ...]) -> UpdateBase:
    return delete(table).where(*(table.c[name] == bound[name] for name in key))


def _delete_without_works(
    dialect: Dialect, table: Table, bound: Bound, key: tuple[str, ...]
) -> UpdateBase:
    has_works = select(schema.works.c.uid).where(schema.works.c.submission == bound["uid"])
    return delete(table).where(table.c.uid == bound["uid"], ~has_works.exists())


def _written(
    change: type[changes.Change],
    table: Table,
    build: Build,
    *key: str,
    without: tuple[str, ...] = (),
    more: tuple[str, ...] = (),
) -> Written:
    fields = tuple(name for name in change._fields if name not in without)
    return Written(table, (*fields, *more), key, build)


HOW: dict[type[changes.Change], Written] = {
    change: _written(change, table, build, *key)
    for change, table, build, *key in (
        (changes.UserGroupSaved, schema.usergroups, _save, "uid"),
        (changes.UserSaved, schema.users, _save, "uid"),
        (changes.SubjectSaved, schema.subjects, _save, "subject"),
        (changes.CredentialSaved, schema.credentials, _save, "uid"),
        (changes.CredentialUsed, schema.credentials, _update, "uid"),
        (changes.BridgeSaved, schema.bridges, _save, "user"),
        (changes.OfferSaved, schema.offers, _save, "uid"),
        (changes.OfferForgotten, schema.offers, _delete, "uid"),
        (changes.DelegationSaved, schema.delegations, _save, "uid"),
        (changes.DataSaved, schema.datas, _save, "uid"),
        (changes.ApplicationSaved, schema.applications, _save, "uid"),
        (changes.ExecutableSaved, schema.executables, _save, "application", "cpu", "os"),
        (changes.BagSaved, schema.bags, _save, "uid"),
        (changes.HostSaved, schema.hosts, _save, "uid"),
        (changes.AccountInserted, schema.accounts, _insert),
        (changes.PilotInserted, schema.pilots, _insert_new),
        (changes.PilotUpdated, schema.pilots, _update, "stamp"),
        (changes.SubmissionInserted, schema.submissions, _insert_new),
        (changes.WorkUpdated, schema.works, _update, "uid"),
        (changes.WorkRemoved, schema.works, _update, "uid"),
        (changes.TaskInserted, schema.tasks, _insert),
        (changes.TaskUpdated, schema.tasks, _update, "uid"),
        (changes.UsageAdded, schema.usages, _add, "day", "account", "cause", "bucket"),
        (changes.PilotUsed, schema.pilots, _update_by_adding, "stamp"),
        (changes.TaskRegistered, schema.tasks, _update, "uid"),
        (changes.ReplyRecorded, schema.replies, _insert_new),
        (changes.RepliesForgotten, schema.replies, _forget, "session"),
        (changes.TasksForgotten, schema.tasks, _delete, "work"),
        (changes.WorkForgotten, schema.works, _delete, "uid"),
        (changes.SubmissionForgotten, schema.submissions, _delete_without_works, "uid"),
    )
}
"""How each kind of change is written, one entry for each of :data:`changes.ORDER`."""

HOW[changes.WorkInserted] = _written(
    changes.WorkInserted, schema.works, _insert_new, more=("owner",)
)

WORK_GOES_ON = _written(changes.WorkUpdated, schema.works, _update, "uid", without=("ended_at",))
"""An update of a work that is not over: ``ended_at`` is let alone, and so is the index over it."""


@lru_cache(maxsize=256)
def compiled(dialect: Dialect, shard: int, how: Written) -> Statement:
    """The statement that writes changes so, in this dialect and for this shard."""
    bound: Bound = {
        name: bindparam(f"b_{name}", type_=how.table.c[name].type) for name in how.fields
    }
    if how.build in (_insert, _insert_new, _save) and "shard" in how.table.c:
        bound["shard"] = literal_column(str(int(shard)))
    statement = how.build(dialect, how.table, bound, how.key)
    text = statement.compile(dialect=_positional(dialect))
    placeholders = text.positiontup or []
    positions = [how.fields.index(name.removeprefix("b_")) for name in placeholders]
    # A getter of one thing gives that, and not a tuple of one.
    arrange = itemgetter(*positions) if len(positions) > 1 else itemgetter(slice(0, 1))
    return Statement(str(text), arrange, how.build is _update)


def _positional(dialect: Dialect) -> Dialect:
    """``dialect`` with placeholders that are filled by position."""
    if dialect.positional:
        return dialect
    return type(dialect)(paramstyle="format")  # type: ignore[call-arg]
