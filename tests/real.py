"""The real programs that set-up fetched, for tests that want the real thing."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest

MAY_BE_MISSING = {"GLIDEBRIDGE_HTCONDOR_NEXT"}  # a moving release, which no mirror owes us
NEEDS_ROOT = {"GLIDEBRIDGE_GRID"}  # set-up makes it only where root calls


def real_part(variable: str, what: str) -> Path:
    """The path that ``variable`` names; without it the test is skipped.

    Where nothing may be left out, with ``GLIDEBRIDGE_REQUIRE_REAL=1``, the test fails instead.
    """
    found = os.environ.get(variable)
    if found:
        return Path(found)
    reason = f"{what} is not here: {variable} is not set (`make test` fetches it)"
    called_by_root = os.environ.get("GLIDEBRIDGE_CALLER") == "root"
    if variable in MAY_BE_MISSING or (variable in NEEDS_ROOT and not called_by_root):
        pytest.skip(reason)
    leave_out(reason)


def leave_out(reason: str) -> NoReturn:
    """Skip the test, or fail it where nothing may be left out."""
    if os.environ.get("GLIDEBRIDGE_REQUIRE_REAL") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def python39() -> Path:
    """A Python 3.9 interpreter, the oldest that a worker node may have."""
    return real_part("GLIDEBRIDGE_PYTHON39", "Python 3.9")


@pytest.fixture(scope="session")
def webalizer() -> Path:
    """webalizer, which reads access logs in the Common Log Format."""
    return real_part("GLIDEBRIDGE_WEBALIZER", "webalizer")


@pytest.fixture(scope="session")
def ganglia() -> Path:
    """The prefix of Ganglia: sbin/gmetad, bin/rrdtool."""
    return real_part("GLIDEBRIDGE_GANGLIA", "Ganglia")


@pytest.fixture(scope="session")
def strace() -> Path:
    """strace, where the kernel lets it trace a child."""
    program = real_part("GLIDEBRIDGE_STRACE", "strace")
    tried = subprocess.run([program, "-f", "true"], capture_output=True, text=True)
    if tried.returncode:
        leave_out(f"strace may not trace here: {tried.stderr.strip()}")
    return program
