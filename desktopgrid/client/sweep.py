"""Parameter sweeps: one argument template, many values, one argument list a work. Decides; opens
nothing.

A template's ``{NAME}`` is replaced by the value of NAME in each work, ``{NAME:04}`` by the value
filled up with zeros to four digits; ``{{`` and ``}}`` are braces. Where nothing is swept a template
is taken as it is.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from desktopgrid.model.errors import BadRequest

MOST_WORKS = 10_000_000
"""Works in one sweep: a slip of the finger must not fill the grid."""

INDEX = "index"
"""The name that stands for a work's number in its sweep, whatever is swept."""

_RANGE = re.compile(r"([A-Za-z_]\w*)=([+-]?\d+)\.\.([+-]?\d+)(?::([+-]?\d+))?")
_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([A-Za-z_]\w*)(?::0?(\d{1,3}))?\}|[{}]")


class BadSweep(BadRequest):
    """A range or a template that makes no sense."""


@dataclass(frozen=True)
class Axis:
    """A name and the values that it takes, one after the other."""

    name: str
    values: Sequence[int | str]


def axis_of(text: str) -> Axis:
    """The axis that ``NAME=FIRST..LAST[:STEP]`` describes, LAST included; raises BadSweep."""
    match = _RANGE.fullmatch(text)
    if match is None:
        raise BadSweep(f"{text!r} is no range; expected NAME=FIRST..LAST or NAME=FIRST..LAST:STEP")
    name, first, last = match[1], int(match[2]), int(match[3])
    step = int(match[4]) if match[4] else 1
    if step == 0:
        raise BadSweep(f"the range {text!r} has step 0, which leads nowhere")
    values = range(first, last + (1 if step > 0 else -1), step)
    # A range of more than 2^63 values has no len().
    if abs(last - first) // abs(step) >= MOST_WORKS:
        raise BadSweep(f"the range {text!r} has more than {MOST_WORKS} values")
    if not values:
        raise BadSweep(
            f"the range {text!r} is empty: step {step} does not lead from {first} to {last}"
        )
    return Axis(name, values)


def size_of(axes: Sequence[Axis]) -> int:
    """How many works the axes make; raises BadSweep where names collide or it is too many."""
    names = [axis.name for axis in axes]
    for name in names:
        if name == INDEX or names.count(name) > 1:
            raise BadSweep(f"the name {name!r} is taken; each range needs a name of its own")
    size = 1
    for axis in axes:
        size *= len(axis.values)
    if size > MOST_WORKS:
        raise BadSweep(f"the sweep has {size} works; at most {MOST_WORKS} may go in one")
    return size


def expand(template: Sequence[str], axes: Sequence[Axis]) -> Iterator[tuple[str, ...]]:
    """The argument list of each work, the last axis running fastest; raises BadSweep before the
    first one.
    """
    if not axes:
        return iter((tuple(template),))
    size_of(axes)
    names = [axis.name for axis in axes]
    pieces = [_parse(text, {*names, INDEX}) for text in template]

    def works() -> Iterator[tuple[str, ...]]:
        combinations = itertools.product(*(axis.values for axis in axes))
        for index, combination in enumerate(combinations):
            values: dict[str, int | str] = dict(zip(names, combination, strict=True))
            values[INDEX] = index
            yield tuple(_fill(parts, values) for parts in pieces)

    return works()


@dataclass(frozen=True)
class _Slot:
    name: str
    width: int


def _parse(text: str, known: set[str]) -> list[str | _Slot]:
    parts: list[str | _Slot] = []
    position = 0
    for match in _PLACEHOLDER.finditer(text):
        parts.append(text[position : match.start()])
        position = match.end()
        token = match[0]
        if token in ("{{", "}}"):
            parts.append(token[0])
        elif match[1] is None:
            raise BadSweep(f"a lone {token!r} in {text!r}; write {token * 2!r} for a brace")
        elif match[1] not in known:
            raise BadSweep(
                f"{token!r} in {text!r} is swept by nothing; known are "
                + ", ".join(f"{{{name}}}" for name in sorted(known))
            )
        else:
            parts.append(_Slot(match[1], int(match[2] or 0)))
    parts.append(text[position:])
    return parts


def _fill(parts: Sequence[str | _Slot], values: Mapping[str, int | str]) -> str:
    return "".join(
        part if isinstance(part, str) else str(values[part.name]).zfill(part.width)
        for part in parts
    )
