"""What any proof of identity but a password comes to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from desktopgrid.model.rights import Scope


@dataclass(frozen=True)
class Proved:
    """Who somebody is: the ``subject`` by which he may be known, until when that is proved, and for
    what. ``serials`` name the certificates by which a CA can take it back.
    """

    subject: str
    ends_at: datetime
    scope: Scope
    serials: tuple[str, ...]
