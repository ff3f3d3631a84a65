"""Opening the database: durable, alone, and in sentences when it fails."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from desktopgrid.model.errors import BadRequest, Unavailable
from desktopgrid.server.config import ServerConfig
from desktopgrid.server.database import engine as database
from desktopgrid.server.database.engine import Refused, transaction
from desktopgrid.server.home import Home
from desktopgrid.server.lock import DirectoryLock

CALLS = "trace=pwrite64,write,fdatasync,fsync"
PROGRAM = """
import os, sys
from sqlalchemy import text
from desktopgrid.server.database.engine import open, transaction
engine = open("sqlite:///" + sys.argv[1])
with engine.connect() as connection:
    with transaction(connection):
        connection.execute(text("CREATE TABLE t (x)"))
    os.write(2, b"BEGIN\\n")
    with transaction(connection):
        connection.execute(text("INSERT INTO t VALUES (1)"))
    os.write(2, b"ACKNOWLEDGE\\n")
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path, ServerConfig(), {})


def pragma(engine, name):
    with engine.connect() as connection:
        return connection.execute(text(f"PRAGMA {name}")).scalar()


def test_sqlite_syncs_its_log_at_every_commit(home):
    engine = database.open(home)
    assert pragma(engine, "journal_mode") == "wal"
    assert pragma(engine, "synchronous") == 2
    assert pragma(engine, "foreign_keys") == 1
    engine.dispose()


def test_a_commit_returns_after_the_log_was_synced(tmp_path, strace):
    """The order itself, as the kernel sees it."""
    traced = subprocess.run(
        [strace, "-f", "-y", "-e", CALLS, sys.executable, "-c", PROGRAM, str(tmp_path / "grid.db")],
        stderr=subprocess.PIPE,
        env={"PYTHONPATH": ":".join(sys.path)},
        text=True,
    )
    _, _, rest = traced.stderr.partition('"BEGIN\\n"')
    commit, found, _ = rest.partition('"ACKNOWLEDGE\\n"')
    assert found, traced.stderr
    steps = re.findall(r"(pwrite64|fdatasync|fsync)\(\d+<[^>]*grid\.db-wal>", commit)
    assert steps[0] == "pwrite64"
    assert steps[-1] in ("fdatasync", "fsync")


def test_one_process_at_a_time_keeps_a_grid(home):
    engine = database.open(home)
    assert home.pid_file.exists()
    with pytest.raises(Unavailable, match="another process keeps the grid"):
        database.open(home)
    engine.dispose()
    assert not home.pid_file.exists()
    database.open(home).dispose()


def test_who_only_asks_keeps_nobody_out(home):
    assert not DirectoryLock.is_held(home.directory)
    lock = DirectoryLock(home.directory)
    assert DirectoryLock.is_held(home.directory)
    lock.release()
    lock.release()
    assert not DirectoryLock.is_held(home.directory)


def test_the_lock_ends_with_its_process(home):
    program = (
        "import os, sys; from pathlib import Path;"
        "from desktopgrid.server.lock import DirectoryLock;"
        "lock = DirectoryLock(Path(sys.argv[1])); os.kill(os.getpid(), 9)"
    )
    subprocess.run(
        [sys.executable, "-c", program, str(home.directory)], env={"PYTHONPATH": ":".join(sys.path)}
    )
    assert not DirectoryLock.is_held(home.directory)


def test_a_file_that_is_no_database_is_named_in_a_sentence(tmp_path):
    (tmp_path / "grid.db").write_bytes(b"no database" * 1000)
    engine = database.open(f"sqlite:///{tmp_path}/grid.db")
    with pytest.raises(Unavailable, match="file is not a database"):
        engine.connect()
    engine.dispose()


def test_a_database_that_is_locked_for_too_long_is_unavailable(tmp_path, monkeypatch):
    short = tuple(p.replace("10000", "10") for p in database.PRAGMAS)
    monkeypatch.setattr(database, "PRAGMAS", short)
    engine = database.open(f"sqlite:///{tmp_path}/grid.db")
    with engine.connect() as one, transaction(one):
        one.execute(text("CREATE TABLE t (x PRIMARY KEY)"))
        with engine.connect() as two, pytest.raises(Unavailable, match="locked"), transaction(two):
            two.execute(text("CREATE TABLE u (x)"))
    engine.dispose()


def test_a_full_disk_takes_nothing_and_everything_again_when_there_is_room(tmp_path):
    engine = database.open(f"sqlite:///{tmp_path}/grid.db")
    with engine.connect() as connection:
        with transaction(connection):
            connection.execute(text("CREATE TABLE t (x)"))
        pages = connection.execute(text("PRAGMA page_count")).scalar()
        connection.execute(text(f"PRAGMA max_page_count = {pages}"))
        connection.commit()
        long = {"x": "x" * 20_000}
        with pytest.raises(Unavailable, match="disk is full"), transaction(connection):
            connection.execute(text("INSERT INTO t VALUES ('short')"))
            connection.execute(text("INSERT INTO t VALUES (:x)"), long)
        assert connection.execute(text("SELECT count(*) FROM t")).scalar() == 0
        connection.execute(text("PRAGMA max_page_count = 1000000"))
        connection.commit()
        with transaction(connection):
            connection.execute(text("INSERT INTO t VALUES (:x)"), long)
    engine.dispose()


def test_what_the_database_refuses_is_a_bug_of_ours(tmp_path):
    engine = database.open(f"sqlite:///{tmp_path}/grid.db")
    with engine.connect() as connection:
        with pytest.raises(Refused, match="UNIQUE"), transaction(connection):
            connection.execute(text("CREATE TABLE t (x PRIMARY KEY)"))
            connection.execute(text("INSERT INTO t VALUES (1), (1)"))
        tables = connection.execute(text("SELECT name FROM sqlite_master")).all()
    assert tables == []
    engine.dispose()


@pytest.mark.parametrize("url", ["nonsense", "oracle9://x", "postgresql+nobody://u:secret@h/d"])
def test_a_wrong_url_is_refused_and_no_password_told(url):
    with pytest.raises(BadRequest) as caught:
        database.open(url)
    assert "secret" not in str(caught.value)
