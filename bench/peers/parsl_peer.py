"""Parsl from PyPI: its HighThroughputExecutor with two workers.

The work is a Python app that starts the process, since Parsl's own ``bash_app`` is slower: it
starts a shell as well.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from bench import side


class Parsl:
    """All futures at once, then all results."""

    def __init__(self, start: Callable[[], Future[int]]) -> None:
        self.start = start

    def run(self, count: int) -> None:
        """Start ``count`` apps and wait for all."""
        futures = [self.start() for _ in range(count)]
        if any([future.result() for future in futures]):
            raise RuntimeError("a process failed")

    def single(self) -> None:
        """Start one app and wait for it."""
        self.run(1)


@contextmanager
def running() -> Iterator[Parsl]:
    """Parsl's interchange and one block of two workers on this machine."""
    try:
        import parsl
        from parsl.config import Config
        from parsl.executors import HighThroughputExecutor
        from parsl.providers import LocalProvider
    except ImportError as missing:
        raise side.Unavailable(f"cannot be imported: {missing}") from missing

    with tempfile.TemporaryDirectory(prefix="parsl-", ignore_cleanup_errors=True) as directory:
        os.chdir(directory)  # It writes its run directory where it is.
        # It starts its own programs by name, and nobody activated the environment that holds them.
        os.environ["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
        executor = HighThroughputExecutor(
            max_workers_per_node=side.SLOTS,
            address="127.0.0.1",
            provider=LocalProvider(init_blocks=1, max_blocks=1),
        )
        parsl.load(Config(executors=[executor], initialize_logging=False))

        @parsl.python_app
        def true() -> int:
            import subprocess

            return subprocess.call(["/bin/true"])

        try:
            yield Parsl(true)
        finally:
            parsl.dfk().cleanup()
            os.chdir("/")


if __name__ == "__main__":
    side.main("Parsl", running)
