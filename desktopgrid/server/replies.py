"""What each request is answered with, as types: they describe the replies to those who read the
API's document, and nobody else. A request without an entry is answered with some object.
"""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

from desktopgrid.wire import messages as m


class Submitted(TypedDict):
    """So many works, on which workers they may run, and whether they were brought in before."""

    works: int
    runs_on: str
    was_there: NotRequired[bool]


class EndedWork(TypedDict):
    """A work that is over."""

    work: str
    status: str


class Watched(TypedDict):
    """What was asked for, as it is now."""

    open: list[str]
    ended: list[EndedWork]


class Aborted(TypedDict):
    """The works that were open and are no more."""

    aborted: list[str]


class Page(TypedDict):
    """Rows of one kind; ``next`` is ``after`` of the next page."""

    rows: list[dict[str, Any]]
    next: str | None


class StoredFile(TypedDict):
    """An output that the server has."""

    name: str
    sha256: str
    size: int


class WorkResult(TypedDict):
    """The result of a work; what the program wrote as base64."""

    work: str
    task: str | None
    status: str
    exit_code: int | None
    reason: str
    stdout: str
    stderr: str
    outputs: list[StoredFile]
    usage: list[float]
    host: str


class Results(TypedDict):
    """Results; with ``more``, some were left out and are to be asked for again."""

    results: list[WorkResult]
    more: bool


class Explained(TypedDict):
    """Why it is where it is."""

    sentences: list[str]


class Used(TypedDict):
    """Sums over tasks and pilots. Waste is in hours of cores by cause; half of the works waited for
    less than ``waited_p50_s``.
    """

    works: int
    tasks: int
    core_hours: float
    cpu_hours: float
    efficiency: float | None
    wasted_core_hours: float
    waste: dict[str, float]
    waited_p50_s: int | None
    waited_p95_s: int | None
    pilots: int
    doubtful: int


class Reported(TypedDict):
    """What was used; a row has what it is by, and such sums as the total."""

    since: str
    until: str
    rows: list[dict[str, Any]]
    total: Used


class UsageRecord(TypedDict):
    """What one task used; times in seconds, since the epoch where they are moments."""

    epoch: int
    task: str
    cause: str
    wall: float
    cpu: float
    memory_kib: int
    started_at: float | None
    ended_at: float
    host: str
    user: str
    group: str
    vo: str
    site: str
    route: str
    application: str
    kind: str
    cores: int
    subject: str


class RecordsOfUse(TypedDict):
    """Records, which tasks of those asked for go on, and what to ask for next."""

    records: list[UsageRecord]
    open: list[int]
    after: dict[str, int]
    more: bool


class ApplicationSent(TypedDict):
    """The application, its rights as a number."""

    uid: str
    name: str
    rights: int


class DataSent(TypedDict):
    """The data; what is not available yet is to be uploaded."""

    uid: str
    available: bool


class UserSent(TypedDict):
    """The user."""

    uid: str
    login: str
    level: NotRequired[str]
    usergroup: NotRequired[str]
    email: NotRequired[str]
    quota_mib: NotRequired[int | None]


class GroupSent(TypedDict):
    """The session, group or user group."""

    uid: str
    name: str


class TokenSent(TypedDict):
    """The token."""

    uid: str


class Changed(TypedDict):
    """The access rights, as they are now."""

    uid: str
    rights: str


class Removed(TypedDict):
    """What is gone."""

    removed: list[str]


class Revoked(TypedDict):
    """Who or what is revoked."""

    revoked: str


class Situation(TypedDict):
    """What model/demand.py says of it, times as seconds since 1970."""

    at: float
    incarnation: int
    demands: list[dict[str, Any]]
    supplies: list[dict[str, Any]]
    sites: list[dict[str, Any]]
    news: list[dict[str, Any]]
    left_off: int
    others: int
    submitted: int
    aborted: int


class PilotsRecorded(TypedDict):
    """The pilots at a site."""

    site: str
    stamps: list[str]


class PilotsReported(TypedDict):
    """The status of each pilot by now."""

    stamps: dict[str, str]


class PilotsDraining(TypedDict):
    """What each pilot does."""

    pilots: dict[str, str]


class SitesReported(TypedDict):
    """The sites of which the grid will tell what was decided."""

    sites: list[str]


class Validated(TypedDict):
    """The application, and whether an administrator stands for its executables."""

    uid: str
    name: str
    validated: bool


class Offered(TypedDict):
    """The offers of a bridge that nobody has taken, and those that users are signing for."""

    bridge: str
    open: list[str]
    taken: list[str]


class OfferTaken(TypedDict):
    """What is to be signed: a request (PKCS #10, PEM), with the bridge's signature of it."""

    offer: str
    bridge: str
    request: str
    signature: str


class Delegated(TypedDict):
    """The delegation, whom it proves, and its VOMS attributes that were verified; ``notes`` say
    which were not.
    """

    uid: str
    status: str
    subject: str
    expires_at: str
    vo: str
    attributes: list[str]
    notes: list[str]


class DelegationFetched(TypedDict):
    """What a bridge was given: certificates, or what only it can open."""

    uid: str
    kind: str
    content: str
    generation: int
    offer: str
    user: str
    subject: str
    expires_at: str
    vo: str
    attributes: list[str]


class DelegationsReported(TypedDict):
    """The status of each delegation by now."""

    delegations: dict[str, str]


REPLIES: dict[type[m.Request], Any] = {
    m.Submit: Submitted,
    m.Watch: Watched,
    m.Cancel: Aborted,
    m.ListObjects: Page,
    m.GetResults: Results,
    m.Why: Explained,
    m.Stats: dict[str, float | None],
    m.Report: Reported,
    m.UsageRecords: RecordsOfUse,
    m.SendApplication: ApplicationSent,
    m.SendData: DataSent,
    m.SendGroup: GroupSent,
    m.SendUser: UserSent,
    m.ChangeUser: UserSent,
    m.SendToken: TokenSent,
    m.Revoke: Revoked,
    m.Chmod: Changed,
    m.Remove: Removed,
    m.Demand: Situation,
    m.SubmitPilots: PilotsRecorded,
    m.PilotReport: PilotsReported,
    m.DrainPilots: PilotsDraining,
    m.SiteReport: SitesReported,
    m.Validate: Validated,
    m.SendOffers: Offered,
    m.TakeOffer: OfferTaken,
    m.Delegate: Delegated,
    m.FetchDelegation: DelegationFetched,
    m.DelegationReport: DelegationsReported,
}
