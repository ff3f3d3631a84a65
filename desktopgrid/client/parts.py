"""How a long submission is split into messages that the server takes. Decides; sends nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from desktopgrid.model.errors import LimitExceeded
from desktopgrid.wire.messages import MAX_WORKS

MAX_BYTES = 512 << 10
"""Bytes of arguments in one message: half a frame, so that the description fits in beside them."""


@dataclass(frozen=True)
class Part:
    """Some consecutive works of a sweep: their argument lists, the first of which is number
    ``first``.
    """

    first: int
    arguments: tuple[tuple[str, ...], ...]


def parts_of(
    argument_lists: Iterable[tuple[str, ...]],
    max_works: int = MAX_WORKS,
    max_bytes: int = MAX_BYTES,
) -> Iterator[Part]:
    """The parts of a sweep, in order; raises LimitExceeded on a work that no message can hold."""
    first, size = 0, 0
    chosen: list[tuple[str, ...]] = []
    for number, arguments in enumerate(argument_lists):
        cost = encoded_size(arguments)
        if cost > max_bytes:
            raise LimitExceeded(
                f"the arguments of work {number} take {cost} bytes; at most {max_bytes} can"
                " be sent; send longer ones as a data"
            )
        if len(chosen) == max_works or (chosen and size + cost > max_bytes):
            yield Part(first, tuple(chosen))
            first, size, chosen = number, 0, []
        chosen.append(arguments)
        size += cost
    if chosen:
        yield Part(first, tuple(chosen))


def encoded_size(arguments: tuple[str, ...]) -> int:
    """Bytes that ``arguments`` take on the wire, the comma behind them included."""
    return len(json.dumps(arguments, separators=(",", ":"))) + 1
