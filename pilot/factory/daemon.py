"""The factory: looks at the sites, asks the server what waits, plans, does it, and tells why.

It keeps nothing but what it has learned since it was started. Its pilots are on the server's
record, known by their stamps; so one that takes over finds what a killed one left: pilots that are
on record and never reached their site are given up, those whose reference was not told are found by
their stamps, and those that were taken back on record are taken back at the site.

A bridge embeds it: :meth:`Factory.run_once` is one round, and there is nothing global.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from threading import Event

from desktopgrid.client.grid import Grid
from desktopgrid.client.pilots import PilotRecord, RecordedPilot, Told
from desktopgrid.client.trustee import Held
from desktopgrid.model.demand import Situation
from desktopgrid.model.errors import BadRequest, GridError, LimitExceeded
from desktopgrid.model.lifecycle import FINAL_PILOTS, PilotStatus
from pilot.ce.base import ComputingElement, SubmissionRefused
from pilot.ce.doors import build_computing_element
from pilot.factory.health import Health
from pilot.factory.history import History
from pilot.factory.lanes import Answer, Lanes
from pilot.factory.plan import (
    USUAL,
    Drain,
    Observed,
    Order,
    Plan,
    Policy,
    Submit,
    Withdraw,
    frozen,
    plan,
)
from pilot.factory.provision import credential_of, submit_pilots
from pilot.factory.reasons import Because, Reason
from pilot.factory.removal import remove_pilots
from pilot.factory.sites import Sites, state_directory
from pilot.factory.watch import look_at, references_of, utc_now

logger = logging.getLogger(__name__)

PERIOD = timedelta(seconds=30)
"""How often it looks."""
LOOK_WITHIN = 60.0
"""Seconds that a site may take to say how our pilots do."""
ACT_WITHIN = 180.0
"""Seconds that it may take to take, or give back, pilots."""


def mark_of(user: str) -> str:
    """How the stamps of this user's factory begin: it takes back no pilot of anybody else's."""
    return f"f-{hashlib.sha256(user.encode()).hexdigest()[:8]}-"


@dataclass(frozen=True)
class Round:
    """One round: what was planned, what came of it, and which sites said nothing."""

    plan: Plan
    done: tuple[str, ...] = ()
    """What was done, in sentences."""

    @property
    def rows(self) -> list[dict[str, object]]:
        """The reasons, as data."""
        return [reason.row for reason in self.plan.reasons]


@dataclass
class _Look:
    """What was seen in one round."""

    at: datetime
    pilots: dict[str, list[RecordedPilot]]
    silences: dict[str, Reason] = field(default_factory=dict)


class Factory:
    """Provisions pilots for what waits on a grid."""

    def __init__(
        self,
        grid: Grid,
        sites: Sites,
        policy: Policy = USUAL,
        clock: Callable[[], datetime] = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
        held: Callable[[str], Held] | None = None,
    ) -> None:
        """``held`` gives the credential behind a delegation: a bridge holds those."""
        self.grid, self.sites, self.policy = grid, sites, policy
        self.record = PilotRecord(grid)
        self.history, self.health = History(), Health()
        self._clock, self._monotonic, self._held = clock, monotonic, held
        self._lanes = Lanes(monotonic)
        self._is_new = True
        self._leftovers: set[str] = set()
        """Stamps of pilots that are taken back on record, and at their site perhaps not."""

    def __repr__(self) -> str:
        return f"<Factory for {self.grid!r}, {self.history!r}>"

    def run(self, period: timedelta, until: Event, on_round: Callable[[Round], None]) -> None:
        """A round every ``period`` until the event is set; raises what ends the session."""
        while not until.is_set():
            begun_at = self._monotonic()
            self.grid.session.check()
            try:
                on_round(self.run_once())
            except Exception:  # the daemon outlives what one round ran into
                logger.exception("A round failed; the next one comes in %s", period)
            until.wait(max(0.0, period.total_seconds() - (self._monotonic() - begun_at)))

    def run_once(self, is_dry: bool = False) -> Round:
        """One round; ``is_dry``: nothing is changed anywhere, not even put on record."""
        self.sites.refresh()
        try:
            look = self._look(is_dry)
            asked_at = self._monotonic()
            situation = self.record.situation(self.history.at)
        except GridError as error:
            logger.warning("Nothing is changed: the server cannot be asked: %s", error)
            return Round(frozen(self.sites.names, Because.SERVER_SILENT, why=error))
        self.history.observe(situation)
        made = self._plan(situation, look, asked_at)
        if is_dry:
            return Round(made)
        done, troubles = self._carry_out(made.orders, look)
        made = replace(made, reasons=(*made.reasons, *troubles))
        self._tell(made)
        return Round(made, tuple(done))

    # --- looking ----------------------------------------------------------------------------------

    def _look(self, is_dry: bool) -> _Look:
        """Ask all sites at once how our pilots do, and tell the server."""
        pilots = {site: list[RecordedPilot]() for site in self.sites.names}
        for pilot in self._pilots():
            pilots.setdefault(pilot.site, []).append(pilot)
        now = self._clock()
        look = _Look(now, pilots)
        calls = {}
        for site in self.sites.names:
            rests = self.health.rests(site, now)
            if rests is not None:
                look.silences[site] = rests
            elif pilots[site] and not is_dry:
                calls[site] = partial(self._ask, site, pilots[site], now)
        answers = self._lanes.ask(calls, LOOK_WITHIN)
        for site, answer in answers.items():
            self._hear(site, answer, look)
        news: dict[str, Told] = {}
        for answer in answers.values():
            news |= answer.value or {}
        if news:
            self.record.tell(news)
        for site, known in pilots.items():
            pilots[site] = [_after(pilot, news.get(pilot.stamp)) for pilot in known]
        return look

    def _pilots(self) -> list[RecordedPilot]:
        """The open ones, and those that may still be at their site though they are over."""
        if self._is_new:
            pilots = self.record.pilots()
            mark = mark_of(self.record.user)
            self._leftovers |= {p.stamp for p in pilots if p.is_over and p.stamp.startswith(mark)}
            self._is_new = False
            return pilots
        pilots = self.record.pilots(is_open=True)
        return pilots + (self.record.pilots(sorted(self._leftovers)) if self._leftovers else [])

    def _ask(self, site: str, pilots: Sequence[RecordedPilot], now: datetime) -> Mapping[str, Told]:
        """What the site says of our pilots. Those that were submitted by a user's credential are
        asked for by it, and stay unknown where that is no good any more: nobody else suffers.
        """
        common = [pilot for pilot in pilots if not pilot.delegation]
        told = dict(look_at(self.sites.door(site), common, now)) if common else {}
        for delegation in sorted({pilot.delegation for pilot in pilots} - {""}):
            of_it = [pilot for pilot in pilots if pilot.delegation == delegation]
            try:
                told |= look_at(self._door(site, delegation), of_it, now)
            except GridError as error:
                logger.warning("Pilots of %s by %s are unknown: %s", site, delegation, error)
        return told

    def _door(self, site: str, delegation: str) -> ComputingElement:
        """The door of a site, as whose credential the delegation is sees it."""
        if not delegation:
            return self.sites.door(site)
        if self._held is None:
            raise BadRequest("pilots by a user's credential are a bridge's business: xwbridge")
        credential = credential_of(self._held(delegation))
        return build_computing_element(self.sites[site], state_directory(), credential)

    def _hear(self, site: str, answer: Answer[Mapping[str, Told]], look: _Look) -> None:
        if answer.error is None:
            self.health.answered(site)
            self._leftovers -= {p.stamp for p in look.pilots[site] if p.is_over}
            return
        if answer.hangs_for is not None and answer.hangs_for > LOOK_WITHIN:
            numbers = {"seconds": answer.hangs_for}
            look.silences[site] = Reason(site, Because.BUSY, numbers)
            return
        self.health.failed(site, str(answer.error), self._clock())
        look.silences[site] = Reason(site, Because.SITE_SILENT, {"why": str(answer.error)})
        logger.warning("Site %s cannot be asked: %s", site, answer.error)

    # --- planning ---------------------------------------------------------------------------------

    def _plan(self, situation: Situation, look: _Look, asked_at: float) -> Plan:
        own = {site: self._own(look, site) for site in self.sites.names}
        observed = {
            site: Observed(
                sum(_waits(pilot) for pilot in pilots),
                sum(pilot.is_connected for pilot in pilots),
                look.silences.get(site),
            )
            for site, pilots in own.items()
        }
        # The server's clock counts: what it told is as old as the answer.
        now = situation.at + timedelta(seconds=self._monotonic() - asked_at)
        configurations = {site: self.sites[site] for site in self.sites.names}
        return plan(situation, configurations, observed, self.history, now, self.policy)

    def _own(self, look: _Look, site: str) -> list[RecordedPilot]:
        mark = mark_of(self.record.user)
        return [p for p in look.pilots.get(site, ()) if p.stamp.startswith(mark) and not p.is_over]

    # --- doing ------------------------------------------------------------------------------------

    def _carry_out(self, orders: Iterable[Order], look: _Look) -> tuple[list[str], list[Reason]]:
        """What was done, and what could not be; each site's orders in its own lane."""
        by_site: dict[str, list[Order]] = {}
        for order in orders:
            by_site.setdefault(order.site, []).append(order)
        calls = {
            site: partial(self._carry_out_at, site, given, self._own(look, site))
            for site, given in by_site.items()
        }
        done: list[str] = []
        troubles: list[Reason] = []
        for site, answer in self._lanes.ask(calls, ACT_WITHIN).items():
            done += answer.value or ()
            if answer.error is not None:
                if isinstance(answer.error, SubmissionRefused):
                    self.history.refused(site, look.at)
                elif not isinstance(answer.error, LimitExceeded):  # somebody else was quicker
                    self.health.failed(site, str(answer.error), self._clock())
                troubles.append(Reason(site, Because.REFUSED, {"why": str(answer.error)}))
                logger.warning("Site %s did not do as it was told: %s", site, answer.error)
        return done, troubles

    def _carry_out_at(
        self, site: str, orders: Sequence[Order], own: Collection[RecordedPilot]
    ) -> list[str]:
        done = []
        for order in orders:
            match order:
                case Submit():
                    stamps = self._submit(order)
                    done.append(f"Sent {len(stamps)} pilots to {site}.")
                case Withdraw():
                    gone = self._withdraw(order, own)
                    done.append(f"Took back {gone} waiting pilots of {site}.")
                case Drain():
                    going = sorted(
                        (pilot for pilot in own if pilot.is_connected), key=lambda each: each.tasks
                    )[: order.count]
                    removal = remove_pilots(
                        self.record, self.sites, going, timedelta(0), order.is_forced
                    )
                    done.append(f"Took back {len(removal.removed)} running pilots of {site}.")
        return done

    def _submit(self, order: Submit) -> list[str]:
        config = replace(self.sites[order.site], idle_time=order.idle_time)
        mark = mark_of(self.record.user)
        door = self._door(order.site, order.delegation)
        held = self._held(order.delegation) if self._held and order.delegation else None
        return submit_pilots(self.grid, config, order.count, door, held, mark)

    def _withdraw(self, order: Withdraw, own: Collection[RecordedPilot]) -> int:
        """Take back the youngest that wait: first on record, where none is that got a work."""
        waiting = sorted((pilot for pilot in own if _waits(pilot)), key=lambda p: p.submitted_at)
        chosen = {pilot.stamp: pilot for pilot in waiting[len(waiting) - order.count :]}
        gone = self.record.withdraw(list(chosen))
        self._leftovers |= set(gone)
        for delegation in {chosen[stamp].delegation for stamp in gone}:
            of_it = [chosen[stamp] for stamp in gone if chosen[stamp].delegation == delegation]
            door = self._door(order.site, delegation)
            door.remove(list(references_of(door, of_it).values()))
            self._leftovers -= {pilot.stamp for pilot in of_it}
        logger.info("Took back waiting pilots %s of %s", ", ".join(gone), order.site)
        return len(gone)

    def _tell(self, made: Plan) -> None:
        try:
            self.record.explain({site: made.because(site) for site in self.sites.names})
        except GridError as error:
            logger.warning("The server could not be told what was decided: %s", error)


@contextlib.contextmanager
def only_one(directory: Path, user: str) -> Iterator[None]:
    """Hold the right to be the factory of ``user`` on this machine; raises BadRequest.

    Two would both send pilots for the same works; the caps hold on the server in any case.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{mark_of(user)}factory.lock"
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            other = file.read().strip()
            raise BadRequest(f"a factory of yours runs here already: process {other}") from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def _waits(pilot: RecordedPilot) -> bool:
    waits = (PilotStatus.SUBMITTED, PilotStatus.WAITING)
    return pilot.status in waits and not pilot.is_connected and not pilot.host


def _after(pilot: RecordedPilot, told: Told | None) -> RecordedPilot:
    """The pilot as it is on record once that was told."""
    if told is None or pilot.status in FINAL_PILOTS:
        return pilot
    return replace(
        pilot,
        status=told.status or pilot.status,
        reference=told.reference or pilot.reference,
    )
