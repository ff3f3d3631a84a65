"""The grid's record of pilots, as who provisions them sees it.

The server keeps the record and holds the caps; what goes on at the sites is the business of
:mod:`pilot.factory`, which asks here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from desktopgrid.client.demand import situation_of
from desktopgrid.client.grid import Grid
from desktopgrid.client.replies import field
from desktopgrid.link.identity import Identity
from desktopgrid.model.demand import Situation
from desktopgrid.model.errors import UnknownObject
from desktopgrid.model.lifecycle import FINAL_PILOTS, PilotStatus
from desktopgrid.model.objects import new_uid
from desktopgrid.wire import messages as m
from desktopgrid.wire.proof import new_secret, verifier_of

PilotIdentity = Identity
"""Who a pilot is to the grid at its first contact; its ``identity`` is its stamp."""

STAMPS_A_REQUEST = 1_000


@dataclass(frozen=True)
class RecordedPilot:
    """A pilot as the grid has it on record; ``tasks`` are those that its worker has now."""

    stamp: str
    site: str
    status: PilotStatus
    reference: str
    reason: str
    owner: str
    host: str
    tasks: int
    tasks_done: int
    submitted_at: datetime
    is_connected: bool
    delegation: str = ""
    """By which it was submitted; none: by its site's own credential."""

    @property
    def is_over(self) -> bool:
        """Whether nothing will become of it any more."""
        return self.status in FINAL_PILOTS


@dataclass(frozen=True)
class Told:
    """What there is to tell the grid about a pilot; what is left empty stays as it is."""

    status: PilotStatus | None = None
    reference: str = ""
    reason: str = ""


class PilotRecord:
    """Pilots of a grid: recorded within the caps, told about, drained."""

    def __init__(self, grid: Grid) -> None:
        self._session = grid.session
        self._grid = grid

    def __repr__(self) -> str:
        return f"<PilotRecord of {self._grid!r}>"

    def mint(self, count: int, mark: str = "") -> list[PilotIdentity]:
        """Identities for ``count`` new pilots, which the grid does not know yet; their stamps begin
        with ``mark``.

        The enrolment secrets are made here; the server is shown their verifiers only.
        """
        mine = self._session.identity
        return [
            Identity(mine.servers, "pilot", f"{mark}{new_uid()}", new_secret(), mine.ca)
            for _ in range(count)
        ]

    def add(
        self,
        site: str,
        identities: Sequence[PilotIdentity],
        queue_limit: timedelta,
        wall_time: timedelta,
        delegation: str | None = None,
    ) -> None:
        """Record these pilots, all or none: raises LimitExceeded where a cap of the site forbids,
        AccessDenied where the site does not take them by this credential.

        From here on each of the secrets enrols one pilot, until both limits are over. With a
        ``delegation``, which its bridge alone may name, they run the works of its user.
        """
        verifiers = {pilot.identity: verifier_of(pilot.secret) for pilot in identities}
        limits = (int(queue_limit.total_seconds()), int(wall_time.total_seconds()))
        self._session.ask(m.SubmitPilots(site, verifiers, *limits, delegation=delegation))

    @property
    def user(self) -> str:
        """The UID of whose pilots are recorded here."""
        return self._session.welcome.user

    def pilots(
        self, stamps: Sequence[str] = (), site: str | None = None, is_open: bool | None = None
    ) -> list[RecordedPilot]:
        """The pilots that one may see: all, or those named, or those of ``site``, or the open
        ones.
        """
        where: dict[str, Any] = {"site": site} if site else {}
        if is_open is not None:
            where["is_open"] = is_open
        return [
            _recorded(row)
            for some in (_portions(stamps) if stamps else [()])
            for row in self._grid.objects("pilots", some, **where)
        ]

    def situation(self, since: datetime | None = None) -> Situation:
        """Demand and supply as the grid knows them now, with what happened to pilots ``since``."""
        at = since.timestamp() if since is not None else 0.0
        return situation_of(self._session.ask(m.Demand(at)))

    def explain(self, sites: Mapping[str, Sequence[str]]) -> None:
        """Leave with the grid what was decided about sites, for whoever asks why."""
        self._session.ask(m.SiteReport({site: tuple(said) for site, said in sites.items()}))

    def check_site(self, site: str) -> None:
        """Raises UnknownObject where the grid has no such site."""
        if not list(self._grid.objects("sites", (site,))):
            known = ", ".join(str(row["uid"]) for row in self._grid.objects("sites")) or "none"
            raise UnknownObject(f"the grid has no site {site!r}; sites are: {known}")

    def tell(self, told: Mapping[str, Told]) -> dict[str, PilotStatus]:
        """Report what sites say, by stamp: the statuses that the grid has now.

        Of a pilot that is over the grid believes nothing any more.
        """
        known: dict[str, PilotStatus] = {}
        for stamps in _portions(list(told)):
            reports = {stamp: _report(told[stamp]) for stamp in stamps}
            reply = field(self._session.ask(m.PilotReport(reports)), "stamps", dict)
            known |= {stamp: PilotStatus(status) for stamp, status in reply.items()}
        return known

    def drain(self, stamps: Sequence[str]) -> dict[str, str]:
        """Ask the pilots' workers to take no more tasks: ``idle``, ``busy``, ``gone`` or
        ``unseen``, by stamp. Asking again is how one learns more.
        """
        answers: dict[str, str] = {}
        for some in _portions(stamps):
            answers |= field(self._session.ask(m.DrainPilots(some)), "pilots", dict)
        return answers

    def withdraw(self, stamps: Sequence[str]) -> list[str]:
        """Those of these pilots that are over now, because their workers have made no contact; the
        others go on, with whatever they do.
        """
        answers: dict[str, str] = {}
        for some in _portions(stamps):
            asked = m.DrainPilots(some, withdraw=True)
            answers |= field(self._session.ask(asked), "pilots", dict)
        return [stamp for stamp, answer in answers.items() if answer == "gone"]


def _recorded(row: Mapping[str, Any]) -> RecordedPilot:
    return RecordedPilot(
        stamp=str(row["uid"]),
        site=str(row["site"]),
        status=PilotStatus(row["status"]),
        reference=str(row.get("reference") or ""),
        reason=str(row.get("reason") or ""),
        owner=str(row.get("owner") or ""),
        host=str(row.get("host") or ""),
        tasks=int(row.get("tasks") or 0),
        tasks_done=int(row.get("tasks_done") or 0),
        submitted_at=datetime.fromisoformat(str(row["submitted_at"])),
        is_connected=bool(row.get("is_connected")),
        delegation=str(row.get("delegation") or ""),
    )


def _report(told: Told) -> dict[str, str]:
    said = {"reference": told.reference, "reason": told.reason}
    said["status"] = told.status.value if told.status is not None else ""
    return {name: value for name, value in said.items() if value}


def _portions(stamps: Collection[str]) -> Iterator[tuple[str, ...]]:
    ordered = tuple(stamps)
    for start in range(0, len(ordered), STAMPS_A_REQUEST):
        yield ordered[start : start + STAMPS_A_REQUEST]
