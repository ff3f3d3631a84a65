"""Putting pilots into sites: the server records them within the caps, the site's door takes them.

The order is what keeps the promise that caps hold and nothing is forgotten: the door is asked
whether it is there, the server records the pilots, the door gets them, the server is told their
references. What breaks in between leaves pilots on record that :mod:`pilot.factory.watch` finds
again by their stamps, or that end at their deadline.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from desktopgrid.client.grid import Grid
from desktopgrid.client.pilots import PilotRecord, Told
from desktopgrid.client.trustee import Held
from desktopgrid.model.errors import BadRequest, GridError, Unavailable
from desktopgrid.model.lifecycle import PilotStatus
from desktopgrid.model.sites import SiteConfig
from pilot.ce.base import (
    ComputingElement,
    ComputingElementUnavailable,
    Credential,
    CredentialKind,
    JobDescription,
    Reference,
    SubmissionRefused,
)
from pilot.ce.doors import build_computing_element, describe_pilot
from pilot.factory.luggage import IDENTITY, packed
from pilot.factory.sites import state_directory

logger = logging.getLogger(__name__)

TELL_THEIR_SHARE = frozenset({"condor"})
"""Computing elements whose pilots learn from the batch system what is theirs of the machine."""


class SubmissionUncertain(Unavailable):
    """A door broke off while it took pilots: they are on record, and may be at the site or not."""

    def __init__(self, site: str, stamps: Sequence[str], reason: str) -> None:
        super().__init__(
            f"site {site} broke off, and may have {len(stamps)} pilots or not: {reason};"
            " `pilot status` finds out, and what never comes is given up at its deadline"
        )
        self.site, self.stamps, self.reason = site, tuple(stamps), reason


class ReferencesNotRecorded(Unavailable):
    """A site has the pilots, but the server could not be told what it calls them."""

    def __init__(self, site: str, references: Sequence[Reference], reason: str) -> None:
        super().__init__(
            f"site {site} has the pilots ({', '.join(references)}), but the server could not be"
            f" told: {reason}; `pilot status` tells it later"
        )
        self.site, self.references, self.reason = site, tuple(references), reason


def submit_pilots(
    grid: Grid,
    site: SiteConfig,
    count: int,
    door: ComputingElement | None = None,
    held: Held | None = None,
    mark: str = "",
) -> list[str]:
    """Submit ``count`` pilots to ``site``, all or none; their stamps, which begin with ``mark``. By
    the credential that is ``held`` of a user they are his own workers: ``grid`` is the bridge's
    then, to which he gave it.

    Raises LimitExceeded where a cap forbids and ComputingElementUnavailable where the site cannot
    be asked, and then nothing was changed; SubmissionRefused where the site will not have them, and
    then they are on record as Failed; SubmissionUncertain where nobody knows.
    """
    if count < 1:
        raise BadRequest(f"{count} pilots cannot be submitted")
    door = door or build_computing_element(site, state_directory(), credential_of(held))
    record = PilotRecord(grid)
    identities = record.mint(count, mark)
    stamps = [identity.identity for identity in identities]
    # A door that is not there is found out before anything is on record.
    door.find(stamps)
    with packed(identities) as (program, files):
        pilots = [
            describe_pilot(site, stamp, program, (files[stamp],), pilot_arguments(site))
            for stamp in stamps
        ]
        delegation = held.uid if held is not None else None
        record.add(site.name, identities, site.queue_limit, site.wall_time, delegation)
        references = _hand_over(record, door, site, pilots)
    _tell_references(record, site, references)
    by = f" by the credential of {held.user} ({held.subject or held.kind})" if held else ""
    for stamp, reference in references.items():
        logger.info("Submitted pilot %s to %s as %s%s", stamp, site.name, reference, by)
    return stamps


def credential_of(held: Held | None) -> Credential | None:
    """What a door shows of a user's credential, in place of its site's."""
    return Credential(CredentialKind(held.kind), held.path) if held is not None else None


def pilot_arguments(site: SiteConfig) -> tuple[str, ...]:
    """What a pilot of ``site`` is told on its command line; nothing of it is secret."""
    arguments = [
        *("--identity", IDENTITY),
        *("--idle", f"{site.idle_time.total_seconds():g}"),
        *("--lifetime", f"{site.life.total_seconds():g}"),
    ]
    if site.computing_element not in TELL_THEIR_SHARE:
        arguments += ["--slots", str(site.cores), "--memory", str(site.memory_mib)]
        arguments += ["--disk", str(site.disk_mib)]
    return tuple(arguments)


def _hand_over(
    record: PilotRecord,
    door: ComputingElement,
    site: SiteConfig,
    pilots: Sequence[JobDescription],
) -> Mapping[str, Reference]:
    """What the door calls the pilots, by stamp."""
    stamps = [pilot.stamp for pilot in pilots]
    try:
        return dict(zip(stamps, door.submit(pilots), strict=True))
    except SubmissionRefused as refused:
        reason = f"site {site.name} refused it: {refused.reason}"
        record.tell({stamp: Told(PilotStatus.FAILED, reason=reason) for stamp in stamps})
        raise
    except ComputingElementUnavailable as broken:
        try:
            found = door.find(stamps)
        except ComputingElementUnavailable:
            found = {}
        if found.keys() >= set(stamps):
            return found
        _tell_references(record, site, found)
        raise SubmissionUncertain(site.name, stamps, broken.reason) from broken


def _tell_references(
    record: PilotRecord, site: SiteConfig, references: Mapping[str, Reference]
) -> None:
    if not references:
        return
    told = {stamp: Told(PilotStatus.WAITING, reference) for stamp, reference in references.items()}
    try:
        record.tell(told)
    except GridError as error:
        raise ReferencesNotRecorded(site.name, list(references.values()), str(error)) from error
