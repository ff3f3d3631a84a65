"""Why a pilot is where it is: what the server has on record, and what its site says."""

from __future__ import annotations

from desktopgrid.client.grid import Grid
from desktopgrid.client.pilots import PilotRecord
from desktopgrid.model.errors import GridError
from pilot.ce.base import JobState
from pilot.factory.sites import Sites
from pilot.factory.watch import look_after, references_of

SHOWN_LINES = 10


def explain(grid: Grid, sites: Sites, stamp: str) -> list[str]:
    """Sentences about the pilot ``stamp``; its site is asked, and what it says put on record.

    Raises UnknownObject; a site that cannot be asked is one of the sentences.
    """
    record = PilotRecord(grid)
    found = record.pilots([stamp])
    said: list[str] = []
    for pilot in found:
        sight = look_after(record, sites, [pilot])
        said = [f"Site {site} cannot be asked: {why}." for site, why in sight.silent.items()]
        if not sight.silent:
            said = _site_says(sites, record, stamp)
    return [*grid.why(stamp), *said]


def _site_says(sites: Sites, record: PilotRecord, stamp: str) -> list[str]:
    (pilot,) = record.pilots([stamp])
    try:
        door = sites.door(pilot.site)
        reference = references_of(door, [pilot]).get(stamp)
        if reference is None:
            return [f"Site {pilot.site} knows no pilot of that name."]
        state = door.statuses([reference]).get(reference)
        said = [_sentence(pilot.site, state)]
        words = door.last_words(reference).strip().splitlines()[-SHOWN_LINES:]
    except GridError as error:
        return [f"Site {pilot.site} cannot be asked: {error}."]
    if words:
        said += ["The end of its standard error:", *(f"  {line}" for line in words)]
    return said


def _sentence(site: str, state: JobState | None) -> str:
    if state is None:
        return f"Site {site} has forgotten it."
    reason = f": {state.reason}" if state.reason else ""
    return f"Site {site} says that it is {state.status.value}{reason}."
