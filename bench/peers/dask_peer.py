"""Dask distributed from PyPI: a scheduler and two workers of one thread each.

The work is a function that starts the process.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from bench import side


def true(number: int) -> int:
    """Start the process and wait for it; ``number`` only makes the calls differ."""
    return subprocess.call([side.TRUE])


class Dask:
    """One ``map`` a call."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def run(self, count: int) -> None:
        """Map over ``count`` numbers and gather."""
        if any(self.client.gather(self.client.map(true, range(count), pure=False))):
            raise RuntimeError("a process failed")

    def single(self) -> None:
        """Submit one call and wait for its result."""
        self.client.submit(true, 0, pure=False).result()


@contextmanager
def running() -> Iterator[Dask]:
    """A scheduler and two workers on this machine."""
    try:
        from distributed import Client, LocalCluster
    except ImportError as missing:
        raise side.Unavailable(f"cannot be imported: {missing}") from missing

    with (
        LocalCluster(
            n_workers=side.SLOTS,
            threads_per_worker=1,
            dashboard_address=None,
            host="127.0.0.1",
        ) as cluster,
        Client(cluster) as client,
    ):
        yield Dask(client)


if __name__ == "__main__":
    side.main("Dask", running)
