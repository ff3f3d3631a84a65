"""Pilots as objects of the grid: recorded within their site's caps, enrolled once, drained before
they are removed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from desktopgrid.model.errors import (
    AccessDenied,
    AlreadyThere,
    BadRequest,
    LimitExceeded,
    NotAuthenticated,
    UnknownObject,
)
from desktopgrid.model.lifecycle import (
    FINAL_PILOTS,
    PILOTS,
    PilotEvent,
    PilotStatus,
    TaskEvent,
    after,
)
from desktopgrid.model.objects import Pilot, Site
from desktopgrid.model.rights import Scope, UserLevel, Who
from desktopgrid.server import changes as c
from desktopgrid.server import siterules
from desktopgrid.server.hosts import end_pilot, host_left
from desktopgrid.server.state import Grid, Outcome, check_uid, clean, pilot_row
from desktopgrid.wire import messages as m
from desktopgrid.wire.proof import is_proved

LONGEST_TIME = 10**8
"""Seconds that a pilot may wait, and run."""
GRACE = timedelta(minutes=10)
"""How long beyond its queue limit and wall time a pilot's record may stay open."""


def submit(
    grid: Grid, who: Who, session: str, asked: m.SubmitPilots, now: datetime, out: Outcome
) -> dict[str, Any]:
    """Pilots are recorded, all or none: the caps hold for everybody who asks, in the order in which
    they ask.
    """
    site = grid.sites.get(asked.site)
    if site is None:
        known = ", ".join(sorted(grid.sites)) or "none"
        raise UnknownObject(f"there is no site {asked.site!r}; sites are: {known}")
    if not asked.pilots:
        raise BadRequest("no pilots were asked for")
    for stamp, verifier in asked.pilots.items():
        if check_uid(stamp) in grid.pilots:
            raise AlreadyThere(f"there is a pilot {stamp} already")
        if len(verifier) != 64 or set(verifier) - set("0123456789abcdef"):
            raise BadRequest("a verifier must be 64 hexadecimal digits")
    if not (0 < asked.wall_time <= LONGEST_TIME and 0 < asked.queue_limit <= LONGEST_TIME):
        raise BadRequest(f"queue_limit and wall_time are 1 to {LONGEST_TIME} seconds")
    _check_credential(grid, who, site, asked.delegation, now)
    check_caps(grid, site, len(asked.pilots), now)
    deadline = now + timedelta(seconds=asked.queue_limit + asked.wall_time)
    for stamp, verifier in asked.pilots.items():
        pilot = Pilot(
            stamp,
            site.name,
            who.user,
            PilotStatus.SUBMITTED,
            verifier,
            now,
            deadline,
            asked.wall_time,
            delegation=asked.delegation,
        )
        grid.pilots[stamp] = pilot
        out.changes.append(
            c.PilotInserted(
                stamp,
                site.name,
                who.user,
                pilot.status.value,
                verifier,
                now.timestamp(),
                deadline.timestamp(),
                asked.wall_time,
                asked.delegation,
            )
        )
    return {"site": site.name, "stamps": sorted(asked.pilots)}


@dataclass(frozen=True)
class Counts:
    """How many pilots count against each cap of a site."""

    open: int = 0
    idle: int = 0
    an_hour: int = 0
    of_vo: int = 0

    def against(self, site: Site) -> Iterator[tuple[int, int, str]]:
        """How many there are, how many there may be, and what that cap is called."""
        yield self.open, site.max_pilots, "max_pilots"
        yield self.idle, site.max_idle, "max_idle"
        yield self.an_hour, site.max_an_hour, "max_an_hour"
        if site.vo and site.max_of_vo:
            yield self.of_vo, site.max_of_vo, "max_of_vo"


def counts(grid: Grid, now: datetime) -> dict[str, Counts]:
    """What counts against the caps of each site, in one walk over the pilots."""
    open_: Counter[str] = Counter()
    idle: Counter[str] = Counter()
    recent: Counter[str] = Counter()
    of_vo: Counter[str] = Counter()
    hour_ago = now - timedelta(hours=1)
    vos = {site.name: site.vo for site in grid.sites.values()}
    for pilot in grid.pilots.values():
        if pilot.submitted_at > hour_ago:
            recent[pilot.site] += 1
        if pilot.status in FINAL_PILOTS:
            continue
        open_[pilot.site] += 1
        of_vo[vos.get(pilot.site, "")] += 1
        if pilot.status is not PilotStatus.RUNNING:
            idle[pilot.site] += 1
    return {
        name: Counts(open_[name], idle[name], recent[name], of_vo[vo]) for name, vo in vos.items()
    }


def _check_credential(grid: Grid, who: Who, site: Site, uid: str | None, now: datetime) -> None:
    """Raises AccessDenied where pilots of ``site`` are not to be submitted by this credential: the
    site's own, or the delegation ``uid`` of a user whose works wait for it (XW-PIL-3).
    """
    if uid is None:
        if site.wants_credentials:
            raise AccessDenied(
                f"site {site.name} takes pilots by their user's credential only"
                " (submits_as = user): name a delegation"
            )
        return
    found = grid.delegations.get(uid)
    if found is None or found.bridge != who.user or Scope.BRIDGE not in who.scope:
        raise UnknownObject(f"there is no delegation {uid[:80]!r} that was given to you")
    if site.submits_as == "robot":
        raise AccessDenied(
            f"site {site.name} takes pilots by its own credential only (submits_as = robot)"
        )
    if not found.is_usable(now):
        raise AccessDenied(f"delegation {uid} is {found.status.value}, and ends {found.expires_at}")
    owner = grid.users[found.owner]
    rules = replace(site, submits_as="user", validated_applications_only=False)
    for obstacle in siterules.obstacles(rules, owner, None, found):
        raise AccessDenied(f"site {site.name} may not be used by delegation {uid}: {obstacle}")
    carried = (batch.submission.description.delegation for batch in grid.batches.values())
    if uid not in carried:
        raise AccessDenied(f"no open work carries delegation {uid}: there is nothing to submit for")


def check_caps(grid: Grid, site: Site, more: int, now: datetime) -> None:
    """Raises LimitExceeded if ``more`` pilots would break a cap of ``site``, naming the cap."""
    for have, cap, name in counts(grid, now)[site.name].against(site):
        if have + more > cap:
            raise LimitExceeded(
                f"site {site.name}: {have} pilots count against {name} = {cap};"
                f" {more} more are too many"
            )


REPORTED = {
    PilotStatus.WAITING: PilotEvent.QUEUED,
    PilotStatus.RUNNING: PilotEvent.STARTED,
    PilotStatus.DONE: PilotEvent.ENDED,
    PilotStatus.FAILED: PilotEvent.FAILED,
    PilotStatus.DELETED: PilotEvent.DELETED,
    PilotStatus.ABORTED: PilotEvent.ABORTED,
}


def report(
    grid: Grid, who: Who, session: str, asked: m.PilotReport, now: datetime, out: Outcome
) -> dict[str, Any]:
    """What a site says of pilots. Of one that is over nothing is believed any more."""
    told: list[tuple[Pilot, PilotStatus | None, dict[str, str]]] = []
    for stamp, said in asked.pilots.items():
        pilot = _own_pilot(grid, who, stamp)
        try:
            status = PilotStatus(said["status"]) if said.get("status") else None
        except ValueError:
            words = ", ".join(s.value for s in PilotStatus)
            raise BadRequest(
                f"{said['status'][:40]!r} is no status of a pilot; they are {words}"
            ) from None
        told.append((pilot, status, said))
    for pilot, status, said in told:
        _believe(grid, pilot, status, said, now, out)
    return {"stamps": {stamp: grid.pilots[stamp].status.value for stamp in asked.pilots}}


def _believe(
    grid: Grid,
    pilot: Pilot,
    status: PilotStatus | None,
    said: dict[str, str],
    now: datetime,
    out: Outcome,
) -> None:
    if pilot.status in FINAL_PILOTS:
        return
    pilot = replace(
        pilot,
        reference=clean(said.get("reference", pilot.reference), 255),
        reason=clean(said.get("reason", pilot.reason)),
    )
    event = REPORTED.get(status) if status is not None else None
    # A pilot whose worker speaks to us runs, whatever an older answer of the site says.
    is_connected = pilot.host is not None and pilot.host in grid.scheduler.hosts
    if event in (PilotEvent.QUEUED, PilotEvent.STARTED) and event is not None:
        if status is not pilot.status and not (is_connected and event is PilotEvent.QUEUED):
            pilot = replace(pilot, status=after(PILOTS, pilot.status, event))
        event = None
    grid.pilots[pilot.stamp] = pilot
    if event is None:
        out.changes.append(pilot_row(pilot))
        return
    state = grid.scheduler.hosts.get(pilot.host) if pilot.host is not None else None
    done = state.works_done if state is not None else 0
    end_pilot(grid, pilot, event, pilot.reason, now, out, done)
    if state is not None and not state.is_connected:
        # Site and connection agree: its works need not wait until the lease has run out.
        host_left(grid, state, TaskEvent.LOST, f"its pilot is {event.value}", now, out)


def drain(
    grid: Grid, who: Who, session: str, asked: m.DrainPilots, now: datetime, out: Outcome
) -> dict[str, Any]:
    """The first phase of a removal: the workers take no more tasks; who asked removes those that
    are idle. Withdrawn are only those that have made no contact: that is decided here, so that none
    is taken back which was given a work meanwhile.
    """
    answers = {}
    for stamp in asked.stamps:
        pilot = _own_pilot(grid, who, stamp)
        if asked.withdraw and not pilot.session_verifier:
            end_pilot(grid, pilot, PilotEvent.DELETED, "taken back before it started", now, out)
            answers[stamp] = "gone"
            continue
        state = grid.scheduler.hosts.get(pilot.host) if pilot.host is not None else None
        if state is None:
            answers[stamp] = "gone" if pilot.status in FINAL_PILOTS else "unseen"
            continue
        if asked.withdraw:
            answers[stamp] = "busy" if state.tasks else "idle"
            continue
        state.is_taken_back = True
        if not state.is_draining:
            state.is_draining = True
            out.push(state.session, m.Drain("its pilot is to be removed"))
        answers[stamp] = "busy" if state.tasks else "idle"
    return {"pilots": answers}


def _own_pilot(grid: Grid, who: Who, stamp: str) -> Pilot:
    pilot: Pilot = grid.find("pilot", stamp)
    if pilot.owner != who.user and who.level < UserLevel.SUPER:
        raise AccessDenied(f"pilot {stamp} is another user's")
    return pilot


def authenticate(grid: Grid, hello: m.Hello, nonce: str, now: datetime, out: Outcome) -> Who:
    """Who the pilot is that says hello; raises NotAuthenticated.

    The enrolment secret is good for one pilot: the one that named its own key with it. The same
    hello with the same key is that pilot, whose welcome got lost.
    """
    pilot = grid.pilots.get(hello.identity)
    if pilot is None or pilot.status in FINAL_PILOTS or now >= pilot.deadline_at + GRACE:
        raise NotAuthenticated("the pilot is not known, or its time is over")
    is_first = hello.proved_by == "enrolment"
    verifier = pilot.verifier if is_first else pilot.session_verifier
    if not verifier or not is_proved(
        verifier, hello.proof, nonce, hello.kind, hello.identity, hello.session
    ):
        raise NotAuthenticated("the pilot is not known, or its time is over")
    if is_first:
        if len(hello.key) != 64 or set(hello.key) - set("0123456789abcdef"):
            raise NotAuthenticated("a pilot names the verifier of its own key with its enrolment")
        if pilot.session_verifier and pilot.session_verifier != hello.key:
            out.notes.append(f"The enrolment secret of pilot {pilot.stamp} was used a second time")
            raise NotAuthenticated("the enrolment secret has been used")
        grid.pilots[pilot.stamp] = pilot = replace(pilot, session_verifier=hello.key)
        out.changes.append(pilot_row(pilot))
    owner = grid.users[pilot.owner]
    if owner.is_revoked:
        raise NotAuthenticated("the pilot is not known, or its time is over")
    if pilot.delegation is not None:
        return _private(grid, pilot, pilot.delegation, now)
    # Pilots are workers of the grid: public ones, or of their owner's user group (manual, 8.4).
    # They run works, and read what those need: nothing else of their owner's.
    return Who(pilot.owner, UserLevel.WORKER, owner.group, Scope.RUN)


def _private(grid: Grid, pilot: Pilot, uid: str, now: datetime) -> Who:
    """A pilot that was submitted by a user's credential is his own worker: it runs his works, reads
    what those need, and nothing else.
    """
    found = grid.delegations.get(uid)
    user = grid.users.get(found.owner) if found is not None else None
    if found is None or user is None or user.is_revoked or not found.is_usable(now):
        raise NotAuthenticated(f"the credential of pilot {pilot.stamp} is not good any more")
    return Who(user.uid, UserLevel.STANDARD, user.group, Scope.RUN)
