"""What a database would do for a question, by its own account."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from typing import Any

from sqlalchemy import Connection, Engine, event


class Plans:
    """How each statement of a question would be carried out; ``long`` are the tables that grow."""

    def __init__(
        self, engine: Engine, ask: Callable[[Connection], object], long: Collection[str]
    ) -> None:
        asked: list[tuple[str, Any]] = []

        def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
            asked.append((statement, parameters))

        self._long = long
        self.said: list[str] = []
        self.read_whole: list[str] = []
        """What is read from one end to the other unless a page is full before."""
        self.is_sorted = False
        """Whether what was found is put in order, when all of it is there."""
        with engine.connect() as connection:
            event.listen(engine, "before_cursor_execute", note)
            ask(connection)
            event.remove(engine, "before_cursor_execute", note)
        # What was asked for by streaming leaves its mark on a connection.
        with engine.connect() as connection:
            if engine.dialect.name == "postgresql":
                # Of tables this small it would read the whole even where an index leads to a row.
                connection.exec_driver_sql("SET enable_seqscan = off")
            for statement, parameters in asked:
                getattr(self, f"_{engine.dialect.name}")(connection, statement, parameters)
            connection.invalidate()

    def _sqlite(self, connection: Connection, statement: str, parameters: Any) -> None:
        for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters):
            self.said.append(row.detail)
            words = row.detail.split()
            if words[0] == "SCAN" and words[1] in self._long:
                self.read_whole.append(words[1])
            self.is_sorted |= row.detail == "USE TEMP B-TREE FOR ORDER BY"

    def _postgresql(self, connection: Connection, statement: str, parameters: Any) -> None:
        (plan,) = connection.exec_driver_sql(
            f"EXPLAIN (FORMAT JSON) {statement}", parameters
        ).scalars()
        nodes = [found["Plan"] for found in plan]
        while nodes:
            node = nodes.pop()
            nodes += node.get("Plans", ())
            self.said.append(json.dumps({**node, "Plans": None}))
            # A scan in the order of an index has no condition if it goes from end to end.
            if node.get("Relation Name") in self._long and not any(
                name in node for name in ("Index Cond", "Recheck Cond")
            ):
                self.read_whole.append(node["Relation Name"])
            self.is_sorted |= "Sort" in node["Node Type"]

    def _mariadb(self, connection: Connection, statement: str, parameters: Any) -> None:
        for row in connection.exec_driver_sql(f"EXPLAIN {statement}", parameters):
            self.said.append(str(row))
            if row.table in self._long and row.type in ("ALL", "index"):
                self.read_whole.append(row.table)
            self.is_sorted |= "filesort" in (row.Extra or "")
