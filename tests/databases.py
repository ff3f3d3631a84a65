"""Real database servers for tests, which may stop, kill and start them again."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psycopg
import pymysql
import pytest
from sqlalchemy import Engine, MetaData, create_engine

from tests.real import real_part

DEADLINE = 60.0


class DatabaseServer:
    """A database server in a directory of its own, which nobody but the test finds: it listens on a
    socket there. It outlives a kill, but no power cut.
    """

    command: Sequence[str]
    door: Path
    """The socket that it listens on."""
    url: str

    def __init__(self) -> None:
        # not pytest's directory: a socket's path has 107 characters at most
        self.directory = Path(tempfile.mkdtemp(prefix="db-"))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        with open(f"{self.directory}/log", "ab") as log:
            self._process = subprocess.Popen(self.command, stdout=log, stderr=log)
        self.wait_until_it_takes_connections()

    def wait_until_it_takes_connections(self) -> None:
        """Fails if it ends, or takes too long."""
        deadline = time.monotonic() + DEADLINE
        while not self.takes_connections():
            assert self.process.poll() is None, Path(f"{self.directory}/log").read_text()[-2000:]
            assert time.monotonic() < deadline, "the database takes no connections"
            time.sleep(0.02)

    def takes_connections(self) -> bool:
        """Whether somebody can connect."""
        raise NotImplementedError

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The server that was started last."""
        assert self._process is not None
        return self._process

    def kill(self) -> None:
        """End it by SIGKILL, and those that serve its connections."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        self.process.kill()
        self.process.wait(DEADLINE)
        for child in children.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)

    def url_by(self, port: int) -> str:
        """The URL for those who come through a relay at this port."""
        raise NotImplementedError

    def stop(self) -> None:
        """Tell it to end its connections and to go."""
        self.process.send_signal(signal.SIGINT if "postgres" in self.command[0] else signal.SIGTERM)
        self.process.wait(DEADLINE)

    def close(self) -> None:
        """End it, and remove all it had."""
        if self._process is not None and self._process.poll() is None:
            self.stop()
        shutil.rmtree(self.directory)


class PostgreSQL(DatabaseServer):
    """A PostgreSQL server with an empty database."""

    def __init__(self, programs: Path) -> None:
        super().__init__()
        data = f"{self.directory}/data"
        made = [f"{programs}/initdb", "-D", data, "-U", "grid", "-A", "trust"]
        made += ["-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
        subprocess.run(made, check=True, capture_output=True)
        # Nothing of a test has to outlive a power cut.
        settings = ["-c", "fsync=off", "-c", "full_page_writes=off", "-c", "listen_addresses="]
        self.command = [f"{programs}/postgres", "-D", data, *settings, "-k", f"{self.directory}"]
        self.door = self.directory / ".s.PGSQL.5432"
        self.url = f"postgresql+psycopg://grid@/postgres?host={self.directory}"

    def takes_connections(self) -> bool:
        try:
            psycopg.connect(host=str(self.directory), user="grid", dbname="postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    def url_by(self, port: int) -> str:
        """The URL for those who come through a relay at this port."""
        return f"postgresql+psycopg://grid@127.0.0.1:{port}/postgres"


class MariaDB(DatabaseServer):
    """A MariaDB server with an empty database."""

    def __init__(self, prefix: Path) -> None:
        super().__init__()
        place = ["--no-defaults", f"--basedir={prefix}", f"--datadir={self.directory}/data"]
        environment = {**os.environ, "PATH": f"{prefix}/bin:{prefix}/sbin:{os.environ['PATH']}"}
        made = [f"{prefix}/bin/mariadb-install-db", *place, "--skip-test-db"]
        made += ["--auth-root-authentication-method=normal"]
        subprocess.run(made, check=True, capture_output=True, env=environment)
        self.door = self.directory / "socket"
        self.command = [f"{prefix}/sbin/mariadbd", *place, "--skip-networking"]
        self.command += [f"--plugin-dir={prefix}/lib/mysql/plugin", f"--socket={self.door}"]
        self.command += [f"--pid-file={self.directory}/pid", "--lower-case-table-names=0"]
        # What is committed is in the kernel's hands, and nothing is synced.
        self.command += ["--innodb-flush-log-at-trx-commit=2"]
        self.url = f"mariadb+pymysql://root@/grid?unix_socket={self.door}&charset=utf8mb4"

    def start(self) -> None:
        super().start()
        connection = pymysql.connect(unix_socket=str(self.door), user="root")
        with connection, connection.cursor() as cursor:
            cursor.execute(
                "CREATE DATABASE IF NOT EXISTS grid CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin"
            )

    def takes_connections(self) -> bool:
        with socket.socket(socket.AF_UNIX) as asking:
            return asking.connect_ex(str(self.door)) == 0

    def url_by(self, port: int) -> str:
        """The URL for those who come through a relay at this port."""
        return f"mariadb+pymysql://root@127.0.0.1:{port}/grid?charset=utf8mb4"


@contextlib.contextmanager
def running(server: DatabaseServer) -> Iterator[DatabaseServer]:
    """``server``, started, and gone afterwards."""
    try:
        server.start()
        yield server
    finally:
        server.close()


def a_postgresql() -> PostgreSQL:
    """A new PostgreSQL server, not started yet; without its programs the test is skipped."""
    return PostgreSQL(real_part("GLIDEBRIDGE_POSTGRESQL", "PostgreSQL"))


def a_mariadb() -> MariaDB:
    """A new MariaDB server, not started yet; without its programs the test is skipped."""
    return MariaDB(real_part("GLIDEBRIDGE_MARIADB", "MariaDB"))


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """A PostgreSQL database: the one that is named, or one of a server made for this run."""
    named = os.environ.get("GLIDEBRIDGE_POSTGRESQL_URL")
    if named:
        yield named
        return
    with running(a_postgresql()) as server:
        yield server.url


@pytest.fixture(scope="session")
def mariadb_url() -> Iterator[str]:
    """A MariaDB database: the one that is named, or one of a server made for this run."""
    named = os.environ.get("GLIDEBRIDGE_MARIADB_URL")
    if named:
        yield named
        return
    with running(a_mariadb()) as server:
        yield server.url


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "mariadb"])
def any_database(request: pytest.FixtureRequest) -> str:
    """The URL of an empty database of each kind; empty itself for SQLite, which is a file."""
    if request.param == "sqlite":
        return ""
    url: str = request.getfixturevalue(f"{request.param}_url")
    engine = create_engine(url)
    empty(engine)
    engine.dispose()
    return url


def empty(engine: Engine) -> None:
    """Drop whatever an earlier test left."""
    found = MetaData()
    found.reflect(engine)
    found.drop_all(engine)
