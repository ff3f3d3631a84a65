"""The worker's shell: clock, link, signals and threads around the state machine of worker.py.

The main thread keeps time and hears signals, the link's thread hears the server, a thread a slot
runs the tasks (runner.py), one more watches what tasks with limits use. Each tells the machine what
happened under one lock, and then carries out what it was told, outside of the lock.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Protocol

from desktopgrid.model.errors import GridError, LimitExceeded
from desktopgrid.wire import messages as m
from pilot.node import leftovers, processes
from pilot.node.cache import Cache
from pilot.node.errors import CouldNotRun
from pilot.node.fetching import Fetchers
from pilot.node.leftovers import Leftovers
from pilot.node.runner import Runner, Transfers
from pilot.node.sandbox import remove_tree
from pilot.node.slots import Capacity, Verdict
from pilot.node.storage import WorkerDirectory
from pilot.node.worker import (
    Action,
    BreakOff,
    CleanUp,
    Ending,
    Kill,
    Policy,
    Quit,
    Say,
    SayAlive,
    Stage,
    Worker,
)

logger = logging.getLogger(__name__)

BUSY_TICK = 0.2
IDLE_TICK = 1.0
WATCH_PERIOD = 0.5
# Seconds that everything may take to be acknowledged: by a worker that leaves when it wants, and by
# one that was told to go.
PATIENCE = 600.0
LAST_WORDS = 5.0

STOPPED, REFUSED, UNREACHED = 0, 3, 4
"""Exit codes (see cli.py)."""


class LinkLike(Protocol):
    """What an agent needs of desktopgrid.link."""

    @property
    def transfers(self) -> Transfers:
        """Its way to fetch and store files."""

    @property
    def is_open(self) -> bool:
        """Whether what is said now goes out now."""

    @property
    def unacknowledged(self) -> int:
        """How many messages the server has not acknowledged."""

    def start(self) -> None:
        """Begin to connect."""

    def say(self, message: m.Message, may_wait: bool = False) -> int:
        """Number ``message`` and send it, soon if it ``may_wait``; raises LimitExceeded."""

    def alive(self, message: m.Alive) -> None:
        """Say ``message`` outside the numbering."""

    def close(self, timeout: float = 5.0, reason: str = "") -> None:
        """Say ``bye``, wait until everything is acknowledged, and close."""


@dataclass(frozen=True)
class Host:
    """What an agent is to offer, and how it behaves."""

    facts: Mapping[str, Any]
    capacity: Capacity
    policy: Policy = field(default_factory=Policy)
    cache_limit: int = 4 << 30
    fetchers: Fetchers = field(default_factory=Fetchers)
    launcher: tuple[str, ...] = ()
    """What starts the programs of tasks, if not this worker itself."""


class Agent:
    """A worker that runs on ``directory`` and offers ``host``; ``attach`` gives it its link.

    ``orphans``: the processes that this one adopts, if it does (see leftovers.py).
    """

    def __init__(
        self,
        directory: WorkerDirectory,
        host: Host,
        orphans: processes.Orphans | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.directory, self.host, self.clock = directory, host, clock
        self.worker = Worker(host.capacity, host.policy, clock())
        self.leftovers = Leftovers(orphans)
        self.fetchers = host.fetchers
        self.launcher = host.launcher
        self.cache = Cache(directory.cache, host.cache_limit, _no_fetch)
        self.exit_code = UNREACHED
        self.transfers: Transfers
        self._link: LinkLike
        self._lock = threading.Lock()
        self._has_ready = threading.Condition(self._lock)
        self._ready: deque[m.Assign] = deque()
        self._runners: list[Runner] = []
        self._watcher: threading.Thread | None = None
        self._unsaid: deque[Say] = deque()
        self._last_number = 0
        self._known_as = ""
        self._quit = ""
        self._is_over = False
        self._told_at: float | None = None
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._does: dict[type[Any], Callable[[Any], None]] = {
            Say: self._say,
            Kill: self._kill,
            BreakOff: self._break_off,
            SayAlive: self._say_alive,
            Quit: self._leave,
        }

    def attach(self, link: LinkLike, known_as: str = "") -> None:
        """Use ``link``, whose callbacks are this agent's methods; the grid knows us as
        ``known_as``: a pilot by its stamp.
        """
        self._link, self.transfers = link, link.transfers
        self._known_as = known_as

    @property
    def name(self) -> str:
        """Which worker this is, on which host, for the log."""
        return (
            f"{self._known_as or 'A worker'} on {self.host.facts['name']} ({self.directory.host})"
        )

    # What a link tells.

    def on_message(self, _number: int, message: m.Message) -> None:
        """The server said ``message``."""
        self._feed(self.worker.heard, message)

    def on_open(self, welcome: m.Welcome) -> None:
        """A connection is open."""
        logger.info("Connected as %s%s", welcome.user, " again" if welcome.resumed else "")
        self.exit_code = STOPPED
        self._feed(self.worker.welcomed, welcome)

    def on_down(self, reason: str) -> None:
        """The connection is lost; tasks go on."""
        logger.warning("Lost the connection: %s", reason)

    def on_end(self, error: GridError) -> None:
        """The link has given up for good. If the server refused us, what runs here is nobody's."""
        if self._quit:
            return
        logger.error("The grid refused this worker: %s", error)
        self.exit_code = REFUSED
        self._feed(self.worker.terminate, f"the grid refused this worker: {error}")

    def hello(self) -> dict[str, Any]:
        """What a worker adds to Hello."""
        with self._lock:
            self._note_acknowledged()
            return {
                "host": self.directory.host,
                "facts": dict(self.host.facts),
                "lifetime": self.worker.lifetime(self.clock()),
                "held": self.worker.held(),
            }

    # What a runner tells and asks.

    def is_open(self) -> bool:
        """Whether the server is there."""
        return self._link.is_open

    def free_disk_mib(self) -> int:
        """What is left on the disk."""
        try:
            status = os.statvfs(self.directory.path)
        except OSError:
            return 0
        return status.f_bavail * status.f_frsize >> 20

    def staged(self, epoch: int) -> list[Action]:
        """The files of a task are here."""
        return self._feed(self.worker.staged, epoch, by_slot=True)

    def failed(self, epoch: int, verdict: Verdict) -> list[Action]:
        """A task could not be staged, spawned or stored."""
        return self._feed(self.worker.failed, epoch, verdict, by_slot=True)

    def exited(self, epoch: int, ending: Ending) -> list[Action]:
        """The program of a task has ended."""
        return self._feed(self.worker.exited, epoch, ending, by_slot=True)

    def stored(self, epoch: int, outputs: tuple[m.Stored, ...]) -> list[Action]:
        """What a task left behind is on the server."""
        return self._feed(self.worker.stored, epoch, outputs, by_slot=True)

    # The main thread.

    def prepare(self) -> None:
        """End what an earlier worker left running here, and remove its tasks' directories."""
        directory = self.directory
        count = leftovers.end_earlier(directory.host, directory.left_running(), directory.slots)
        if count:
            logger.warning("Killed %d processes that an earlier worker had left", count)
        directory.forget_running()
        try:
            remove_tree(directory.slots)
            self._runners = [Runner(self, number) for number in range(self.host.capacity.cores)]
        except OSError as error:
            raise CouldNotRun(f"{directory.slots} cannot be made: {error}") from error

    def hear_signals(self) -> None:
        """Let SIGTERM, SIGINT and SIGHUP tell this worker to go."""
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda _number, _frame: None)

    def run(self) -> int:
        """Work until there is a reason to go; the exit code."""
        for runner in self._runners:
            name = f"slot {runner.number}"
            threading.Thread(target=self._run_slot, args=(runner,), name=name, daemon=True).start()
        self._link.start()
        while not self._quit and not self._is_overdue():
            self._pause(BUSY_TICK if any(runner.epoch for runner in self._runners) else IDLE_TICK)
            self.run_once()
        self._take_leave()
        return self.exit_code

    def run_once(self) -> None:
        """What is due now and then."""
        with self._lock:
            self._note_acknowledged()
        self._say_unsaid()
        self._feed(self.worker.tick)
        self.leftovers.sweep()

    def stop(self, reason: str) -> None:
        """Give back all tasks and go. Any thread; a second time: at once."""
        logger.info("Leaving: %s", reason)
        self._told_at = self._told_at or self.clock()
        self._feed(self.worker.terminate, reason)

    def _pause(self, seconds: float) -> None:
        """Wait, but not past a signal or a reason to go."""
        if not select.select([self._wake_read], [], [], seconds)[0]:
            return
        for number in os.read(self._wake_read, 512):
            if number:
                self.stop(f"the worker was told to go ({signal.Signals(number).name})")

    def _is_overdue(self) -> bool:
        # A process that the kernel does not let go of must not keep us for ever.
        told_at = self._told_at
        return told_at is not None and (
            self.clock() > told_at + self.host.policy.grace + LAST_WORDS
        )

    def _take_leave(self) -> None:
        """Wait until everything is acknowledged, and close the link."""
        is_hurried = self._told_at is not None or self.exit_code == REFUSED
        deadline = self.clock() + (LAST_WORDS if is_hurried else PATIENCE)
        self._say_unsaid()
        while self.exit_code == STOPPED and self._is_waited_for() and self.clock() < deadline:
            self._pause(0.02)
            self._say_unsaid()
            if self._told_at is not None:
                deadline = min(deadline, self._told_at + LAST_WORDS)
        self._link.close(min(LAST_WORDS, max(0.1, deadline - self.clock())), self._quit)
        with self._has_ready:
            self._is_over = True
            self._has_ready.notify_all()
        logger.info("Left: %s", self._quit or "told to go")

    def _is_waited_for(self) -> bool:
        """Whether the server has not acknowledged all that there is to say."""
        return bool(self._link.unacknowledged or self._unsaid)

    # The slots' threads.

    def _run_slot(self, runner: Runner) -> None:
        while True:
            with self._has_ready:
                while not self._ready:
                    if self._is_over:
                        runner.sandbox.close()
                        return
                    self._has_ready.wait()
                assign = self._ready.popleft()
                runner.epoch, runner.is_broken_off = assign.epoch, False
            if (assign.memory_mib or assign.disk_mib) and self._watcher is None:
                self._watcher = threading.Thread(target=self._watch, name="watcher", daemon=True)
                self._watcher.start()
            runner.live(assign)

    def _watch(self) -> None:
        while not self._is_over:
            time.sleep(WATCH_PERIOD)
            for runner in self._runners:
                epoch, execution = runner.epoch, runner.execution
                if execution is not None and execution.is_limited:
                    try:
                        memory_mib, disk_mib = execution.sample()
                    except OSError as error:
                        logger.warning("Could not see what a task uses: %s", error)
                        continue
                    self._feed(self.worker.sampled, epoch, memory_mib, disk_mib)

    # Any thread.

    def _feed(
        self, event: Callable[..., list[Action]], *facts: Any, by_slot: bool = False
    ) -> list[Action]:
        """Tell the machine, and carry out what is not the calling slot's own to do."""
        with self._lock:
            actions = event(*facts, self.clock())
            kinds = [type(action) for action in actions]
            if Stage in kinds:
                # A slot whose task has ended is free in a moment, and takes the next one itself.
                self._make_ready(actions, spared=int(by_slot and CleanUp in kinds))
        for kind, action in zip(kinds, actions):
            do = self._does.get(kind)
            if do is not None:
                do(action)
        return actions

    def _make_ready(self, actions: list[Action], spared: int) -> None:
        """Let slots' threads have the tasks that may begin; ``spared``: so many need no waking."""
        admitted = [action.assign for action in actions if isinstance(action, Stage)]
        self._ready.extend(admitted)
        if len(admitted) > spared:
            self._has_ready.notify(len(admitted) - spared)

    def _say_alive(self, _action: SayAlive) -> None:
        self._link.alive(m.Alive(round(os.getloadavg()[0], 2), self.free_disk_mib()))

    def _leave(self, action: Quit) -> None:
        self._quit = action.reason
        self._wake()

    def _say(self, action: Say) -> None:
        if self._unsaid:
            self._unsaid.append(action)
            return
        try:
            # Where more is to do here, the server need not hear of each end at once.
            number = self._link.say(action.message, self.worker.slots.has_more)
        except LimitExceeded as error:
            # The server is slow to acknowledge; this thread must not wait for it, it may be the one
            # that hears it.
            logger.warning("Kept a %s back: %s", action.message.verb, error)
            self._unsaid.append(action)
            return
        with self._lock:
            self._last_number = max(self._last_number, number)
            if action.epoch:
                self.worker.said(action.epoch, number)

    def _say_unsaid(self) -> None:
        unsaid, self._unsaid = self._unsaid, deque()
        while unsaid:
            self._say(unsaid.popleft())

    def _note_acknowledged(self) -> None:
        # In this order: what is said in between makes the difference too small, never too large.
        self.worker.acknowledged(self._last_number - self._link.unacknowledged)

    def _kill(self, action: Kill) -> None:
        runner = self._runner_of(action.epoch)
        if runner is not None:
            logger.info("Sent signal %d to the task in slot %d", action.signal, runner.number)
            runner.send(action.signal)

    def _break_off(self, action: BreakOff) -> None:
        epoch = action.epoch
        with self._lock:
            unclaimed = [assign for assign in self._ready if assign.epoch == epoch]
            for assign in unclaimed:
                self._ready.remove(assign)
            runner = self._runner_of(epoch)
            if runner is not None:
                runner.is_broken_off = True
        if unclaimed:
            self._feed(self.worker.failed, epoch, Verdict("failed", "broken off"))

    def _runner_of(self, epoch: int) -> Runner | None:
        return next((runner for runner in self._runners if runner.epoch == epoch), None)

    def _wake(self) -> None:
        os.write(self._wake_write, b"\0")


def _no_fetch(file: m.File, _target: Path) -> None:
    raise AssertionError(f"data {file.data} is fetched by the slot that needs it")
