from tests.pools import condor_pool, htcondor_prefix, newest_condor_pool

__all__ = ["condor_pool", "htcondor_prefix", "newest_condor_pool"]
