"""What a description says, attribute by attribute: each is taken by its reader, or named in a
notice. Nothing else is how a reader keeps the promise that it drops nothing in silence.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from jdl.errors import BadDescription
from jdl.job import Draft

T = TypeVar("T")

MIB = 1 << 20


@dataclass(frozen=True)
class Said(Generic[T]):
    """One attribute as it was said."""

    name: str
    value: T
    line: int | None = None

    def wrong(self, expected: str) -> BadDescription:
        """The error of a value that is not of the expected kind."""
        shown = repr(self.value)
        shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
        return BadDescription(f"expected {expected}, found {shown}", self.name, self.line)


class Given(Generic[T]):
    """The attributes of a description by their names, whose case does not matter."""

    def __init__(self, draft: Draft, attributes: Iterable[Said[T]]) -> None:
        self.draft = draft
        self._left: dict[str, Said[T]] = {}
        for each in attributes:
            if each.name.lower() in self._left:
                raise BadDescription("it is said twice", each.name, each.line)
            self._left[each.name.lower()] = each

    def take(self, *names: str) -> Said[T] | None:
        """The attribute of the first of these names that was said; it counts as read."""
        for name in names:
            if (found := self._left.pop(name.lower(), None)) is not None:
                return found
        return None

    def finish(self, reasons: Mapping[str, str], otherwise: str) -> None:
        """Name what nobody took in notices: by the ``reasons`` of those that are known."""
        for name, each in self._left.items():
            self.draft.note(each.name, reasons.get(name, otherwise), each.line)
        self._left.clear()


def whole(said: Said[str], least: int = 0) -> int:
    """The value, a whole number; raises BadDescription."""
    text = str(said.value).strip()
    # Python reads numbers with underscores and in other scripts too, but refuses very long ones.
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text) or int(text) < least:
        raise said.wrong(f"a whole number of at least {least}")
    return int(text)


def minutes(seconds: int) -> int:
    """A time in the minutes that some languages count by, rounded up."""
    return math.ceil(seconds / 60)


def mib(octets: float) -> int:
    """A size in bytes as MiB, rounded up."""
    return math.ceil(octets / MIB)
