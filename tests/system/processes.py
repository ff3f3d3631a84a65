"""A grid as processes of this machine: a server, workers, pilots and clients that tests may kill.

Each process is what an administrator's command starts, in a directory of the test, on loopback
only. What a test starts is ended with it, and nothing else is.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy

from desktopgrid.client.grid import Grid
from desktopgrid.client.session import GridSession
from desktopgrid.link.backoff import Backoff
from desktopgrid.link.identity import Identity
from desktopgrid.link.session import Link
from desktopgrid.model.objects import new_uid
from desktopgrid.server.home import Home
from desktopgrid.wire import messages as m
from desktopgrid.wire.proof import new_secret, verifier_of

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 60.0
SERVER = "from desktopgrid.server.cli import main; main()"
IMPATIENT = Backoff(0.05, 0.5)

# A worker comes back a minute after the tenth time that its server went away, as it should; a test
# that kills the server again and again has no such time.
HASTY = """
import sys
from desktopgrid.link.backoff import Backoff
from desktopgrid.link.session import Link
Link.__init__.__kwdefaults__["backoff"] = Backoff(0.05, 0.5)
from pilot.node.cli import {main}
sys.exit({main}())
"""
SITE = """
[site local]
computing_element = local
max_pilots = 1000
max_idle = 1000
max_an_hour = 10000
"""


def until(is_so: Callable[[], Any], what: str, deadline: float = DEADLINE) -> Any:
    """What ``is_so`` gives once that is true; fails with ``what`` when it takes too long."""
    ends_at = time.monotonic() + deadline
    while not (found := is_so()):
        assert time.monotonic() < ends_at, f"not within {deadline:g} s: {what}"
        time.sleep(0.01)
    return found


def run(source: str, *arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run Python ``source`` to its end."""
    return subprocess.run(
        [sys.executable, "-c", source, *map(str, arguments)],
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        **options,
    )


def environment() -> dict[str, str]:
    """Where a process of ours finds our code, and nothing that would point it elsewhere."""
    kept = {name: value for name, value in os.environ.items() if name != "GLIDEBRIDGE_HOME"}
    return {**kept, "PYTHONPATH": os.pathsep.join((str(ROOT), *filter(None, sys.path)))}


def a_port() -> int:
    """A port of 127.0.0.1 that stays ours while nobody listens: not one that the system gives to
    whoever connects.
    """
    given = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    while True:
        port = random.randrange(10_000, int(given[0]))  # noqa: S311 - no secret
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class Process:
    """One process, and what it writes to its log."""

    def __init__(self, command: Sequence[str], log: Path, directory: Path) -> None:
        self.log = log
        with log.open("a") as output:
            self._process = subprocess.Popen(
                list(command),
                cwd=directory,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def send(self, number: int) -> None:
        """Send a signal."""
        if self.is_running:
            self._process.send_signal(number)

    def kill(self) -> None:
        """End it by SIGKILL, which it cannot prepare for."""
        self.send(signal.SIGKILL)
        self._process.wait(DEADLINE)

    def stop(self, patience: float = DEADLINE) -> int:
        """Tell it to go, and wait; its exit code."""
        self.send(signal.SIGTERM)
        return self.wait(patience)

    def wait(self, patience: float = DEADLINE) -> int:
        """Wait for its end; its exit code."""
        return self._process.wait(patience)


class ServerUnderTest:
    """A grid in a directory of its own. Its port is the same after each start, so that peers find
    the server again.
    """

    def __init__(
        self,
        directory: Path,
        wrapper: Sequence[str] = (),
        source: str = SERVER,
        database: str = "",
        **settings: str,
    ) -> None:
        """``settings`` stand under [server], or with a name like limits__max_works elsewhere.
        ``wrapper`` is a command that each server is started by, ``source`` what it runs,
        ``database`` the URL of an empty database. A grid that lies there already, as
        ``directory``/grid, is served on a port of its own.
        """
        self.directory, self.wrapper = directory, tuple(wrapper)
        self.place = directory / "grid"
        self.port = a_port()
        if not self.place.exists():
            named = [f"--database={database}"] if database else []
            options = ["--address=127.0.0.1", "--name=127.0.0.1", "--port=0", *named]
            done = run(SERVER, "init", self.place, *options)
            assert done.returncode == 0, done.stderr
            settings = {"alive_period": "1 s", "limits__min_free_mib": "0", **settings}
            (self.place / "sites.d" / "local.conf").write_text(SITE)
        self.configure(port=str(self.port), **settings)
        self.home = Home.open(self.place)
        self.source = source
        self._process: Process | None = None
        self._started: list[Process] = []
        self._grids: list[Grid] = []
        self._workers = 0

    def configure(self, **settings: str) -> None:
        """Set keys of server.conf."""
        path = self.place / "server.conf"
        text = path.read_text()
        for name, value in settings.items():
            section, _, key = name.rpartition("__")
            heading = f"[{section or 'server'}]\n"
            assert heading in text
            text = re.sub(rf"^{key} = .*\n", "", text, flags=re.M)
            text = text.replace(heading, f"{heading}\n{key} = {value}\n", 1)
        path.write_text(text)

    # The server.

    @property
    def process(self) -> Process:
        """The server that was started last."""
        assert self._process is not None
        return self._process

    def start(self) -> None:
        """Start the server, and wait until it serves."""
        self.launch()
        until(self._has_come_up, "the server serves")

    def launch(self) -> Process:
        """Start the server."""
        self.home.address_file.unlink(missing_ok=True)
        command = [sys.executable, "-c", self.source, "--directory", str(self.place), "console"]
        self._process = self._start([*self.wrapper, *command], self.directory / "server.log")
        return self._process

    def kill(self) -> None:
        """End the server by SIGKILL."""
        self.process.kill()

    def stop(self) -> None:
        """Tell the server to stop; it does so in good order."""
        assert self.process.stop() == 0, self.log[-2000:]

    def status(self) -> bool:
        """Whether it says that it serves."""
        trust = ssl.create_default_context(cafile=str(self.home.ca_certificate))
        https = urllib.request.HTTPSHandler(context=trust)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), https)
        try:
            with opener.open(f"{self.address}/v1/status", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def _has_come_up(self) -> bool:
        assert self.process.is_running, self.log[-2000:]
        return self.seen(self.home.address_file).exists()

    def seen(self, path: Path) -> Path:
        """Where we find what the server calls ``path``."""
        return path

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """What all its servers said."""
        return (self.directory / "server.log").read_text()

    # Its peers.

    def identity(self, path: Path | None = None) -> Identity:
        """The administrator's identity, or that in a file."""
        return replace(Identity.read(path or self.home.admin_identity), servers=(self.address,))

    def client(self, identity: Identity | None = None, **options: Any) -> Grid:
        """A client that comes back quickly; it ends with the grid."""
        connect = partial(Link, backoff=IMPATIENT)
        grid = Grid(GridSession(identity or self.identity(), connect, **options))
        self._grids.append(grid)
        grid.session.open()
        return grid

    def worker(
        self, name: str, slots: int = 2, identity: Path | None = None, settings: str = ""
    ) -> Process:
        """A worker in its directory ``name``, which an earlier one may have left; ``settings`` are
        its configuration.
        """
        if identity is None:
            identity = self.directory / f"{name}.identity"
            self.identity(self.home.worker_identity).write(identity)
        (self.directory / f"{name}.conf").write_text(settings)
        return self._start(
            [
                *(sys.executable, "-c", HASTY.format(main="main"), "console"),
                *("--identity", str(identity)),
                *("--dir", str(self.directory / name), "--slots", str(slots)),
                *("--config", str(self.directory / f"{name}.conf")),
            ],
            self.directory / f"{name}.log",
        )

    def pilot(self, grid: Grid, delegation: str | None = None, site: str = "local") -> Process:
        """A new pilot at the site `local`, recorded through ``grid`` and started here."""
        stamp, secret = new_uid(), new_secret()
        asked = m.SubmitPilots(site, {stamp: verifier_of(secret)}, delegation=delegation)
        grid.session.ask(asked)
        directory = self.directory / "pilots" / stamp
        directory.mkdir(parents=True)
        admin = self.identity()
        enrolment = directory / "pilot.identity"
        Identity(admin.servers, "pilot", stamp, secret, admin.ca).write(enrolment)
        return self._start(
            [
                *(sys.executable, "-c", HASTY.format(main="pilot_main")),
                *("--identity", str(enrolment), "--dir", str(directory / "work")),
                *("--slots", "1", "--idle", "600", "--kind", "local"),
            ],
            directory / "err",
        )

    def _start(self, command: Sequence[str], log: Path) -> Process:
        process = Process(command, log, self.directory)
        self._started.append(process)
        return process

    def close(self) -> None:
        """End everything that was started."""
        for grid in self._grids:
            # No server may be there to take leave of.
            grid.session._link.close(0.2)
        peers = [process for process in self._started if process is not self._process]
        for process in peers:
            process.send(signal.SIGTERM)
        # They take leave of a server that is still there.
        for process in peers:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5.0)
            process.kill()
        if self._process is not None:
            self._process.kill()

    # What it has on disk.

    def rows(self, question: str, *values: Any) -> list[tuple[Any, ...]]:
        """What the database answers; the server may have it open."""
        if self.home.config.database.url:
            return _asked(self.home.database_url, question, values)
        database = self.seen(self.home.database)
        connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)
        try:
            return connection.execute(question, values).fetchall()
        finally:
            connection.close()


def _asked(url: str, question: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    engine = sqlalchemy.create_engine(url)
    try:
        with engine.connect() as connection:
            found = connection.exec_driver_sql(question.replace("?", "%s"), values or None)
            return [tuple(row) for row in found]
    finally:
        engine.dispose()


@contextlib.contextmanager
def a_grid(directory: Path, **options: Any) -> Iterator[ServerUnderTest]:
    """A new grid with a server that serves, ended afterwards."""
    grid = ServerUnderTest(directory, **options)
    try:
        grid.start()
        yield grid
    finally:
        grid.close()
