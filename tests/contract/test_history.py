"""A long history of works and tasks: no question that people ask often reads or sorts all of it.

What a database would do is asked of itself, on enough rows for its own ways to matter.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine

from desktopgrid.server.database import engine as database
from desktopgrid.server.database import history, schema
from desktopgrid.server.database.engine import transaction
from desktopgrid.server.database.listing import list_objects
from desktopgrid.server.database.upgrading import upgrade
from tests.databases import empty
from tests.plans import Plans
from tests.rows import NOON

WORKS = 20_000
EACH = 10
"""Works of a submission."""
RARE = 3
"""The submission that is like no other."""
ALIVE = 50
RARE_WORKS = [f"{RARE}-{n}" for n in reversed(range(EACH))]
RARE_TASKS = [f"{uid}.1" for uid in RARE_WORKS]
RUNNING = [WORKS - 5 - n for n in range(5)]

LONG = ("works", "tasks", "submissions")
"""The tables that grow with a history."""

Table = list[dict[str, Any]]


def users() -> Table:
    return [
        {"uid": name, "login": f"{name}.", "level": 20, "email": "", "is_revoked": False}
        for name in ("common", "rare")
    ]


def applications() -> Table:
    return [
        {"uid": name, "name": f"{name}.", "owner": "common", "rights": 0o755, "is_deleted": False}
        for name in ("common", "rare")
    ]


def bags() -> Table:
    return [
        {
            **{"uid": f"{often}-{kind}", "kind": kind, "name": often, "owner": "common"},
            **{"rights": 0o755, "is_deleted": False},
        }
        for kind in ("session", "group")
        for often in ("common", "rare")
    ]


def hosts() -> Table:
    return [
        {
            **{"uid": f"host{n}", "shard": 0, "owner": "common", "name": f"desk{n}"},
            **{"facts": "{}", "first_seen_at": NOON, "last_seen_at": NOON},
        }
        for n in range(100)
    ]


def often(submission: int) -> str:
    return "rare" if submission == RARE else "common"


def submissions() -> Table:
    return [
        {
            **{"uid": f"{n}", "shard": 0, "owner": often(n), "application": often(n)},
            **{"label": often(n), "session": f"{often(n)}-session", "group": f"{often(n)}-group"},
            **{"description": "{}", "rights": 0o755, "submitted_at": NOON},
        }
        for n in range(WORKS // EACH)
    ]


def status(number: int) -> str:
    if number in RUNNING:
        return "RUNNING"
    return "WAITING" if number >= WORKS - ALIVE else "COMPLETED"


def uid(number: int) -> str:
    return f"{number // EACH}-{number % EACH}"


def works() -> Table:
    return [
        {
            **{"number": n, "uid": uid(n), "shard": 0, "submission": f"{n // EACH}"},
            **{"owner": often(n // EACH), "arguments": "[]", "status": status(n)},
            "task": None if status(n) == "WAITING" else f"{uid(n)}.1",
            "host": f"host{n % 100}" if status(n) == "RUNNING" else None,
            "ended_at": NOON if status(n) == "COMPLETED" else None,
        }
        for n in range(WORKS)
    ]


def tasks() -> Table:
    return [
        {
            **{"epoch": n + 1, "uid": f"{uid(n)}.1", "shard": 0, "work": uid(n)},
            **{"host": f"host{n % 100}", "status": status(n), "created_at": NOON},
            "started_at": NOON,
            "ended_at": NOON if status(n) == "COMPLETED" else None,
        }
        for n in range(WORKS)
        if status(n) != "WAITING"
    ]


FILLED = (users, applications, bags, hosts, submissions, works, tasks)


@pytest.fixture(scope="module")
def engine(any_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A database with a history; of its size it knows what it would in a grid."""
    place: Path = tmp_path_factory.mktemp("history") / "grid.db"
    opened = database.open(any_database or f"sqlite:///{place}")
    empty(opened)
    upgrade(opened)
    with opened.connect() as connection, transaction(connection):
        shard = {"shard": 0, "epoch": 7, "holder": "test", "commits": 3}
        connection.execute(schema.shards.insert(), shard)
        for rows in FILLED:
            connection.execute(schema.metadata.tables[rows.__name__].insert(), rows())
    with opened.connect() as connection:
        if opened.dialect.name == "postgresql":
            connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql("ANALYZE")
        elif opened.dialect.name != "sqlite":
            connection.exec_driver_sql("ANALYZE TABLE works, tasks, submissions, users, hosts")
    yield opened
    opened.dispose()


def brief(value: Any) -> str | None:
    """What a case is called; pytest itself numbers what is expected."""
    return None if isinstance(value, list) else str(value)


def listed(connection: Connection, kind: str, where: dict[str, Any]) -> list[str]:
    return [found["uid"] for found in list_objects(connection, kind, where=where, limit=100).rows]


def plans_for(engine: Engine, kind: str, where: dict[str, Any]) -> Plans:
    return Plans(engine, lambda connection: listed(connection, kind, where), LONG)


@pytest.mark.parametrize(
    ("kind", "where", "expected"),
    [
        ("works", {"label": "rare"}, RARE_WORKS),
        ("works", {"session": "rare-session"}, RARE_WORKS),
        ("works", {"group": "rare-group"}, RARE_WORKS),
        ("works", {"application": "rare."}, RARE_WORKS),
        ("works", {"owner": "rare."}, RARE_WORKS),
        ("works", {"owner": ["rare.", "nobody"]}, RARE_WORKS),
        ("works", {"owner": "common.", "label": "rare"}, []),
        ("works", {"submission": f"{RARE}"}, RARE_WORKS),
        ("works", {"status": "RUNNING"}, [uid(n) for n in RUNNING]),
        ("works", {"status": ["PENDING", "REPLICATING"]}, []),
        ("works", {"host": f"desk{RUNNING[0] % 100}"}, [uid(RUNNING[0])]),
        ("works", {"host": "desk0"}, []),
        ("tasks", {"owner": "rare."}, RARE_TASKS),
        ("tasks", {"work": RARE_WORKS[0]}, RARE_TASKS[:1]),
    ],
    ids=brief,
)
def test_few_are_found_without_reading_the_history(
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    where: dict[str, Any],
    expected: list[str],
) -> None:
    monkeypatch.setattr(history, "FEW", 100)
    with engine.connect() as connection:
        assert listed(connection, kind, where) == expected
    plans = plans_for(engine, kind, where)
    assert plans.read_whole == [], plans.said


COMMON = [uid(WORKS - 1 - n) for n in range(100)]
COMMON_TASKS = [f"{uid(n)}.1" for n in range(WORKS - 1, 0, -1) if status(n) != "WAITING"][:100]


@pytest.mark.parametrize(
    ("kind", "where", "expected"),
    [
        ("works", {}, COMMON),
        ("works", {"label": "common"}, COMMON),
        ("works", {"session": "common-session"}, COMMON),
        ("works", {"group": "common-group"}, COMMON),
        ("works", {"application": "common."}, COMMON),
        ("works", {"owner": "common."}, COMMON),
        ("works", {"owner": "common.", "label": "common"}, COMMON),
        ("works", {"status": "COMPLETED"}, [uid(WORKS - ALIVE - 1 - n) for n in range(100)]),
        ("tasks", {}, COMMON_TASKS),
        ("tasks", {"owner": "common."}, COMMON_TASKS),
    ],
    ids=brief,
)
def test_of_many_only_the_newest_are_looked_at(
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    where: dict[str, Any],
    expected: list[str],
) -> None:
    monkeypatch.setattr(history, "FEW", 100)
    with engine.connect() as connection:
        assert listed(connection, kind, where) == expected
    plans = plans_for(engine, kind, where)
    assert not plans.is_sorted, plans.said


@pytest.mark.parametrize("few", [0, WORKS])
@pytest.mark.parametrize(
    ("kind", "where", "expected"),
    [
        ("works", {"label": "rare", "status": "COMPLETED"}, RARE_WORKS),
        ("works", {"label": ["rare", "common"], "owner": "rare."}, RARE_WORKS),
        ("works", {"label": "rare", "host": None}, RARE_WORKS),
        ("tasks", {"owner": "rare.", "host": f"desk{RARE * EACH}"}, RARE_TASKS[-1:]),
        ("tasks", {"owner": "rare.", "status": "RUNNING"}, []),
    ],
    ids=brief,
)
def test_the_way_to_works_does_not_change_which_are_found(
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    few: int,
    kind: str,
    where: dict[str, Any],
    expected: list[str],
) -> None:
    monkeypatch.setattr(history, "FEW", few)
    with engine.connect() as connection:
        assert listed(connection, kind, where) == expected
