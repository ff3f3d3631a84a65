"""Whether a database keeps what a grid promises: texts as they are, and commits for good.

Our own SQLite file does. What others made and set up is looked at before it is trusted.
"""

from __future__ import annotations

from sqlalchemy import Connection

from desktopgrid.model.errors import BadRequest

EXACT = ("_nopad_bin", "_0900_bin")
"""How the collations of MariaDB and of MySQL end by which no two different texts are the same."""
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


def check_texts(connection: Connection) -> None:
    """Raises BadRequest for a database that would lose letters, or take different names for one."""
    if connection.dialect.name == "postgresql":
        encoding = _asked(connection, "SHOW server_encoding")
        if encoding != "UTF8":
            raise BadRequest(
                f"the database's encoding is {encoding}, which has no place for every letter; make"
                " it anew: CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"
            )
    elif _is_mariadb(connection):
        collation = _asked(connection, "SELECT @@collation_database")
        if not (collation.startswith("utf8mb4_") and collation.endswith(EXACT)):
            raise BadRequest(
                f"the database's collation is {collation}, which takes different names for one or"
                " has no place for every letter; while it is empty, ALTER DATABASE ... CHARACTER"
                " SET utf8mb4 COLLATE utf8mb4_nopad_bin (MySQL: utf8mb4_0900_bin)"
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
