"""Asking a database in portions: many names a few at a time, many rows as they come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import Connection, Select

STREAMED = 5_000
"""Rows fetched at a time where there may be a million."""
NAMED = 1_000
"""Names in one question."""


def streamed(connection: Connection, wanted: Select[Any]) -> Iterator[Any]:
    """The rows of ``wanted``, which are never all in memory."""
    for part in connection.execution_options(yield_per=STREAMED).execute(wanted).partitions():
        yield from part


def parts(names: Iterable[str]) -> Iterator[list[str]]:
    """``names``, as many at a time as one question may have."""
    everything = askable(names)
    for start in range(0, len(everything), NAMED):
        yield everything[start : start + NAMED]


def askable(names: Iterable[str]) -> list[str]:
    """``names`` without those that nothing has, and for which PostgreSQL cannot even be asked."""
    return [name for name in names if "\0" not in name]
