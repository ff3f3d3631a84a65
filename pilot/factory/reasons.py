"""Why a site gets pilots, or gets none: each reason is a word and its numbers, and is told as a
sentence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class Because(Enum):
    """The reasons there are; the value is the sentence."""

    STALE = "Nothing is changed: what the server told of demand is {age:.0f} s old."
    SERVER_SILENT = "Nothing is changed: the server cannot be asked: {why}."
    SITE_SILENT = "Nothing is changed: the site cannot be asked: {why}."
    SITE_RESTS = (
        "Nothing is changed until {until:%H:%M:%S} UTC: the site could not be asked: {why}."
    )
    NOT_BY_DEMAND = "Nothing is changed: its file says by_demand = no."
    NOT_ON_THE_GRID = "No pilots are sent: the server has no site of this name in its sites.d."
    BLACK_HOLE = (
        "No pilots are sent until {until:%H:%M:%S} UTC: the last {count} ended soon without having"
        " done any work."
    )
    ON_PROBATION = (
        "One pilot is tried at a time: {count} in a row had ended without having done any work."
    )
    NOTHING_WAITS = "No pilots are needed: nothing waits that pilots may run."
    OTHERS_WAIT = "{works} works wait that no pilot of yours may run."
    UNFIT = "{works} works wait that its pilots cannot run ({shape}): {obstacle}."
    SUPPLIED = (
        "{works} works wait that its pilots could run ({shape}); {free} find a free slot, {coming}"
        " a pilot that waits already, and {ending:.0f} a slot that falls free before a new pilot"
        " would start, which takes {latency:.0f} s here."
    )
    SENT_FOR = "{pilots} pilots are for {works} works ({shape})."
    ELSEWHERE = "{works} works that its pilots could run ({shape}) are left to other sites."
    CAPPED = "No more pilots than {room} may be sent: {have} count against {cap} = {limit}."
    RAMPED = "No more pilots than {room} are sent at a time (ramp_up)."
    TRIED = (
        "{works} works want a host that meets {requirements}: the pilots that are there, or on"
        " their way, show whether this site has some."
    )
    SENT = "{count} pilots are sent; each goes after {idle:.0f} s without a work."
    WITHDRAWN = "{count} of {waiting} waiting pilots are taken back: works wait for {wanted}."
    UNCONFIRMED = (
        "{count} waiting pilots more seem too many; a site's pilots are not all taken back before"
        " that is seen for {seconds:.0f} s."
    )
    CUT_SHORT = (
        "Nothing is taken back: {works} works wait of which the server's answer had no room to"
        " tell what they ask for."
    )
    DRAINED = "{count} running pilots finish what they do and go: {have} are there, {limit} may be."
    FORCED = "{count} running pilots are taken at once: {have} are there, {limit} may be."
    TOLERATED = (
        "{count} running pilots are too many, {have} instead of {limit}; its file says"
        " drain = none."
    )
    REFUSED = "It was not done as decided: {why}."
    BUSY = "Nothing is changed: what the site was asked {seconds:.0f} s ago is not answered yet."


@dataclass(frozen=True)
class Reason:
    """One reason about one site."""

    site: str
    because: Because
    numbers: Mapping[str, object] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        """What people read."""
        return self.because.value.format(**self.numbers)

    @property
    def row(self) -> dict[str, object]:
        """What programs read."""
        word = self.because.name.lower().replace("_", "-")
        return {"site": self.site, "because": word, **self.numbers, "sentence": self.sentence}
