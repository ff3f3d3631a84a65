"""The directory of a bridge: what lies where, who keeps it, and how the daemon is started, found
and stopped.

Whether a bridge runs is told by the lock on its directory, which no crash leaves behind.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.config import FILE
from desktopgrid.model.errors import AlreadyThere, Unavailable

LOCK_ATTEMPTS, LOCK_PAUSE = 10, 0.02
READY = b"ready\n"
STALE = 30.0
"""Seconds after which a bridge that has said nothing of itself is not well."""
STOPPED, RUNNING, TROUBLED = "stopped", "running", "troubled"


@dataclass(frozen=True)
class Home:
    """Where a bridge keeps its things."""

    directory: Path

    @property
    def configuration(self) -> Path:
        """Its configuration file."""
        return self.directory / FILE

    @property
    def log(self) -> Path:
        """What it says when it runs in the background."""
        return self.directory / "bridge.log"

    @property
    def status_file(self) -> Path:
        """What it says of itself now and then."""
        return self.directory / "status.json"

    @property
    def on_the_way(self) -> Path:
        """Where files lie on their way."""
        return self.directory / "on-the-way"

    def of_route(self, name: str) -> Path:
        """What belongs to one route."""
        return self.directory / "routes" / name

    # Who keeps it

    def lock(self) -> int:
        """The right to keep it, until the process ends; raises Unavailable."""
        descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        # Who only asks whether it is held has it for a moment.
        for _ in range(LOCK_ATTEMPTS):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return descriptor
            except OSError:
                time.sleep(LOCK_PAUSE)
        os.close(descriptor)
        raise Unavailable(f"another process keeps the bridge in {self.directory}")

    def pid(self) -> int | None:
        """The process that keeps it; 0 if it does not say, None if there is none."""
        descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return None
        except OSError:
            return int(self.said().get("pid", 0))
        finally:
            os.close(descriptor)

    def said(self) -> dict[str, Any]:
        """What the bridge that runs, or that ran last, said of itself."""
        try:
            found = json.loads(self.status_file.read_text())
            return found if isinstance(found, dict) else {}
        except (OSError, ValueError):
            return {}

    def say(self, facts: Mapping[str, Any]) -> None:
        """Say this of oneself."""
        partial = self.status_file.with_suffix(".part")
        partial.write_text(json.dumps(facts, indent=1) + "\n")
        partial.replace(self.status_file)

    def status(self, now: float) -> dict[str, Any]:
        """How the bridge does: ``state``, and what it said of itself."""
        pid = self.pid()
        if pid is None:
            return {"state": STOPPED, "directory": str(self.directory)}
        said = self.said()
        is_fresh = now - float(said.get("said_at", 0)) < STALE
        state = RUNNING if is_fresh and not said.get("trouble") else TROUBLED
        reason = {} if is_fresh else {"trouble": "it has said nothing of itself for a while"}
        return {"state": state, "directory": str(self.directory), **said, **reason}


def start(home: Home, patience: float) -> int:
    """Start the bridge in the background, and wait until its routes are; gives its process.

    Raises AlreadyThere if one runs, Unavailable with what it said last if it did not come up.
    """
    pid = home.pid()
    if pid is not None:
        raise AlreadyThere(f"the bridge in {home.directory} runs already, as process {pid or '?'}")
    reading, writing = os.pipe()
    home.log.touch(mode=0o600)
    said_before = home.log.stat().st_size
    command = [sys.executable, "-m", "bridge.cli", "--directory", str(home.directory)]
    with home.log.open("ab") as log:
        process = subprocess.Popen(
            [*command, "console", "--ready-to", str(writing)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[writing],
            start_new_session=True,
            cwd="/",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
    os.close(writing)
    try:
        is_there = bool(select.select([reading], [], [], patience)[0])
        said = os.read(reading, len(READY)) if is_there else None
    finally:
        os.close(reading)
    if said is None:
        raise Unavailable(
            f"process {process.pid} did not come up within {patience:.0f} s: see {home.log}"
        )
    if said != READY:
        process.wait()
        with home.log.open("rb") as file:
            file.seek(said_before)
            lines = file.read().decode(errors="replace").splitlines()
        last = lines[-1].removeprefix("xwbridge: ") if lines else "it said nothing"
        raise Unavailable(f"the bridge did not start: {last}")
    # It lives on without us.
    process.returncode = 0
    return process.pid


def stop(home: Home, patience: float, number: int = signal.SIGTERM) -> bool:
    """Tell the bridge to stop, and wait; False if there was none. Raises Unavailable."""
    pid = home.pid()
    if pid is None:
        return False
    if not pid:
        raise Unavailable(f"who keeps {home.directory} does not say who it is")
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        signal.pidfd_send_signal(process, number)
        poll = select.poll()
        poll.register(process, select.POLLIN)
        if not poll.poll(patience * 1000):
            raise Unavailable(
                f"process {pid} still runs {patience:.0f} s after it was told to stop; no job is"
                f" lost or doubled if you `kill -9 {pid}`"
            )
    except ProcessLookupError:
        return True
    except PermissionError as error:
        raise Unavailable(f"process {pid} is another user's") from error
    finally:
        os.close(process)
    return True
