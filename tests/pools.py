"""Real HTCondor pools for tests, as fixtures.

``GLIDEBRIDGE_HTCONDOR`` names the directory that holds HTCondor, ``GLIDEBRIDGE_HTCONDOR_NEXT`` one
with its newest release. A test that needs a pool is skipped where there is none; with
``GLIDEBRIDGE_REQUIRE_REAL=1`` it fails, but for the newest release, which moves and may be broken.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from condor.personal import LoopbackPool
from tests.real import real_part


@contextmanager
def a_pool(
    prefix: Path, cores: int = 4, memory_mib: int = 4096, **settings: str | int
) -> Iterator[LoopbackPool]:
    """A pool in a directory of its own that the daemons' account can reach."""
    # Not pytest's own: that one is private to us, and as root the daemons are somebody else.
    directory = Path(tempfile.mkdtemp(prefix="glidebridge-pool-"))
    directory.chmod(0o755)
    try:
        with LoopbackPool(prefix, directory / "pool", cores, memory_mib, **settings) as pool:
            yield pool
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def htcondor_prefix() -> Path:
    """Where HTCondor is installed."""
    return real_part("GLIDEBRIDGE_HTCONDOR", "HTCondor")


@pytest.fixture(scope="session")
def condor_pool(htcondor_prefix: Path) -> Iterator[LoopbackPool]:
    """One real pool for all tests of a run; leave no job of yours in it."""
    with a_pool(htcondor_prefix) as pool:
        yield pool


@pytest.fixture(scope="session")
def newest_condor_pool() -> Iterator[LoopbackPool]:
    """The same with HTCondor's newest release, where it can be had."""
    with a_pool(real_part("GLIDEBRIDGE_HTCONDOR_NEXT", "HTCondor's newest release")) as pool:
        yield pool
