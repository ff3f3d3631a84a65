"""The statuses of works, tasks, pilots and delegations, and the one table of legal transitions for
each.

Everything that affects these lives is in this file. A transition that is not in a table does not
exist: :func:`after` raises :class:`IllegalTransition`. Who reports an event, and what else it
changes, is the dispatcher's business. The diagrams in docs/states.md are drawn from these tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TypeVar

from desktopgrid.model.errors import IllegalTransition


class WorkStatus(str, Enum):
    """What a work is waiting for. Words and spelling are XWHEP's."""

    WAITING = "WAITING"
    """It may run, and no host has it. Leaves by a match; `xw why` tells what it waits for."""
    DATAREQUEST = "DATAREQUEST"
    """A data that it refers to has not arrived on the server yet. Leaves when the last one has."""
    PENDING = "PENDING"
    """A host has been given a task of it, which has not started. Leaves by the worker's word or the
    host's lease.
    """
    RUNNING = "RUNNING"
    """A task of it runs. Leaves by the worker's word, the host's lease or the end of its wall time.
    """
    COMPLETED = "COMPLETED"
    """Its program ended by itself; result, exit code included, is stored. Final."""
    ERROR = "ERROR"
    """It could not be run, or not within its limits, as often as it was tried. Final."""
    ABORTED = "ABORTED"
    """Its user took it back. Final."""


class TaskStatus(str, Enum):
    """Where one execution of a work stands."""

    PENDING = "PENDING"
    """Given to a host, durable, not started there."""
    RUNNING = "RUNNING"
    """Its process group runs."""
    SUSPENDED = "SUSPENDED"
    """Its process group is stopped and may go on."""
    COMPLETED = "COMPLETED"
    """Its program ended by itself. Final."""
    ERROR = "ERROR"
    """It could not be started, or broke a limit. Final."""
    ABORTED = "ABORTED"
    """It was given up on purpose: its work was cancelled, or the worker gave it back. Final."""
    LOST = "LOST"
    """Its host went silent. Final."""


class PilotStatus(str, Enum):
    """Where a pilot stands at its site; the words of DiracX's PilotStatus."""

    SUBMITTED = "Submitted"
    """Recorded by us, and not yet known to be in the site's queue."""
    WAITING = "Waiting"
    """In the site's queue."""
    RUNNING = "Running"
    """Its worker has made contact, or the site says that it runs."""
    DONE = "Done"
    """It ended by itself. Final."""
    FAILED = "Failed"
    """It ended in failure, or never made contact before its deadline. Final."""
    DELETED = "Deleted"
    """We took it back. Final."""
    ABORTED = "Aborted"
    """The site took it away. Final."""


class DelegationStatus(str, Enum):
    """Where a user's credential stands that a bridge is to use for him."""

    SIGNED = "Signed"
    """The server has what its user signed or sealed, and its bridge has not taken it yet. Leaves by
    the bridge's word, or at its end.
    """
    ACTIVE = "Active"
    """Its bridge has it. Leaves at its end at the latest."""
    EXPIRED = "Expired"
    """It ran out; what server and bridge had of it is deleted. Its user may renew it."""
    REFUSED = "Refused"
    """Its bridge cannot use it, and said why. Its user may renew it."""
    REVOKED = "Revoked"
    """It was taken back: by its user, by an administrator, by its CA, or with its user's or its
    bridge's right to be here. Final.
    """


class WorkEvent(str, Enum):
    """What may happen to a work."""

    DATA_ARRIVED = "given its data"
    MATCHED = "matched"
    STARTED = "started"
    REQUEUED = "requeued"
    COMPLETED = "completed"
    FAILED = "failed"
    ABORTED = "aborted"


class TaskEvent(str, Enum):
    """What may happen to a task."""

    STARTED = "started"
    SUSPENDED = "suspended"
    RESUMED = "resumed"
    COMPLETED = "completed"
    FAILED = "failed"
    ABORTED = "aborted"
    LOST = "lost"


class PilotEvent(str, Enum):
    """What may happen to a pilot."""

    QUEUED = "queued"
    STARTED = "started"
    ENDED = "ended"
    FAILED = "failed"
    DELETED = "deleted"
    ABORTED = "aborted"


class DelegationEvent(str, Enum):
    """What may happen to a delegation."""

    TAKEN = "taken"
    RENEWED = "renewed"
    EXPIRED = "expired"
    REFUSED = "refused"
    REVOKED = "revoked"


W, WE = WorkStatus, WorkEvent
WORKS: Mapping[WorkStatus, Mapping[WorkEvent, WorkStatus]] = {
    W.DATAREQUEST: {WE.DATA_ARRIVED: W.WAITING, WE.ABORTED: W.ABORTED, WE.FAILED: W.ERROR},
    W.WAITING: {WE.MATCHED: W.PENDING, WE.ABORTED: W.ABORTED, WE.FAILED: W.ERROR},
    W.PENDING: {
        WE.STARTED: W.RUNNING,
        WE.REQUEUED: W.WAITING,
        # A short task may end before its start was reported.
        WE.COMPLETED: W.COMPLETED,
        WE.FAILED: W.ERROR,
        WE.ABORTED: W.ABORTED,
    },
    W.RUNNING: {
        WE.REQUEUED: W.WAITING,
        WE.COMPLETED: W.COMPLETED,
        WE.FAILED: W.ERROR,
        WE.ABORTED: W.ABORTED,
    },
    W.COMPLETED: {},
    W.ERROR: {},
    W.ABORTED: {},
}

T, TE = TaskStatus, TaskEvent
TASKS: Mapping[TaskStatus, Mapping[TaskEvent, TaskStatus]] = {
    T.PENDING: {
        TE.STARTED: T.RUNNING,
        TE.COMPLETED: T.COMPLETED,
        TE.FAILED: T.ERROR,
        TE.ABORTED: T.ABORTED,
        TE.LOST: T.LOST,
    },
    T.RUNNING: {
        TE.SUSPENDED: T.SUSPENDED,
        TE.COMPLETED: T.COMPLETED,
        TE.FAILED: T.ERROR,
        TE.ABORTED: T.ABORTED,
        TE.LOST: T.LOST,
    },
    T.SUSPENDED: {
        TE.RESUMED: T.RUNNING,
        TE.COMPLETED: T.COMPLETED,
        TE.FAILED: T.ERROR,
        TE.ABORTED: T.ABORTED,
        TE.LOST: T.LOST,
    },
    T.COMPLETED: {},
    T.ERROR: {},
    T.ABORTED: {},
    T.LOST: {},
}

P, PE = PilotStatus, PilotEvent
PILOTS: Mapping[PilotStatus, Mapping[PilotEvent, PilotStatus]] = {
    P.SUBMITTED: {
        PE.QUEUED: P.WAITING,
        # Its worker may be quicker than the one who submitted it.
        PE.STARTED: P.RUNNING,
        PE.ENDED: P.DONE,
        PE.FAILED: P.FAILED,
        PE.DELETED: P.DELETED,
        PE.ABORTED: P.ABORTED,
    },
    P.WAITING: {
        PE.STARTED: P.RUNNING,
        PE.ENDED: P.DONE,
        PE.FAILED: P.FAILED,
        PE.DELETED: P.DELETED,
        PE.ABORTED: P.ABORTED,
    },
    P.RUNNING: {
        # A site that preempted it has it in its queue again.
        PE.QUEUED: P.WAITING,
        PE.ENDED: P.DONE,
        PE.FAILED: P.FAILED,
        PE.DELETED: P.DELETED,
        PE.ABORTED: P.ABORTED,
    },
    P.DONE: {},
    P.FAILED: {},
    P.DELETED: {},
    P.ABORTED: {},
}

D, DE = DelegationStatus, DelegationEvent
DELEGATIONS: Mapping[DelegationStatus, Mapping[DelegationEvent, DelegationStatus]] = {
    D.SIGNED: {
        DE.TAKEN: D.ACTIVE,
        DE.RENEWED: D.SIGNED,
        DE.EXPIRED: D.EXPIRED,
        DE.REFUSED: D.REFUSED,
        DE.REVOKED: D.REVOKED,
    },
    D.ACTIVE: {
        # A bridge that was killed before it heard our answer takes it again.
        DE.TAKEN: D.ACTIVE,
        DE.RENEWED: D.SIGNED,
        DE.EXPIRED: D.EXPIRED,
        DE.REFUSED: D.REFUSED,
        DE.REVOKED: D.REVOKED,
    },
    D.EXPIRED: {DE.RENEWED: D.SIGNED, DE.REVOKED: D.REVOKED},
    D.REFUSED: {DE.RENEWED: D.SIGNED, DE.REVOKED: D.REVOKED},
    D.REVOKED: {},
}

S = TypeVar("S", WorkStatus, TaskStatus, PilotStatus, DelegationStatus)
E = TypeVar("E", WorkEvent, TaskEvent, PilotEvent, DelegationEvent)


def after(table: Mapping[S, Mapping[E, S]], status: S, event: E) -> S:
    """The status that follows ``event``; raises IllegalTransition where the table has none."""
    try:
        return table[status][event]
    except KeyError:
        kind = type(status).__name__[: -len("Status")].lower()
        raise IllegalTransition(kind, status.value, event.value) from None


def finals(table: Mapping[S, Mapping[E, S]]) -> dict[S, bool]:
    """For each status of ``table`` whether it is final."""
    return {status: not events for status, events in table.items()}


FINAL_WORKS = frozenset(s for s, final in finals(WORKS).items() if final)
FINAL_TASKS = frozenset(s for s, final in finals(TASKS).items() if final)
FINAL_PILOTS = frozenset(s for s, final in finals(PILOTS).items() if final)
USABLE_DELEGATIONS = frozenset((DelegationStatus.SIGNED, DelegationStatus.ACTIVE))
