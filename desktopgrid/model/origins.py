"""Where a work comes from that was a job, or a work, elsewhere before: the places that it passed,
its name at the last of them, and which run of it this is.

It is the idempotency key of who brings it in: the work is *named* by its origin, so that submitting
it again, from whatever process and however much later, is submitting the same work. And it keeps
works from going in circles: what passed a place is not sent back there.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache

from desktopgrid.model.errors import BadRequest

LONGEST = 255
"""Characters of an origin: every database can keep that many in an index."""

_FORM = re.compile(r"(?P<places>[\w.-]+(?:>[\w.-]+)*)/(?P<job>[^\s\x00-\x1f]+)/(?P<run>\d{1,9})")
_UID_LENGTH = 48


@dataclass(frozen=True)
class Origin:
    """``places`` from the first to the last, ``job`` its name at the last one, ``run`` its number.

    Written ``lal>desktop/schedd@lal#12.0#1795176000/0``.
    """

    places: tuple[str, ...]
    job: str
    run: int = 0

    def __str__(self) -> str:
        return f"{'>'.join(self.places)}/{self.job}/{self.run}"

    @classmethod
    def parse(cls, text: str) -> Origin:
        """The origin that ``text`` writes; raises BadRequest."""
        match = _FORM.fullmatch(text)
        if match is None or len(text) > LONGEST:
            raise BadRequest(
                f"{text[:80]!r} is no origin: PLACE>PLACE/JOB/RUN, at most {LONGEST} characters"
            )
        found = cls(tuple(match["places"].split(">")), match["job"], int(match["run"]))
        if str(found) != text:
            raise BadRequest(f"{text!r} is no origin: the number of a run begins with no 0")
        return found

    def uid(self, login: str) -> str:
        """The name of the work that the user ``login`` makes of it."""
        digest = hashlib.sha256(f"{login}\0{self}".encode()).hexdigest()
        return digest[:_UID_LENGTH]

    def passed(self, place: str) -> bool:
        """Whether it was at ``place`` before."""
        return place in self.places


@lru_cache(maxsize=4096)
def places_of(origin: str) -> tuple[str, ...]:
    """The places that a work of this origin passed; none where it has none."""
    return Origin.parse(origin).places if origin else ()


def job_named(name: str) -> str:
    """``name`` of a job elsewhere as an origin can hold it: whole, or told apart by its digest."""
    plain = re.sub(r"[\s\x00-\x1f]", "_", name)
    if plain == name and 0 < len(name) <= LONGEST // 2:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
    return f"{plain[:40]}~{digest[:32]}"
