"""A bridge as a process of this machine, beside a grid and a real pool, for tests that kill it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from condor.personal import LoopbackPool
from tests.system.processes import DEADLINE, ServerUnderTest, environment, until

XWBRIDGE = "import sys; from bridge.cli import main; sys.argv[0] = 'xwbridge'; main()"
CONDOR_ROUTE = """
[route {name}]
kind = condor
from = {place}
to = desktop
pool = {pool}
token = {token}
htcondor = {prefix}
slots = 50
memory_mib = 512
address = 127.0.0.1
settings = {settings}
"""
QUICK = """\
NO_DNS = True
DEFAULT_DOMAIN_NAME = glidebridge.pool
UID_DOMAIN = glidebridge.pool
NETWORK_HOSTNAME = gateway
BIND_ALL_INTERFACES = False
UPDATE_INTERVAL = 3
"""
"""What a pool on the loopback wants of its machines, and a test of a startd."""


class BridgeUnderTest:
    """A bridge with its configuration, and the command for it."""

    def __init__(self, directory: Path, configuration: str) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o755)
        (directory / "bridge.conf").write_text(configuration)
        self.variables: dict[str, str] = {}

    def run(self, *arguments: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run `xwbridge`; it ends with ``code``."""
        done = subprocess.run(
            [sys.executable, "-c", XWBRIDGE, "-d", str(self.directory), *arguments],
            env={**environment(), **self.variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=2 * DEADLINE,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        assert code is None or done.returncode == code, done.stderr + done.stdout + self.log
        return done

    @property
    def log(self) -> str:
        """What it said."""
        path = self.directory / "bridge.log"
        return path.read_text() if path.exists() else ""

    def status(self) -> dict[str, Any]:
        """What `xwbridge status` says, as a program reads it."""
        found = json.loads(self.run("status", "--format", "json", code=None).stdout)
        assert isinstance(found, dict)
        return found

    @property
    def pid(self) -> int:
        """The process that says it runs."""
        return int(json.loads((self.directory / "status.json").read_text())["pid"])

    def kill(self) -> None:
        """End it by SIGKILL."""
        os.kill(self.pid, signal.SIGKILL)
        until(lambda: self.status()["state"] == "stopped", "the bridge is dead")

    def close(self) -> None:
        """End it and its gateways, whatever state it is in."""
        if self.status()["state"] == "stopped":
            self.run("start", code=None)
        self.run("stop", code=None)


@contextmanager
def a_place() -> Iterator[Path]:
    """A directory that the account of a pool's daemons may look into."""
    name = tempfile.mkdtemp(prefix="glidebridge-bridge-")
    Path(name).chmod(0o755)
    try:
        yield Path(name)
    finally:
        shutil.rmtree(name, ignore_errors=True)


def grid_section(server: ServerUnderTest, path: Path, more: str = "") -> str:
    """``[grid desktop]`` as the administrator, whose programs are public."""
    server.identity().write(path)
    return f"[grid desktop]\nidentity = {path}\n{more}\n"


def condor_route(
    pool: LoopbackPool, directory: Path, name: str = "condor", place: str = "pool", more: str = ""
) -> str:
    """A route from a real pool."""
    settings = directory / f"{name}.settings"
    settings.write_text(QUICK)
    token = pool.token_directory("condor") / "token"
    text = CONDOR_ROUTE.format(
        name=name,
        place=place,
        pool=pool.collector_address,
        token=token,
        prefix=pool.prefix,
        settings=settings,
    )
    return f"{text}{more}\n"
