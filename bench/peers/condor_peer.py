"""A real HTCondor pool of two slots on this machine: one cluster of vanilla jobs, no file transfer.

HTCondor's programs stand in the prefix that ``$GLIDEBRIDGE_HTCONDOR`` names.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from bench import side

PREFIX = "GLIDEBRIDGE_HTCONDOR"
SUBMITTER = "bench"
# Asking for 2,000 jobs costs the schedd 0.02 s, and a tenth of a second is little for a portion.
PAUSE_IN_PORTION, PAUSE_ALONE = 0.1, 0.01
LIMIT_SECONDS = 600.0
JOB = {
    "executable": side.TRUE,
    "should_transfer_files": "NO",
    "request_cpus": "1",
    "request_memory": "64",
    "request_disk": "1MB",
    "initialdir": "/",
}


class Condor:
    """One cluster a call."""

    def __init__(self, address: str) -> None:
        import htcondor2

        collector = htcondor2.Collector(address)
        self.schedd = htcondor2.Schedd(collector.locate(htcondor2.DaemonType.Schedd))
        self.description = htcondor2.Submit(JOB)

    def run(self, count: int) -> None:
        """Submit one cluster of ``count`` jobs and wait until it has left the queue."""
        self._run(count, PAUSE_IN_PORTION)

    def single(self) -> None:
        """Submit one job and wait until it has left the queue."""
        self._run(1, PAUSE_ALONE)

    def _run(self, count: int, pause: float) -> None:
        cluster = self.schedd.submit(self.description, count=count).cluster()
        mine = f"ClusterId == {cluster}"

        def is_through() -> bool:
            waiting = self.schedd.query(mine, projection=["JobStatus", "HoldReason"])
            held = [ad.get("HoldReason") for ad in waiting if ad["JobStatus"] == 5]
            if held:
                raise RuntimeError(f"{len(held)} jobs are held: {held[0]}")
            return not waiting

        side.wait_until(is_through, LIMIT_SECONDS, pause)


@contextmanager
def running() -> Iterator[Condor]:
    """A pool with two slots in a temporary directory."""
    prefix = os.environ.get(PREFIX)
    if not prefix:
        raise side.Unavailable(f"${PREFIX} does not say where HTCondor is")
    try:
        import htcondor2
    except ImportError as missing:
        raise side.Unavailable(f"its bindings cannot be imported: {missing}") from missing
    from condor.errors import CondorError
    from condor.personal import LoopbackPool

    with tempfile.TemporaryDirectory(prefix="condor-") as directory:
        os.chmod(directory, 0o755)  # noqa: S103 - started by root, the pool runs as another account
        try:
            pool = LoopbackPool(prefix, Path(directory) / "pool", cores=side.SLOTS)
            pool.start()
        except CondorError as missing:
            raise side.Unavailable(str(missing)) from missing
        try:
            for name, value in pool.environment(SUBMITTER).items():
                os.environ[name] = value
            htcondor2.reload_config()
            yield Condor(pool.collector_address)
        finally:
            pool.stop()


if __name__ == "__main__":
    side.main("HTCondor", running)
