"""A route by which jobs come in: its counter, what happens to each job there, and what keeps it
going.
"""

from __future__ import annotations

import logging
import os
import pwd
import threading
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bridge.config import BatchRoute, BridgeConfig, CondorRoute, GridRoute, Route
from bridge.counter import NAME, Counter
from bridge.crossing import Crossing
from bridge.desktop import DesktopGrid
from bridge.destination import Destination
from bridge.gateway import Gateway, account_of
from bridge.handed import CarrierFailed, Gone, HandedJob
from bridge.home import Home
from bridge.inbound import inbound
from bridge.keeping import Keeper
from bridge.members import Members
from bridge.satellite import Satellite
from bridge.site import SiteDestination
from desktopgrid.model.errors import BadRequest, GridError, UnknownObject
from desktopgrid.model.objects import UID
from pilot.factory.sites import Sites

logger = logging.getLogger(__name__)

STOP_PATIENCE = 20.0


@dataclass
class Counts:
    """What a route did since the bridge was started."""

    handed_in: int = 0
    brought_back: int = 0
    taken_back: int = 0
    held: int = 0


class InRoute:
    """Jobs from a pool or a batch system to a grid."""

    def __init__(self, route: Route, config: BridgeConfig, home: Home) -> None:
        self.route, self._home = route, home
        self.directory = home.of_route(route.name)
        self.directory.mkdir(parents=True, exist_ok=True)
        self._members: Members | None = None
        self._destination: Destination
        if route.leads_to_a_grid:
            grid, bridge = config.grids[route.to], config.bridge
            self._members = Members(grid.identity, grid.identities)
            keeper = Keeper(self._members, bridge.keep, bridge.orphan_after)
            self._destination = DesktopGrid(route.to, self._members, keeper)
        else:
            sites = Sites.read(config.bridge.sites)
            sites.door(route.to)
            self._destination = SiteDestination(route.to, sites)
        self._crossings: set[Crossing] = set()
        self._held: dict[str, str] = {}
        self._lock = threading.Lock()
        self._counts = Counts()
        self._trouble = ""
        self._open_works = 0
        self._gateway = gateway_of(route, self.directory)
        self._counter = Counter(self.directory, _accounts(route), self.serve)

    def __repr__(self) -> str:
        return f"<InRoute {self.route.name}, {len(self._crossings)} jobs>"

    # Its life

    def open(self) -> None:
        """Let carriers in: those of a bridge before this one are waiting."""
        self._counter.open()

    def run_once(self) -> None:
        """Look after it; raises what is wrong with it."""
        if self._gateway is not None and not self._gateway.is_running():
            self._gateway.start()
            logger.info(
                "Started the gateway of route %s into %s", self.route.name, self.route.from_
            )
        now = datetime.now(UTC)
        self._open_works = self._destination.look_after(self.route.from_, self._attended(), now)
        self._trouble = ""

    def close(self, *, keeps_jobs: bool) -> None:
        """Serve nobody any more. Unless it ``keeps_jobs``, its gateway ends, and its jobs wait
        again where they come from: their works go on, and are found when they come back.
        """
        self._counter.close()
        if self._gateway is not None and not keeps_jobs:
            self._gateway.stop(STOP_PATIENCE)
        if self._members is not None:
            self._members.close()

    def facts(self) -> dict[str, Any]:
        """How it does, for those who ask."""
        with self._lock:
            crossings = list(self._crossings)
        steps: dict[str, int] = {}
        for crossing in crossings:
            steps[crossing.step] = steps.get(crossing.step, 0) + 1
        gateway = {}
        if self._gateway is not None:
            gateway["gateway"] = self._gateway.master.pid() or 0
        return {
            "jobs": len(crossings),
            "steps": steps,
            "open_works": self._open_works,
            **vars(self._counts),
            **gateway,
            "trouble": self._trouble,
        }

    # Its jobs

    def serve(self, handed: HandedJob) -> None:
        """Carry one job over and back; in a thread of its own."""
        try:
            job = inbound(handed.facts)
        except BadRequest as error:
            _refuse(handed, error)
            return
        crossing = Crossing(
            job,
            handed,
            self.route.from_,
            self._destination,
            self._home.on_the_way,
            self._note_trouble,
            self._is_wanted_by_another,
            self._hold,
        )
        with self._lock:
            self._crossings.add(crossing)
            self._counts.handed_in += 1
        try:
            end = crossing.run()
        finally:
            with self._lock:
                self._crossings.discard(crossing)
                self._release(job.job)
        if end:
            with self._lock:
                setattr(self._counts, end, getattr(self._counts, end) + 1)

    def _note_trouble(self, error: GridError | None) -> None:
        reason = str(error) if error is not None else ""
        if reason and reason != self._trouble:
            logger.warning("Jobs of route %s wait: %s", self.route.name, reason)
        self._trouble = reason

    def _is_wanted_by_another(self, crossing: Crossing, work: UID) -> bool:
        with self._lock:
            return any(
                other is not crossing and other.taken is not None and other.taken.name == work
                for other in self._crossings
            )

    def _hold(self, job: str, reason: str) -> bool:
        if not isinstance(self._gateway, Gateway):
            return False
        with self._lock:
            self._held[job] = reason
            self._gateway.hold(self._held)
        return True

    def _release(self, job: str) -> None:
        if isinstance(self._gateway, Gateway) and self._held.pop(job, None) is not None:
            self._gateway.hold(self._held)

    def _attended(self) -> Collection[UID]:
        with self._lock:
            return {each.taken.name for each in self._crossings if each.taken is not None}


def gateway_of(route: Route, directory: Path) -> Gateway | Satellite | None:
    """What of ours stands where jobs of ``route`` come from, if anything does."""
    if isinstance(route, CondorRoute):
        return Gateway(route, directory, directory / NAME)
    if isinstance(route, GridRoute):
        return Satellite(route, directory, directory / NAME)
    return None


def _refuse(handed: HandedJob, error: BadRequest) -> None:
    logger.warning("Held a job: %s", error)
    try:
        handed.end(hold=str(error))
    except (Gone, CarrierFailed):
        logger.info("Its carrier was not told")


def _accounts(route: Route) -> list[int]:
    """The system users whose processes may hand jobs in: our own, and those whom jobs run as."""
    found = [os.geteuid()]
    if isinstance(route, CondorRoute):
        found.append(account_of(route.account).pw_uid)
    if isinstance(route, BatchRoute):
        for name in route.accounts:
            try:
                found.append(int(name) if name.isdigit() else pwd.getpwnam(name).pw_uid)
            except KeyError:
                raise UnknownObject(
                    f"[route {route.name}] accounts: {name!r} is no user of this machine"
                ) from None
    return found
