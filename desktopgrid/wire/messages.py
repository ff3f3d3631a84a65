"""Every message of the protocol: one frozen dataclass each; what clients ask is in requests.py.
The list of them is the protocol; docs/protocol.md says what they do.

On the wire a message is ``[verb, sequence, body]``, the body a JSON object of its fields, those at
their default left out. Bytes travel as base64. A peer ignores fields that it does not know.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional

from desktopgrid.wire.message import (
    MAX_FRAME,
    MAX_INLINE,
    MAX_NAMES,
    MAX_OUTPUTS,
    MAX_WORKS,
    USUAL_QUOTA,
    VERSIONS,
    Message,
)
from desktopgrid.wire.requests import (
    Cancel,
    ChangeUser,
    Chmod,
    Delegate,
    DelegationReport,
    Demand,
    DrainPilots,
    FetchDelegation,
    GetResults,
    ListObjects,
    PilotReport,
    Remove,
    Report,
    Request,
    Revoke,
    SendApplication,
    SendData,
    SendGroup,
    SendOffers,
    SendToken,
    SendUser,
    SiteReport,
    Stats,
    Submit,
    SubmitPilots,
    TakeOffer,
    UsageRecords,
    Validate,
    Watch,
    Why,
)

__all__ = [
    "MAX_FRAME",
    "MAX_INLINE",
    "MAX_NAMES",
    "MAX_OUTPUTS",
    "MAX_WORKS",
    "USUAL_QUOTA",
    "VERSIONS",
    "Abandon",
    "Alive",
    "Assign",
    "Bye",
    "Cancel",
    "Challenge",
    "ChangeUser",
    "Chmod",
    "Delegate",
    "DelegationReport",
    "Demand",
    "Drain",
    "DrainPilots",
    "Draining",
    "Ended",
    "Failure",
    "FetchDelegation",
    "File",
    "Finished",
    "GetResults",
    "Held",
    "Hello",
    "ListObjects",
    "Message",
    "PilotReport",
    "Recall",
    "Refused",
    "Registered",
    "Remove",
    "Reply",
    "Report",
    "Request",
    "Returned",
    "Revoke",
    "SendApplication",
    "SendData",
    "SendGroup",
    "SendOffers",
    "SendToken",
    "SendUser",
    "SiteReport",
    "Started",
    "Stats",
    "Stored",
    "Submit",
    "SubmitPilots",
    "TakeOffer",
    "UsageRecords",
    "Validate",
    "Watch",
    "Welcome",
    "Why",
]

# --- both ways, outside the numbering -------------------------------------------------------------


@dataclass(frozen=True)
class Challenge(Message):
    """Server, first: what it speaks, and the nonce that the proof must answer."""

    verb = "challenge"
    versions: tuple[int, ...]
    server: str
    incarnation: int
    nonce: str


@dataclass(frozen=True)
class Held(Message):
    """A task that a worker has, running or waiting there or with its result not acknowledged yet
    (part of hello).
    """

    task: str
    epoch: int
    status: str = "RUNNING"


@dataclass(frozen=True)
class Hello(Message):
    """Peer, first: who it is, and what it saw last.

    ``kind`` is ``client``, ``worker`` or ``pilot``; ``identity`` is the UID of a token, or the
    stamp of a pilot; ``proof`` is the hex HMAC-SHA256 under the secret's SHA-256 (see
    :mod:`desktopgrid.wire.proof`). ``session`` is a name that the peer chose for its numbering,
    ``seen`` the highest message of the server that it handled there. Workers add their host and the
    tasks they hold; a pilot at first contact (``proved_by`` = ``enrolment``) also the ``key`` that
    it will prove itself by from then on.
    """

    verb = "hello"
    version: int
    kind: str
    identity: str
    proof: str
    session: str
    seen: int = 0
    software: str = ""
    host: Optional[str] = None
    facts: Optional[dict[str, Any]] = None
    lifetime: Optional[int] = None
    held: tuple[Held, ...] = ()
    proved_by: str = "token"
    key: str = ""


@dataclass(frozen=True)
class Welcome(Message):
    """Server: the peer is who it says. ``seen`` is the highest message of the peer that the server
    handled in this session; the peer sends again what is above it. ``resumed`` false: the server
    has no memory of the session and numbers anew. ``alive_period`` is in seconds and the server's
    to set. ``ticket`` authorises the session's HTTPS transfers, which go to the port ``https_port``
    of the same host (0: that of this connection); contents of ``direct_from`` bytes and more go to
    another store, if that is not 0. ``udp_port``, if not 0, takes a worker's datagrams.
    """

    verb = "welcome"
    resumed: bool
    seen: int
    alive_period: float
    ticket: str
    user: str
    level: int
    direct_from: int = 0
    https_port: int = 0
    udp_port: int = 0


@dataclass(frozen=True)
class Refused(Message):
    """Server, last: why the connection is closed. ``retry_after`` in seconds, 0 when trying again
    is useless.
    """

    verb = "refused"
    code: str
    reason: str
    retry_after: float = 0.0


# --- worker to server -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Alive(Message):
    """A worker says that it lives; renews the lease of its host and so of its tasks.
    ``free_disk_mib`` is what is left.
    """

    verb = "alive"
    load: float = 0.0
    free_disk_mib: int = 0


@dataclass(frozen=True)
class Started(Message):
    """A worker started ``task``. May be left out for a task that ended at once."""

    verb = "started"
    task: str
    epoch: int


@dataclass(frozen=True)
class Registered(Message):
    """A worker registers a job that it runs once more, so that the registry stays true (JobMon).
    Durable when acknowledged.
    """

    verb = "registered"
    task: str
    epoch: int


@dataclass(frozen=True)
class Stored(Message):
    """A file that a task left behind and that the worker has uploaded (part of finished)."""

    name: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Finished(Message):
    """A worker is through with ``task``, and keeps the result until this is acknowledged.

    ``outcome``: ``completed`` (the program ended by itself; ``exit_code``, negative for a signal),
    ``limit`` (it broke a limit; the work's own fault), ``failed`` (the host could not run it:
    staging, spawning; another host may), ``aborted`` (stopped because the server said so).
    ``usage``: wall, user, system in seconds, peak memory in KiB.
    """

    verb = "finished"
    task: str
    epoch: int
    outcome: str = "completed"
    exit_code: Optional[int] = None
    reason: str = ""
    stdout: bytes = b""
    stderr: bytes = b""
    outputs: tuple[Stored, ...] = ()
    usage: tuple[float, float, float, int] = (0.0, 0.0, 0.0, 0)


@dataclass(frozen=True)
class Returned(Message):
    """A worker gives ``task`` back unfinished (recalled, draining, told to go); it is rescheduled
    at once, and nobody's fault.
    """

    verb = "returned"
    task: str
    epoch: int
    reason: str = ""


@dataclass(frozen=True)
class Draining(Message):
    """A worker takes no more tasks; it says ``bye`` when the last has ended.

    ``is_told``: it does not leave by itself, its batch system or its user told it to go.
    """

    verb = "draining"
    reason: str = ""
    is_told: bool = False


@dataclass(frozen=True)
class Bye(Message):
    """A peer leaves for good: its session is forgotten and its host has no tasks."""

    verb = "bye"
    reason: str = ""


# --- server to worker -----------------------------------------------------------------------------


@dataclass(frozen=True)
class File(Message):
    """A data that a task needs (part of assign): where it goes, and what it must be. ``uri``: where
    it is, if the server has it not.
    """

    name: str
    data: str
    sha256: str
    size: int
    uri: str = ""


@dataclass(frozen=True)
class Assign(Message):
    """The server gives a worker a task. It runs it when a slot is free, oldest first.

    ``executable`` is the program; ``env`` zips are unpacked in the task's directory; ``inputs`` lie
    there under their names. ``wall_time`` in seconds, ``memory_mib`` and ``disk_mib`` are limits
    where they are not 0. ``for_user`` is the work's owner, and ``subject`` his name in
    certificates, for the log: who is to be asked, and stopped; ``origin`` where the work comes
    from.
    """

    verb = "assign"
    task: str
    epoch: int
    work: str
    application: str
    executable: File
    arguments: tuple[str, ...] = ()
    stdin: Optional[File] = None
    env: Optional[File] = None
    inputs: tuple[File, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()
    outputs: tuple[str, ...] = ("*",)
    cores: int = 1
    memory_mib: int = 0
    disk_mib: int = 0
    wall_time: int = 0
    for_user: str = ""
    origin: str = ""
    subject: str = ""


@dataclass(frozen=True)
class Abandon(Message):
    """The server wants no result of ``task``: stop it, and forget it without an answer if it is
    unknown.
    """

    verb = "abandon"
    task: str
    epoch: int
    reason: str = ""


@dataclass(frozen=True)
class Recall(Message):
    """The server wants ``task`` back if it has not started; the worker answers ``returned``, or
    nothing if it runs already.
    """

    verb = "recall"
    task: str
    epoch: int


@dataclass(frozen=True)
class Drain(Message):
    """The server asks a worker to take no more tasks, and to go when the last has ended."""

    verb = "drain"
    reason: str = ""


# --- server to client -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Reply(Message):
    """The answer to the request with sequence ``to``."""

    verb = "reply"
    to: int
    body: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Failure(Message):
    """Why the request with sequence ``to`` was refused; nothing was changed."""

    verb = "failure"
    to: int
    code: str
    reason: str


@dataclass(frozen=True)
class Ended(Message):
    """A watched work is through; small output comes along, the rest stands under the server's
    results.
    """

    verb = "ended"
    work: str
    status: str
    exit_code: Optional[int] = None
    reason: str = ""
    stdout: bytes = b""
    stderr: bytes = b""
    outputs: tuple[Stored, ...] = ()
    host: str = ""
