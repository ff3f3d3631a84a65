"""What any proof of identity but a password comes to, and what a chain shows that was delegated."""

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


@dataclass(frozen=True)
class Shown:
    """What a chain shows that a user signed for a bridge: whom it proves, the key of its first
    certificate (DER), and which certificate signed that.

    ``chain`` is the path that was checked, without its root, in PEM. ``vo`` and ``attributes`` are
    VOMS', verified; ``notes`` say which were there and count for nothing, and why.
    """

    proved: Proved
    key: bytes
    chain: str
    is_proxy: bool
    made_from: str = ""
    vo: str = ""
    attributes: tuple[str, ...] = ()
    attributes_end_at: datetime | None = None
    notes: tuple[str, ...] = ()
