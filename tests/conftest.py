"""The real programs and services that any test may ask for by name."""

import logging
import os
from collections.abc import Iterator

import pytest

from tests.databases import any_database, mariadb_url, postgresql_url
from tests.feature_report import FEATURES, features_of
from tests.grid_box import grid_box, grid_clients
from tests.grid_site import grid
from tests.pools import condor_pool, htcondor_prefix, newest_condor_pool
from tests.real import ganglia, python39, strace, webalizer

__all__ = [
    "any_database",
    "condor_pool",
    "ganglia",
    "grid",
    "grid_box",
    "grid_clients",
    "htcondor_prefix",
    "mariadb_url",
    "newest_condor_pool",
    "postgresql_url",
    "python39",
    "strace",
    "webalizer",
]


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Commands that tests call in this process set its umask and its log level, as they would in a
    process of their own.
    """
    umask, level = os.umask(0o022), logging.getLogger().level
    yield
    os.umask(umask)
    logging.getLogger().setLevel(level)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Nobody need be root: what takes that is left out, also where no part may be."""
    if item.get_closest_marker("as_root") is not None and os.geteuid() != 0:
        pytest.skip("only root can show it; `make test` by root does")


def pytest_itemcollected(item: pytest.Item) -> None:
    """`pytest -k XW_AR_17` finds the tests that pin XW-AR-17, and their reports say so."""
    features = sorted(features_of(item))
    item.extra_keyword_matches.update(name.replace("-", "_") for name in features)
    item.user_properties.append((FEATURES, features))
