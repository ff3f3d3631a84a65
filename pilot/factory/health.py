"""Which doors answer: one that does not is left alone for a while, the longer the oftener it was
silent, and no other site suffers for it. Pure: time is told.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pilot.factory.reasons import Because, Reason

FIRST_REST = timedelta(seconds=30)
LONGEST_REST = timedelta(minutes=15)


@dataclass
class Door:
    """How a site's door has behaved lately."""

    silences: int = 0
    """Times in a row that it did not answer."""
    rests_until: datetime | None = None
    why: str = ""


@dataclass
class Health:
    """How all doors have behaved lately."""

    doors: dict[str, Door] = field(default_factory=dict)

    def answered(self, site: str) -> None:
        """The door answered."""
        self.doors.pop(site, None)

    def failed(self, site: str, why: str, at: datetime) -> None:
        """The door could not be asked, or broke off."""
        door = self.doors.setdefault(site, Door())
        door.silences += 1
        rest = min(LONGEST_REST, FIRST_REST * 2 ** min(door.silences - 1, 10))
        door.rests_until, door.why = at + rest, why

    def rests(self, site: str, now: datetime) -> Reason | None:
        """Why the site is not asked now; None if it is."""
        door = self.doors.get(site)
        if door is None or door.rests_until is None or now >= door.rests_until:
            return None
        numbers = {"until": door.rests_until, "why": door.why}
        return Reason(site, Because.SITE_RESTS, numbers)
