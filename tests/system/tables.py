"""All that the database of a running server has, to see whether something changed."""

from __future__ import annotations

import sqlite3
from typing import Any

from tests.system.processes import ServerUnderTest


class Watcher:
    """Looks at all that the database has, over a connection of its own."""

    def __init__(self, server: ServerUnderTest) -> None:
        path = f"file:{server.home.database}?mode=ro"
        self._connection = sqlite3.connect(path, uri=True, timeout=30)
        found = self._connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        self._tables = [name for (name,) in found]
        self._seen = self._look()

    def _look(self) -> dict[str, list[tuple[Any, ...]]]:
        return {
            name: self._connection.execute(f"SELECT * FROM {name}").fetchall()  # noqa: S608
            for name in self._tables
        }

    def changes(self) -> list[str]:
        """The tables that have changed since it looked last."""
        before, self._seen = self._seen, self._look()
        return [name for name in self._tables if self._seen[name] != before[name]]

    def close(self) -> None:
        """Look no more."""
        self._connection.close()
