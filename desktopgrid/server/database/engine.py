"""Opening the grid's database, and transactions on it.

The default is SQLite in the grid's directory: a write-ahead log, synced to disk before a commit
returns (``synchronous=FULL``), and one server at a time by a lock on the directory. Any other
database is named by URL.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError

from desktopgrid.model.errors import BadRequest, GridError, Unavailable
from desktopgrid.server.database import contact
from desktopgrid.server.lock import DirectoryLock

if TYPE_CHECKING:
    from desktopgrid.server.home import Home

PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA busy_timeout = 10000",
    "PRAGMA cache_size = -65536",
    # A checkpoint stops the writer for its two syncs; 16 MiB of log make them rare.
    "PRAGMA wal_autocheckpoint = 4000",
    "PRAGMA journal_size_limit = 67108864",
)


class Refused(GridError):
    """The database refuses what we wrote: a decision was nonsense, which is a bug of ours."""

    code = "database-refused"


PATIENCE = timedelta(minutes=1)
"""How long a database in another process has to answer a question, unless it is set."""


def open(place: Home | str, *, exclusive: bool = True) -> Engine:
    """The database of a grid's home, or the one with this URL; its tables may not be there yet.

    A home's directory is locked, and our process noted there, until the engine is disposed of,
    unless ``exclusive`` is false; raises Unavailable if another process has the lock.
    """
    if isinstance(place, str):
        return _engine(place, PATIENCE)
    if not exclusive:
        return _engine(place.database_url, place.config.database.patience)
    lock = DirectoryLock(place.directory)
    try:
        engine = _engine(place.database_url, place.config.database.patience)
        place.pid_file.write_text(f"{os.getpid()}\n")
    except BaseException:
        lock.release()
        raise

    def release(_engine: Engine) -> None:
        place.pid_file.unlink(missing_ok=True)
        lock.release()

    event.listen(engine, "engine_disposed", release, once=True)
    return engine


@contextmanager
def unhurried(engine: Engine) -> Iterator[Connection]:
    """A connection to the same database that waits as long as it takes: a change of large tables
    takes long.
    """
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            yield connection
        return
    other = _engine(engine.url, None)
    try:
        with other.connect() as connection:
            yield connection
    finally:
        other.dispose()


def _engine(address: str | URL, patience: timedelta | None) -> Engine:
    try:
        url = make_url(address)
        engine = create_engine(url, **_options(url, patience))
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        # Never the URL itself: it may have a password.
        raise BadRequest(f"cannot open the database that url names: {error}") from error
    event.listen(engine, "handle_error", _translate)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    elif engine.dialect.driver == "psycopg" and patience is not None:
        contact.limit(engine, patience.total_seconds())
    return engine


def _options(url: URL, patience: timedelta | None) -> dict[str, Any]:
    if url.get_backend_name() == "sqlite":
        # The writer, one reader a thread; a connection is cheap.
        return {"pool_size": 10, "max_overflow": 20} if url.database else {}
    return {
        "pool_pre_ping": True,
        "isolation_level": "READ COMMITTED",
        "connect_args": contact.options(url, patience.total_seconds() if patience else None),
    }


def _set_up_sqlite(connection: sqlite3.Connection, record: object) -> None:
    # The module's own notion of transactions begins none before a SELECT or a CREATE TABLE.
    connection.isolation_level = None
    for pragma in PRAGMAS:
        connection.execute(pragma)


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


@contextmanager
def transaction(connection: Connection) -> Iterator[Connection]:
    """Commit what is done inside, or nothing of it.

    Here as everywhere, Unavailable is raised when the database cannot (no room, no contact) and
    Refused when it will not.
    """
    with connection.begin():
        yield connection


def let_go(connection: Connection) -> None:
    """Close a connection whose other end may be gone: nothing more is said to it."""
    if not connection.closed:
        connection.invalidate()
        connection.close()


# What MariaDB and MySQL say of a CHECK; their driver takes it for trouble with the server.
CHECK_FAILED = (4025, 3819)


def _breaks_a_check(error: BaseException | None) -> bool:
    return isinstance(error, Exception) and bool(error.args) and error.args[0] in CHECK_FAILED


def _translate(context: ExceptionContext) -> GridError | None:
    """What the driver raised, as one of our errors; SQLAlchemy raises it instead."""
    error = context.original_exception
    asked = context.execution_context
    if asked is not None and asked.execution_options.get("skip_user_error_events"):
        # SQLAlchemy looks whether a table is there by asking for it; it sees to the error itself.
        return None
    if isinstance(context.sqlalchemy_exception, IntegrityError) or _breaks_a_check(error):
        return Refused(f"the database refuses: {_in_a_line(error)}")
    if isinstance(context.sqlalchemy_exception, DBAPIError):
        return Unavailable(f"the database cannot: {_in_a_line(error)}")
    return None


def _in_a_line(error: BaseException | None) -> str:
    """What the driver says, which may be several lines."""
    return " ".join(str(error).split())
