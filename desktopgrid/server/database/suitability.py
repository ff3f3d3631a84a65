"""Whether a database keeps what a grid promises: texts as they are, and commits for good.

Our own SQLite file does. What others made and set up is looked at before it is trusted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from sqlalchemy import Connection

from desktopgrid.model.errors import BadRequest
from desktopgrid.server.missing import Missing

EXACT = ("_nopad_bin", "_0900_bin")
"""How the collations of MariaDB and of MySQL end by which no two different texts are the same."""
OLDEST = {"PostgreSQL": (14,), "MariaDB": (10, 6), "MySQL": (8, 0, 17)}
"""The oldest that their makers keep; MySQL tells all texts apart since that one."""
SYNCED = (
    ("postgresql", "SHOW fsync", "fsync", "on", ("on",)),
    (
        "postgresql",
        "SHOW synchronous_commit",
        "synchronous_commit",
        "on",
        ("on", "local", "remote_write", "remote_apply"),
    ),
    (
        "mariadb",
        "SELECT @@innodb_flush_log_at_trx_commit",
        "innodb_flush_log_at_trx_commit",
        "1",
        ("1",),
    ),
)
"""The settings by which a commit is on disk when it returns: the database's dialect, how to ask,
the setting's name, what it should be, and what is as good.
"""


def check(connection: Connection) -> None:
    """Raises BadRequest for a database that a grid cannot be kept in."""
    missing = list(unsuitable(connection))
    if missing:
        raise BadRequest("; ".join(f"{each.what}: {each.remedy}" for each in missing))


def unsuitable(connection: Connection) -> Iterator[Missing]:
    """What the database is, and must not be: too old, for reading only, without transactions, or
    one that would lose letters or take different names for one.
    """
    if connection.dialect.name == "postgresql":
        yield from too_old(_asked(connection, "SELECT version()"))
        yield from _unsuitable_postgresql(connection)
    elif _is_mariadb(connection):
        said = _asked(connection, "SELECT version()")
        yield from too_old(said if "MariaDB" in said else f"MySQL {said}")
        yield from _unsuitable_mariadb(connection)


def too_old(said: str) -> Iterator[Missing]:
    """What a server is that says ``said`` of itself: `PostgreSQL 15.8 (Debian ...)`,
    `10.11.6-MariaDB-...`, `MySQL 8.0.36`.
    """
    product = next(name for name in OLDEST if name in said)
    found = re.search(r"\d+(\.\d+)*", said)
    version = tuple(map(int, found[0].split("."))) if found else ()
    if version < OLDEST[product]:
        oldest = ".".join(map(str, OLDEST[product]))
        yield Missing(f"the database is {said}", f"{product} {oldest} is the oldest that will do")


def _unsuitable_postgresql(connection: Connection) -> Iterator[Missing]:
    encoding = _asked(connection, "SHOW server_encoding")
    if encoding != "UTF8":
        yield Missing(
            f"the database's encoding is {encoding}, which has no place for every letter",
            "make it anew: CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0",
        )
    # so it is on a standby, too
    if _asked(connection, "SHOW transaction_read_only") == "on":
        yield Missing(
            "the database is for reading only",
            "name the primary server, not a standby; default_transaction_read_only must be off",
        )


def _unsuitable_mariadb(connection: Connection) -> Iterator[Missing]:
    collation = _asked(connection, "SELECT @@collation_database")
    if not (collation.startswith("utf8mb4_") and collation.endswith(EXACT)):
        yield Missing(
            f"the database's collation is {collation}, which takes different names for one or"
            " has no place for every letter",
            "while it is empty, ALTER DATABASE ... CHARACTER SET utf8mb4 COLLATE"
            " utf8mb4_nopad_bin (MySQL: utf8mb4_0900_bin)",
        )
    if _asked(connection, "SELECT @@read_only") not in ("0", "OFF"):
        yield Missing("the database is for reading only", "name the primary server, not a replica")
    engine = _asked(connection, "SELECT @@default_storage_engine")
    if engine != "InnoDB":
        yield Missing(
            f"tables are {engine} by default, which cannot undo what was half done",
            "set default_storage_engine = InnoDB",
        )
    # Its log of statements does not go with the isolation that we read by: each write would fail.
    logged = _asked(connection, "SELECT IF(@@log_bin, @@binlog_format, 'none')")
    if logged == "STATEMENT":
        yield Missing(
            "the database logs statements, and takes none that read committed rows only",
            "set binlog_format = MIXED or ROW",
        )


def weaknesses(connection: Connection) -> list[str]:
    """What a power cut could take although it was committed, a sentence each."""
    dialect = "mariadb" if _is_mariadb(connection) else connection.dialect.name
    return [
        f"The database's {name} is {found}: a power cut may take what was acknowledged; set it to"
        f" {best}"
        for of, question, name, best, good in SYNCED
        if of == dialect and (found := _asked(connection, question)) not in good
    ]


def _is_mariadb(connection: Connection) -> bool:
    return connection.dialect.name in ("mysql", "mariadb")


def _asked(connection: Connection, question: str) -> str:
    return str(connection.exec_driver_sql(question).scalar())
