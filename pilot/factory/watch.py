"""Looking after pilots: each site is asked one question for all of ours, the server is told.

Unknown is not zero: of a site that cannot be asked nothing is concluded, its pilots stay as they
are on record, and whoever asked is told.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from desktopgrid.client.pilots import PilotRecord, RecordedPilot, Told
from desktopgrid.model.errors import BadRequest
from desktopgrid.model.lifecycle import PilotStatus
from pilot.ce.base import (
    ComputingElement,
    ComputingElementUnavailable,
    JobState,
    Reference,
)
from pilot.factory.sites import Sites

logger = logging.getLogger(__name__)

FORGOTTEN_AFTER = timedelta(minutes=5)
"""A site that does not know a pilot so long after its submission never will: histories are late."""

KNOWN_ENDS = (PilotStatus.DONE, PilotStatus.DELETED, PilotStatus.ABORTED)
"""Of a pilot that ended so its site can tell no more."""

LAST_WORDS = 400
"""Characters of a failed pilot's standard error that go on record."""


@dataclass(frozen=True)
class Sight:
    """What could be learned: the pilots as they are on record by now, and why some sites said
    nothing.
    """

    pilots: tuple[RecordedPilot, ...]
    silent: Mapping[str, str] = field(default_factory=dict)


def utc_now() -> datetime:
    """What time it is."""
    return datetime.now(UTC)


def look_after(
    record: PilotRecord,
    sites: Sites,
    pilots: Collection[RecordedPilot],
    now: datetime | None = None,
) -> Sight:
    """Ask the sites of ``pilots`` about them and tell the server; what has failed there is removed
    there as well.
    """
    now = now or utc_now()
    told: dict[str, Told] = {}
    silent: dict[str, str] = {}
    for site in sorted({pilot.site for pilot in pilots}):
        ours = [pilot for pilot in pilots if pilot.site == site]
        try:
            told |= look_at(sites.door(site), ours, now)
        except ComputingElementUnavailable as unavailable:
            silent[site] = unavailable.reason
        except BadRequest as unreachable:  # it is not described here, or not by what is installed
            silent[site] = str(unreachable)
    if told:
        record.tell(told)
        _clean_up(sites, pilots, told)
        stamps = [pilot.stamp for pilot in pilots]
        return Sight(tuple(record.pilots(stamps)), silent)
    return Sight(tuple(pilots), silent)


def look_at(
    door: ComputingElement, pilots: Collection[RecordedPilot], now: datetime
) -> dict[str, Told]:
    """What the door says of ``pilots`` that the record does not have yet, by stamp; what is of no
    use there any more is removed.
    """
    references = references_of(door, pilots)
    states = door.statuses(list(references.values()))
    told: dict[str, Told] = {}
    useless: list[Reference] = []
    for pilot in pilots:
        reference = references.get(pilot.stamp)
        state = states.get(reference) if reference is not None else None
        said = None if pilot.is_over else news_of(pilot, reference, state, now)
        if said is not None and reference is not None and said.status is PilotStatus.FAILED:
            said = replace(said, reason=_with_last_words(door, reference, said.reason))
        if said is not None:
            told[pilot.stamp] = said
        if reference is not None and state is not None and is_useless(pilot, state):
            useless.append(reference)
    if useless:
        door.remove(useless)
        logger.info("Removed %s, of which nothing would come", ", ".join(useless))
    return told


def _clean_up(sites: Sites, pilots: Collection[RecordedPilot], told: Mapping[str, Told]) -> None:
    """Let sites forget what is over and on record, so that they do not fill up.

    What has failed is left to them for a while: `pilot why` shows what it wrote.
    """
    for site in sorted({pilot.site for pilot in pilots if pilot.stamp in told}):
        ours = [pilot for pilot in pilots if pilot.site == site and pilot.stamp in told]
        over = [
            Reference(told[pilot.stamp].reference or pilot.reference)
            for pilot in ours
            if told[pilot.stamp].status in KNOWN_ENDS
        ]
        try:
            sites.door(site).discard([reference for reference in over if reference])
        except ComputingElementUnavailable as unavailable:
            logger.warning("Site %s keeps pilots that are over: %s", site, unavailable.reason)


def references_of(
    door: ComputingElement, pilots: Collection[RecordedPilot]
) -> dict[str, Reference]:
    """What the door calls ``pilots``, by stamp.

    Looked up are those whose reference never reached the record, and those that are over on record
    and should not be at the door any more.
    """
    known = {
        pilot.stamp: Reference(pilot.reference)
        for pilot in pilots
        if pilot.reference and not pilot.is_over
    }
    others = [pilot.stamp for pilot in pilots if pilot.stamp not in known]
    return {**known, **(door.find(others) if others else {})}


def news_of(
    pilot: RecordedPilot, reference: Reference | None, state: JobState | None, now: datetime
) -> Told | None:
    """What a door's answer about an open pilot tells that the record does not say already.

    ``state`` None: the door was asked and knows nothing of it.
    """
    if state is None:
        if pilot.is_connected or now < pilot.submitted_at + FORGOTTEN_AFTER:
            return None
        if not pilot.reference:
            return Told(PilotStatus.FAILED, reason=f"it never reached site {pilot.site}")
        return Told(PilotStatus.ABORTED, reason=f"site {pilot.site} does not know it any more")
    is_known = reference == pilot.reference and state.status is pilot.status
    if is_known and (not state.reason or state.reason == pilot.reason):
        return None
    return Told(state.status, reference or "", state.reason)


def is_useless(pilot: RecordedPilot, state: JobState) -> bool:
    """Whether a pilot that the door still has is to be removed there: it failed, or it waits though
    it is over on record.
    """
    return state.status is PilotStatus.FAILED or (
        pilot.is_over and state.status is PilotStatus.WAITING
    )


def _with_last_words(door: ComputingElement, reference: Reference, reason: str) -> str:
    """``reason``, and the end of what the pilot wrote if the door can get it."""
    words = " / ".join(door.last_words(reference).strip().splitlines()[-3:])
    return f"{reason}; it said: {words[-LAST_WORDS:]}" if words else reason
