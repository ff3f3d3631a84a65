"""The objects of the grid. Plain values: what may happen to them is in lifecycle.py, who may touch
them in rights.py.

Objects refer to each other by UID, never by reference, so that each can be stored and sent alone;
only a work holds its submission, which thousands of works of one sweep share. Times are aware and
in UTC.
"""

from __future__ import annotations

import hashlib
import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, Optional

from desktopgrid.model.lifecycle import (
    USABLE_DELEGATIONS,
    DelegationStatus,
    PilotStatus,
    TaskStatus,
    WorkStatus,
)
from desktopgrid.model.rights import EVERYTHING, PRIVATE, PUBLIC, Scope, UserLevel
from desktopgrid.model.uris import is_elsewhere

UID = str
"""The name of an object: opaque, unique in the grid, never used again, at most 64 characters of
[0-9A-Za-z-].
"""


def new_uid() -> UID:
    """A name that nobody else has: a UUID of version 6 (RFC 9562, 5.6) without hyphens.

    It begins with the time, so that databases find what was made together in one place.
    """
    ticks = f"{uuid.uuid1(node=0, clock_seq=0).time:015x}"
    return f"{ticks[:12]}6{ticks[12:]}8{secrets.token_hex(8)[1:]}"


@dataclass(frozen=True)
class UserGroup:
    """Users who share applications, datas, works and workers (manual, 3.1)."""

    uid: UID
    name: str
    is_deleted: bool = False


@dataclass(frozen=True)
class User:
    """Who acts: a client, a worker or both, as its level allows (manual, 3.1 and 3.2).

    ``quota_mib``: what his datas may take on the server; 0 all there is, None what everybody's may.
    ``subjects``: by what names in certificates, and at issuers of tokens, he is known.
    """

    uid: UID
    login: str
    level: UserLevel
    group: Optional[UID] = None
    email: str = ""
    is_revoked: bool = False
    quota_mib: Optional[int] = None
    is_deleted: bool = False
    subjects: tuple[str, ...] = ()

    @property
    def is_certified(self) -> bool:
        """Whether a CA has certified who he is: he is known by a name in certificates."""
        return bool(self.certified_name)

    @property
    def certified_name(self) -> str:
        """The first name in certificates by which he is known; empty if there is none."""
        names = (subject for subject in self.subjects if not subject.startswith("https://"))
        return next(names, "")


@dataclass(frozen=True)
class Credential:
    """One way for a user to show who he is; the secret itself is never kept.

    A ``token`` proves itself by HMAC over the server's nonce under ``verifier`` = SHA-256 of the
    secret; a ``password`` is checked against ``verifier`` = its argon2 hash. ``label`` is for
    people. ``source`` says by what other proof a token was given out, and is empty for a password;
    ``subject`` whom that named, ``serials`` the certificates.
    """

    uid: UID
    user: UID
    kind: str
    verifier: str
    created_at: datetime
    expires_at: Optional[datetime] = None
    is_revoked: bool = False
    label: str = ""
    scope: Scope = EVERYTHING
    source: str = ""
    last_used_at: Optional[datetime] = None
    subject: str = ""
    serials: tuple[str, ...] = ()


@dataclass(frozen=True)
class Platform:
    """What an executable was made for: a CPU type and an operating system, such as x86_64 and
    linux.
    """

    cpu: str
    os: str

    def __str__(self) -> str:
        return f"{self.cpu}/{self.os}"


ANY_PLATFORM = Platform("any", "any")
"""The platform of what runs everywhere, such as a script."""


@dataclass(frozen=True)
class Application:
    """A program registered on the grid: one executable (a data) per platform. ``validated_by``: the
    administrator who says that these very executables may run on service grids (manual, 8).
    """

    uid: UID
    name: str
    owner: UID
    rights: int
    executables: Mapping[Platform, UID]
    is_deleted: bool = False
    validated_by: Optional[UID] = None
    validated_at: Optional[datetime] = None

    @property
    def is_validated(self) -> bool:
        """Whether an administrator stands for its executables."""
        return self.validated_by is not None


@dataclass(frozen=True)
class Bridge:
    """Who may be given users' credentials, to act for them at sites: a user of the grid, with the
    public keys by which clients know him (base64 of 32 bytes each).
    """

    user: UID
    signing_key: str
    sealing_key: str
    saved_at: datetime


@dataclass(frozen=True)
class Offer:
    """A key that a bridge has made for one delegation: a request (PKCS #10, PEM) that one user may
    take and sign, with the bridge's own signature of it.
    """

    uid: UID
    bridge: UID
    request: str
    signature: str
    created_at: datetime
    taken_by: Optional[UID] = None
    taken_at: Optional[datetime] = None


@dataclass(frozen=True)
class Delegation:
    """A user's credential that a bridge may use for him until ``expires_at``.

    ``content`` is the signed proxy with its chain, whose key only the bridge has, or a ``token``
    that was sealed to the bridge: nothing by which the server could act as the user. It is empty
    once the delegation is over. ``generation`` counts its renewals, ``made_from`` names the
    certificate that signed it, ``attributes`` are those of VOMS that were verified.
    """

    uid: UID
    owner: UID
    bridge: UID
    kind: str
    status: DelegationStatus
    created_at: datetime
    expires_at: datetime
    generation: int = 1
    content: str = field(default="", repr=False)
    offer: str = ""
    subject: str = ""
    made_from: str = ""
    serials: tuple[str, ...] = ()
    vo: str = ""
    attributes: tuple[str, ...] = ()
    attributes_end_at: Optional[datetime] = None
    label: str = ""
    reason: str = ""

    def is_usable(self, now: datetime) -> bool:
        """Whether its bridge may act by it now."""
        return self.status in USABLE_DELEGATIONS and now < self.expires_at


@dataclass(frozen=True)
class Data:
    """A file that the grid knows, named by its content's SHA-256. ``is_available`` once the server
    has it whole, or if it ``is_elsewhere``: where its ``uri`` says. ``cpu`` and ``os`` are what its
    owner says it is for.
    """

    uid: UID
    name: str
    owner: UID
    rights: int
    sha256: str
    size: int
    type: str = ""
    uri: str = ""
    is_available: bool = False
    is_deleted: bool = False
    cpu: str = ""
    os: str = ""

    @property
    def is_elsewhere(self) -> bool:
        """Whether the server has it not, and workers fetch it by themselves."""
        return is_elsewhere(self.uri)


@dataclass(frozen=True)
class Session:
    """A user's bag of works for one sitting."""

    uid: UID
    name: str
    owner: UID
    rights: int = PRIVATE
    is_deleted: bool = False


@dataclass(frozen=True)
class Group:
    """A named bag of works that outlives the sitting."""

    uid: UID
    name: str
    owner: UID
    rights: int = PRIVATE
    is_deleted: bool = False


@dataclass(frozen=True)
class Description:
    """What is the same for all works of a submission: what to run, with what, where, how long and
    how often.

    ``inputs`` are pairs of a name in the task's directory and a data; ``env`` is a zip data that is
    unpacked there; ``outputs`` are patterns of the files that come back, by default every new file.
    ``wall_time`` is in seconds, 0 where the user does not know it. ``retries``: how often a work is
    tried again after a task that failed for its host's sake. ``origin``: where it comes from, if it
    was a job elsewhere (model/origins.py); a submission of one work, which is named by it.
    ``delegation``: the user's credential that goes with its works to sites that want one.
    """

    application: UID
    label: str = ""
    session: Optional[UID] = None
    group: Optional[UID] = None
    stdin: Optional[UID] = None
    env: Optional[UID] = None
    inputs: tuple[tuple[str, UID], ...] = ()
    variables: tuple[tuple[str, str], ...] = ()
    outputs: tuple[str, ...] = ("*",)
    priority: int = 0
    retries: int = 3
    cores: int = 1
    memory_mib: int = 0
    disk_mib: int = 0
    wall_time: int = 0
    requirements: str = ""
    expected_host: Optional[UID] = None
    origin: str = ""
    delegation: Optional[UID] = None

    @property
    def datas(self) -> list[UID]:
        """All datas that its works need beside their program."""
        named = [uid for uid in (self.stdin, self.env) if uid is not None]
        return [uid for _, uid in self.inputs] + named


@dataclass(eq=False)
class Submission:
    """What one user sent in one go: one or many works of the same description. Names its works.
    ``vo`` is what the credential showed that went with them.
    """

    uid: UID
    owner: UID
    description: Description
    rights: int
    submitted_at: datetime
    vo: str = ""

    def __repr__(self) -> str:
        return f"<Submission {self.uid} of {self.owner}>"


@dataclass(frozen=True)
class Submitted:
    """What the database has of a submission: whose it is, how it is described, and the arguments
    of those of its works that were asked for.
    """

    owner: str
    description: Description
    arguments: Mapping[str, tuple[str, ...]]


@dataclass(eq=False)
class Work:
    """What a user submitted: lives until its result is fetched and erased.

    ``number`` orders works as they came. ``attempts`` counts its tasks so far, ``failures`` those
    that failed for their host's sake; ``task`` is the live one.
    """

    uid: UID
    number: int
    submission: Submission
    arguments: tuple[str, ...] = ()
    status: WorkStatus = WorkStatus.WAITING
    attempts: int = 0
    failures: int = 0
    task: Optional[Task] = None
    reason: str = ""

    def __repr__(self) -> str:
        return f"<Work {self.uid} {self.status.value}, {self.attempts} tasks so far>"


@dataclass(eq=False)
class Task:
    """One execution of one work on one host, fenced by an epoch that no other task ever has."""

    uid: UID
    work: UID
    host: UID
    epoch: int
    status: TaskStatus
    created_at: datetime
    started_at: Optional[datetime] = None

    def __repr__(self) -> str:
        return f"<Task {self.uid} {self.status.value} on {self.host}>"


EPOCH_BITS = 40


def first_epoch(incarnation: int) -> int:
    """The first task epoch of a server's incarnation; later incarnations and later tasks have
    higher ones.
    """
    return incarnation << EPOCH_BITS


class HostKind(str, Enum):
    """How a worker came to its host."""

    DESKTOP = "desktop"
    HTCONDOR = "htcondor"
    ARC = "arc"
    GRAM = "gram"
    SLURM = "slurm"
    LOCAL = "local"


@dataclass(frozen=True)
class Facts:
    """What a worker tells of its host, and nothing personal (manual, 3.4)."""

    name: str
    cpu: str
    os: str
    cores: int
    memory_mib: int
    disk_mib: int
    kind: str = HostKind.DESKTOP.value
    address: str = ""
    version: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Host:
    """A machine as the server knows it. ``ends_at``: when a pilot's batch job will be over."""

    uid: UID
    owner: UID
    facts: Facts
    first_seen_at: datetime
    last_seen_at: datetime
    ends_at: Optional[datetime] = None
    pilot: Optional[str] = None


@dataclass(frozen=True)
class Site:
    """A place that accepts pilots, how many of ours it may have, and whose works they may run.

    ``max_of_vo`` bounds the pilots of its ``vo`` at all sites together; 0: nothing does.
    ``submits_as``: by whose credential pilots are submitted there: the site's ``robot``, the
    ``user`` whose works they run, or ``either``. ``vo``: whose pilots these are, and so of which a
    user's credential must be by which one is submitted. ``voms``: attributes one of which a work's
    credential must have.
    """

    name: str
    computing_element: str
    max_pilots: int = 10
    max_idle: int = 5
    max_an_hour: int = 100
    vo: str = ""
    certified_users_only: bool = False
    max_of_vo: int = 0
    submits_as: str = "robot"
    voms: tuple[str, ...] = ()
    validated_applications_only: bool = False

    @property
    def wants_credentials(self) -> bool:
        """Whether pilots are submitted there by the credential of whose works they run only."""
        return self.submits_as == "user"


@dataclass(frozen=True)
class Pilot:
    """A batch job whose payload is our worker. ``verifier`` proves its enrolment secret,
    ``session_verifier`` the key that it chose at first contact; ``deadline_at`` is when an unseen
    one is given up. ``started_at`` is when its worker was first heard of, which has so many
    ``cores``; ``account`` is the number under which their idle time is reported. With a
    ``delegation`` it runs the works of that user, and no others.
    """

    stamp: str
    site: str
    owner: UID
    status: PilotStatus
    verifier: str
    submitted_at: datetime
    deadline_at: datetime
    wall_time: int
    reference: str = ""
    session_verifier: str = ""
    host: Optional[UID] = None
    reason: str = ""
    tasks_done: int = 0
    ended_at: Optional[datetime] = None
    started_at: Optional[datetime] = None
    cores: int = 0
    account: Optional[int] = None
    delegation: Optional[UID] = None


@dataclass(frozen=True)
class Usage:
    """What a task used: wall clock, user and system CPU time in seconds, peak memory in KiB."""

    wall: float = 0.0
    user: float = 0.0
    system: float = 0.0
    memory_kib: int = 0


@dataclass(frozen=True)
class Output:
    """A file that a task left behind: stored by the server under its digest."""

    name: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Result:
    """What came of a work. ``reason`` says why there is no exit code."""

    work: UID
    task: Optional[UID]
    status: WorkStatus
    exit_code: Optional[int] = None
    reason: str = ""
    stdout: bytes = b""
    stderr: bytes = b""
    outputs: tuple[Output, ...] = ()
    usage: Usage = Usage()
    host: Optional[UID] = None


def digest(content: bytes) -> str:
    """The SHA-256 of ``content`` as datas are named by it."""
    return hashlib.sha256(content).hexdigest()


def attributes_of(host: Host) -> dict[str, Any]:
    """The host as a ClassAd for requirement expressions: facts under HTCondor's names, then the
    host's own attributes.
    """
    facts = host.facts
    ad: dict[str, Any] = dict(facts.attributes)
    ad.update(
        Name=facts.name,
        Arch=facts.cpu,
        OpSys=facts.os,
        Cpus=facts.cores,
        Memory=facts.memory_mib,
        Disk=facts.disk_mib * 1024,
        HostKind=facts.kind,
        HostUID=host.uid,
        WorkerVersion=facts.version,
    )
    return ad


__all__ = [
    "ANY_PLATFORM",
    "EPOCH_BITS",
    "PUBLIC",
    "UID",
    "Application",
    "Bridge",
    "Credential",
    "Data",
    "Delegation",
    "Description",
    "Facts",
    "Group",
    "Host",
    "HostKind",
    "Offer",
    "Output",
    "Pilot",
    "Platform",
    "Result",
    "Session",
    "Site",
    "Submission",
    "Submitted",
    "Task",
    "Usage",
    "User",
    "UserGroup",
    "Work",
    "attributes_of",
    "digest",
    "first_epoch",
    "new_uid",
]
