"""Bringing a database up to date with the tables that this version of the server works with."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine

from desktopgrid.model.errors import Unavailable
from desktopgrid.server.database.engine import transaction


def upgrade(engine: Engine) -> None:
    """Run the revisions that the database lacks, all of them or none.

    Raises Unavailable for a database of a newer server, whose tables this one does not know.
    """
    with engine.connect() as connection, transaction(connection):
        try:
            command.upgrade(config(connection), "head")
        except CommandError as error:
            raise Unavailable(f"the database is a newer server's: {error}") from error


def revision(engine: Engine) -> str | None:
    """The last revision that ran on the database; None for an empty one."""
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def newest() -> str:
    """The last revision that this server has."""
    head = ScriptDirectory.from_config(config(None)).get_current_head()
    assert head is not None  # noqa: S101 - there is a first one
    return head


def config(connection: Connection | None) -> Config:
    """Alembic's configuration for this connection; there is no alembic.ini."""
    made = Config()
    made.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    made.attributes["connection"] = connection
    return made
