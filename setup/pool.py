"""The HTCondor pool that `make pool` starts, in the cache: start or stop it, and say how to use it.

pool.py start|stop
"""

from __future__ import annotations

import os
import sys

import cache
from prefix import EXIT_UNAVAILABLE, SETS

from condor import personal

USE = """
Paste the lines above into a shell, then try condor_status, condor_q, condor_submit.
The pool goes on until you type: make pool-stop"""


def main(what: str) -> int:
    """Exit code as condor.personal's, or 3 if there is no HTCondor to start."""
    prefix = os.environ.get(SETS["htcondor"].variable)
    if prefix is None:
        return EXIT_UNAVAILABLE
    code = personal.main([what, str(cache.directory() / "pool"), "--prefix", prefix])
    if code == 0 and what == "start":
        print(USE)
    return code


if __name__ == "__main__":
    if sys.argv[1:] not in (["start"], ["stop"]):
        sys.exit("usage: pool.py start|stop")
    sys.exit(main(sys.argv[1]))
