"""What a database has to be, and its account may do, for a grid to be founded there: looked at with
real servers, of which nothing is left changed.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL, Connection, Engine, inspect, make_url, text

from desktopgrid.server.database import engine as database
from desktopgrid.server.database.trial import missing_of
from desktopgrid.server.database.upgrading import upgrade
from desktopgrid.server.missing import Missing
from tests.databases import empty
from tests.system.test_xwserver import xwserver

POOR = "poor"
RICH = "rich"
pytestmark = pytest.mark.feature("XW-PKG-13")


@pytest.fixture(params=["postgresql", "mariadb"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """A real database, empty, seen by who may do everything there."""
    opened = database.open(request.getfixturevalue(f"{request.param}_url"))
    empty(opened)
    yield opened
    opened.dispose()


@pytest.fixture
def root(engine: Engine) -> Iterator[Connection]:
    """What the administrator of the database says there; the accounts of this test are gone
    afterwards.
    """
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for name in (POOR, RICH):
            forget(connection, name)
        yield connection
        for name in (POOR, RICH):
            forget(connection, name)


def forget(connection: Connection, name: str) -> None:
    if connection.dialect.name == "postgresql":
        if connection.scalar(text("SELECT 1 FROM pg_roles WHERE rolname = :n"), {"n": name}):
            connection.execute(text(f"DROP OWNED BY {name}"))
            connection.execute(text(f"DROP ROLE {name}"))
    else:
        connection.execute(text(f"DROP USER IF EXISTS {name}@localhost"))


def account(root: Connection, name: str, *grants: str) -> str:
    """The URL for a new account with these rights."""
    if root.dialect.name == "postgresql":
        root.execute(text(f"CREATE ROLE {name} LOGIN"))
    else:
        root.execute(text(f"CREATE USER {name}@localhost IDENTIFIED BY ''"))
    for grant in grants:
        root.execute(text(grant))
    return root.engine.url.set(username=name).render_as_string(False)


def tables(engine: Engine) -> list[str]:
    return inspect(engine).get_table_names()


def test_an_account_without_rights_hears_which_it_lacks(root: Connection) -> None:
    if root.dialect.name == "postgresql":
        url = account(root, POOR)
        words = ["the account cannot CREATE TABLE", "permission denied for schema public"]
    else:
        url = account(root, POOR, f"GRANT SELECT, INSERT, DROP ON grid.* TO {POOR}@localhost")
        words = ["the account may not CREATE, ALTER, INDEX, UPDATE, DELETE in the database"]
    (found,) = missing_of(url)
    assert all(word in found.what for word in words), found
    assert "GRANT" in found.remedy
    assert tables(root.engine) == []


@pytest.mark.parametrize("engine", ["mariadb"], indirect=True)
def test_rights_that_let_make_tables_and_not_remove_them_leave_none_behind(
    root: Connection,
) -> None:
    """In PostgreSQL who makes a table owns it."""
    grant = "SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX"
    url = account(root, POOR, f"GRANT {grant} ON grid.* TO {POOR}@localhost")
    (found,) = missing_of(url)
    assert found.what == "the account may not DROP in the database"
    assert tables(root.engine) == []


def test_an_account_with_all_rights_lacks_nothing_and_leaves_nothing(root: Connection) -> None:
    grant = (
        f"GRANT CREATE ON SCHEMA public TO {RICH}"
        if root.dialect.name == "postgresql"
        else f"GRANT ALL PRIVILEGES ON grid.* TO {RICH}@localhost"
    )
    assert list(missing_of(account(root, RICH, grant))) == []
    assert tables(root.engine) == []


def test_who_is_no_account_and_what_is_no_database_is_said(engine: Engine) -> None:
    nobody = engine.url.set(username="nobody-there")
    (found,) = missing_of(nobody.render_as_string(False))
    assert "is out of reach" in found.what
    assert "is there such an account" in found.remedy
    (found,) = missing_of(engine.url.set(database="nowhere").render_as_string(False))
    assert "CREATE DATABASE nowhere" in found.remedy


def test_no_password_is_told(engine: Engine) -> None:
    wrong = engine.url.set(username="nobody-there", password="s3cr3t")
    assert "s3cr3t" not in str(list(missing_of(wrong.render_as_string(False))))


def closed() -> tuple[str, int]:
    """An address where nobody listens."""
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        host, port = tried.getsockname()
        return host, port


@pytest.mark.parametrize("driver", ["postgresql+psycopg", "mariadb+pymysql", "mysql+pymysql"])
def test_a_server_that_takes_no_network_connections_is_said(driver: str) -> None:
    host, port = closed()
    url = URL.create(driver, username="grid", host=host, port=port, database="grid")
    (found,) = missing_of(url.render_as_string(False))
    assert "Connection refused" in found.what
    assert "listen_addresses" in found.remedy and "bind-address" in found.remedy


def test_a_database_with_a_grid_or_with_other_tables_is_no_place_for_another(
    engine: Engine,
) -> None:
    url = engine.url.render_as_string(False)
    upgrade(engine)
    assert [found.what for found in missing_of(url)] == ["the database holds a grid already"]
    empty(engine)
    with engine.connect() as connection, database.transaction(connection):
        connection.execute(text("CREATE TABLE works (title INTEGER)"))
    (found,) = missing_of(url)
    assert found.what == "the database has tables of other programs: works"


def test_a_database_for_reading_only_is_none_to_found_in(root: Connection) -> None:
    if root.dialect.name == "postgresql":
        url = account(root, RICH, f"ALTER ROLE {RICH} SET default_transaction_read_only = on")
    else:
        url = account(root, RICH, f"GRANT ALL PRIVILEGES ON grid.* TO {RICH}@localhost")
        root.execute(text("SET GLOBAL read_only = 1"))
    try:
        found = [each.what for each in missing_of(url)]
    finally:
        if root.dialect.name != "postgresql":
            root.execute(text("SET GLOBAL read_only = 0"))
    assert found[0] == "the database is for reading only"


def test_all_that_is_missing_is_named_at_once_and_nothing_is_made(
    root: Connection, tmp_path: Path
) -> None:
    """The port, the account, and the directory."""
    url = make_url(account(root, POOR, *granted_little(root)))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis").write_text("")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        options = ("--address", "127.0.0.1", "--port", port, "--database", str(url))
        code, out, talk = xwserver("init", str(tmp_path / "full"), *options, "--format", "json")
        assert code == 1, talk
        found = [Missing(**each) for each in json.loads(out)["missing"]]
        code, out, talk = xwserver("init", str(tmp_path / "full"), *options)
    assert (code, out) == (1, "")
    for number, each in enumerate(found, 1):
        assert f"{number}. {each.what}" in talk
        assert each.remedy in talk
    directory, taken, account_ = (each.what for each in found)
    assert "is not empty" in directory
    assert f"port {port} cannot be opened at 127.0.0.1: another program has it" in taken
    assert "the account" in account_
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "thesis"]
    assert tables(root.engine) == []


def granted_little(root: Connection) -> list[str]:
    """What lets the account in, and no more."""
    if root.dialect.name == "postgresql":
        return []
    return [f"GRANT SELECT ON grid.* TO {POOR}@localhost"]
