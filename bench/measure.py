"""What the benchmarks read from the machine: times, shares of a processor, memory, the disk.

Standard library only, so that a peer's own environment can use it. It measures and keeps no goal.
"""

from __future__ import annotations

import math
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path

PROC = Path("/proc")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
BLOCK_BYTES = 4096
# In /proc/PID/stat, counted from the field behind the command's name (proc(5)).
PARENT_FIELD, USER_TIME_FIELD, LAST_TIME_FIELD = 1, 11, 14


def median(values: Iterable[float]) -> float:
    """The middle value; raises ValueError for none."""
    return statistics.median(values)


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value that at least ``share`` per cent of ``values`` do not exceed."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values to take a percentile of")
    return ordered[max(0, math.ceil(len(ordered) * share / 100) - 1)]


def load() -> float:
    """Processes that ran or wanted to run, averaged by the kernel over the last minute."""
    return os.getloadavg()[0]


def timed(act: Callable[[], object]) -> float:
    """Seconds that ``act`` took."""
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def fdatasync_p50(directory: Path, count: int = 200) -> float:
    """Median seconds to append a block to a file in ``directory`` and see it on the disk."""
    path = directory / f"fdatasync-probe-{os.getpid()}"
    block = os.urandom(BLOCK_BYTES)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
    try:

        def append() -> None:
            os.write(descriptor, block)
            os.fdatasync(descriptor)

        return median(timed(append) for _ in range(count))
    finally:
        os.close(descriptor)
        path.unlink()


def _stat(pid: int) -> list[str]:
    # The command's name stands in parentheses and may contain blanks and parentheses itself.
    return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


def descendants(pid: int) -> list[int]:
    """The living processes below ``pid``, without itself."""
    children: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                parent = int(_stat(int(entry.name))[PARENT_FIELD])
            except (FileNotFoundError, ProcessLookupError):
                continue  # It ended while we looked.
            children.setdefault(parent, []).append(int(entry.name))
    found: list[int] = []
    ahead = [pid]
    while ahead:
        below = children.get(ahead.pop(), [])
        found += below
        ahead += below
    return found


def cpu_seconds(pid: int) -> float:
    """Processor time of ``pid`` and of those of its children that it has waited for."""
    fields = _stat(pid)[USER_TIME_FIELD : LAST_TIME_FIELD + 1]
    return sum(map(int, fields)) / TICKS_PER_SECOND


def tree_cpu_seconds(pid: int) -> float:
    """Processor time of ``pid`` and of everything below it, living or waited for."""
    total = 0.0
    for member in (pid, *descendants(pid)):
        try:
            total += cpu_seconds(member)
        except (FileNotFoundError, ProcessLookupError):
            continue  # It ended; its time is in its parent's sum as soon as that has waited.
    return total


def resident_bytes(pid: int) -> int:
    """Memory of ``pid`` that is in RAM, shared pages included."""
    return int((PROC / str(pid) / "statm").read_text().split()[1]) * PAGE_BYTES


def commit(tree: Path) -> str:
    """The commit of ``tree``, ``-dirty`` when it differs from it; ``unknown`` outside of git.

    Set-up names it in GLIDEBRIDGE_COMMIT when it runs us in a copy without history.
    """
    named = os.environ.get("GLIDEBRIDGE_COMMIT")
    if named:
        return named
    words = ["git", "-C", str(tree), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        answer = subprocess.run([*words, "--exclude=*"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return answer.stdout.strip()
