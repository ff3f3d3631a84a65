"""Contact with a database that is another process, on another machine perhaps, and may go away: who
waits for it waits for some time, and never for ever.

A cable that was pulled tells nobody. The kernel finds out by itself where the other machine is
gone, but not where it is there and does not answer; for that each driver has a time of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg.abc import RV, PQGen
from sqlalchemy import URL, Dialect, Engine, event
from sqlalchemy.pool import ConnectionPoolEntry

CONNECT_WITHIN = 10
"""Seconds to get a connection."""


def options(url: URL, patience: float | None) -> dict[str, Any]:
    """What the driver of ``url`` is told about waiting, where the URL itself does not say."""
    backend = url.get_backend_name()
    told: Mapping[str, Any] = {"connect_timeout": CONNECT_WITHIN}
    if backend == "postgresql":
        told = {
            **told,
            "keepalives_idle": 15,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 30_000,
        }
    elif backend in ("mysql", "mariadb") and patience is not None:
        told = {**told, "read_timeout": patience, "write_timeout": patience}
    return {name: value for name, value in told.items() if name not in url.query}


def limit(engine: Engine, patience: float) -> None:
    """Let no question to a PostgreSQL take longer than ``patience`` seconds: its library knows no
    such limit.
    """

    class Patient(psycopg.Connection[Any]):
        def wait(self, gen: PQGen[RV], *args: Any, **more: Any) -> RV:
            more.setdefault("timeout", patience)
            try:
                return super().wait(gen, *args, **more)
            except psycopg.errors._WaitTimeout as error:
                # What it would say later is the answer to nothing.
                self.pgconn.finish()
                raise psycopg.OperationalError(
                    f"the database did not answer within {patience:g} s"
                ) from error

    def connect(
        dialect: Dialect, entry: ConnectionPoolEntry, arguments: list[Any], options: dict[str, Any]
    ) -> psycopg.Connection[Any]:
        return Patient.connect(*arguments, **options)

    event.listen(engine, "do_connect", connect)
