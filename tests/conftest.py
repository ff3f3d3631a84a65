"""What tests everywhere may ask for: the real programs that set-up fetched, or a skip by name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

MAY_BE_MISSING = {"GLIDEBRIDGE_HTCONDOR_NEXT"}  # a moving release, which no mirror owes us


def real(variable: str, what: str) -> Path:
    """Where ``what`` is; without it the test is skipped, or fails where nothing may be left out."""
    found = os.environ.get(variable)
    if found:
        return Path(found)
    message = f"{what} is not here: {variable} is not set (`make test` fetches it)"
    if os.environ.get("GLIDEBRIDGE_REQUIRE_REAL") == "1" and variable not in MAY_BE_MISSING:
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def htcondor_prefix() -> Path:
    """The directory that holds HTCondor 23.9.6, as ``usr/bin/condor_status`` and so on."""
    return real("GLIDEBRIDGE_HTCONDOR", "HTCondor 23.9.6")


@pytest.fixture(scope="session")
def htcondor_next_prefix() -> Path:
    """The directory that holds the newest HTCondor; skipped where no mirror has it."""
    return real("GLIDEBRIDGE_HTCONDOR_NEXT", "the newest HTCondor")


@pytest.fixture(scope="session")
def python39() -> Path:
    """A Python 3.9 interpreter, the oldest that a worker node may have."""
    return real("GLIDEBRIDGE_PYTHON39", "Python 3.9")
