"""The revisions lead to the tables that the server works with, and back."""

from __future__ import annotations

import re

import pytest
from alembic import command
from sqlalchemy import Engine, inspect

from desktopgrid.server.database import engine as database
from desktopgrid.server.database.engine import transaction
from desktopgrid.server.database.schema import metadata
from desktopgrid.server.database.upgrading import config, upgrade

Described = dict[str, object]


def described(engine: Engine) -> dict[str, Described]:
    """Everything about each table, in an order of its own."""
    found = inspect(engine)
    return {
        name: {
            "columns": [(c["name"], str(c["type"]), c["nullable"], c["default"]) for c in columns],
            "key": found.get_pk_constraint(name),
            "unique": sorted(map(str, found.get_unique_constraints(name))),
            "foreign": sorted(map(str, found.get_foreign_keys(name))),
            "checks": sorted(
                (str(c["name"]), re.sub(r"\s+", " ", c["sqltext"]))
                for c in found.get_check_constraints(name)
            ),
            "indexes": sorted(
                (str(i["name"]), i["column_names"], sorted(map(str, i["dialect_options"].values())))
                for i in found.get_indexes(name)
            ),
        }
        for name in found.get_table_names()
        if name != "alembic_version" and (columns := found.get_columns(name))
    }


@pytest.fixture
def made(tmp_path):
    engine = database.open(f"sqlite:///{tmp_path}/made.db")
    metadata.create_all(engine)
    yield described(engine)
    engine.dispose()


@pytest.fixture
def engine(tmp_path):
    opened = database.open(f"sqlite:///{tmp_path}/grown.db")
    upgrade(opened)
    yield opened
    opened.dispose()


@pytest.mark.parametrize("table", sorted(metadata.tables))
def test_the_revisions_lead_to_the_schema(engine, made, table):
    assert described(engine)[table] == made[table]


def test_the_revisions_make_no_other_tables(engine, made):
    assert set(described(engine)) == set(made)


def test_the_revisions_can_be_undone(engine):
    with engine.connect() as connection, transaction(connection):
        command.downgrade(config(connection), "base")
    assert described(engine) == {}
