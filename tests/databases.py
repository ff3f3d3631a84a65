"""Real database servers for tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real import real_part

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
