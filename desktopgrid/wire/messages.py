"""Every message of the protocol: one frozen dataclass each. The list of them is the protocol;
docs/protocol.md says what they do.

On the wire a message is ``[verb, sequence, body]``, the body a JSON object of its fields, those at
their default left out. Bytes travel as base64. A peer ignores fields that it does not know.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Optional

VERSIONS = (1,)
"""The protocol versions that this code speaks, best first."""

MAX_FRAME = 1 << 20
"""Bytes in a frame. A longer one closes the connection."""

MAX_INLINE = 64 << 10
"""Bytes of standard output, or of standard error, that travel in a message; longer ones go as
outputs.
"""

MAX_OUTPUTS = 2_000
MAX_NAMES = 512 << 10
"""Outputs of a task, and the bytes that the list of them may take in a message."""

MAX_WORKS = 2_000
"""Works in one submission message; a client splits longer sweeps."""


USUAL_QUOTA = -1
"""The quota of who has none of his own."""


class Message:
    """What all messages have: a verb."""

    verb: ClassVar[str] = ""


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
    where they are not 0. ``for_user`` is the work's owner, for the log.
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


# --- client to server: requests, each answered by `reply` or `failure` ----------------------------


class Request(Message):
    """What a client asks; named by (session, sequence), so asking again has no second effect."""


@dataclass(frozen=True)
class Submit(Request):
    """Submit works of one description, one an entry of ``arguments``. The first is
    ``uid``-``first``, or ``uid`` itself if ``single``.

    ``description`` has the fields of model.objects.Description, the application by UID or name.
    ``watch``: tell me (``ended``) what becomes of them. Reply: {"works": how many, "runs_on": a
    sentence on which workers may take them}.
    """

    verb = "submit"
    uid: str
    description: dict[str, Any]
    arguments: tuple[tuple[str, ...], ...] = ((),)
    first: int = 0
    single: bool = False
    watch: bool = False


@dataclass(frozen=True)
class Watch(Request):
    """Tell me what becomes of these works or submissions. Reply: {"ended": [...], "open": [...]}:
    the present; later ones come as ``ended``.
    """

    verb = "watch"
    works: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cancel(Request):
    """Take back works, or all works of a submission. Reply: {"aborted": [...], "final": [...]}."""

    verb = "cancel"
    works: tuple[str, ...]


@dataclass(frozen=True)
class ListObjects(Request):
    """List objects of a kind that the caller may read, a page at a time, newest first.

    ``kind``: works tasks hosts apps datas users groups usergroups sessions sites pilots tokens.
    ``uids``, ``where`` (field = value) narrow it. Reply: {"rows": [...], "next": token or null}.
    """

    verb = "list"
    kind: str
    uids: tuple[str, ...] = ()
    where: dict[str, Any] = field(default_factory=dict)
    limit: int = 1_000
    after: Optional[str] = None


@dataclass(frozen=True)
class GetResults(Request):
    """The results of works. Reply: {"results": [...]} with model.objects.Result's fields, stdout
    and stderr as base64.
    """

    verb = "results"
    works: tuple[str, ...]


@dataclass(frozen=True)
class Why(Request):
    """Why a work, or a pilot, is where it is. Reply: {"sentences": [...]}."""

    verb = "why"
    uid: str


@dataclass(frozen=True)
class Stats(Request):
    """How the grid does. Reply: numbers by name."""

    verb = "stats"


@dataclass(frozen=True)
class SendApplication(Request):
    """Insert an application, or another platform's executable of it; ``data`` is a data that the
    caller may read.

    Reply: {"uid", "name", "rights"}.
    """

    verb = "sendapp"
    uid: str
    name: str
    cpu: str
    os: str
    data: str
    rights: Optional[int] = None


@dataclass(frozen=True)
class SendData(Request):
    """Announce a data; its content is then PUT to /v1/datas/UID. Reply: {"uid", "available"}: true
    if the server has such content already.

    With a ``uri`` it stays there, and workers fetch it. ``replaces``: what the caller has under the
    same name, ``cpu``, ``os`` and place is removed.
    """

    verb = "senddata"
    uid: str
    name: str
    sha256: str
    size: int
    type: str = ""
    rights: int = 0o755
    uri: str = ""
    cpu: str = ""
    os: str = ""
    replaces: bool = False


@dataclass(frozen=True)
class SendUser(Request):
    """Insert a user. ``subjects``: as for ``changeuser``. Reply: {"uid", "login"}."""

    verb = "senduser"
    uid: str
    login: str
    level: str = "standard"
    password: str = ""
    email: str = ""
    group: Optional[str] = None
    subjects: tuple[str, ...] = ()


@dataclass(frozen=True)
class ChangeUser(Request):
    """Change what is not None of a user, named by UID or login; an empty ``group`` is none. It
    holds at once, also for his open sessions and his workers. Reply: {"uid", "login", "level"}.

    ``quota_mib``: what his datas may take on the server; 0 all there is, USUAL_QUOTA what
    everybody's may. Subjects are names in certificates, or certificates in PEM.
    """

    verb = "changeuser"
    user: str
    level: Optional[str] = None
    group: Optional[str] = None
    email: Optional[str] = None
    quota_mib: Optional[int] = None
    add_subjects: tuple[str, ...] = ()
    remove_subjects: tuple[str, ...] = ()


@dataclass(frozen=True)
class SendToken(Request):
    """A new token for a user: its id is ``uid``, ``verifier`` the hex SHA-256 of a secret that only
    the sender knows. ``label`` is for people; ``scope`` (words of model.rights.Scope) what it is
    good for, everything unless said, and never more than the asker's own is.

    Reply: {"uid"}. For oneself, or by a super user for another ``user``, named by UID or login.
    """

    verb = "sendtoken"
    uid: str
    verifier: str
    user: Optional[str] = None
    lifetime: Optional[int] = None
    label: str = ""
    scope: str = ""


@dataclass(frozen=True)
class SendGroup(Request):
    """Insert a session, a group of works or a user group: ``kind`` is ``session``, ``group`` or
    ``usergroup``. Reply: {"uid", "name"}.
    """

    verb = "sendgroup"
    uid: str
    kind: str
    name: str


@dataclass(frozen=True)
class Chmod(Request):
    """Change the access rights of a data, a session or a group: ``rights`` as people write them
    (model/modes.py). Reply: {"uid", "rights"}, as they are now.
    """

    verb = "chmod"
    uid: str
    rights: str


@dataclass(frozen=True)
class Remove(Request):
    """Remove objects of any kind; works that are open are cancelled first. Reply: {"removed":
    [...]}.
    """

    verb = "remove"
    uids: tuple[str, ...]


@dataclass(frozen=True)
class Revoke(Request):
    """Revoke a user or a token: its sessions end now and its workers' tasks are rescheduled. Reply:
    {"revoked": uid}.
    """

    verb = "revoke"
    uid: str


@dataclass(frozen=True)
class SubmitPilots(Request):
    """Record pilots for a site within its caps, all or none. ``pilots``: stamp -> hex SHA-256 of an
    enrolment secret made by the caller.

    ``queue_limit`` and ``wall_time`` in seconds bound how long the secret is good for. Reply:
    {"site": {...}, "stamps": [...]}.
    """

    verb = "submitpilots"
    site: str
    pilots: dict[str, str]
    queue_limit: int = 86_400
    wall_time: int = 86_400


@dataclass(frozen=True)
class PilotReport(Request):
    """What a site says of our pilots: stamp -> {"status", "reference", "reason"}. Reply: {"stamps":
    status now}.
    """

    verb = "pilotreport"
    pilots: dict[str, dict[str, str]]


@dataclass(frozen=True)
class DrainPilots(Request):
    """First phase of removal: the pilots' workers take no more tasks. Reply: {stamp: "idle" |
    "busy" | "gone"}.
    """

    verb = "drainpilots"
    stamps: tuple[str, ...]


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
