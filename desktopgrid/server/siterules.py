"""What a site demands of the works that its pilots run: whose they are, what they run, and which
credential goes with them (manual, 8). Pure; a host that no pilot brought has no site.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from desktopgrid.model.lifecycle import USABLE_DELEGATIONS
from desktopgrid.model.objects import Application, Delegation, Site, User


def obstacles(
    site: Site, owner: User, application: Application | None, delegation: Delegation | None
) -> Iterator[str]:
    """Why pilots of ``site`` may not run such a work of ``owner``, in sentences."""
    if site.certified_users_only and not owner.is_certified:
        yield "its site takes works of users with a certificate only"
    if site.validated_applications_only and not (application and application.is_validated):
        yield (
            "its site runs validated applications only, and no administrator has validated this one"
            " (xw validate)"
        )
    if site.wants_credentials:
        yield from _unusable(delegation)
        if site.vo and (delegation is None or delegation.vo != site.vo):
            has = delegation.vo if delegation is not None else ""
            shown = f"the credential of this one is of {has}" if has else "this one shows no VO"
            yield f"its site runs works of the VO {site.vo} only, and {shown}"
    if site.voms and not has_attribute(site, delegation):
        wanted = " or ".join(site.voms)
        yield f"its site wants the VOMS attribute {wanted} in the credential of a work"


def _unusable(delegation: Delegation | None) -> Iterator[str]:
    if delegation is None:
        yield "its site wants works that carry their user's credential (xw submit --xwcert)"
    elif delegation.status not in USABLE_DELEGATIONS:
        yield (
            f"its site wants a credential, and the one that the work carries is"
            f" {delegation.status.value} (xw delegate --renew {delegation.uid})"
        )


def has_attribute(site: Site, delegation: Delegation | None) -> bool:
    """Whether ``delegation`` has one of the VOMS attributes that ``site`` wants."""
    return delegation is not None and not frozenset(site.voms).isdisjoint(delegation.attributes)


def holds(site: Site, delegation: Delegation | None, now: datetime) -> bool:
    """Whether what ``delegation`` showed to fulfil the rules of ``site`` is good ``now``."""
    if site.wants_credentials and not (delegation is not None and delegation.is_usable(now)):
        return False
    if not site.voms and not (site.vo and site.wants_credentials):
        return True
    if delegation is None or not delegation.is_usable(now):
        return False
    ends_at = delegation.attributes_end_at
    return ends_at is not None and now < ends_at
