"""What the benchmarks found: one line a figure, on the terminal and in bench/latest.json.

No number is written here: goals come with the figures, measured values from the rounds.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.measure import load

NO_GOAL = "none"
COLUMNS = ("figure", "measured", "peer", "ratio", "goal", "met")


@dataclass(frozen=True)
class Figure:
    """One figure: what was measured, beside a peer or a limit where there is one, and the goal.

    ``reason`` says why a figure could not be measured; such a figure is not met.
    """

    figure: str
    measured: float | None
    peer: float | None
    ratio: float | None
    goal: str
    met: bool
    reason: str = ""

    def as_json(self) -> dict[str, object]:
        """The figure as bench/latest.json has it."""
        entry: dict[str, object] = {column: _rounded(getattr(self, column)) for column in COLUMNS}
        return entry | ({"reason": self.reason} if self.reason else {})


def at_least(figure: str, measured: float, goal: float, unit: str) -> Figure:
    """A figure that is met from ``goal`` upwards."""
    return Figure(figure, measured, None, None, f">= {goal:.4g} {unit}", measured >= goal)


def at_most(figure: str, measured: float, goal: float, unit: str) -> Figure:
    """A figure that is met up to ``goal``."""
    return Figure(figure, measured, None, None, f"<= {goal:.4g} {unit}", measured <= goal)


def beside(figure: str, measured: float, peer: float, goal: float) -> Figure:
    """A figure that is met when it is at least ``goal`` times the peer's."""
    ratio = measured / peer
    return Figure(figure, measured, peer, ratio, f">= {goal:g} x", ratio >= goal)


def flat(figure: str, measured: float, base: float, goal: float) -> Figure:
    """A cost that is met when it is at most ``goal`` times the one it is compared with."""
    ratio = measured / base
    return Figure(figure, measured, base, ratio, f"<= {goal:g} x", ratio <= goal)


def without_goal(figure: str, measured: float) -> Figure:
    """A figure that is only told."""
    return Figure(figure, measured, None, None, NO_GOAL, True)


def not_measured(figure: str, goal: str, reason: str) -> Figure:
    """A figure that could not be measured, and so is not met."""
    return Figure(figure, None, None, None, goal, False, reason)


def tell(sentence: str) -> None:
    """Print one line of progress, with the time and the machine's load."""
    print(f"{time.strftime('%H:%M:%S')} load {load():5.2f}  {sentence}", flush=True)


def table(figures: Sequence[Figure]) -> str:
    """The figures as a table for a terminal; under it, why some were not measured."""
    rows = [[_cell(figure.as_json()[column]) for column in COLUMNS] for figure in figures]
    widths = [max(map(len, column)) for column in zip(COLUMNS, *rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if index in (0, 4) else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (list(COLUMNS), *rows)
    ]
    lines += [f"{figure.figure}: {figure.reason}" for figure in figures if figure.reason]
    return "\n".join(lines)


def write(path: Path, commit: str, load_now: float, figures: Sequence[Figure]) -> None:
    """Write the figures to ``path``, whole or not at all."""
    content = {
        "commit": commit,
        "load": _rounded(load_now),
        "figures": [figure.as_json() for figure in figures],
    }
    unfinished = path.with_suffix(".part")
    unfinished.write_text(json.dumps(content, indent=1) + "\n")
    unfinished.replace(path)


def _rounded(value: object) -> object:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 1000 else f"{value:g}"
    return "-" if value is None else str(value)
