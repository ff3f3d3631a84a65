"""Finding works and tasks among millions.

Many of a kind are found by walking from the newest until a page is full, few of a kind by an index
that leads to them; either is slow for the other. Databases guess which it is (SQLite knows nothing
of how many there are), so the numbers of what may be meant are asked for first, and if there are
not many, only the works or tasks of these numbers are looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Select, select

from desktopgrid.model.lifecycle import FINAL_WORKS
from desktopgrid.server.database.schema import (
    applications,
    hosts,
    shards,
    submissions,
    tasks,
    users,
    works,
)

FEW = 10_000
"""As many are looked at one by one rather than walked to."""

Values = Mapping[str, Sequence[str]]
"""What each field that is asked for may be."""

FINAL = frozenset(status.value for status in FINAL_WORKS)
_OF_SUBMISSIONS: Mapping[str, Column[Any]] = {
    "label": submissions.c.label,
    "origin": submissions.c.origin,
    "session": submissions.c.session,
    "group": submissions.c.group,
}


def narrowed(
    connection: Connection, kind: str, name: str, column: ColumnElement[Any], values: Sequence[str]
) -> ColumnElement[bool]:
    """That ``column``, field ``name`` of works or tasks, is one of ``values``."""
    if name == "host":
        # Told apart before the host is looked up.
        host = works.c.host if kind == "works" else tasks.c.host
        return host.in_(select(hosts.c.uid).where(hosts.c.name.in_(values)))
    if connection.dialect.name == "sqlite" and (
        name in _OF_SUBMISSIONS or name in ("application", "owner")
    ):
        # It takes any index for better than none, and sorts the history for it: name it none.
        return column.concat("").in_(values)
    return column.in_(values)


def few(connection: Connection, kind: str, where: Values) -> list[int] | None:
    """The numbers of all works or tasks that ``where`` can mean, newest first, and perhaps of some
    that it does not mean; None if they may be more than FEW.
    """
    for candidates in _candidates(connection, kind, where):
        numbers = connection.scalars(candidates.limit(FEW + 1)).all()
        if len(numbers) <= FEW:
            return sorted(numbers, reverse=True)
    return None


def walked(
    connection: Connection, wanted: Select[*tuple[Any, ...]], kind: str, where: Values
) -> Select[*tuple[Any, ...]]:
    """``wanted`` so that it is answered from the newest on, until the page is full."""
    table, index = works if kind == "works" else tasks, "PRIMARY"
    if kind == "works" and len(where.get("owner", ())) == 1:
        wanted = wanted.where(*(works.c.owner == owner for owner in _owners(connection, where)))
        index = "works_of_an_owner"
    # MariaDB would begin with a small table, or read it for many works at once, and sort it all.
    for dialect in ("mysql", "mariadb"):
        wanted = wanted.prefix_with("STRAIGHT_JOIN", dialect=dialect)
        wanted = wanted.with_hint(table, f"FORCE INDEX FOR ORDER BY ({index})", dialect)
        for small in (users, applications, hosts):
            if kind == "works" or small is not applications:
                uid = f"FORCE INDEX ({small.name}_have_unique_uid)"
                wanted = wanted.with_hint(small, uid, dialect)
    return wanted


def _owners(connection: Connection, where: Values) -> Sequence[str]:
    return connection.scalars(select(users.c.uid).where(users.c.login.in_(where["owner"]))).all()


def _candidates(connection: Connection, kind: str, where: Values) -> Iterator[Select[int]]:
    """The numbers of all that can be meant, each time by another index.

    Names are looked up before: a database knows how often a UID is there, not a name elsewhere.
    """
    if kind == "works":
        wanted = [
            column.in_(where[name]) for name, column in _OF_SUBMISSIONS.items() if name in where
        ]
        if "application" in where:
            named = select(applications.c.uid).where(applications.c.name.in_(where["application"]))
            wanted.append(submissions.c.application.in_(connection.scalars(named).all()))
        if wanted:
            joined = submissions.join(works, works.c.submission == submissions.c.uid)
            yield select(works.c.number).select_from(joined).where(*wanted)
    if "owner" in where:
        found = works if kind == "works" else works.join(tasks, tasks.c.work == works.c.uid)
        number = works.c.number if kind == "works" else tasks.c.epoch
        owned = works.c.owner.in_(_owners(connection, where))
        yield select(number).select_from(found).where(owned)
    if kind == "works" and ("host" in where or not FINAL.intersection(where.get("status", FINAL))):
        # Only a work that is not over has a host.
        held = connection.scalars(select(shards.c.shard)).all()
        alive = works.c.shard.in_(held), works.c.ended_at.is_(None)
        yield select(works.c.number).where(*alive)
