"""The real programs and services that any test may ask for by name."""

from tests.databases import mariadb_url, postgresql_url
from tests.pools import condor_pool, htcondor_prefix, newest_condor_pool
from tests.real import python39, strace

__all__ = [
    "condor_pool",
    "htcondor_prefix",
    "mariadb_url",
    "newest_condor_pool",
    "postgresql_url",
    "python39",
    "strace",
]
