"""Where a data may be: what each scheme of a URI means on a grid. Decides; fetches nothing.

The table is :data:`SCHEMES`; what a site's workers can fetch beyond it, the administrator says.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum
from urllib.parse import urlsplit

from desktopgrid.model.errors import BadRequest

LONGEST = 2_000
"""Characters in a URI; what is longer some server on the way cuts off or refuses."""


class Place(Enum):
    """Who has what a URI names."""

    SERVER = "on the grid's server"
    ELSEWHERE = "fetched by the worker that needs it"
    LOCAL = "a file of the one who names it"


SCHEMES = {
    "xw": Place.SERVER,
    "http": Place.ELSEWHERE,
    "https": Place.ELSEWHERE,
    "file": Place.LOCAL,
}
"""The schemes that every grid knows."""

REFUSED = {
    "s3": "give the object's https URL; this grid's own store takes files by itself",
    "adics": "its network is gone; put the content on this grid or on a web server",
}
"""Schemes that we know of and do not take, and why (manual, 2.1)."""


@dataclass(frozen=True)
class Locator:
    """A URI and what it means here; ``uid`` names a data of this grid where it is on the server."""

    text: str
    scheme: str
    place: Place
    path: str
    uid: str = ""

    @property
    def name(self) -> str:
        """The last word of its path."""
        return self.path.rstrip("/").rpartition("/")[2]


def is_uri(text: str) -> bool:
    """Whether ``text`` is meant as a URI, and not as a path or a UID."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None


def is_elsewhere(uri: str) -> bool:
    """Whether a data with this URI is not the server's: workers fetch it by themselves."""
    return bool(uri) and not uri.startswith("xw:")


def located(text: str, more: Collection[str] = ()) -> Locator:
    """What the URI ``text`` means, where workers fetch the schemes ``more`` as well; raises
    BadRequest naming those that are known.
    """
    if not is_uri(text) or len(text) > LONGEST or re.search(r"[^!-~]", text):
        raise BadRequest(
            f"{text[:80]!r} is no URI: scheme://..., at most {LONGEST} printable ASCII characters"
        )
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise BadRequest(f"{text[:80]!r} is no URI: {error}") from None
    scheme = parts.scheme.lower()
    place = _place(scheme, more)
    if "@" in parts.netloc:
        # It would be shown to whoever may list the data, and to every worker that needs it.
        raise BadRequest("a URI must not carry a login or a password: others see it")
    if place is Place.ELSEWHERE and not host:
        raise BadRequest(f"{text[:80]!r} names no host")
    locator = Locator(text, scheme, place, parts.path)
    if place is not Place.SERVER:
        return locator
    if not re.fullmatch("[0-9A-Za-z-]{1,64}", locator.name):
        raise BadRequest(f"{text[:80]!r} names no data; expected xw://SERVER/UID")
    return Locator(text, scheme, place, parts.path, locator.name)


def _place(scheme: str, more: Collection[str]) -> Place:
    if scheme in REFUSED:
        raise BadRequest(f"{scheme}:// is not taken: {REFUSED[scheme]}")
    if scheme in SCHEMES:
        return SCHEMES[scheme]
    if scheme in more:
        return Place.ELSEWHERE
    known = ", ".join(f"{name}://" for name in (*SCHEMES, *sorted(more)))
    raise BadRequest(f"{scheme}:// is no scheme that this grid knows; it knows {known}")
