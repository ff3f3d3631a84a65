"""A worker's life as a pure state machine: a method an event, which gives back what is to be done.

Decides only: no clock, socket, process or thread; ``now`` is monotonic seconds. agent.py observes,
calls, and carries out the actions in their order. What the server says twice, too late, or about a
task that is not here, is no error.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, replace
from typing import Union

from desktopgrid.wire import messages as m
from pilot.node.slots import Capacity, HostedTask, Slots, TaskEvent, TaskState, Verdict

STARTED_AFTER = 0.2
"""Seconds that a task runs before the server is told; a shorter one is only `finished`
(docs/protocol.md, Workers)."""

LAST_WORDS = 5.0
"""Seconds that are kept for telling the server what became of the tasks, before the host's end."""

MAX_REASON = 1_000
"""Characters of a reason that travel."""


@dataclass(frozen=True)
class Policy:
    """How a worker behaves, in seconds. ``None``: no such limit.

    ``grace`` is what a task gets between SIGTERM and SIGKILL. A worker leaves when it had nothing
    to do for ``idle_time``, when its host ends it after ``lifetime`` (it takes no more tasks
    ``drain_before`` that), or after ``max_tasks`` tasks.
    """

    grace: float = 10.0
    idle_time: float | None = None
    lifetime: float | None = None
    drain_before: float = 60.0
    max_tasks: int | None = None


@dataclass(frozen=True)
class Stage:
    """Bring the files of a task; then say ``staged`` or ``failed``."""

    assign: m.Assign


@dataclass(frozen=True)
class Start:
    """Start the staged task's program, wait for its end; then say ``exited`` or ``failed``."""

    assign: m.Assign


@dataclass(frozen=True)
class Store:
    """Upload what the task left behind; then say ``stored`` or ``failed``."""

    assign: m.Assign


@dataclass(frozen=True)
class Kill:
    """Send ``signal`` to the processes of a task, as soon as it is spawned."""

    epoch: int
    signal: int


@dataclass(frozen=True)
class BreakOff:
    """Break off the transfer under way for a task."""

    epoch: int


@dataclass(frozen=True)
class Say:
    """Send a numbered message. ``epoch``: of the task whose end it reports, else 0."""

    message: m.Message
    epoch: int = 0


@dataclass(frozen=True)
class CleanUp:
    """Remove the directory of a task, and what is left of its processes."""

    epoch: int


@dataclass(frozen=True)
class SayAlive:
    """Send the heartbeat."""


@dataclass(frozen=True)
class Quit:
    """Wait until the server has acknowledged everything, say ``bye`` and end."""

    reason: str


Action = Union[Stage, Start, Store, Kill, BreakOff, Say, CleanUp, SayAlive, Quit]


@dataclass(frozen=True)
class Ending:
    """How the program of a task ended. ``leaves_files``: there is something to upload."""

    exit_code: int
    usage: tuple[float, float, float, int] = (0.0, 0.0, 0.0, 0)
    stdout: bytes = b""
    stderr: bytes = b""
    leaves_files: bool = False
    reason: str = ""


class Worker:
    """The tasks of a host and what is to become of them."""

    def __init__(self, capacity: Capacity, policy: Policy, now: float) -> None:
        self.policy = policy
        self.slots = Slots(capacity)
        self.tasks_done = 0
        self.leaving = ""
        """Why the worker takes no more tasks; empty while it does."""
        self._leaves_as_told = False
        self._tasks: dict[int, HostedTask] = {}
        self._endings: dict[int, Ending] = {}
        self._ended: dict[int, tuple[str, int | None]] = {}
        self._alive_period: float | None = None
        self._said_at = now
        self._idle_since = now
        self._is_told_to_go = False
        self._has_quit = False
        self._ends_at = None if policy.lifetime is None else now + policy.lifetime

    def __repr__(self) -> str:
        return (
            f"<Worker {len(self._tasks)} tasks, {len(self._ended)} not acknowledged {self.leaving}>"
        )

    def welcomed(self, welcome: m.Welcome, now: float) -> list[Action]:
        """The session is open. A server that forgot it is told again that we leave."""
        self._alive_period = welcome.alive_period
        self._said_at = now
        if self.leaving and not welcome.resumed:
            return [Say(m.Draining(self.leaving, self._leaves_as_told))]
        return []

    def held(self) -> tuple[m.Held, ...]:
        """The tasks that this host has: waiting, running, or ended and not acknowledged."""
        not_started = (TaskState.WAITING, TaskState.STAGING)
        here = [
            m.Held(task.assign.task, epoch, "PENDING" if task.state in not_started else "RUNNING")
            for epoch, task in self._tasks.items()
        ]
        here.extend(m.Held(name, epoch) for epoch, (name, _) in self._ended.items())
        return tuple(here)

    def lifetime(self, now: float) -> int | None:
        """Seconds until this host is over, as the server's matching wants it."""
        return None if self._ends_at is None else max(0, int(self._ends_at - now))

    def said(self, epoch: int, number: int) -> None:
        """What became of a task was said under ``number``."""
        if epoch in self._ended:
            self._ended[epoch] = (self._ended[epoch][0], number)

    def acknowledged(self, number: int) -> None:
        """The server has acknowledged our messages up to ``number``."""
        done = [e for e, (_, said) in self._ended.items() if said is not None and said <= number]
        for epoch in done:
            del self._ended[epoch]

    def heard(self, message: m.Message, now: float) -> list[Action]:
        """The server said ``message``."""
        if isinstance(message, m.Assign):
            return self._assigned(message)
        if isinstance(message, m.Abandon):
            return self._abandoned(message, now)
        if isinstance(message, m.Recall):
            return self._recalled(message, now)
        if isinstance(message, m.Drain):
            return self.drain(message.reason or "the server asked for it", now)
        return []

    def _assigned(self, assign: m.Assign) -> list[Action]:
        epoch = assign.epoch
        if epoch in self._tasks or epoch in self._ended:
            return []
        if self.leaving:
            return self._give_up(assign, Verdict("returned", self.leaving))
        if not self.slots.could_hold(assign):
            capacity = self.slots.capacity
            reason = (
                f"the task wants {assign.cores} cores and {assign.memory_mib} MiB;"
                f" this host has {capacity.cores} and {capacity.memory_mib}"
            )
            return self._give_up(assign, Verdict("failed", reason))
        task = self._tasks[epoch] = HostedTask(assign)
        self.slots.wait(task)
        return self._admit()

    def _abandoned(self, message: m.Abandon, now: float) -> list[Action]:
        self._ended.pop(message.epoch, None)
        task = self._tasks.get(message.epoch)
        if task is None:
            return []
        # It overrides whatever else it is stopped for: the server wants none of it.
        task.verdict = Verdict("aborted", message.reason)
        return self._stop(task, now)

    def _recalled(self, message: m.Recall, now: float) -> list[Action]:
        task = self._tasks.get(message.epoch)
        if task is None or task.state not in (TaskState.WAITING, TaskState.STAGING):
            return []
        return self._stop(task, now, Verdict("returned", "recalled"))

    def staged(self, epoch: int, now: float) -> list[Action]:
        """The files of a task are here."""
        task = self._tasks[epoch]
        task.follow(TaskEvent.STAGED)
        if task.state is TaskState.ENDED:
            return self._end(task, now)
        task.started_at = now
        return [Start(task.assign)]

    def failed(self, epoch: int, verdict: Verdict, now: float) -> list[Action]:
        """A task could not be staged, spawned or stored."""
        task = self._tasks[epoch]
        task.follow(TaskEvent.FAILED)
        task.verdict = task.verdict or verdict
        return self._end(task, now)

    def sampled(self, epoch: int, memory_mib: int, disk_mib: int, now: float) -> list[Action]:
        """The processes of a task use so much memory, its files so much disk."""
        task = self._tasks.get(epoch)
        if task is None or task.state is not TaskState.RUNNING:
            return []
        assign = task.assign
        if assign.memory_mib and memory_mib > assign.memory_mib:
            reason = f"it used {memory_mib} MiB of memory; its limit is {assign.memory_mib}"
            return self._kill(task, Verdict("limit", reason))
        if assign.disk_mib and disk_mib > assign.disk_mib:
            reason = f"it used {disk_mib} MiB of disk; its limit is {assign.disk_mib}"
            return self._kill(task, Verdict("limit", reason))
        return []

    def exited(self, epoch: int, ending: Ending, now: float) -> list[Action]:
        """The program of a task has ended."""
        task = self._tasks[epoch]
        if task.verdict is None:
            task.verdict = _limit_broken(task.assign, ending)
        is_done = task.verdict is None
        task.follow(TaskEvent.EXITED)
        self._endings[epoch] = ending
        if task.state is TaskState.STORING:
            if is_done and ending.leaves_files:
                return [Store(task.assign)]
            task.follow(TaskEvent.STORED)
        return self._end(task, now)

    def stored(self, epoch: int, outputs: tuple[m.Stored, ...], now: float) -> list[Action]:
        """What a task left behind is on the server."""
        task = self._tasks[epoch]
        task.follow(TaskEvent.STORED)
        return self._end(task, now, outputs)

    def drain(self, reason: str, now: float, is_told: bool = False) -> list[Action]:
        """Take no more tasks, give back those that have not started, go when the last has ended.

        ``is_told``: by who runs this host, and the server is to know.
        """
        if self.leaving:
            return []
        self.leaving, self._leaves_as_told = reason, is_told
        actions: list[Action] = [Say(m.Draining(reason, is_told))]
        for task in self.slots.waiting():
            actions += self._stop(task, now, Verdict("returned", reason))
        return actions + self._quit_if_empty()

    def terminate(self, reason: str, now: float, is_told: bool = True) -> list[Action]:
        """Give back all tasks and go.

        What runs gets SIGTERM, and SIGKILL after its grace or when the worker is told a second
        time. What has ended and is being stored has its grace for that.
        """
        actions = self.drain(reason, now, is_told)
        for task in list(self._tasks.values()):
            verdict = Verdict("returned", reason)
            if self._is_told_to_go:
                actions += self._kill(task, verdict)
            elif task.state is TaskState.STORING:
                task.kill_at = now + self.policy.grace
            else:
                actions += self._stop(task, now, verdict)
        self._is_told_to_go = True
        return actions

    def tick(self, now: float) -> list[Action]:
        """Time has passed."""
        actions: list[Action] = []
        for task in list(self._tasks.values()):
            actions += self._look_at(task, now)
        actions += self._look_at_own_end(now)
        if self._alive_period is not None and now - self._said_at >= self._alive_period:
            self._said_at = now
            actions.append(SayAlive())
        return actions

    def _look_at(self, task: HostedTask, now: float) -> list[Action]:
        actions: list[Action] = []
        if task.state is TaskState.RUNNING:
            ran = now - task.started_at
            if not task.is_start_said and ran >= STARTED_AFTER:
                task.is_start_said = True
                self._said_at = now
                actions.append(Say(m.Started(task.assign.task, task.assign.epoch)))
            limit = task.assign.wall_time
            if limit and ran > limit:
                actions += self._stop(task, now, Verdict("limit", f"it ran longer than {limit} s"))
        elif task.kill_at is not None and now >= task.kill_at:
            task.kill_at = None
            actions += self._kill(task, Verdict("returned", self.leaving))
        return actions

    def _look_at_own_end(self, now: float) -> list[Action]:
        policy = self.policy
        if self._ends_at is not None and not self._is_told_to_go:
            remains = self._ends_at - now
            if remains <= policy.grace + LAST_WORDS:
                return self.terminate("its time on this host is over", now, is_told=False)
            if remains <= policy.drain_before:
                return self.drain("its time on this host is nearly over", now)
        if self.leaving:
            return []
        idle_time = policy.idle_time
        if idle_time is not None and not self._tasks and now - self._idle_since >= idle_time:
            return self.drain(f"it had no task for {idle_time:g} s", now)
        return []

    def _admit(self) -> list[Action]:
        actions: list[Action] = []
        for task in self.slots.admit():
            task.follow(TaskEvent.ADMITTED)
            actions.append(Stage(task.assign))
        return actions

    def _stop(self, task: HostedTask, now: float, verdict: Verdict | None = None) -> list[Action]:
        before = task.state
        task.verdict = task.verdict or verdict
        task.follow(TaskEvent.STOPPED)
        if before is TaskState.WAITING:
            self.slots.withdraw(task)
            return self._say_end(task, now)
        if before is TaskState.RUNNING:
            task.kill_at = now + self.policy.grace
            return [Kill(task.assign.epoch, signal.SIGTERM)]
        return self._break_off(task, before)

    def _kill(self, task: HostedTask, verdict: Verdict) -> list[Action]:
        before = task.state
        task.verdict = task.verdict or verdict
        task.follow(TaskEvent.KILLED)
        if task.state is TaskState.KILLING:
            return [Kill(task.assign.epoch, signal.SIGKILL)]
        return self._break_off(task, before)

    def _break_off(self, task: HostedTask, before: TaskState) -> list[Action]:
        if task.state is TaskState.DISCARDING and before is not TaskState.DISCARDING:
            return [BreakOff(task.assign.epoch)]
        return []

    def _end(
        self, task: HostedTask, now: float, outputs: tuple[m.Stored, ...] = ()
    ) -> list[Action]:
        """``task`` has ended: say so, make room, let the next ones in."""
        self.slots.release(task)
        actions = self._say_end(task, now, outputs)
        actions.append(CleanUp(task.assign.epoch))
        self.tasks_done += 1
        if self.tasks_done == self.policy.max_tasks:
            actions += self.drain(f"it was to do {self.tasks_done} tasks", now)
        actions += self._admit()
        return actions + self._quit_if_empty()

    def _say_end(
        self, task: HostedTask, now: float, outputs: tuple[m.Stored, ...] = ()
    ) -> list[Action]:
        epoch = task.assign.epoch
        del self._tasks[epoch]
        self._said_at = now
        if not self._tasks:
            self._idle_since = now
        ending = self._endings.pop(epoch, None)
        if task.verdict is not None:
            return self._give_up(task.assign, task.verdict, ending)
        assert ending is not None  # noqa: S101  a task without a verdict has exited
        self._ended[epoch] = (task.assign.task, None)
        message = m.Finished(
            task.assign.task,
            epoch,
            exit_code=ending.exit_code,
            reason=_sayable(ending.reason),
            stdout=ending.stdout,
            stderr=ending.stderr,
            outputs=outputs,
            usage=ending.usage,
        )
        return [Say(message, epoch)]

    def _give_up(
        self, assign: m.Assign, verdict: Verdict, ending: Ending | None = None
    ) -> list[Action]:
        """Say that there is no result, and why."""
        self._ended[assign.epoch] = (assign.task, None)
        reason = _sayable(verdict.reason)
        if verdict.outcome == "returned":
            return [Say(m.Returned(assign.task, assign.epoch, reason), assign.epoch)]
        message = m.Finished(assign.task, assign.epoch, outcome=verdict.outcome, reason=reason)
        if ending is not None:
            message = replace(
                message, stdout=ending.stdout, stderr=ending.stderr, usage=ending.usage
            )
        return [Say(message, assign.epoch)]

    def _quit_if_empty(self) -> list[Action]:
        if not self.leaving or self._tasks or self._has_quit:
            return []
        self._has_quit = True
        return [Quit(self.leaving)]


def _sayable(reason: str) -> str:
    """``reason`` as it may travel: not too long, and without the halves of characters that stand
    for bytes in file names."""
    return reason[:MAX_REASON].encode("utf-8", "replace").decode() if reason else ""


def _limit_broken(assign: m.Assign, ending: Ending) -> Verdict | None:
    """The limit that a failed program ran into, where nobody stopped it."""
    if assign.disk_mib and ending.exit_code == -signal.SIGXFSZ:
        return Verdict("limit", f"it wrote a file of more than {assign.disk_mib} MiB of disk")
    used_mib = ending.usage[3] // 1024
    if assign.memory_mib and ending.exit_code and used_mib > assign.memory_mib:
        reason = f"it used {used_mib} MiB of memory; its limit is {assign.memory_mib}"
        return Verdict("limit", reason)
    return None
