"""What a client may ask of the server: each request is answered by `reply` or `failure`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional

from desktopgrid.wire.message import Message


class Request(Message):
    """What a client asks; named by (session, sequence), so asking again has no second effect."""


@dataclass(frozen=True)
class Submit(Request):
    """Submit works of one description, one an entry of ``arguments``. The first is
    ``uid``-``first``, or ``uid`` itself if ``single``.

    ``description`` has the fields of model.objects.Description, the application by UID or name.
    One with an ``origin`` is single, and its UID is made of it (model/origins.py). ``watch``: tell
    me (``ended``) what becomes of them. Reply: {"works": how many, "runs_on": a sentence on which
    workers may take them, "was_there": true if one of this origin was there}.
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
class Report(Request):
    """What was used from ``since`` to ``until``, days in UTC and both included (2026-11-25; this
    month if empty), divided ``by`` some of model.accounting.GROUPINGS: one's own use, a super user
    everybody's.

    Reply: {"since", "until", "rows": [{what it is by, and sums}], "total": {sums}}; sums are those
    of model.accounting.Tally.
    """

    verb = "report"
    since: str = ""
    until: str = ""
    by: tuple[str, ...] = ()


@dataclass(frozen=True)
class UsageRecords(Request):
    """A record for each task that used a core, in the order in which they were given out: those
    after the epochs that ``after`` has by shard, or if ``open`` is not empty of those epochs.

    Reply: {"records": [...], "open": epochs of tasks that go on and are to be asked for again,
    "after": what to ask for next, "more": whether there is more at once}.
    """

    verb = "usagerecords"
    after: dict[str, int] = field(default_factory=dict)
    open: tuple[int, ...] = ()


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
    holds at once, also for his open sessions and his workers. Reply: {"uid", "login", "level",
    "usergroup", "email", "quota_mib"}, as they are now; no quota is null.

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
class Demand(Request):
    """What waits for pilots of the caller's, what there is to run it, and what became of pilots
    since the time ``since`` (of the server's clock; 0: in the last hour). Reply: the fields of
    model.demand.Situation.
    """

    verb = "demand"
    since: float = 0.0


@dataclass(frozen=True)
class SubmitPilots(Request):
    """Record pilots for a site within its caps, all or none. ``pilots``: stamp -> hex SHA-256 of an
    enrolment secret made by the caller.

    ``queue_limit`` and ``wall_time`` in seconds bound how long the secret is good for. With a
    ``delegation``, which its bridge submits them by, they run its user's works and no others.
    Reply: {"site": {...}, "stamps": [...]}.
    """

    verb = "submitpilots"
    site: str
    pilots: dict[str, str]
    queue_limit: int = 86_400
    wall_time: int = 86_400
    delegation: Optional[str] = None


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
    "busy" | "gone" | "unseen"}.

    ``withdraw``: only those are meant that have made no contact, and they may make none any more:
    they are ``gone``; the others go on.
    """

    verb = "drainpilots"
    stamps: tuple[str, ...]
    withdraw: bool = False


@dataclass(frozen=True)
class SiteReport(Request):
    """What the caller has decided about sites, and why, in sentences: `why` tells them to whoever
    asks for the site. Reply: {"sites": the names that the grid knows}.
    """

    verb = "sitereport"
    sites: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Validate(Request):
    """An administrator says that the executables of ``application`` (UID or name), as they are now,
    may run on service grids; or with ``is_valid`` false, that they may not. Reply: {"uid", "name",
    "validated"}.
    """

    verb = "validate"
    application: str
    is_valid: bool = True


@dataclass(frozen=True)
class SendOffers(Request):
    """A bridge says by which keys it is known (base64 of 32 bytes each), and offers keys that users
    may sign for: name -> {"request": PKCS #10 in PEM, "signature": by the signing key, in base64}.

    With other keys than before its earlier offers are void. Reply: {"bridge", "open": the names of
    those that nobody has taken, "taken": of those that users are signing for}.
    """

    verb = "sendoffers"
    signing_key: str
    sealing_key: str
    offers: dict[str, dict[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class TakeOffer(Request):
    """Have a key of the bridge ``bridge`` (UID or login) to sign for; nobody else gets this one.
    Reply: {"offer", "bridge", "request", "signature"}.
    """

    verb = "takeoffer"
    bridge: str


@dataclass(frozen=True)
class Delegate(Request):
    """Give a bridge a credential of the caller's, or with the ``uid`` of an earlier one renew it.

    ``kind`` is ``proxy``: ``content`` is the proxy that was signed for ``offer``, and its chain, in
    PEM; or ``token``: what was sealed to the bridge, in base64, good for ``lifetime`` seconds.
    Reply: {"uid", "status", "subject", "expires_at", "vo", "attributes", "notes"}.
    """

    verb = "delegate"
    uid: str
    bridge: str
    content: str
    kind: str = "proxy"
    offer: str = ""
    lifetime: int = 0
    label: str = ""


@dataclass(frozen=True)
class FetchDelegation(Request):
    """A bridge fetches what it was given. Reply: {"uid", "kind", "content", "generation", "offer",
    "user", "subject", "expires_at", "vo", "attributes"}.
    """

    verb = "fetchdelegation"
    uid: str


@dataclass(frozen=True)
class DelegationReport(Request):
    """What became of delegations at their bridge: uid -> {"status": ``Active`` or ``Refused``,
    "generation": which was meant, "reason"}. Reply: {"delegations": status now}.
    """

    verb = "delegationreport"
    delegations: dict[str, dict[str, str]]
