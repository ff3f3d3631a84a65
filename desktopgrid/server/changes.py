"""What a decision changes in the database: one named tuple per kind of change, its fields the
columns, ready to be bound.

The dispatcher makes them, the journal carries them, database/records.py turns each class into one
statement. Within a transaction the classes are written in the order of :data:`ORDER` and each in
the order made; so a change says the whole of what may differ (the last one wins), never a
difference, but for those of :data:`ADDED`, which are added up. Times are seconds since the epoch,
statuses their words, structures JSON.
"""

from __future__ import annotations

from typing import NamedTuple


class UserGroupSaved(NamedTuple):
    uid: str
    name: str
    is_deleted: bool


class UserSaved(NamedTuple):
    uid: str
    login: str
    level: int
    group: str | None
    email: str
    is_revoked: bool
    quota_mib: int | None
    is_deleted: bool


class SubjectSaved(NamedTuple):
    """Whose name in certificates ``subject`` is, if anybody's."""

    subject: str
    user: str | None


class CredentialSaved(NamedTuple):
    uid: str
    user: str
    kind: str
    verifier: str
    created_at: float
    expires_at: float | None
    is_revoked: bool
    label: str = ""
    scope: str = ""
    source: str = ""
    subject: str = ""
    serials: str | None = None


class CredentialUsed(NamedTuple):
    uid: str
    last_used_at: float


class BridgeSaved(NamedTuple):
    user: str
    signing_key: str
    sealing_key: str
    saved_at: float


class OfferSaved(NamedTuple):
    uid: str
    bridge: str
    request: str
    signature: str
    created_at: float
    taken_by: str | None
    taken_at: float | None


class OfferForgotten(NamedTuple):
    """The offer was signed for, or is void: its row is deleted."""

    uid: str


class DelegationSaved(NamedTuple):
    """``content`` is nothing by which the server could act as the user, and empty at the end.
    ``serials`` and ``attributes``: one a line.
    """

    uid: str
    owner: str
    bridge: str
    kind: str
    status: str
    created_at: float
    expires_at: float
    generation: int
    content: str
    offer: str
    subject: str
    made_from: str
    serials: str
    vo: str
    attributes: str
    attributes_end_at: float | None
    label: str
    reason: str


class DataSaved(NamedTuple):
    uid: str
    name: str
    owner: str
    rights: int
    sha256: str
    size: int
    type: str
    uri: str
    is_available: bool
    is_deleted: bool
    cpu: str
    os: str


class ApplicationSaved(NamedTuple):
    uid: str
    name: str
    owner: str
    rights: int
    is_deleted: bool
    validated_by: str | None = None
    validated_at: float | None = None


class ExecutableSaved(NamedTuple):
    """Key: application, cpu, os."""

    application: str
    cpu: str
    os: str
    data: str


class BagSaved(NamedTuple):
    """A session or a group of works; ``kind`` says which."""

    uid: str
    kind: str
    name: str
    owner: str
    rights: int
    is_deleted: bool


class HostSaved(NamedTuple):
    uid: str
    owner: str
    name: str
    facts: str
    first_seen_at: float
    last_seen_at: float
    ends_at: float | None
    pilot: str | None


class PilotInserted(NamedTuple):
    stamp: str
    site: str
    owner: str
    status: str
    verifier: str
    submitted_at: float
    deadline_at: float
    wall_time: int
    delegation: str | None = None


class PilotUpdated(NamedTuple):
    stamp: str
    status: str
    reference: str
    session_verifier: str
    host: str | None
    reason: str
    deadline_at: float
    tasks_done: int
    ended_at: float | None
    started_at: float | None = None
    cores: int = 0
    account: int | None = None


class AccountInserted(NamedTuple):
    """A combination of what use is reported by that was not there before."""

    number: int
    user: str
    group: str | None
    vo: str
    site: str
    route: str
    application: str | None
    kind: str
    cores: int


class SubmissionInserted(NamedTuple):
    uid: str
    owner: str
    application: str
    label: str
    session: str | None
    group: str | None
    description: str
    rights: int
    submitted_at: float
    origin: str | None = None
    delegation: str | None = None
    vo: str = ""


class WorkInserted(NamedTuple):
    uid: str
    number: int
    submission: str
    arguments: str
    status: str


class WorkUpdated(NamedTuple):
    """``host`` while a task is live; ``ended_at`` once final; ``task`` is the live one, or the one
    whose result counts.
    """

    uid: str
    status: str
    attempts: int
    failures: int
    task: str | None
    host: str | None
    reason: str
    ended_at: float | None


class WorkRemoved(NamedTuple):
    """The work is marked deleted and its result is not to be had any more."""

    uid: str
    removed_at: float


class TaskInserted(NamedTuple):
    uid: str
    work: str
    host: str
    epoch: int
    status: str
    created_at: float


class TaskUpdated(NamedTuple):
    uid: str
    status: str
    started_at: float | None
    ended_at: float | None
    exit_code: int | None
    reason: str
    stdout: bytes | None
    stderr: bytes | None
    outputs: str | None
    wall: float
    user_time: float
    system_time: float
    memory_kib: int
    account: int | None = None
    cause: str | None = None
    is_doubtful: bool = False


class UsageAdded(NamedTuple):
    """A task was booked: that much more on that day under that account, cause and bucket of waiting
    time. Key: the first four.
    """

    day: int
    account: int
    cause: str
    bucket: int
    tasks: int
    core_time: float
    cpu_time: float
    doubtful: int


class PilotUsed(NamedTuple):
    """So many more seconds of a pilot's cores had a task. Key: stamp."""

    stamp: str
    busy: float


class TaskRegistered(NamedTuple):
    uid: str
    registered_at: float


class ReplyRecorded(NamedTuple):
    """The answer to a request that changed something, kept until its client has acknowledged it."""

    session: str
    sequence: int
    user: str
    body: str
    recorded_at: float


class RepliesForgotten(NamedTuple):
    """The client acknowledged its answers: those to requests up to ``sequence`` are deleted."""

    session: str
    sequence: int


class TasksForgotten(NamedTuple):
    """The rows of all tasks of a work are deleted."""

    work: str


class WorkForgotten(NamedTuple):
    """The row of a removed work is deleted."""

    uid: str


class SubmissionForgotten(NamedTuple):
    """The row of a submission is deleted, unless it has works yet."""

    uid: str


Change = (
    UserGroupSaved
    | UserSaved
    | SubjectSaved
    | CredentialSaved
    | CredentialUsed
    | BridgeSaved
    | OfferSaved
    | OfferForgotten
    | DelegationSaved
    | DataSaved
    | ApplicationSaved
    | ExecutableSaved
    | BagSaved
    | HostSaved
    | AccountInserted
    | PilotInserted
    | PilotUpdated
    | SubmissionInserted
    | WorkInserted
    | WorkUpdated
    | WorkRemoved
    | TaskInserted
    | TaskUpdated
    | UsageAdded
    | PilotUsed
    | TaskRegistered
    | ReplyRecorded
    | RepliesForgotten
    | TasksForgotten
    | WorkForgotten
    | SubmissionForgotten
)

ORDER: tuple[type[Change], ...] = Change.__args__
"""The order in which a transaction writes them: what is referred to before what refers to it, and
forgets them: the other way round.
"""

ADDED: dict[type[Change], int] = {UsageAdded: 4, PilotUsed: 1}
"""The kinds that say how much more there is, each with how many of its fields, the first ones, say
of what. Within a transaction they are added up; a transaction is written once or not at all.
"""
