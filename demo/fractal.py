#!/usr/bin/env python3
"""The demo's application: renders one tile of a picture of the Mandelbrot set.

    fractal.py PICTURE TILE

PICTURE is a JSON file that says what is seen, in which colours, and how large a tile is. The tile's
pixels go to standard output, row by row, three bytes each, packed by zlib. Python 3.9 or later,
standard library only.
"""

from __future__ import annotations

import bisect
import cmath
import json
import math
import sys
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

Colour = tuple[float, float, float]

FAR = 64.0
"""Beyond this distance from 0 a point has escaped. Far out, so that the colours run smoothly; its
16th power is still a number.
"""

LIGHT = cmath.exp(-0.75j * math.pi)
"""Where the light comes from, mirrored."""

INSIDE: Colour = (5.0, 3.0, 12.0)
"""The colour of what never escapes."""

SUBPIXELS = (complex(0.0, 0.33), complex(0.29, -0.17), complex(-0.29, -0.17))
"""Where in a pixel its colour is looked at if there is detail in it: a triangle."""


class Escape(NamedTuple):
    """How a point got away: after how many steps (smoothed), where it was, and how fast it moves
    when the point does.
    """

    steps: float
    place: complex
    speed: complex


def escape(point: complex, most_steps: int) -> Optional[Escape]:
    """How ``point`` escapes under z -> z*z + point; None if it does not."""
    place = speed = 0j
    one, two = 1 + 0j, 2 + 0j  # mixing kinds of numbers would take twice the time
    for steps in range(0, most_steps, 4):
        # Four steps at a time, and only then a look: it costs as much as half a step.
        before, before_speed = place, speed
        speed = two * place * speed + one
        place = place * place + point
        speed = two * place * speed + one
        place = place * place + point
        speed = two * place * speed + one
        place = place * place + point
        speed = two * place * speed + one
        place = place * place + point
        if abs(place) > FAR:
            return _exactly(point, before, before_speed, steps)
    return None


def _exactly(point: complex, place: complex, speed: complex, steps: int) -> Escape:
    """The same, step by step from ``steps`` on."""
    while abs(place) <= FAR:
        speed = 2 * place * speed + 1
        place = place * place + point
        steps += 1
    smooth = steps - math.log2(math.log(abs(place)) / math.log(FAR))
    return Escape(smooth, place, speed)


class Palette:
    """A circle of colours: given by some, mixed in between."""

    def __init__(self, stops: Sequence[Sequence[float]]) -> None:
        """Each stop is a place between 0 and 1, then red, green and blue."""
        first = stops[0]
        self._stops = [*stops, (first[0] + 1.0, *first[1:])]
        self._places = [stop[0] for stop in self._stops]

    def at(self, place: float) -> Colour:
        """The colour at ``place``; whole numbers go once around."""
        place %= 1.0
        after = max(1, bisect.bisect_right(self._places, place))
        low, high = self._stops[after - 1], self._stops[after]
        share = (place - low[0]) / (high[0] - low[0])
        red, green, blue = (a + (b - a) * share for a, b in zip(low[1:], high[1:]))
        return red, green, blue


class Picture:
    """What is seen: a rectangle of the plane, in so many pixels, in these colours."""

    def __init__(self, description: dict[str, Any]) -> None:
        """``description`` is what the file says."""
        self.width, self.height = _number(description["width"]), _number(description["height"])
        self.tile = _number(description["tile"])
        if self.width % self.tile or self.height % self.tile:
            raise ValueError("width and height must be multiples of the tile's")
        self._most_steps = _number(description["most_steps"])
        self._centre = complex(*description["centre"])
        self._scale = float(description["span"]) / self.width
        self._palette = Palette(description["colours"])
        self._turns, self._start = description["turns"], description["start"]

    @property
    def tiles(self) -> int:
        """How many tiles it has, numbered from the upper left, line by line."""
        return self.width // self.tile * (self.height // self.tile)

    def place(self, number: int) -> tuple[int, int]:
        """The first row and column of a tile."""
        line, column = divmod(number, self.width // self.tile)
        return line * self.tile, column * self.tile

    def render(self, number: int) -> bytes:
        """The pixels of a tile, row by row, three bytes each."""
        top, left = self.place(number)
        return bytes(
            min(255, int(part))
            for row in range(top, top + self.tile)
            for column in range(left, left + self.tile)
            for part in self._colour(row, column)
        )

    def _point(self, row: int, column: int) -> complex:
        """The point of the plane where a pixel is."""
        x, y = column - (self.width - 1) / 2, (self.height - 1) / 2 - row
        return self._centre + complex(x, y) * self._scale

    def _colour(self, row: int, column: int) -> Colour:
        """The colour of a pixel: of one point in it, or the mean of three where there is detail."""
        point = self._point(row, column)
        first, *others = (point + offset * self._scale for offset in SUBPIXELS)
        colour, distance = self._sample(first)
        if distance > 0.6:
            return colour
        colours = [colour, *(self._sample(other)[0] for other in others)]
        red, green, blue = (sum(parts) / len(colours) for parts in zip(*colours))
        return red, green, blue

    def _sample(self, point: complex) -> tuple[Colour, float]:
        """The colour of a point, and how many pixels it is away from the set."""
        found = escape(point, self._most_steps)
        if found is None:
            return INSIDE, 0.0
        size = abs(found.place)
        distance = size * math.log(size) / abs(found.speed) / self._scale
        # The set is a mountain; its slope, seen as a direction, is where a point would run from it.
        slope = found.place / found.speed
        slope /= abs(slope)
        lit = ((slope * LIGHT).real + 1.5) / 2.5
        shade = (0.45 + 0.55 * lit) * (0.35 + 0.65 * math.tanh(1.5 * distance)) * 1.08
        place = math.log(max(found.steps, 1.0)) * self._turns + self._start
        red, green, blue = self._palette.at(place)
        return (red * shade, green * shade, blue * shade), distance


def _number(value: object) -> int:
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{value!r} is not a whole number above 0")
    return value


def main(arguments: list[str]) -> None:
    """Render the tile that the command line names."""
    with open(arguments[0], encoding="utf-8") as file:
        picture = Picture(json.load(file))
    sys.stdout.buffer.write(zlib.compress(picture.render(int(arguments[1])), 6))


if __name__ == "__main__":
    main(sys.argv[1:])
