"""What happens to a task on its host, as one table, and how tasks share the host.

Decides only: no clock, no process, no thread. The worker's own life is in worker.py.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum

from desktopgrid.model.errors import IllegalTransition
from desktopgrid.wire.messages import Assign


class TaskState(str, Enum):
    """Where a task stands on its host."""

    WAITING = "Waiting"
    """Here, but there is no room for it yet."""
    STAGING = "Staging"
    """Has its room; its files are being brought."""
    RUNNING = "Running"
    """Its process group is about to start, or runs."""
    STOPPING = "Stopping"
    """Asked to end with SIGTERM."""
    KILLING = "Killing"
    """Made to end with SIGKILL."""
    STORING = "Storing"
    """Its program has ended; what it left behind is being uploaded."""
    DISCARDING = "Discarding"
    """Nobody wants it any more; the transfer under way is being broken off."""
    ENDED = "Ended"
    """Its room is free again. Known until the server has acknowledged what became of it."""


class TaskEvent(str, Enum):
    """What may happen to a task on its host."""

    ADMITTED = "admitted"
    STAGED = "staged"
    STOPPED = "stopped"
    KILLED = "killed"
    EXITED = "exited"
    STORED = "stored"
    FAILED = "failed"


S, E = TaskState, TaskEvent
TRANSITIONS = {
    S.WAITING: {E.ADMITTED: S.STAGING, E.STOPPED: S.ENDED, E.KILLED: S.ENDED},
    S.STAGING: {
        E.STAGED: S.RUNNING,
        E.STOPPED: S.DISCARDING,
        E.KILLED: S.DISCARDING,
        E.FAILED: S.ENDED,
    },
    S.RUNNING: {
        E.STOPPED: S.STOPPING,
        E.KILLED: S.KILLING,
        E.EXITED: S.STORING,
        # It could not be spawned.
        E.FAILED: S.ENDED,
    },
    S.STOPPING: {
        E.STOPPED: S.STOPPING,
        E.KILLED: S.KILLING,
        E.EXITED: S.ENDED,
        E.FAILED: S.ENDED,
    },
    S.KILLING: {
        E.STOPPED: S.KILLING,
        E.KILLED: S.KILLING,
        E.EXITED: S.ENDED,
        E.FAILED: S.ENDED,
    },
    S.STORING: {
        E.STORED: S.ENDED,
        E.STOPPED: S.DISCARDING,
        E.KILLED: S.DISCARDING,
        E.FAILED: S.ENDED,
    },
    S.DISCARDING: {
        E.STAGED: S.ENDED,
        E.STORED: S.ENDED,
        E.STOPPED: S.DISCARDING,
        E.KILLED: S.DISCARDING,
        E.FAILED: S.ENDED,
    },
    S.ENDED: {},
}


def after(state: TaskState, event: TaskEvent) -> TaskState:
    """The state that follows ``event``; raises IllegalTransition where the table has none."""
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise IllegalTransition("task", state.value, event.value) from None


@dataclass(frozen=True)
class Verdict:
    """Why a task is stopped: what the server is told of it when it has ended.

    ``outcome`` is one of ``finished``'s (docs/protocol.md), or ``returned``: back to the queue.
    """

    outcome: str
    reason: str


class HostedTask:
    """A task on this host. Times are the worker's monotonic seconds."""

    __slots__ = ("assign", "is_start_said", "kill_at", "started_at", "state", "verdict")

    def __init__(self, assign: Assign) -> None:
        self.assign = assign
        self.state = TaskState.WAITING
        self.started_at = 0.0
        self.is_start_said = False
        self.kill_at: float | None = None
        """When a stopping task has had its grace."""
        self.verdict: Verdict | None = None

    def __repr__(self) -> str:
        return f"<HostedTask {self.assign.task} {self.state.value}>"

    def follow(self, event: TaskEvent) -> None:
        """Go where ``event`` leads; raises IllegalTransition."""
        self.state = after(self.state, event)


@dataclass(frozen=True)
class Capacity:
    """What a host has for tasks."""

    cores: int
    memory_mib: int


class Slots:
    """The host's cores and memory, and the tasks that wait for them: admitted oldest first.

    A large task at the head waits until there is room for it, and the small ones behind it wait as
    well: otherwise it would never run.
    """

    def __init__(self, capacity: Capacity) -> None:
        self.capacity = capacity
        self.free_cores = capacity.cores
        self.free_memory_mib = capacity.memory_mib
        self._queue: deque[HostedTask] = deque()

    def __repr__(self) -> str:
        free = f"{self.free_cores} of {self.capacity.cores} cores free"
        return f"<Slots {free}, {len(self._queue)} tasks wait>"

    def could_hold(self, assign: Assign) -> bool:
        """Whether the host is large enough for a task, if it were empty."""
        return assign.cores <= self.capacity.cores and assign.memory_mib <= self.capacity.memory_mib

    def wait(self, task: HostedTask) -> None:
        """Let ``task`` queue up."""
        self._queue.append(task)

    def withdraw(self, task: HostedTask) -> None:
        """Take ``task`` out of the queue."""
        self._queue.remove(task)

    def admit(self) -> list[HostedTask]:
        """The waiting tasks for which there is room now; they have it from here on."""
        admitted = []
        queue = self._queue
        while queue:
            assign = queue[0].assign
            if assign.cores > self.free_cores or assign.memory_mib > self.free_memory_mib:
                break
            self.free_cores -= assign.cores
            self.free_memory_mib -= assign.memory_mib
            admitted.append(queue.popleft())
        return admitted

    def release(self, task: HostedTask) -> None:
        """``task`` needs its room no more."""
        self.free_cores += task.assign.cores
        self.free_memory_mib += task.assign.memory_mib

    @property
    def has_more(self) -> bool:
        """Whether a task waits for a slot."""
        return bool(self._queue)

    def waiting(self) -> list[HostedTask]:
        """The tasks in the queue, oldest first."""
        return list(self._queue)
