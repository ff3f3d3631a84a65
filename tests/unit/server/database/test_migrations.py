"""The revisions lead to the tables that the server works with, and back."""

from __future__ import annotations

import pytest
from alembic import command

from desktopgrid.server.database import engine as database
from desktopgrid.server.database.engine import transaction
from desktopgrid.server.database.schema import metadata
from desktopgrid.server.database.upgrading import config, upgrade
from tests.tables import described


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
