"""Ends what tasks left running: descendants that slipped away, and tasks of a killed worker.

Nothing is ended that cannot be shown to be a task's: it carries the worker's mark in its
environment, or belongs to a session that is a task's for sure, or was adopted by this process,
whose children are all tasks'.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from pilot.node import processes
from pilot.node.executor import HOST_VARIABLE, TASK_VARIABLE
from pilot.node.processes import Process
from pilot.node.storage import Running

logger = logging.getLogger(__name__)

PATIENCE = 5.0
PAUSE = 0.005


class Leftovers:
    """The adopted children of this worker, and the end of those whose task has ended.

    ``orphans`` None: this process adopts none, its children are its own business.
    """

    def __init__(self, orphans: processes.Orphans | None) -> None:
        self._orphans = orphans
        self._lock = threading.Lock()
        self._running: dict[str, int] = {}
        # Adopted processes that tell no task: those that ran when it was first seen.
        self._suspects: dict[tuple[int, int], set[str]] = {}

    def begins(self, task: str) -> None:
        """``task`` is about to be started."""
        self._running[task] = 0

    def runs(self, task: str, pid: int) -> None:
        """The leader of ``task`` is the process ``pid``."""
        self._running[task] = pid

    def ended(self, task: str) -> None:
        """The leader of ``task`` is gone; what is left of it goes now."""
        del self._running[task]
        if self._orphans is not None and (not self._orphans.is_quick or self._orphans.pids(set())):
            self.sweep(PATIENCE)

    def sweep(self, patience: float = 0.0) -> None:
        """End adopted processes of ended tasks, within ``patience`` seconds; bury the dead."""
        deadline = time.monotonic() + patience
        with self._lock:
            while self._sweep_once() and time.monotonic() < deadline:
                time.sleep(PAUSE)

    def _sweep_once(self) -> bool:
        """Whether a process was found that has to go and is not gone."""
        is_left = False
        leaders = set(self._running.values())
        if self._orphans is None or (0 in leaders and not self._orphans.is_quick):
            # In the slow list a task that is just being started would look like an orphan.
            return False
        for pid in self._orphans.pids(leaders):
            one = processes.process(pid)
            if one is None or one.is_zombie:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
                # Its own children are ours from now on.
                is_left = True
            elif not self._may_live(one, leaders):
                logger.warning("Killed process %d, which had outlived its task", pid)
                processes.send(one, signal.SIGKILL)
                is_left = True
        return is_left

    def _may_live(self, one: Process, leaders: set[int]) -> bool:
        if one.session in leaders:
            return True
        running = set(self._running)
        task = processes.environment_of(one.pid).get(TASK_VARIABLE.encode())
        if task is not None:
            return task.decode(errors="replace") in running
        suspected = self._suspects.setdefault((one.pid, one.started), running)
        return bool(suspected & running)


def end_earlier(host: str, records: Iterable[Running], slots: Path) -> int:
    """End what an earlier worker of this ``host`` left running; how many processes that were.

    Such a process carries the host's name, is in a session that is on record, descends from one of
    these, or writes its output to a file in ``slots``, the directory of tasks.
    """
    records = list(records)
    ended: set[tuple[int, int]] = set()
    deadline = time.monotonic() + PATIENCE
    while True:
        found = _of_earlier(host.encode(), records, f"{slots}/".encode())
        for one in found:
            processes.send(one, signal.SIGKILL)
            ended.add((one.pid, one.started))
        if not found or time.monotonic() > deadline:
            return len(ended)
        time.sleep(PAUSE)


def _of_earlier(host: bytes, records: list[Running], slots: bytes) -> list[Process]:
    everything = [one for one in processes.all_processes() if one.pid != os.getpid()]
    sessions = {record.pid for record in records if _is_leader_alive(record, everything)}
    found: dict[int, Process] = {}
    for one in everything:
        if one.session in sessions or _mark_of(one) == host or _writes_to(one, slots):
            found[one.pid] = one
            found.update((p.pid, p) for p in processes.descendants(one.pid, everything))
    found.pop(os.getpid(), None)
    return [one for one in found.values() if not one.is_zombie]


def _is_leader_alive(record: Running, everything: list[Process]) -> bool:
    # Start times are cut off to clock ticks, ours and the kernel's maybe not alike.
    return any(
        one.pid == record.pid and record.since - 1 <= one.started <= record.until + 1
        for one in everything
    )


def _mark_of(one: Process) -> bytes | None:
    return processes.environment_of(one.pid).get(HOST_VARIABLE.encode())


def _writes_to(one: Process, directory: bytes) -> bool:
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):
            path = os.readlink(f"{processes.PROC}/{one.pid}/fd/{descriptor}".encode())
            if path.startswith(directory):
                return True
    return False
