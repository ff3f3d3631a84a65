"""Access rights as people write them: by name, in octal, or as a change in symbols (manual, 3.3 and
5.6.1).

The manual writes the bits in octal and its three levels with ``0x``; the original took ``0x755``
for base 16 and ``755`` for base 10, and so gave everybody the right to write. Here all of ``755``,
``0755``, ``0o755`` and ``0x755`` are the same mode (C-1).
"""

from __future__ import annotations

import re
from typing import Optional

from desktopgrid.model.errors import BadRequest
from desktopgrid.model.rights import EXECUTE, GROUP, PRIVATE, PUBLIC, READ, WRITE

NAMES = {"private": PRIVATE, "group": GROUP, "public": PUBLIC}

_OCTAL = re.compile(r"(?:0o|0x|0)?0?([0-7]{3})")
_CLAUSE = re.compile(r"([augo]*)(?:([+-])([rwx]+)|=([rwx]*))")
_SHIFTS = {"u": 6, "g": 3, "o": 0}
_BITS = {"r": READ, "w": WRITE, "x": EXECUTE}


def rights_from(text: str, before: Optional[int] = None) -> int:
    """The access rights that ``text`` names; where it is a change, such as ``g+w,o-rx``, those that
    it makes of ``before``. Raises BadRequest.
    """
    word = text.strip().lower()
    if word in NAMES:
        return NAMES[word]
    octal = _OCTAL.fullmatch(word)
    if octal is not None:
        return int(octal[1], 8)
    clauses = [_CLAUSE.fullmatch(clause) for clause in word.split(",")]
    if before is None or not all(clauses):
        raise BadRequest(_complaint(text, before))
    rights = before
    for clause in clauses:
        assert clause is not None  # noqa: S101 - they were looked at
        whose, sign, letters = clause[1], clause[2] or "=", clause[3] or clause[4] or ""
        rights = _changed(rights, whose, sign, letters)
    return rights


def mode(rights: int) -> str:
    """``rights`` as they are shown: ``0755``."""
    return f"{rights:04o}"


def _changed(rights: int, whose: str, sign: str, letters: str) -> int:
    bits = 0
    for letter in letters:
        bits |= _BITS[letter]
    for shift in _shifts(whose):
        if sign == "=":
            rights &= ~(0o7 << shift)
        rights = rights & ~(bits << shift) if sign == "-" else rights | bits << shift
    return rights


def _shifts(whose: str) -> set[int]:
    """Where the bits of those who are named stand; without a name, everybody's."""
    if not whose or "a" in whose:
        return set(_SHIFTS.values())
    return {_SHIFTS[letter] for letter in whose}


def _complaint(text: str, before: Optional[int]) -> str:
    change = " or a change such as u+w or go-rx" if before is not None else ""
    return (
        f"{text[:40]!r} are no access rights; expected private, group, public,"
        f" an octal mode such as 755{change}"
    )
