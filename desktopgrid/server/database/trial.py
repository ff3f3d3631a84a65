"""Whether a grid can be founded in the database that a URL names: tried, step by step, as the
server will use it. Nothing is left there.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator

from sqlalchemy import URL, Connection, inspect, make_url
from sqlalchemy.exc import ArgumentError

from desktopgrid.model.errors import BadRequest, GridError
from desktopgrid.server.database import engine as database
from desktopgrid.server.database import schema
from desktopgrid.server.database.suitability import unsuitable
from desktopgrid.server.missing import Missing

DRIVERS = {
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
}
"""The driver that we bring along for each, as URLs name it."""
REMEDIES = (
    (
        r"translate host name|resolve|not known|No address",
        "is the name spelt right, and does this network know it?",
    ),
    (
        r"Connection refused|[Tt]imed? ?out|timeout|unreachable|No such file|\b200[236]\b",
        "is it started, and does it take connections from here? PostgreSQL: listen_addresses;"
        " MariaDB: bind-address, and no skip-networking; a firewall may be in between",
    ),
    (
        r"pg_hba\.conf|\b1130\b",
        "it takes this account from other machines only. PostgreSQL: a line in pg_hba.conf, such as"
        " `host DATABASE USER ADDRESS scram-sha-256`; MariaDB: CREATE USER 'USER'@'THIS MACHINE'",
    ),
    (r"database \".*\" does not exist|\b1049\b", "make it: {create}"),
    (r"\b1044\b", "GRANT ALL PRIVILEGES ON {database}.* TO the account"),
    (
        r"password|authentication failed|role \".*\" does not exist|\b1045\b|\b1698\b",
        "is there such an account, and is this its password? PostgreSQL reads it in ~/.pgpass,"
        " MariaDB in the file that ?read_default_file=FILE at the URL's end names, both 0600; or"
        " it stands in [database] of server.conf",
    ),
)
"""What a driver says when there is no connection, and what to do then; the first one counts."""
CREATE = {
    "postgresql": "CREATE DATABASE {database} ENCODING 'UTF8' TEMPLATE template0 OWNER the account",
    "mysql": "CREATE DATABASE {database} CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin"
    " (MySQL: utf8mb4_0900_bin)",
}

STEPS = (
    "CREATE TABLE {table} (id INTEGER PRIMARY KEY, other INTEGER)",
    "ALTER TABLE {table} ADD COLUMN more INTEGER",
    "CREATE INDEX {table}_more ON {table} (more)",
    "ALTER TABLE {table} ADD CONSTRAINT {table}_other FOREIGN KEY (other) REFERENCES {table} (id)",
    "INSERT INTO {table} (id) VALUES (1)",
    "UPDATE {table} SET more = 1",
    "DELETE FROM {table}",
    "DROP TABLE {table}",
)
"""All that a server does to tables, of its own."""
ABSENT = (
    # MariaDB looks for the right before it looks for the table, and a right that is not there to
    # create cannot leave anything.
    "DROP TABLE IF EXISTS {table}",
    "CREATE TABLE {table} LIKE {table}_none",
    "ALTER TABLE {table} ADD COLUMN more INTEGER",
    "CREATE INDEX {table}_more ON {table} (more)",
    "INSERT INTO {table} VALUES (1)",
    "UPDATE {table} SET more = 1",
    "DELETE FROM {table}",
    "SELECT 1 FROM {table}",
)
"""The same on a table that is not there."""
DENIED = re.compile(r"([A-Z]+)(?: privilege)?(?:\(s\))? command denied")
"""How MariaDB and MySQL say which right is missing."""


def missing_of(address: str) -> Iterator[Missing]:
    """What keeps a grid out of the database that ``address`` names; a URL's password is not told.

    What only a connection could tell is left out where there is none.
    """
    try:
        url = make_url(address)
    except ArgumentError:
        yield Missing("the database's URL is none", "write DIALECT+DRIVER://USER@HOST/DATABASE")
        return
    backend = url.get_backend_name()
    if backend == "sqlite":
        return
    if backend not in DRIVERS:
        known = ", ".join(DRIVERS.values())
        yield Missing(f"a grid cannot be kept in {backend}", f"URLs begin with one of {known}")
        return
    try:
        engine = database.open(address)
    except BadRequest as error:
        yield Missing(str(error), f"URLs begin with {DRIVERS[backend]}://, whose driver is ours")
        return
    try:
        with engine.connect() as connection:
            yield from unsuitable(connection)
            connection.rollback()
            yield from denied(connection)
            yield from occupied(connection)
    except GridError as error:
        yield unreachable(url, str(error))
    finally:
        engine.dispose()


def unreachable(url: URL, said: str) -> Missing:
    """What is missing where the driver could not connect, and ``said`` so."""
    said = said.removeprefix("the database cannot: ")
    name = url.database or ""
    create = CREATE["postgresql" if url.get_backend_name() == "postgresql" else "mysql"]
    remedy = next(
        (remedy for sign, remedy in REMEDIES if re.search(sign, said)), "see the database's log"
    )
    remedy = remedy.replace("{create}", create).replace("{database}", name or "DATABASE")
    return Missing(f"the database {url.render_as_string()} is out of reach: {said}", remedy)


def denied(connection: Connection) -> Iterator[Missing]:
    """What the account may not do in the database, all of it."""
    table = f"glidebridge_{secrets.token_hex(4)}"
    if connection.dialect.name == "postgresql":
        yield from _denied_by_trying(connection, table)
        return
    words = dict.fromkeys(
        word
        for step in ABSENT
        if (said := _refusal(connection, step.format(table=table)))
        for word in DENIED.findall(said)
    )
    if words:
        yield Missing(
            f"the account may not {', '.join(words)} in the database",
            f"GRANT ALL PRIVILEGES ON {connection.engine.url.database}.* TO the account",
        )
    else:
        yield from _denied_by_trying(connection, table)


def _denied_by_trying(connection: Connection, table: str) -> Iterator[Missing]:
    """The first step that fails, on a table which is gone afterwards."""
    for step in STEPS:
        said = _refusal(connection, step.format(table=table))
        if said is not None:
            yield Missing(
                f"the account cannot {' '.join(step.split()[:2])} in the database: {said}",
                f"let it own the database ({connection.engine.url.database}) or, in PostgreSQL,"
                " GRANT CREATE ON SCHEMA public",
            )
            break
    _refusal(connection, f"DROP TABLE IF EXISTS {table}")


def _refusal(connection: Connection, statement: str) -> str | None:
    """What the database says against ``statement``, which it has carried out otherwise."""
    try:
        with database.transaction(connection):
            connection.exec_driver_sql(statement)
    except GridError as error:
        return str(error).removeprefix("the database cannot: ").partition(" LINE 1:")[0]
    return None


def occupied(connection: Connection) -> Iterator[Missing]:
    """Tables in the database that stand where a new grid's would."""
    found = set(inspect(connection).get_table_names())
    if "alembic_version" in found and "shards" in found:
        yield Missing(
            "the database holds a grid already",
            "name an empty one, or serve that grid from its own directory",
        )
    elif taken := sorted(found.intersection({"alembic_version", *schema.metadata.tables})):
        yield Missing(
            f"the database has tables of other programs: {', '.join(taken)}", "name an empty one"
        )
