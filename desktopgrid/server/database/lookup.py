"""Looking submissions up by name in the embedded database: for every single submission, so quickly.

SQLAlchemy and a transaction cost ten times what the question does. This asks the driver itself, on
a connection of its own, one statement at a time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import cast

from sqlalchemy import Engine

from desktopgrid.model.errors import Unavailable


class Lookup:
    """A connection that is asked for names only. For one thread, and for SQLite."""

    def __init__(self, engine: Engine) -> None:
        self._pooled = engine.raw_connection()
        self._connection = cast(sqlite3.Connection, self._pooled.driver_connection)

    def owners_of_submissions(self, uids: Sequence[str]) -> dict[str, str]:
        """Whose each of these submissions is; without those that are not there."""
        marks = ",".join("?" * len(uids))
        question = f"SELECT uid, owner FROM submissions WHERE uid IN ({marks})"  # noqa: S608 - marks
        try:
            return dict(self._connection.execute(question, uids).fetchall())
        except sqlite3.Error as error:
            raise Unavailable(f"the database cannot: {error}") from error

    def close(self) -> None:
        """Give the connection back."""
        self._pooled.close()
