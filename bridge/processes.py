"""Programs that the bridge keeps running and that outlive it: found again by number and start."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

PAUSE = 0.02


class Child:
    """A program that was started here, by this bridge or by one before it."""

    def __init__(self, name: str, file: Path) -> None:
        self.name, self.file = name, file
        self._process: subprocess.Popen[bytes] | None = None

    def pid(self) -> int | None:
        """Its number, if it lives."""
        if self._process is not None:
            self._process.poll()  # or a dead one stays there as a zombie
        try:
            pid, started_at = self.file.read_text().split()
        except (OSError, ValueError):
            return None
        return int(pid) if _started_at(int(pid)) == started_at else None

    def start(self, command: Sequence[str], **options: Any) -> None:
        """Start it; raises OSError."""
        self._process = subprocess.Popen(list(command), **options)
        partial = self.file.with_suffix(".part")
        partial.write_text(f"{self._process.pid} {_started_at(self._process.pid)}\n")
        partial.replace(self.file)

    def stop(self, number: int, patience: float) -> None:
        """End it by a signal, and whatever it started; by SIGKILL what is left after a while."""
        pid = self.pid()
        if pid is None:
            return
        family = {member: _started_at(member) for member in [pid, *_descendants(pid)]}
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        if not self._wait({pid: family[pid]}, patience):
            family |= {member: _started_at(member) for member in _descendants(pid)}
        for member, started_at in family.items():
            if started_at is not None and _started_at(member) == started_at:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(member, signal.SIGKILL)
        self._wait(family, patience)
        self.file.unlink(missing_ok=True)

    def _wait(self, processes: dict[int, str | None], patience: float) -> bool:
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if self._process is not None:
                self._process.poll()
            if not any(when and _started_at(pid) == when for pid, when in processes.items()):
                return True
            time.sleep(PAUSE)
        return False


def _started_at(pid: int) -> str | None:
    """When a living process started, which tells it from a later one of the same number."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    state, started_at = fields[0], fields[19]
    return None if state in "ZX" else started_at


def _descendants(pid: int) -> Iterator[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in map(int, children):
        yield child
        yield from _descendants(child)
