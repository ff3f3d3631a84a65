"""Running one command to its end, and with it all that it started.

A test that is killed leaves daemons behind. They become children of this process rather than of
init, and are ended with the command.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

from cache import SetupError, say

PR_SET_CHILD_SUBREAPER = 36


def run(
    command: Sequence[str],
    directory: Path,
    variables: Mapping[str, str],
    spared: Container[int] = (),
    **how: Any,
) -> int:
    """The exit code of ``command``, as a shell gives it; none of its processes is left.

    Our own children in ``spared`` are somebody else's business.
    """
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    told: list[int] = []
    running: list[int] = []

    def pass_on(number: int, _frame: object) -> None:
        told.append(number)
        for pid in running:
            os.kill(pid, number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, pass_on)
    # The terminal sends its interrupt to the command as well, which decides what to do about it.
    signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        process = subprocess.Popen(command, cwd=directory, env=variables, **how)
    except OSError as error:
        raise SetupError(f"cannot run {command[0]}: {error.strerror}") from error
    running.append(process.pid)
    for early in told:  # before there was anybody to tell
        os.kill(process.pid, early)
    code = _wait_for(process.pid)
    running.clear()
    left = _end_the_rest(spared)
    if left:
        say(f"{command[0]} left processes behind, which are ended now: {left}")
    return code


def _wait_for(pid: int) -> int:
    """The exit code of our child ``pid``; orphans that end before it are buried, as init does."""
    while True:
        ended, status = os.wait()
        if ended == pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _end_the_rest(spared: Container[int]) -> int:
    """Kill all that is below us; how many they were."""
    killed = 0
    while True:
        # what a killed process started comes up to us: ask again until there is nothing
        children = map(int, Path("/proc/thread-self/children").read_text().split())
        if not (left := [pid for pid in children if pid not in spared]):
            return killed
        for pid in left:
            if os.waitpid(pid, os.WNOHANG)[0] == 0:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                killed += 1
