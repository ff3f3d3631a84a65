"""HyperQueue from PyPI: a server and a worker of two cores, jobs of many tasks by its Python API.

Each task is a process; its output is not kept, which is the cheapest that HyperQueue can do.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from bench import side


class HyperQueue:
    """One job a call, one task a work."""

    def __init__(self, client: Any, directory: str) -> None:
        self.client = client
        self.directory = directory

    def run(self, count: int) -> None:
        """Submit one job of ``count`` tasks."""
        from hyperqueue import Job

        job = Job(default_workdir=self.directory)
        for _ in range(count):
            job.program([side.TRUE], stdout=None, stderr=None)
        submitted = self.client.submit(job)
        if not self.client.wait_for_jobs([submitted], raise_on_error=True):
            raise RuntimeError("a task failed")

    def single(self) -> None:
        """Submit a job of one task."""
        self.run(1)


@contextmanager
def running() -> Iterator[HyperQueue]:
    """A server and one worker on this machine."""
    try:
        from hyperqueue import LocalCluster
        from hyperqueue.cluster import WorkerConfig
    except ImportError as missing:
        raise side.Unavailable(f"cannot be imported: {missing}") from missing

    with tempfile.TemporaryDirectory(prefix="hyperqueue-") as directory, LocalCluster() as cluster:
        cluster.start_worker(WorkerConfig(cores=side.SLOTS))
        yield HyperQueue(cluster.client(), directory)


if __name__ == "__main__":
    side.main("HyperQueue", running)
