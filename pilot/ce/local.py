"""Jobs as processes of this machine, each in a session and a directory of its own.

They outlive whoever submitted them. What is known of a job stands in its directory, whose name is
the job's stamp, so any later command can ask for it and remove it:

    out, err    what the job wrote
    its program, the files that came with it and its own; they go when it ends
    .outputs    the names of those that do not, a line each
    .kept       these, by the numbers of their lines, once it has ended
    .pid        the process that waits for the job, and leads its process group
    .exit       the job's exit code, once it has ended
    .removed    it was taken back
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

from desktopgrid.model.errors import BadRequest
from desktopgrid.model.lifecycle import PilotStatus
from pilot.ce.base import (
    OUTPUT_LIMIT,
    STDERR,
    STDOUT,
    ComputingElementUnavailable,
    JobDescription,
    JobState,
    NothingToRetrieve,
    Reference,
    SubmissionRefused,
)
from pilot.ce.finding import Finding, Verdict
from pilot.ce.landing import Landing, TooMuch, chunks_of, listed, open_regular

PATH = "/usr/local/bin:/usr/bin:/bin"
MARK = "GLIDEBRIDGE_PILOT"
"""A variable in the environment of a job and of what it starts: process numbers come again."""

START_SECONDS = 10.0
LAST_BYTES = 4096
LONGEST_NUMBER = 20
KEPT = ("out", "err")
ENDED_JOBS_STAY = timedelta(days=1)
OUTPUTS_STAY = timedelta(days=10)
WALL_TIME_SLACK = timedelta(minutes=10)
EXIT_OF_TIMEOUT = (124, 137)

# Its shell survives the signals that end the job, because it has to write down how it ended.
WAITER = """
trap : TERM INT HUP
echo $$ > .pid.new && mv .pid.new .pid
timeout --foreground --kill-after=60 "$0" "$@" > out 2> err < /dev/null
code=$?
mkdir .kept
number=0
while IFS= read -r output; do
    path=$output
    while test ! -L "./$path" && test "$path" != "${path%/*}"; do path=${path%/*}; done
    test ! -L "./$path" && test -f "./$output" && mv -f "./$output" ".kept/$number"
    number=$((number + 1))
done < .outputs
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
        """``directory`` holds the jobs' own; ``grace`` is between SIGTERM and SIGKILL; ``name``
        is what errors call this door.
        """
        self._name = name or f"<LocalCE in {directory}>"
        self.directory, self.grace = directory.absolute(), grace

    def __repr__(self) -> str:
        return f"<LocalCE in {self.directory}>"

    def submit(self, jobs: Sequence[JobDescription]) -> list[Reference]:
        """Start all of them; those that were started when one cannot be are killed again."""
        started: list[Reference] = []
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._forget_old()
            for job in jobs:
                self._check(job)
            for job in jobs:
                started.append(Reference(f"{_PREFIX}{job.stamp}"))
                self._start(job)
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
                file = open_regular(directory, "err")
                if file is not None:
                    with file:
                        file.seek(max(os.fstat(file.fileno()).st_size - LAST_BYTES, 0))
                        return file.read(LAST_BYTES).decode(errors="replace")
        return ""

    def statuses(self, references: Sequence[Reference]) -> dict[Reference, JobState]:
        """As their directories and the process table say."""
        directories = self._directories(references)
        # First the processes: a pilot that ends while we look writes .exit before it is gone.
        alive = _processes_by_pilot()
        return {
            reference: _state(directory, str(directory) in alive)
            for reference, directory in directories.items()
        }

    def remove(self, references: Sequence[Reference]) -> None:
        """SIGTERM to the jobs, and after the grace SIGKILL to what is left of them."""
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

    def retrieve(
        self, reference: Reference, directory: Path, limit: int = OUTPUT_LIMIT
    ) -> list[str]:
        """From its directory."""
        state = self.statuses([reference]).get(reference)
        if state is None or not state.has_ended:
            reason = "there is no such job" if state is None else "it has not ended"
            raise NothingToRetrieve(self._name, reference, reason)
        (own,) = self._directories([reference]).values()
        file = open_regular(own, ".outputs")
        if file is None:
            raise NothingToRetrieve(self._name, reference, "nothing of it is kept")
        try:
            with file:
                outputs = listed(chunks_of(file))
            with Landing(directory, limit) as landing:
                landing.take(STDOUT, own, "out")
                landing.take(STDERR, own, "err")
                for number, name in enumerate(outputs):
                    landing.take(name, own, f".kept/{number}")
        except (TooMuch, BadRequest) as refused:
            raise NothingToRetrieve(self._name, reference, str(refused)) from refused
        return landing.names

    def discard(self, references: Sequence[Reference]) -> None:
        """Remove their directories."""
        directories = self._directories(references)
        for reference, state in self.statuses(references).items():
            if state.has_ended:
                shutil.rmtree(directories[reference], ignore_errors=True)

    def examine(self, job: JobDescription) -> Iterator[Finding]:
        """Its directory, and the programs that it takes for granted."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.directory):
                pass
            yield Finding("directory", f"jobs have their directories in {self.directory}")
        except OSError as error:
            reason = f"{self.directory} cannot be written: {error.strerror}"
            yield Finding("directory", reason, Verdict.WRONG, "change who may write there")
        for name in ("setsid", "timeout", job.python or "python3"):
            found = shutil.which(name, path=PATH)
            if found is None:
                advice = "install it" if job.python is None else "set `python`, or install it"
                yield Finding("program", f"there is no {name} in {PATH}", Verdict.WRONG, advice)
            else:
                yield Finding("program", f"{name} is {found}")

    def _forget_old(self) -> None:
        for mark in [*self.directory.glob("*/.exit"), *self.directory.glob("*/.removed")]:
            with contextlib.suppress(OSError):
                has_outputs = (mark.parent / ".outputs").stat().st_size
                stays = OUTPUTS_STAY if has_outputs else ENDED_JOBS_STAY
                if mark.stat().st_mtime < time.time() - stays.total_seconds():
                    shutil.rmtree(mark.parent, ignore_errors=True)

    def _check(self, job: JobDescription) -> None:
        if not _STAMP.match(job.stamp):
            raise SubmissionRefused(self._name, f"{job.stamp!r} is no stamp")
        if (self.directory / job.stamp).exists():
            raise SubmissionRefused(self._name, f"there is a job {job.stamp} already")
        for file in (job.program, *job.files):
            if not os.access(file, os.R_OK):
                raise SubmissionRefused(self._name, f"{file} cannot be read")

    def _start(self, job: JobDescription) -> None:
        directory = self.directory / job.stamp
        directory.mkdir(mode=0o700)
        for file in (job.program, *job.files):
            shutil.copy(file, directory / file.name)
        (directory / ".outputs").write_text("".join(f"{name}\n" for name in job.outputs))
        program = directory / job.program.name
        program.chmod(0o755)
        command = [f"./{program.name}"] if job.python is None else [job.python, program.name]
        limit = str(int((job.wall_time + WALL_TIME_SLACK).total_seconds()))
        subprocess.run(
            ["setsid", "--fork", "/bin/sh", "-c", WAITER, limit, *command, *job.arguments],
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
                raise TimeoutError(f"job {job.stamp} did not start")
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
    """Remove what a job that is gone had, secrets first of all; what tells how it ended stays."""
    for path in directory.iterdir():
        if path.name in KEPT or path.name.startswith("."):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _state(directory: Path, lives: bool) -> JobState:
    code = _number(directory / ".exit")
    if (directory / ".removed").exists() and not (lives and code is None):
        return JobState(PilotStatus.DELETED, "taken back")
    if code == 0:
        return JobState(PilotStatus.DONE, exit_code=0)
    if code in EXIT_OF_TIMEOUT:
        reason = f"exit code {code}: perhaps its wall time was over"
        return JobState(PilotStatus.FAILED, reason, code)
    if code is not None:
        return JobState(PilotStatus.FAILED, f"ended with exit code {code}", code)
    if lives:
        return JobState(PilotStatus.RUNNING)
    return JobState(PilotStatus.ABORTED, "its process is gone and left no exit code")


def _mains_of(directories: Sequence[Path]) -> list[int]:
    """What each waiter waits for: it hands SIGTERM on to the job, and to nothing else.

    A batch system does the same: what the job has started is the job's to end.
    """
    waiters = {_number(directory / ".pid") for directory in directories}
    return [pid for pid in _processes_of(directories) if _parent_of(pid) in waiters]


def _processes_of(directories: Sequence[Path]) -> list[int]:
    alive = _processes_by_pilot()
    return [pid for directory in directories for pid in alive.get(str(directory), [])]


def _processes_by_pilot() -> dict[str, list[int]]:
    """The processes that carry the mark of a job: itself, and what kept its environment."""
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
    # The job may have put anything there, a pipe that nobody writes to, too.
    file = open_regular(path.parent, path.name)
    if file is None:
        return None
    with file:
        try:
            return int(file.read(LONGEST_NUMBER))
        except (OSError, ValueError):
            return None
