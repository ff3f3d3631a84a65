"""Pilots as processes of this machine, each in a session and a directory of its own.

They outlive whoever submitted them. What is known of a pilot stands in its directory, whose name is
the pilot's stamp, so any later command can ask for it and remove it:

    out, err    what the pilot wrote
    pilot.pyz, the pilot's files and its own; they go when it ends
    .pid        the process that waits for the pilot, and leads its process group
    .exit       the pilot's exit code, once it has ended
    .removed    it was taken back
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from desktopgrid.model.lifecycle import PilotStatus
from pilot.ce.base import (
    ComputingElementUnavailable,
    PilotDescription,
    PilotState,
    Reference,
    SubmissionRefused,
)

PATH = "/usr/local/bin:/usr/bin:/bin"
MARK = "GLIDEBRIDGE_PILOT"
"""A variable in the environment of a pilot and of what it starts: process numbers come again."""

START_SECONDS = 10.0
LAST_BYTES = 4096
KEPT = ("out", "err")
ENDED_PILOTS_STAY = timedelta(days=1)
WALL_TIME_SLACK = timedelta(minutes=10)
EXIT_OF_TIMEOUT = (124, 137)

# Its shell survives the signals that end the pilot, because it has to write down how it ended.
WAITER = """
trap : TERM INT HUP
echo $$ > .pid.new && mv .pid.new .pid
timeout --foreground --kill-after=60 "$0" "$@" > out 2> err < /dev/null
code=$?
for file in *; do
    case $file in out | err) ;; *) rm -rf "$file" ;; esac
done
echo $code > .exit.new && mv .exit.new .exit
"""

_STAMP = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*\Z")
_PREFIX = "local:"


class LocalCE:
    """This machine as a computing element: there is no queue, whatever is submitted runs."""

    def __init__(
        self, directory: Path, grace: timedelta = timedelta(seconds=10), name: str = ""
    ) -> None:
        """``directory`` holds the pilots' own; ``grace`` is between SIGTERM and SIGKILL; ``name``
        is what errors call this door.
        """
        self._name = name or f"<LocalCE in {directory}>"
        self.directory, self.grace = directory.absolute(), grace

    def __repr__(self) -> str:
        return f"<LocalCE in {self.directory}>"

    def submit(self, pilots: Sequence[PilotDescription]) -> list[Reference]:
        """Start all of them; those that were started when one cannot be are killed again."""
        started: list[Reference] = []
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._forget_old()
            for pilot in pilots:
                self._check(pilot)
            for pilot in pilots:
                started.append(Reference(f"{_PREFIX}{pilot.stamp}"))
                self._start(pilot)
        except (OSError, subprocess.SubprocessError) as failure:
            self.remove(started)
            for reference in started:
                shutil.rmtree(self.directory / reference.removeprefix(_PREFIX), ignore_errors=True)
            raise SubmissionRefused(self._name, str(failure)) from failure
        return started

    def find(self, stamps: Sequence[str]) -> dict[str, Reference]:
        """Those that have a directory here."""
        names = {stamp: Reference(f"{_PREFIX}{stamp}") for stamp in stamps}
        known = self._directories(list(names.values()))
        return {stamp: name for stamp, name in names.items() if name in known}

    def last_words(self, reference: Reference) -> str:
        """The end of its file ``err``."""
        for directory in self._directories([reference]).values():
            with contextlib.suppress(OSError):
                return (directory / "err").read_bytes()[-LAST_BYTES:].decode(errors="replace")
        return ""

    def statuses(self, references: Sequence[Reference]) -> dict[Reference, PilotState]:
        """As their directories and the process table say."""
        directories = self._directories(references)
        # First the processes: a pilot that ends while we look writes .exit before it is gone.
        alive = _processes_by_pilot()
        return {
            reference: _state(directory, str(directory) in alive)
            for reference, directory in directories.items()
        }

    def remove(self, references: Sequence[Reference]) -> None:
        """SIGTERM to the pilots, and after the grace SIGKILL to what is left of them."""
        known = self._directories(references).values()
        directories = [directory for directory in known if not (directory / ".exit").exists()]
        for directory in directories:
            (directory / ".removed").touch()
        for pid in _mains_of(directories):
            _kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + self.grace.total_seconds()
        while (rest := _processes_of(directories)) and time.monotonic() < deadline:
            time.sleep(0.02)
        for pid in rest:
            _kill(pid, signal.SIGKILL)
        for directory in known:
            _clear(directory)

    def _forget_old(self) -> None:
        latest = time.time() - ENDED_PILOTS_STAY.total_seconds()
        for mark in [*self.directory.glob("*/.exit"), *self.directory.glob("*/.removed")]:
            with contextlib.suppress(OSError):
                if mark.stat().st_mtime < latest:
                    shutil.rmtree(mark.parent, ignore_errors=True)

    def _check(self, pilot: PilotDescription) -> None:
        if not _STAMP.match(pilot.stamp):
            raise SubmissionRefused(self._name, f"{pilot.stamp!r} is no stamp")
        if (self.directory / pilot.stamp).exists():
            raise SubmissionRefused(self._name, f"there is a pilot {pilot.stamp} already")
        for file in (pilot.bundle, *pilot.files):
            if not os.access(file, os.R_OK):
                raise SubmissionRefused(self._name, f"{file} cannot be read")

    def _start(self, pilot: PilotDescription) -> None:
        directory = self.directory / pilot.stamp
        directory.mkdir(mode=0o700)
        for file in (pilot.bundle, *pilot.files):
            shutil.copy(file, directory / file.name)
        bundle = directory / pilot.bundle.name
        bundle.chmod(0o755)
        program = [f"./{bundle.name}"] if pilot.python is None else [pilot.python, bundle.name]
        limit = str(int((pilot.wall_time + WALL_TIME_SLACK).total_seconds()))
        subprocess.run(
            ["setsid", "--fork", "/bin/sh", "-c", WAITER, limit, *program, *pilot.arguments],
            cwd=directory,
            env={"PATH": PATH, "TMPDIR": str(directory), MARK: str(directory)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=START_SECONDS,
            check=True,
        )
        deadline = time.monotonic() + START_SECONDS
        while not (directory / ".pid").exists():
            if time.monotonic() > deadline:
                raise TimeoutError(f"pilot {pilot.stamp} did not start")
            time.sleep(0.005)

    def _directories(self, references: Sequence[Reference]) -> dict[Reference, Path]:
        if self.directory.exists() and not os.access(self.directory, os.R_OK | os.X_OK):
            raise ComputingElementUnavailable(self._name, "its directory cannot be read")
        found = {}
        for reference in references:
            stamp = reference.removeprefix(_PREFIX)
            directory = self.directory / stamp
            if reference != stamp and _STAMP.match(stamp) and directory.is_dir():
                found[reference] = directory
        return found


def _clear(directory: Path) -> None:
    """Remove what a pilot that is gone had, secrets first of all; what tells how it ended stays."""
    for path in directory.iterdir():
        if path.name in KEPT or path.name.startswith("."):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _state(directory: Path, lives: bool) -> PilotState:
    code = _number(directory / ".exit")
    if (directory / ".removed").exists() and not (lives and code is None):
        return PilotState(PilotStatus.DELETED, "taken back")
    if code == 0:
        return PilotState(PilotStatus.DONE)
    if code in EXIT_OF_TIMEOUT:
        return PilotState(PilotStatus.FAILED, f"exit code {code}: perhaps its wall time was over")
    if code is not None:
        return PilotState(PilotStatus.FAILED, f"ended with exit code {code}")
    if lives:
        return PilotState(PilotStatus.RUNNING)
    return PilotState(PilotStatus.ABORTED, "its process is gone and left no exit code")


def _mains_of(directories: Sequence[Path]) -> list[int]:
    """What each waiter waits for: it hands SIGTERM on to the pilot, and to nothing else.

    A batch system does the same: what the pilot has started is the pilot's to end.
    """
    waiters = {_number(directory / ".pid") for directory in directories}
    return [pid for pid in _processes_of(directories) if _parent_of(pid) in waiters]


def _processes_of(directories: Sequence[Path]) -> list[int]:
    alive = _processes_by_pilot()
    return [pid for directory in directories for pid in alive.get(str(directory), [])]


def _processes_by_pilot() -> dict[str, list[int]]:
    """The processes that carry the mark of a pilot: itself, and what kept its environment."""
    mark = f"{MARK}=".encode()
    found: dict[str, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue  # gone, or somebody else's
        for variable in environment:
            if variable.startswith(mark):
                found.setdefault(os.fsdecode(variable[len(mark) :]), []).append(int(entry.name))
    return found


def _parent_of(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def _kill(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
