"""The revisions up and down on every kind of database: with nothing in it, and with a grid."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, inspect, select

from desktopgrid.model.errors import Unavailable, UnknownObject
from desktopgrid.model.rights import EVERYTHING
from desktopgrid.server.database import engine as database
from desktopgrid.server.database.engine import transaction
from desktopgrid.server.database.reading import load
from desktopgrid.server.database.records import take
from desktopgrid.server.database.schema import metadata
from desktopgrid.server.database.upgrading import migrate, newest, revision, revisions, upgrade
from tests.databases import empty
from tests.tables import described

FIRST = "0001"
NOON = 1_800_000_000.0

FILLED: dict[str, list[dict[str, Any]]] = {
    "shards": [{"shard": 0, "epoch": 7, "holder": "test", "commits": 3}],
    "usergroups": [{"uid": "g", "name": "physics"}],
    "users": [
        {"uid": "a", "login": "ann", "level": 40, "group": "g", "email": "", "is_revoked": False},
        {"uid": "b", "login": "bob", "level": 20, "group": None, "email": "", "is_revoked": True},
    ],
    "credentials": [
        {
            **{"uid": "t", "user": "a", "kind": "token", "verifier": "0" * 64},
            **{"created_at": NOON, "expires_at": None, "is_revoked": False},
        }
    ],
    "datas": [
        {
            **{"uid": "d", "name": "Zo\u00eb", "owner": "a", "rights": 0o755, "sha256": "0" * 64},
            **{"size": 3, "type": "", "uri": "", "is_available": True, "is_deleted": False},
        }
    ],
    "applications": [
        {"uid": "p", "name": "prog", "owner": "a", "rights": 0o755, "is_deleted": False}
    ],
    "executables": [{"application": "p", "cpu": "any", "os": "any", "data": "d"}],
    "bags": [
        {
            **{"uid": "s", "kind": "session", "name": "s", "owner": "a"},
            **{"rights": 0o700, "is_deleted": False},
        }
    ],
    "hosts": [
        {
            **{"uid": "h", "shard": 0, "owner": "a", "name": "desk"},
            "facts": '{"name":"desk","cpu":"x86_64","os":"linux","cores":1,"memory_mib":1,'
            '"disk_mib":1}',
            **{"first_seen_at": NOON, "last_seen_at": NOON, "ends_at": None, "pilot": "stamp"},
        }
    ],
    "pilots": [
        {
            **{"stamp": "stamp", "shard": 0, "site": "lal", "owner": "a", "status": "Done"},
            **{"verifier": "0" * 64, "submitted_at": NOON, "deadline_at": NOON + 60},
            **{"wall_time": 60, "reference": "7.0", "host": "h", "ended_at": NOON + 9},
        }
    ],
    "submissions": [
        {
            **{"uid": "w", "shard": 0, "owner": "a", "application": "p", "label": "l"},
            **{"session": "s", "group": None, "description": '{"application":"p"}'},
            **{"rights": 0o755, "submitted_at": NOON},
        }
    ],
    "works": [
        {
            **{"number": 1, "uid": "w-0", "shard": 0, "owner": "a", "submission": "w"},
            **{"arguments": "[]", "status": "COMPLETED", "task": "w-0.1", "ended_at": NOON + 5},
        },
        {
            **{"number": 2, "uid": "w-1", "shard": 0, "owner": "a", "submission": "w"},
            **{"arguments": '["1"]', "status": "WAITING", "task": None, "ended_at": None},
        },
    ],
    "tasks": [
        {
            **{"epoch": 4_294_967_297, "uid": "w-0.1", "shard": 0, "work": "w-0", "host": "h"},
            **{"status": "COMPLETED", "created_at": NOON, "started_at": NOON, "ended_at": NOON + 5},
            **{"exit_code": 0, "stdout": b"\x00\xff", "stderr": None, "outputs": None},
        }
    ],
    "replies": [
        {
            **{"session": "x", "sequence": 1, "shard": 0, "user": "a", "body": "{}"},
            "recorded_at": NOON,
        }
    ],
}
"""A row or two of each table of the first revision, what is referred to before what refers."""


@pytest.fixture
def engine(any_database: str, tmp_path: Path) -> Iterator[Engine]:
    """An empty database."""
    opened = database.open(any_database or f"sqlite:///{tmp_path / 'grid.db'}")
    empty(opened)
    yield opened
    opened.dispose()


def fill(engine: Engine) -> None:
    """A small grid in the tables of the first revision."""
    migrate(engine, FIRST)
    tables = MetaData()
    tables.reflect(engine)
    with engine.connect() as connection, transaction(connection):
        for name, rows in FILLED.items():
            for row in rows:
                connection.execute(tables.tables[name].insert().values(row))


def rows(engine: Engine) -> dict[str, list[dict[str, Any]]]:
    """What is in the columns that FILLED names."""
    tables = MetaData()
    tables.reflect(engine)
    found = {}
    with engine.connect() as connection:
        for name, filled in FILLED.items():
            table = tables.tables[name]
            wanted = select(*(table.c[column] for column in filled[0]))
            found[name] = [dict(row._mapping) for row in connection.execute(wanted)]
    return found


def test_each_step_leads_up_and_down_and_up_again(engine: Engine) -> None:
    steps = {}
    for step in revisions():
        migrate(engine, step)
        steps[step] = described(engine)
    for step in reversed(revisions()):
        migrate(engine, step)
        assert revision(engine) == step
        assert described(engine) == steps[step]
    upgrade(engine)
    assert revision(engine) == newest()
    assert described(engine) == steps[newest()]


def test_the_revisions_lead_to_the_schema(engine: Engine) -> None:
    upgrade(engine)
    grown = described(engine)
    empty(engine)
    metadata.create_all(engine)
    made = described(engine)
    assert set(grown) == set(made)
    for table, facts in made.items():
        assert grown[table] == facts, table


def test_a_grid_of_the_first_server_is_kept_whole_up_and_down(engine: Engine) -> None:
    fill(engine)
    before = rows(engine)
    assert {name: len(found) for name, found in before.items()} == {
        name: len(found) for name, found in FILLED.items()
    }
    for step in (*revisions(), *reversed(revisions())):
        migrate(engine, step)
        assert rows(engine) == before, step


def test_a_grid_of_the_first_server_is_served_on(engine: Engine) -> None:
    fill(engine)
    upgrade(engine)
    with engine.connect() as connection, transaction(connection):
        shard = take(connection, 0, "test")
        found = load(connection, shard)
    assert shard.incarnation == 8
    assert {user.login for user in found.users} == {"ann", "bob"}
    assert [work.uid for work in found.works] == ["w-1"]
    assert found.next_number == 3
    assert [token.scope for token in found.credentials] == [EVERYTHING]


def test_what_a_newer_server_made_is_left_alone(engine: Engine) -> None:
    upgrade(engine)
    with engine.connect() as connection, transaction(connection):
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    for target in (FIRST, newest()):
        with pytest.raises(Unavailable, match="a newer server's, of revision 9999"):
            migrate(engine, target)
    assert "works" in inspect(engine).get_table_names()


def test_a_revision_that_is_not_there_is_refused(engine: Engine) -> None:
    with pytest.raises(UnknownObject, match="no revision '9999'; revisions are 0001"):
        migrate(engine, "9999")
