"""Real database servers for tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pymysql
import pytest

from tests.real import real_part

DEADLINE = 60.0

# Nothing of a test has to outlive a power cut, and nobody but the test may connect.
SETTINGS = "-c fsync=off -c full_page_writes=off -c listen_addresses='' -k"


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """An empty PostgreSQL database: the one that is named, or one of a server made for this run."""
    named = os.environ.get("GLIDEBRIDGE_POSTGRESQL_URL")
    if named:
        yield named
        return
    programs = real_part("GLIDEBRIDGE_POSTGRESQL", "PostgreSQL")
    # not pytest's directory: a socket's path has 107 characters at most
    directory = Path(tempfile.mkdtemp(prefix="pg-"))
    made = [f"{programs}/initdb", "-D", f"{directory}/data", "-U", "grid", "-A", "trust"]
    made += ["-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
    server = [f"{programs}/pg_ctl", "-D", f"{directory}/data", "-w", "-l", f"{directory}/log"]
    try:
        subprocess.run(made, check=True, capture_output=True)
        start = [*server, "-o", f"{SETTINGS} {directory}", "start"]
        subprocess.run(start, check=True, stdout=subprocess.DEVNULL)
        try:
            yield f"postgresql+psycopg://grid@/postgres?host={directory}"
        finally:
            subprocess.run([*server, "-m", "fast", "stop"], check=True, stdout=subprocess.DEVNULL)
    finally:
        shutil.rmtree(directory)


@pytest.fixture(scope="session")
def mariadb_url() -> Iterator[str]:
    """An empty MariaDB database: the one that is named, or one of a server made for this run."""
    named = os.environ.get("GLIDEBRIDGE_MARIADB_URL")
    if named:
        yield named
        return
    prefix = real_part("GLIDEBRIDGE_MARIADB", "MariaDB")
    directory = Path(tempfile.mkdtemp(prefix="my-"))
    place = ["--no-defaults", f"--basedir={prefix}", f"--datadir={directory}/data"]
    programs = {**os.environ, "PATH": f"{prefix}/bin:{prefix}/sbin:{os.environ['PATH']}"}
    made = [f"{prefix}/bin/mariadb-install-db", *place, "--auth-root-authentication-method=normal"]
    server = [f"{prefix}/sbin/mariadbd", *place, f"--plugin-dir={prefix}/lib/mysql/plugin"]
    server += [f"--socket={directory}/socket", f"--pid-file={directory}/pid", "--skip-networking"]
    # Nothing of a test has to outlive a power cut.
    server += ["--innodb-flush-log-at-trx-commit=0", "--lower-case-table-names=0"]
    try:
        subprocess.run([*made, "--skip-test-db"], check=True, capture_output=True, env=programs)
        with open(f"{directory}/log", "wb") as log:
            running = subprocess.Popen(server, stdout=log, stderr=log)
        try:
            _make_database(directory / "socket", running)
            yield f"mariadb+pymysql://root@/grid?unix_socket={directory}/socket&charset=utf8mb4"
        finally:
            running.terminate()
            running.wait(DEADLINE)
    finally:
        shutil.rmtree(directory)


def _make_database(socket: Path, server: subprocess.Popen[bytes]) -> None:
    """Make the database `grid` as soon as the server takes connections."""
    deadline = time.monotonic() + DEADLINE
    while not socket.exists():
        assert server.poll() is None, "MariaDB did not start"
        assert time.monotonic() < deadline, "MariaDB does not take connections"
        time.sleep(0.02)
    connection = pymysql.connect(unix_socket=str(socket), user="root")
    with connection, connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE grid CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
