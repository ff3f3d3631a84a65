"""Which databases a grid may be put into, and that they keep what is said whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, inspect, text

from desktopgrid.model.errors import BadRequest
from desktopgrid.server import changes as c
from desktopgrid.server.database import engine as database
from desktopgrid.server.database import schema
from desktopgrid.server.database.suitability import weaknesses
from desktopgrid.server.database.upgrading import upgrade
from tests.databases import empty
from tests.rows import HOST, PEOPLE, PROGRAM, Grid, completed, pending, row

WRONG_TEXTS = {
    "postgresql": (
        "CREATE DATABASE wrong ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0",
        "encoding is LATIN1",
    ),
    "mariadb": ("CREATE DATABASE wrong COLLATE utf8mb4_general_ci", "is utf8mb4_general_ci"),
}


@pytest.fixture
def engine(any_database: str, tmp_path: Path) -> Iterator[Engine]:
    """A database with the tables of a grid, and nothing in them."""
    opened = database.open(any_database or f"sqlite:///{tmp_path / 'grid.db'}")
    empty(opened)
    upgrade(opened)
    yield opened
    opened.dispose()


def test_a_database_that_takes_different_names_for_one_is_refused(engine: Engine) -> None:
    if engine.dialect.name not in WRONG_TEXTS:
        pytest.skip("SQLite tells them apart")
    make, sentence = WRONG_TEXTS[engine.dialect.name]
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(make))
        wrong = database.open(engine.url.set(database="wrong").render_as_string(False))
        try:
            with pytest.raises(BadRequest, match=sentence):
                upgrade(wrong)
            assert inspect(wrong).get_table_names() == []
        finally:
            wrong.dispose()
            connection.execute(text("DROP DATABASE wrong"))


def test_a_database_that_does_not_sync_is_a_weakness(engine: Engine) -> None:
    """The servers of tests do not, as they need not outlive a power cut."""
    settings = {"postgresql": "fsync", "mariadb": "innodb_flush_log_at_trx_commit"}
    with engine.connect() as connection:
        said = weaknesses(connection)
    if engine.dialect.name == "sqlite":
        assert said == []
    else:
        (sentence,) = said
        assert f"{settings[engine.dialect.name]} is o" in sentence or " is 2:" in sentence


def test_what_is_said_at_length_is_kept_whole(engine: Engine) -> None:
    grid = Grid(engine)
    grid.record(*PEOPLE, *PROGRAM, *HOST)
    much = "x" * 300_000
    grid.record(
        row(c.HostSaved, facts=much),
        row(c.SubmissionInserted, description=much),
        row(c.WorkInserted, arguments=much),
        row(c.ReplyRecorded, body=much),
    )
    for table, column in (
        (schema.hosts, "facts"),
        (schema.submissions, "description"),
        (schema.works, "arguments"),
        (schema.replies, "body"),
    ):
        assert {found[column] for found in grid.rows(table)} == {much}
    grid.record(*pending(), *completed(outputs=much, stdout=much.encode()))
    (task,) = grid.rows(schema.tasks)
    assert (task["outputs"], bytes(task["stdout"])) == (much, much.encode())
