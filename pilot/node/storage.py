"""A worker's directory: its lock, the host's UID, and records of the tasks that run.

    lock      held while a worker runs here; says its process number
    host      the UID by which the server knows this host
    running   one record a slot: the process group that runs there
    cache/    datas (cache.py)
    slots/N/  the directories of the task in slot N (sandbox.py)

Results are not kept here: the outputs of a task are uploaded before it is said to be finished, and
the rest waits in memory for its acknowledgement. A worker that dies before that has promised
nothing; the server gives its tasks to others.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

from desktopgrid.model.objects import new_uid
from pilot.node.errors import CouldNotRun, DirectoryInUse

RECORD_SIZE = 256


@dataclass(frozen=True)
class Running:
    """A process group that was started for a task: its leader, and between which clock ticks."""

    task: str
    pid: int
    since: int
    until: int


class WorkerDirectory:
    """The directory of one worker, locked as long as this lives."""

    def __init__(self, path: Path) -> None:
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            _refuse_others(path)
            self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CouldNotRun(f"{path} cannot be used: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise DirectoryInUse(f"another worker uses {path}, process {owner_of(path)}") from None
        # As /proc shows where processes write.
        self.path = path.resolve()
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, b"%d\n" % os.getpid(), 0)
        self._records = os.open(path / "running", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.boot = _boot()
        self.host = self._host()

    def __repr__(self) -> str:
        return f"<WorkerDirectory {self.path} of host {self.host}>"

    @property
    def cache(self) -> Path:
        """Where datas are kept."""
        return self.path / "cache"

    @property
    def slots(self) -> Path:
        """Where the slots have their directories."""
        return self.path / "slots"

    def record(self, slot: int, task: str, pid: int, since: int, until: int) -> None:
        """Remember what runs in ``slot``, should this process be killed.

        Nothing is erased when it has ended: no other process can have its number *and* its time.
        """
        # Without a record the task is still known by its environment: a full disk does not matter.
        text = f"{pid} {since} {until} {self.boot} {task}\n".encode()[:RECORD_SIZE]
        with contextlib.suppress(OSError):
            os.pwrite(self._records, text.ljust(RECORD_SIZE), slot * RECORD_SIZE)

    def left_running(self) -> list[Running]:
        """What an earlier worker had recorded in this boot of the host."""
        text = os.pread(self._records, os.fstat(self._records).st_size, 0)
        found = []
        for start in range(0, len(text), RECORD_SIZE):
            words = text[start : start + RECORD_SIZE].decode(errors="replace").split()
            # Others are empty, or of a boot that ended their processes.
            if len(words) == 5 and words[3] == self.boot:
                pid, since, until = (int(word) for word in words[:3])
                found.append(Running(words[4], pid, since, until))
        return found

    def forget_running(self) -> None:
        """What an earlier worker had recorded is dealt with."""
        os.ftruncate(self._records, 0)

    def close(self) -> None:
        """Let another worker have the directory."""
        os.close(self._records)
        os.close(self._lock)

    def _host(self) -> str:
        path = self.path / "host"
        if path.exists():
            uid = path.read_text().strip()
            if uid:
                return uid
        uid = new_uid()
        new = self.path / "host.new"
        new.write_text(uid + "\n")
        os.replace(new, path)
        return uid


def _refuse_others(path: Path) -> None:
    """Raise CouldNotRun if another user may change what is in ``path``: it may lie in /tmp, where
    anybody could have made it, and holds secrets and programs.
    """
    status = path.stat()
    if status.st_uid != os.geteuid():
        raise CouldNotRun(f"{path} cannot be used: it belongs to another user")
    if status.st_mode & 0o002:
        raise CouldNotRun(f"{path} cannot be used: everybody can write to it; chmod o-w it")


def owner_of(path: Path) -> int | None:
    """The process number of the worker that uses the directory ``path``, or None."""
    try:
        descriptor = os.open(path / "lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        text = os.pread(descriptor, 32, 0).strip()
        return int(text) if text.isdigit() else None
    finally:
        os.close(descriptor)
    return None


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
