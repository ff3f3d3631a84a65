"""Taking pilots back, in two phases: their workers agree that they are idle, then they go.

A site that cannot be asked is asked first, before anybody is told to drain: of its pilots nothing
is changed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta

from desktopgrid.client.pilots import PilotRecord, RecordedPilot, Told
from desktopgrid.model.errors import UnknownObject
from desktopgrid.model.lifecycle import PilotStatus
from pilot.factory.sites import Sites
from pilot.factory.watch import references_of

logger = logging.getLogger(__name__)

PATIENCE = timedelta(minutes=1)
ASKING_PERIOD = 0.2
REASON = "taken back"


def choose(
    record: PilotRecord, stamps: Sequence[str], site: str | None, with_ended: bool = False
) -> list[RecordedPilot]:
    """The pilots that are named, or all of ``site``, the open ones unless ``with_ended``; raises
    UnknownObject.
    """
    if site is not None:
        record.check_site(site)
    if not stamps:
        return [pilot for pilot in record.pilots(site=site) if with_ended or not pilot.is_over]
    pilots = {pilot.stamp: pilot for pilot in record.pilots(stamps, site)}
    for stamp in stamps:
        if stamp not in pilots:
            raise UnknownObject.named("pilot", stamp)
    return list(pilots.values())


@dataclass(frozen=True)
class Removal:
    """What became of it: the stamps of the removed, of those over already, and of those whose
    workers were still busy when the patience ended. They drain, and go when their last task ends.
    """

    removed: tuple[str, ...] = ()
    over: tuple[str, ...] = ()
    busy: tuple[str, ...] = ()


def remove_pilots(
    record: PilotRecord,
    sites: Sites,
    pilots: Collection[RecordedPilot],
    patience: timedelta = PATIENCE,
    is_urgent: bool = False,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Removal:
    """Take ``pilots`` back; ``is_urgent``: also those that are busy, whose works go elsewhere.

    Raises ComputingElementUnavailable, and then nothing was changed.
    """
    open_ = [pilot for pilot in pilots if not pilot.is_over]
    over = tuple(pilot.stamp for pilot in pilots if pilot.is_over)
    by_site = {
        site: [pilot for pilot in pilots if pilot.site == site]
        for site in sorted({pilot.site for pilot in pilots})
    }
    references = {site: references_of(sites.door(site), ours) for site, ours in by_site.items()}
    for site, names in references.items():
        sites.door(site).statuses(list(names.values()))
    stamps = [pilot.stamp for pilot in open_]
    busy = _drain(record, stamps, timedelta(0) if is_urgent else patience, clock, sleep)
    if is_urgent:
        busy = ()
    removed = tuple(stamp for stamp in stamps if stamp not in busy)
    for site, names in references.items():
        going = [name for stamp, name in names.items() if stamp not in busy]
        sites.door(site).remove(going)
        here = [pilot.stamp for pilot in by_site[site] if pilot.stamp in removed]
        if here:
            record.tell({stamp: Told(PilotStatus.DELETED, reason=REASON) for stamp in here})
            logger.info("Removed pilots %s from %s", ", ".join(here), site)
    return Removal(removed, over, busy)


def _drain(
    record: PilotRecord,
    stamps: Sequence[str],
    patience: timedelta,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> tuple[str, ...]:
    """Ask until all are idle or the patience is over; those that are still busy."""
    deadline = clock() + patience.total_seconds()
    busy = tuple(stamps)
    while busy:
        answers = record.drain(busy)
        busy = tuple(stamp for stamp in busy if answers.get(stamp) == "busy")
        if clock() >= deadline:
            break
        if busy:
            sleep(ASKING_PERIOD)
    return busy
