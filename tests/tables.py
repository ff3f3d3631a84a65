"""The tables of a database as they are, to be compared."""

from __future__ import annotations

import re

from sqlalchemy import Engine, inspect

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
                (
                    str(i["name"]),
                    i["column_names"],
                    sorted(map(str, i.get("dialect_options", {}).values())),
                )
                for i in found.get_indexes(name)
            ),
        }
        for name in found.get_table_names()
        if name != "alembic_version" and (columns := found.get_columns(name))
    }
