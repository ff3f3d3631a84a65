"""The limit of the machine: a bare C loop of posix_spawn of /bin/true, one loop a core.

Needs a C compiler, and is left out where there is none.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from bench import side

SOURCE = Path(__file__).with_suffix(".c")


class SpawnLoop:
    """The compiled loop; one loop for each slot, one loop alone for a single process."""

    def __init__(self, program: Path) -> None:
        self.program = program

    def run(self, count: int) -> None:
        """Start and wait for ``count`` processes."""
        self._start(side.SLOTS, count)

    def single(self) -> None:
        """Start and wait for one, the start of the loop itself included."""
        self._start(1, 1)

    def _start(self, loops: int, count: int) -> None:
        command = [str(self.program), str(loops), "count", str(count)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


@contextmanager
def compiled() -> Iterator[SpawnLoop]:
    """The loop, compiled into a temporary directory."""
    compiler = shutil.which("cc") or shutil.which("gcc") or os.environ.get("GLIDEBRIDGE_CC")
    if compiler is None:
        raise side.Unavailable("there is no C compiler (cc)")
    with tempfile.TemporaryDirectory(prefix="spawn-loop-") as directory:
        program = Path(directory) / "spawn_loop"
        words = [compiler, "-O2", "-Wall", "-o", str(program), str(SOURCE)]
        built = subprocess.run(words, capture_output=True, text=True)
        if built.returncode != 0:
            raise side.Unavailable(f"{compiler} does not compile it: {built.stderr.strip()}")
        yield SpawnLoop(program)


if __name__ == "__main__":
    side.main("C loop", compiled)
