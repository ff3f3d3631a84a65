"""A slot's thread: the whole life of one task after the other, from staging to its last word.

A task is not handed from thread to thread, since that is what costs: this thread stages, spawns,
waits, collects and uploads, and asks the state machine under the agent's lock what comes next.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
from functools import partial
from pathlib import Path
from typing import Callable, Protocol

from desktopgrid.model.errors import (
    AccessDenied,
    GridError,
    NoRoom,
    NotAuthenticated,
    Unavailable,
)
from desktopgrid.wire import messages as m
from desktopgrid.wire.messages import MAX_NAMES, MAX_OUTPUTS
from pilot.node import processes
from pilot.node.cache import Cache
from pilot.node.errors import BrokenOff, CouldNotRun, UnusableInput
from pilot.node.executor import (
    HOST_VARIABLE,
    TASK_VARIABLE,
    Execution,
    Program,
    environment_in,
)
from pilot.node.fetching import Errand, Fetchers
from pilot.node.leftovers import Leftovers
from pilot.node.sandbox import NewFile, Sandbox
from pilot.node.slots import Verdict
from pilot.node.storage import WorkerDirectory
from pilot.node.worker import Action, CleanUp, Ending, Stage, Start, Store

logger = logging.getLogger(__name__)

CHUNK = 1 << 20
MAX_TRANSFERS = 10
"""Times that a transfer is tried while the server is there and says that it cannot."""
PAUSE = 1.0
UNPACK_SHARE = 2
"""An env without a disk limit may take one part in so many of the free disk."""


class Transfers(Protocol):
    """What a runner needs of desktopgrid.link's transfers."""

    def get(
        self,
        path: str,
        target: Path,
        sha256: str,
        size: int,
        progress: Callable[[int], None] = ...,
    ) -> None:
        """Make ``target`` the content of ``path``."""

    def put(
        self,
        path: str,
        source: Path | bytes,
        sha256: str,
        size: int,
        progress: Callable[[int], None] = ...,
    ) -> None:
        """Upload ``source`` to ``path``."""


class Owner(Protocol):
    """What a runner needs of its agent."""

    directory: WorkerDirectory
    cache: Cache
    leftovers: Leftovers
    transfers: Transfers
    fetchers: Fetchers
    launcher: tuple[str, ...]

    @property
    def name(self) -> str:
        """Which worker this is, on which host, for the log."""

    def is_open(self) -> bool:
        """Whether the server is there."""

    def free_disk_mib(self) -> int:
        """What is left on the disk."""

    def staged(self, epoch: int) -> list[Action]:
        """The machine's events, under the agent's lock; what is not this thread's to do is done."""

    def failed(self, epoch: int, verdict: Verdict) -> list[Action]:
        """See ``staged``."""

    def exited(self, epoch: int, ending: Ending) -> list[Action]:
        """See ``staged``."""

    def stored(self, epoch: int, outputs: tuple[m.Stored, ...]) -> list[Action]:
        """See ``staged``."""


class Runner:
    """Runs the tasks of slot ``number`` for ``owner``, one at a time."""

    def __init__(self, owner: Owner, number: int) -> None:
        self.owner, self.number = owner, number
        self.sandbox = Sandbox(owner.directory.slots / str(number))
        self._environment = environment_in(self.sandbox, owner.directory.host)
        self.epoch = 0
        """Of the task that is here, or 0."""
        self.execution: Execution | None = None
        self.is_broken_off = False
        self._taken: list[m.File] = []
        self._files: list[NewFile] = []
        self._is_silent = self._is_untouched = self._is_spoilt = False

    def __repr__(self) -> str:
        return f"<Runner of slot {self.number}, {self.execution or 'idle'}>"

    def send(self, signal: int) -> None:
        """Send a signal to the processes of the task that is here. Any thread."""
        execution = self.execution
        if execution is not None:
            execution.send(signal)

    def live(self, assign: m.Assign) -> None:
        """All of a task's life."""
        logger.info(
            "%s got task %s of work %s for %s (%s)",
            *(self.owner.name, assign.task, assign.work, assign.for_user),
            assign.subject or "not certified",
        )
        step: Action | None = Stage(assign)
        try:
            while step is not None:
                step = _own(self._carry_out(step, assign))
        finally:
            self._clean_up()

    def _carry_out(self, step: Action, assign: m.Assign) -> list[Action]:
        try:
            tell = self._do(step, assign)
        except UnusableInput as error:
            verdict = Verdict("limit", str(error))
        except (GridError, OSError) as error:
            logger.warning("Could not run task %s: %s", assign.task, error)
            verdict = Verdict("failed", str(error))
        except Exception as error:
            # A bug of ours must not cost the host a slot.
            logger.exception("Could not deal with task %s", assign.task)
            verdict = Verdict("failed", f"a fault of the worker: {error!r}")
        else:
            return tell()
        return self.owner.failed(assign.epoch, verdict)

    def _do(self, step: Action, assign: m.Assign) -> Callable[[], list[Action]]:
        """Do ``step``; gives back how the machine is told of it."""
        owner, epoch = self.owner, assign.epoch
        if isinstance(step, Stage):
            self._stage(assign)
            return lambda: owner.staged(epoch)
        if isinstance(step, Start):
            ending = self._run(assign)
            return lambda: owner.exited(epoch, ending)
        outputs = self._store(assign)
        return lambda: owner.stored(epoch, outputs)

    def _stage(self, assign: m.Assign) -> None:
        sandbox = self.sandbox
        if self._is_spoilt:
            sandbox.renew()
            self._is_spoilt = False
        executable = self._take(assign, assign.executable)
        stdin = None if assign.stdin is None else self._take(assign, assign.stdin)
        if assign.env is not None:
            room = assign.disk_mib or self.owner.free_disk_mib() // UNPACK_SHARE
            sandbox.unpack(self._take(assign, assign.env), room << 20)
        for file in assign.inputs:
            sandbox.place(self._take(assign, file), file.name)
        program = Program(
            task=assign.task,
            work=assign.work,
            executable=executable,
            arguments=(assign.executable.name or assign.application, *assign.arguments),
            stdin=stdin,
            variables=assign.variables,
            memory_mib=assign.memory_mib,
            disk_mib=assign.disk_mib,
        )
        if self.owner.launcher:
            program = self._launched(assign, program)
        self.execution = Execution(program, sandbox, self._environment)

    def _launched(self, assign: m.Assign, program: Program) -> Program:
        """``program`` as a launcher starts it, which is told the limits and has none itself."""
        launcher = self.owner.launcher
        facts = {
            "task": assign.task,
            "work": assign.work,
            "user": assign.for_user,
            "origin": assign.origin,
            "program": str(program.executable),
            "arguments": list(assign.arguments),
            "name": program.arguments[0],
            "has_stdin": assign.stdin is not None,
            "variables": [list(pair) for pair in assign.variables],
            "outputs": list(assign.outputs),
            "cores": assign.cores,
            "memory_mib": assign.memory_mib,
            "disk_mib": assign.disk_mib,
            "wall_time": assign.wall_time,
            "failure": str(self.sandbox.area / "failure"),
        }
        launch = self.sandbox.area / "launch"
        launch.write_text(json.dumps(facts))
        (self.sandbox.area / "failure").unlink(missing_ok=True)
        return program._replace(
            executable=Path(shutil.which(launcher[0]) or launcher[0]),
            arguments=(*launcher, str(program.executable), *assign.arguments),
            memory_mib=0,
            disk_mib=0,
            launch=str(launch),
        )

    def _check_launched(self) -> None:
        """Raise CouldNotRun if the launcher left a sentence that says so."""
        failure = self.sandbox.area / "failure"
        if failure.exists():
            raise CouldNotRun(failure.read_text()[:1000])

    def _run(self, assign: m.Assign) -> Ending:
        execution, task, owner = self.execution, assign.task, self.owner
        assert execution is not None  # noqa: S101  it was staged
        owner.leftovers.begins(task)
        self.sandbox.begin()
        try:
            since = processes.ticks_since_boot()
            pid = execution.start()
            owner.leftovers.runs(task, pid)
            until = processes.ticks_since_boot()
            owner.directory.record(self.number, task, pid, since, until)
            ended = execution.wait()
        finally:
            owner.leftovers.ended(task)
        if owner.launcher:
            self._check_launched()
        stdout, stderr, long = execution.output()
        self._files = [NewFile(*one) for one in long]
        self._is_silent = not stdout and not stderr
        self._is_untouched = self.sandbox.is_untouched()
        reason = "" if self._is_untouched else self._collect(assign.outputs)
        return Ending(ended.code, ended.usage, stdout, stderr, bool(self._files), reason)

    def _collect(self, patterns: tuple[str, ...]) -> str:
        """Add the task's new files to those to be stored; say what was left out."""
        taken = {file.name for file in self._files}
        left_out = []
        for file in self.sandbox.new_files(patterns):
            name = file.name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            if name in taken:
                left_out.append(name)
            else:
                taken.add(name)
                self._files.append(file._replace(name=name))
        return f"left out {', '.join(left_out)}: the name was taken" if left_out else ""

    def _store(self, assign: m.Assign) -> tuple[m.Stored, ...]:
        _refuse_too_many(self._files, assign.disk_mib)
        return tuple(self._store_file(assign, file) for file in self._files)

    def _store_file(self, assign: m.Assign, file: NewFile) -> m.Stored:
        if not str(file.path).startswith("/proc/"):
            file.path.chmod(0o600)
        sha256, size = _digest(file.path)
        path = f"/v1/tasks/{assign.task}/outputs/{sha256}"
        put = self.owner.transfers.put
        self._try(lambda: put(path, file.path, sha256, size, self._look_up))
        return m.Stored(file.name, sha256, size)

    def _take(self, assign: m.Assign, file: m.File) -> Path:
        path = self.owner.cache.take(file, partial(self._fetch, assign.task))
        self._taken.append(file)
        return path

    def _fetch(self, task: str, file: m.File, target: Path) -> None:
        if file.uri:
            self._fetch_elsewhere(task, file, target)
            return
        get = self.owner.transfers.get
        path = f"/v1/datas/{file.data}"
        try:
            self._try(lambda: get(path, target, file.sha256, file.size, self._look_up))
        except AccessDenied as error:
            # No other worker of this kind may either (manual, 3.3).
            raise UnusableInput(str(error)) from error

    def _fetch_elsewhere(self, task: str, file: m.File, target: Path) -> None:
        leftovers = self.owner.leftovers
        marks = {HOST_VARIABLE: self.owner.directory.host, TASK_VARIABLE: task}
        leftovers.begins(task)
        try:
            errand = Errand(self._look_up, partial(leftovers.runs, task), marks)
            self.owner.fetchers.fetch(file, target, errand)
        finally:
            leftovers.ended(task)

    def _try(self, transfer: Callable[[], None]) -> None:
        """Do ``transfer``, again if need be: while the server is away, or has no room, for as long
        as it takes.
        """
        refusals, has_waited = 0, False
        while True:
            try:
                transfer()
                return
            except NoRoom as error:
                if not has_waited:
                    logger.warning("Waiting with an output: %s", error)
                has_waited = True
            # The server may be back, and not know the session before our link is.
            except (Unavailable, NotAuthenticated) as error:
                refusals += self.owner.is_open()
                if refusals >= MAX_TRANSFERS:
                    raise CouldNotRun(f"{error} ({refusals} times)") from error
            self._look_up(0)
            time.sleep(PAUSE)

    def _look_up(self, _done: int) -> None:
        if self.is_broken_off:
            raise BrokenOff("nobody wants it any more")

    def _clean_up(self) -> None:
        # Nobody may send a signal to what is not there any more.
        self.epoch, self.execution = 0, None
        for file in self._taken:
            self.owner.cache.release(file)
        self._taken.clear()
        self._files = []
        try:
            self.sandbox.clean(self._is_untouched, self._is_silent)
        except OSError as error:
            # The next task tries again, and is the one to fail if it must.
            logger.error("Could not clean %s: %s", self.sandbox.area, error)
            self._is_spoilt = True
        self._is_silent = self._is_untouched = False


def _own(actions: list[Action]) -> Action | None:
    """What the slot's thread itself does next; None: its task is over."""
    for action in actions:
        if isinstance(action, (Start, Store)):
            return action
        if isinstance(action, CleanUp):
            return None
    return None


def _refuse_too_many(files: list[NewFile], disk_mib: int) -> None:
    size = sum(file.size for file in files)
    if disk_mib and size > disk_mib << 20:
        # A file with holes takes less on this disk than on its way, and than on the next one.
        raise UnusableInput(f"its files have {size} bytes; it may have {disk_mib} MiB of disk")
    if len(files) > MAX_OUTPUTS or sum(len(json.dumps(f.name)) + 120 for f in files) > MAX_NAMES:
        raise UnusableInput(
            f"it left {len(files)} files; at most {MAX_OUTPUTS} can come back: pack them,"
            " or name the ones to keep"
        )


def _digest(path: Path) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return digest.hexdigest(), size
