"""Our own grid for a benchmark: a server and, if asked for, a worker, as processes in a directory.

Made by the same commands that an administrator types, with the defaults of a new grid but for the
port: SQLite with synchronous=FULL, TLS, every request checked.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.disk import scratch
from bench.sides import TREE, kill
from desktopgrid.link.identity import Identity

SERVER_COMMAND, WORKER_COMMAND = "desktopgrid.server.cli", "pilot.node.cli"
LOOPBACK = ("--address", "127.0.0.1", "--port", "0")
TIME_TO_SERVE, TIME_TO_STOP = 120.0, 60.0
TIME_FOR_A_SCENARIO = 900.0


class NotMeasured(Exception):
    """A figure cannot be measured here and now; the text says why."""


def command(module: str, *words: str) -> list[str]:
    """The command line of one of our commands, in this tree and this interpreter."""
    return [
        sys.executable,
        "-c",
        f"import sys; from {module} import main; sys.exit(main())",
        *words,
    ]


class Server:
    """A grid's directory and the server process that has it open."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.home = directory / "grid"
        self.client, self.worker = self.home / "admin.identity", self.home / "worker.identity"
        self._process: subprocess.Popen[str] | None = None

    @classmethod
    @contextmanager
    def fresh(cls) -> Iterator[Server]:
        """A new grid with a server that serves, gone afterwards."""
        with scratch("grid") as directory:
            server = cls(directory)
            server.make()
            server.start()
            try:
                yield server
            finally:
                server.kill()

    @property
    def pid(self) -> int:
        """The server's process."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> Path:
        """What the server said."""
        return self.directory / "server.out"

    def make(self) -> None:
        """Make the grid; raises NotMeasured with what `xwserver init` says."""
        words = command(SERVER_COMMAND, "init", str(self.home), *LOOPBACK)
        made = subprocess.run(words, cwd=TREE, capture_output=True, text=True)
        if made.returncode != 0:
            raise NotMeasured(f"xwserver init failed: {_last_line(made.stderr)}")

    def start(self) -> float:
        """Start the server; the seconds until it serves."""
        (self.home / "address").unlink(missing_ok=True)
        started = time.perf_counter()
        words = command(SERVER_COMMAND, "--directory", str(self.home), "console")
        self._process = self._start(words, self.log)
        deadline = started + TIME_TO_SERVE
        while not self._is_reachable():
            if self._process.poll() is not None:
                raise NotMeasured(f"the server ended: {_last_line(self.log.read_text())}")
            if time.perf_counter() > deadline:
                raise NotMeasured(f"the server did not serve within {TIME_TO_SERVE:g} s")
            time.sleep(0.01)
        return time.perf_counter() - started

    def _is_reachable(self) -> bool:
        """Whether the server serves, and the identity files say where."""
        try:
            address = (self.home / "address").read_text().strip()
        except FileNotFoundError:
            return False
        return all(Identity.read(path).servers == (address,) for path in (self.client, self.worker))

    def kill(self) -> None:
        """End the server by SIGKILL, and what it started."""
        if self._process is not None and self._process.poll() is None:
            kill(self._process)

    @contextmanager
    def with_worker(self, slots: int) -> Iterator[None]:
        """Inside, one real worker with ``slots`` slots runs."""
        words = ["console", "--identity", str(self.worker), "--slots", str(slots)]
        words += ["--dir", str(self.directory / "worker")]
        worker = self._start(command(WORKER_COMMAND, *words), self.directory / "worker.out")
        try:
            yield
        finally:
            kill(worker)

    def _start(self, words: list[str], log: Path) -> subprocess.Popen[str]:
        with log.open("a") as output:
            return subprocess.Popen(
                words, cwd=TREE, stdin=subprocess.DEVNULL, stdout=output, stderr=output, text=True
            )


def load_on(server: Server, scenario: str, **options: Any) -> dict[str, Any]:
    """What a scenario of load.py found; raises NotMeasured if it fails."""
    words = [sys.executable, str(TREE / "bench" / "load.py")]
    words += ["--worker", str(server.worker), "--client", str(server.client)]
    words += ["--server", str(server.pid), scenario]
    words += [f"--{name}={value}" for name, value in options.items()]
    try:
        done = subprocess.run(
            words, cwd=TREE, capture_output=True, text=True, timeout=TIME_FOR_A_SCENARIO
        )
    except subprocess.TimeoutExpired:
        raise NotMeasured(f"{scenario} did not end in {TIME_FOR_A_SCENARIO:g} s") from None
    if done.returncode != 0:
        raise NotMeasured(f"{scenario} failed: {_last_line(done.stderr)}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1]
