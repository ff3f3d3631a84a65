"""One task as a process group: started with a clean environment, watched, stopped, reaped.

The slot's thread calls ``start``, ``wait`` and ``output``; any thread may ``send`` a signal or take
a ``sample``. No process of a task outlives it: the group is killed before its leader is reaped, so
that its number cannot be somebody else's by then, and what left the group or the session is the
business of leftovers.py.
"""

from __future__ import annotations

import contextlib
import functools
import os
import resource
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from desktopgrid.wire.messages import MAX_INLINE
from pilot.node import processes
from pilot.node.errors import CouldNotRun
from pilot.node.sandbox import Sandbox
from pilot.node.spawning import spawn

TASK_VARIABLE = "GLIDEBRIDGE_TASK"
WORK_VARIABLE = "GLIDEBRIDGE_WORK"
HOST_VARIABLE = "GLIDEBRIDGE_HOST"
"""By these a process shows whose it is, whatever it did to its parent, group and session."""
LAUNCH_VARIABLE = "GLIDEBRIDGE_LAUNCH"

DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"
# What a program may ask for at once, as a multiple of its limit: a stop for one that grows faster
# than it is sampled.
DATA_FACTOR = 2

_IF_THERE = contextlib.suppress(ProcessLookupError, PermissionError)


class Program(NamedTuple):
    """What to start: ``arguments`` begin with its own name. Limits where they are not 0."""

    task: str
    work: str
    executable: Path
    arguments: tuple[str, ...]
    stdin: Path | None = None
    variables: tuple[tuple[str, str], ...] = ()
    memory_mib: int = 0
    disk_mib: int = 0
    launch: str = ""
    """What its launcher is told, if something else starts it."""


class Exit(NamedTuple):
    """How a program ended: ``code`` is negative for a signal. ``usage``: wall, user and system
    seconds, peak memory in KiB."""

    code: int
    usage: tuple[float, float, float, int]


def environment_in(sandbox: Sandbox, host: str) -> dict[str, str]:
    """What all tasks of ``host`` find in their environment in ``sandbox``, and nothing of ours."""
    return {
        "PATH": os.environ.get("PATH", DEFAULT_PATH),
        "HOME": str(sandbox.work),
        "TMPDIR": str(sandbox.tmp),
        HOST_VARIABLE: host,
    }


class Execution:
    """A program in a sandbox, from its start to its end."""

    def __init__(self, program: Program, sandbox: Sandbox, environment: Mapping[str, str]) -> None:
        self.program = program
        self.sandbox = sandbox
        self._basis = environment
        self.pid: int | None = None
        self._lock = threading.Lock()
        self._is_reaped = False
        self._pending: int | None = None
        self._started = 0.0
        self._peak_kib = 0

    def __repr__(self) -> str:
        return f"<Execution of {self.program.task}, process {self.pid}>"

    @property
    def is_limited(self) -> bool:
        """Whether what it uses is to be watched."""
        return bool(self.program.memory_mib or self.program.disk_mib)

    def start(self) -> int:
        """Start the program, and give back its process number; raises CouldNotRun."""
        self._started = time.monotonic()
        try:
            if self.program.stdin is None:
                pid = self._spawn(_nothing())
            else:
                with open(self.program.stdin, "rb") as stdin:
                    pid = self._spawn(stdin.fileno())
        except (OSError, ValueError) as error:
            raise CouldNotRun(
                f"{self.program.arguments[0]} could not be started: {error}"
            ) from error
        if self.is_limited:
            self._limit(pid)
        with self._lock:
            self.pid = pid
            if self._pending is not None:
                self._send(self._pending)
        return pid

    def wait(self) -> Exit:
        """Wait for the program's end, kill what is left of its group, and say how it ended."""
        pid = self.pid
        assert pid is not None  # noqa: S101  it was started
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        with self._lock:
            with _IF_THERE:
                os.killpg(pid, signal.SIGKILL)
            _, status, usage = os.wait4(pid, 0)
            self._is_reaped = True
        wall = time.monotonic() - self._started
        peak = max(self._peak_kib, _without_ours(usage.ru_maxrss))
        code = os.waitstatus_to_exitcode(status)
        return Exit(code, (round(wall, 6), usage.ru_utime, usage.ru_stime, peak))

    def send(self, number: int) -> None:
        """Send a signal to all processes of the task, as soon as it is started."""
        with self._lock:
            if self.pid is None:
                self._pending = number
            elif not self._is_reaped:
                self._send(number)

    def suspend(self) -> None:
        """Stop all processes of the task from computing."""
        self.send(signal.SIGSTOP)

    def resume(self) -> None:
        """Let suspended processes go on."""
        self.send(signal.SIGCONT)

    def sample(self) -> tuple[int, int]:
        """Memory and disk that the task uses now, in MiB."""
        if self.pid is None or self._is_reaped:
            return 0, 0
        disk = self.sandbox.used_mib() if self.program.disk_mib else 0
        members = self.members()
        memory = sum(one.resident_kib for one in members)
        if self.program.memory_mib and memory >> 10 > self.program.memory_mib:
            # Pages that processes share were counted once for each; ask again, exactly.
            exact = [processes.proportional_kib(one.pid) for one in members]
            memory = sum(
                one.resident_kib if kib is None else kib for one, kib in zip(members, exact)
            )
        self._peak_kib = max(self._peak_kib, memory)
        return memory >> 10, disk

    def members(self) -> list[processes.Process]:
        """The processes of its session, their descendants, and those that carry its name."""
        pid = self.pid
        if pid is None:
            return []
        everything = processes.all_processes()
        found = {one.pid: one for one in everything if one.session == pid}
        found.update((one.pid, one) for one in processes.descendants(pid, everything))
        name = self.program.task.encode()
        me = os.getpid()
        for one in everything:
            if one.parent == me and one.pid not in found:
                environment = processes.environment_of(one.pid)
                if environment.get(TASK_VARIABLE.encode()) == name:
                    found[one.pid] = one
                    found.update((p.pid, p) for p in processes.descendants(one.pid, everything))
        return [one for one in found.values() if not one.is_zombie]

    def output(self) -> tuple[bytes, bytes, list[tuple[str, Path, int]]]:
        """Standard output and error: as much as travels in a message, and those that are longer
        than that, as name, path and size."""
        heads, long = [], []
        for name, descriptor in (("stdout", self.sandbox.stdout), ("stderr", self.sandbox.stderr)):
            size = os.fstat(descriptor).st_size
            heads.append(os.pread(descriptor, MAX_INLINE, 0) if size else b"")
            if size > MAX_INLINE:
                long.append((name, Path(f"/proc/self/fd/{descriptor}"), size))
        return heads[0], heads[1], long

    def _spawn(self, stdin: int) -> int:
        program, box = self.program, self.sandbox
        files = (stdin, box.stdout, box.stderr)
        return spawn(program.executable, program.arguments, self._environment(), box.work, files)

    def _environment(self) -> dict[str, str]:
        program = self.program
        environment = dict(self._basis)
        environment.update(program.variables)
        environment[HOST_VARIABLE] = self._basis[HOST_VARIABLE]
        environment[TASK_VARIABLE] = program.task
        environment[WORK_VARIABLE] = program.work
        if program.launch:
            environment[LAUNCH_VARIABLE] = program.launch
        return environment

    def _limit(self, pid: int) -> None:
        disk, memory = self.program.disk_mib << 20, self.program.memory_mib * DATA_FACTOR << 20
        with contextlib.suppress(OSError, ValueError):
            if disk:
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (disk, disk))
            if memory:
                resource.prlimit(pid, resource.RLIMIT_DATA, (memory, memory))
                # If the host runs out of memory all the same, this task is to blame, not the
                # worker.
                with open(f"/proc/{pid}/oom_score_adj", "w") as file:
                    file.write("500")

    def _send(self, number: int) -> None:
        pid = self.pid
        assert pid is not None  # noqa: S101  callers have seen to it
        # Before the leader is hit: with it goes the trace of those who left its session.
        members = self.members()
        with _IF_THERE:
            os.killpg(pid, number)
        for one in members:
            if one.group != pid:
                processes.send(one, number)
        if number == signal.SIGTERM:
            # One that is suspended could not obey.
            with _IF_THERE:
                os.killpg(pid, signal.SIGCONT)


def _without_ours(kib: int) -> int:
    """The peak memory ``kib`` of a process, or 0 where it is our own.

    A process starts its life with the peak of the one that spawned it: below that the kernel's
    figure says nothing about it.
    """
    if kib <= _own_peak():
        return 0
    _own_peak.cache_clear()  # we may have grown
    return kib if kib > _own_peak() else 0


@functools.lru_cache(maxsize=1)
def _own_peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@functools.lru_cache(maxsize=1)
def _nothing() -> int:
    """A descriptor of nothing to read, kept open."""
    return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
