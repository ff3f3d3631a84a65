"""Writing what was decided: one transaction's changes, all of them or none.

Every transaction proves first that the shard is still ours: an update of its row that hits nothing
means that another server has taken it, and then nothing is written. Functions take a connection and
never commit; :func:`desktopgrid.server.database.engine.transaction` does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from operator import add
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, func, insert, select, update

from desktopgrid.model.errors import GridError
from desktopgrid.server import changes
from desktopgrid.server.database import schema
from desktopgrid.server.database.engine import Refused
from desktopgrid.server.database.statements import HOW, WORK_GOES_ON, Row, Written, compiled

_SUBMISSION = changes.WorkInserted._fields.index("submission")


class Shard(NamedTuple):
    """A part of the grid, as the server holds it that took it with this incarnation."""

    number: int
    incarnation: int

    def __str__(self) -> str:
        return f"shard {self.number}, incarnation {self.incarnation}"


class ShardLost(GridError):
    """Another server holds the shard by now; this one must stop at once."""

    code = "shard-lost"

    def __init__(self, shard: Shard) -> None:
        super().__init__(f"another server has taken {shard}; this one holds it no more")
        self.shard = shard


_fence = (
    update(schema.shards)
    .where(
        schema.shards.c.shard == bindparam("number"),
        schema.shards.c.epoch == bindparam("incarnation"),
    )
    .values(commits=schema.shards.c.commits + 1)
)


def take(connection: Connection, number: int, holder: str) -> Shard:
    """Take shard ``number`` for ``holder``, which ends the right of any earlier holder to write.

    The incarnation is higher than any before, of any shard. It counts once the transaction is
    committed: not before that may the server give out a task.
    """
    shards = schema.shards
    highest = connection.execute(select(func.max(shards.c.epoch))).scalar()
    incarnation = int(highest or 0) + 1
    taken = connection.execute(
        update(shards).where(shards.c.shard == number).values(epoch=incarnation, holder=holder)
    )
    if taken.rowcount == 0:
        connection.execute(
            insert(shards).values(shard=number, epoch=incarnation, holder=holder, commits=0)
        )
    return Shard(number, incarnation)


def ask_anything(connection: Connection) -> None:
    """Ask a question whose answer is of no interest, to see whether there is one."""
    connection.execute(select(func.max(schema.shards.c.epoch))).scalar()


def record(connection: Connection, shard: Shard, batch: Sequence[changes.Change]) -> None:
    """Write ``batch``; raises ShardLost, and writes nothing, if another server holds the shard.

    Of changes of one kind to the same object the last is written, or if they are of changes.ADDED
    their sum; kinds go in changes.ORDER.
    """
    fenced = connection.execute(_fence, shard._asdict())
    if fenced.rowcount != 1:
        raise ShardLost(shard)
    by_kind: dict[type[changes.Change], list[Row]] = {}
    for change in batch:
        by_kind.setdefault(type(change), []).append(change)
    if changes.WorkInserted in by_kind:
        by_kind[changes.WorkInserted] = _with_owners(connection, by_kind)
    for kind in changes.ORDER:
        for how, rows in _divided(kind, by_kind.pop(kind, [])):
            statement = compiled(connection.dialect, shard.number, how)
            touched = statement.run(connection, rows)
            if statement.touches_each and touched != len(rows):
                raise Refused(f"{len(rows)} x {kind.__name__} touched {touched} rows")
    if by_kind:
        raise TypeError(f"no statement writes {', '.join(kind.__name__ for kind in by_kind)}")


def _divided(
    kind: type[changes.Change], rows: list[Row]
) -> Iterator[tuple[Written, Sequence[Row]]]:
    """``rows`` of one kind by the statement that writes them, the last word on each object only."""
    how = HOW[kind]
    if kind in changes.ADDED:
        rows = added_up(rows, changes.ADDED[kind])
    elif len(how.key) == 1 and len(rows) > 1:
        rows = list({row[0]: row for row in rows}.values())
    elif how.key:
        rows = list({row[: len(how.key)]: row for row in rows}.values())
    if kind is changes.WorkUpdated:
        going_on = [row for row in rows if row[-1] is None]
        if going_on:
            yield WORK_GOES_ON, going_on
        rows = [row for row in rows if row[-1] is not None]
    if rows:
        yield how, rows


def added_up(rows: Sequence[Row], keys: int) -> list[Row]:
    """``rows`` with those made one that say of the same thing, in their first ``keys`` fields, how
    much more there is of it.
    """
    sums: dict[Row, Row] = {}
    for row in rows:
        key = row[:keys]
        before = sums.get(key)
        sums[key] = row[keys:] if before is None else tuple(map(add, before, row[keys:]))
    return [key + more for key, more in sums.items()]


def _with_owners(
    connection: Connection, by_kind: Mapping[type[changes.Change], Sequence[Row]]
) -> list[Row]:
    """The new works, each with the owner of its submission as last field."""
    owners = {row[0]: row[1] for row in by_kind.get(changes.SubmissionInserted, ())}
    works = by_kind[changes.WorkInserted]
    unknown = {work[_SUBMISSION] for work in works}.difference(owners)
    if unknown:
        table = schema.submissions
        found = select(table.c.uid, table.c.owner).where(table.c.uid.in_(unknown))
        owners.update((row.uid, row.owner) for row in connection.execute(found))
    # A submission that does not exist has no owner, and that the table refuses.
    return [(*work, owners.get(work[_SUBMISSION])) for work in works]
