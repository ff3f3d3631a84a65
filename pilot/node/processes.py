"""The host's processes as /proc shows them, and how to end one without ever hitting another.

A process is known by its number *and* its start time: numbers are used again. Linux only.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from dataclasses import dataclass

PR_SET_CHILD_SUBREAPER = 36
CLOCK_TICK = os.sysconf("SC_CLK_TCK")
PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024
PROC = "/proc"


@dataclass(frozen=True)
class Process:
    """One process. ``started`` is in clock ticks since the host's boot."""

    pid: int
    parent: int
    group: int
    session: int
    started: int
    resident_kib: int
    is_zombie: bool


def process(pid: int) -> Process | None:
    """The process ``pid``, or None if there is none."""
    try:
        with open(f"{PROC}/{pid}/stat", "rb") as file:
            text = file.read()
    except OSError:
        return None
    # The name in parentheses may hold anything, parentheses and spaces included.
    fields = text[text.rindex(b")") + 2 :].split()
    return Process(
        pid=pid,
        parent=int(fields[1]),
        group=int(fields[2]),
        session=int(fields[3]),
        started=int(fields[19]),
        resident_kib=int(fields[21]) * PAGE_KIB,
        is_zombie=fields[0] in (b"Z", b"X"),
    )


def all_processes() -> list[Process]:
    """Every process that the host shows us."""
    found = (process(int(name)) for name in os.listdir(PROC) if name.isdigit())
    return [one for one in found if one is not None]


def environment_of(pid: int) -> dict[bytes, bytes]:
    """The environment that a process was started with; empty if it is gone or not ours to read."""
    try:
        with open(f"{PROC}/{pid}/environ", "rb") as file:
            text = file.read()
    except OSError:
        return {}
    return dict(entry.partition(b"=")[::2] for entry in text.split(b"\0") if b"=" in entry)


def proportional_kib(pid: int) -> int | None:
    """Memory of a process, shared pages in proportion; None where the kernel does not tell."""
    try:
        with open(f"{PROC}/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1])
    except OSError:
        pass
    return None


def descendants(of: int, among: list[Process]) -> list[Process]:
    """The children of process ``of``, their children and so on."""
    children: dict[int, list[Process]] = {}
    for one in among:
        children.setdefault(one.parent, []).append(one)
    found: list[Process] = []
    todo = [of]
    while todo:
        born = children.get(todo.pop(), [])
        found += born
        todo += [one.pid for one in born]
    return found


def send(one: Process, number: int) -> bool:
    """Send a signal to ``one``, and to no other that got its number. Whether it was there."""
    try:
        handle = os.pidfd_open(one.pid)
    except (OSError, AttributeError):
        return _send_by_number(one, number)
    try:
        # The handle holds on to whatever has the number now; if that is ``one``, it cannot be
        # mistaken any more.
        if not _is_same(one):
            return False
        signal.pidfd_send_signal(handle, number)
        return True
    except OSError:
        return False
    finally:
        os.close(handle)


def _send_by_number(one: Process, number: int) -> bool:
    if not _is_same(one):
        return False
    try:
        os.kill(one.pid, number)
        return True
    except OSError:
        return False


def _is_same(one: Process) -> bool:
    now = process(one.pid)
    return now is not None and now.started == one.started and not now.is_zombie


def ticks_since_boot() -> int:
    """Now, in the unit and from the start of ``Process.started``."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * CLOCK_TICK)


def adopt_orphans() -> bool:
    """Make this process the parent of all orphans among its descendants. Whether it is so."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None, use_errno=True)
        return bool(libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)
    return False


def keep_descriptors() -> None:
    """Keep the descriptors that this process inherited from its children; Python's own are."""
    for name in os.listdir(f"{PROC}/self/fd"):
        if int(name) > 2:
            # One of them was that of the listing itself.
            with contextlib.suppress(OSError):
                os.set_inheritable(int(name), False)


class Orphans:
    """The children that this process has adopted: descendants of tasks whose parents have ended.

    The kernel gives them to the main thread; tasks are started by other threads. So what the main
    thread has for children are orphans, and one read shows them.
    """

    def __init__(self) -> None:
        pid = os.getpid()
        self._file: int | None = None
        with contextlib.suppress(OSError):
            self._file = os.open(f"{PROC}/{pid}/task/{pid}/children", os.O_RDONLY)

    @property
    def is_quick(self) -> bool:
        """Whether the kernel has the list ready; if not, ``pids`` reads all of /proc."""
        return self._file is not None

    def pids(self, but: set[int]) -> list[int]:
        """The adopted children, zombies included. ``but``: children that were not adopted."""
        if self._file is None:
            me = os.getpid()
            found = [one.pid for one in all_processes() if one.parent == me]
        else:
            found = [int(pid) for pid in os.pread(self._file, 1 << 16, 0).split()]
        return [pid for pid in found if pid not in but] if found else found

    def close(self) -> None:
        """Read no more."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
