"""Bringing a database to the tables that this version of the server works with, or back to those
of an earlier one.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine

from desktopgrid.model.errors import Unavailable, UnknownObject
from desktopgrid.server.database.engine import transaction, unhurried
from desktopgrid.server.database.suitability import check


def upgrade(engine: Engine) -> None:
    """Run the revisions that the database lacks: all of them or none, where the database can undo
    a change of its tables, which MariaDB cannot.

    Raises Unavailable for a database of a newer server, whose tables this one does not know, and
    BadRequest for one that does not keep texts as they are.
    """
    migrate(engine, newest())


def migrate(engine: Engine, target: str) -> None:
    """Bring the database to the revision ``target``, up or down; down loses what the later ones
    made room for. Raises UnknownObject if there is no such revision, and as :func:`upgrade` does.
    """
    known = check_known(target)
    with unhurried(engine) as connection, transaction(connection):
        check(connection)
        now = _revision(connection)
        if now is not None and now not in known:
            raise Unavailable(f"the database is a newer server's, of revision {now}")
        is_down = now is not None and known.index(target) < known.index(now)
        (command.downgrade if is_down else command.upgrade)(config(connection), target)


def revision(engine: Engine) -> str | None:
    """The last revision that ran on the database; None for an empty one."""
    with engine.connect() as connection:
        return _revision(connection)


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def revisions() -> list[str]:
    """The revisions that this server has, the first first."""
    scripts = ScriptDirectory.from_config(config(None)).walk_revisions()
    return [script.revision for script in scripts][::-1]


def check_known(target: str) -> list[str]:
    """All revisions, of which ``target`` is one; raises UnknownObject."""
    known = revisions()
    if target not in known:
        raise UnknownObject(f"there is no revision {target!r}; revisions are {', '.join(known)}")
    return known


def newest() -> str:
    """The last revision that this server has."""
    return revisions()[-1]


def config(connection: Connection | None) -> Config:
    """Alembic's configuration for this connection; there is no alembic.ini."""
    made = Config()
    made.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    made.attributes["connection"] = connection
    return made
