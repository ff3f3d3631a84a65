"""Our own side of works/s: server, worker with two slots and client on this machine.

    python bench/glidebridge_side.py sweep|single [--seconds S | --count N]

``sweep`` submits one sweep; ``single`` submits each work by itself, without waiting for the answer
to the last before it sends the next. Results come to the client as they end; all are looked at.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from bench import side
from bench.alone import PATIENCE, running
from bench.figures import OURS
from bench.grid import NotMeasured
from desktopgrid.client.arrivals import Arrivals
from desktopgrid.client.grid import Grid
from desktopgrid.client.parts import Part
from desktopgrid.model.objects import Description

TIME_FOR_A_PORTION = 300.0


class Glidebridge:
    """A running grid; ``submit`` says how many works get into it."""

    def __init__(self, grid: Grid, description: Description, submit: Callable[..., None]) -> None:
        self.grid, self.description, self.submit = grid, description, submit

    def run(self, count: int) -> None:
        """Submit ``count`` works and take all results."""
        arrivals = self.grid.arrivals()
        self.submit(self.grid, self.description, count, arrivals)
        for result in arrivals.take(count, TIME_FOR_A_PORTION):
            if result.exit_code != 0:
                raise RuntimeError(f"{result.work}: {result.exit_code} {result.reason}")

    def single(self) -> None:
        """Submit one work and take its result."""
        if self.grid.run(self.description, timeout=PATIENCE).exit_code != 0:
            raise RuntimeError("a work failed")


def as_a_sweep(grid: Grid, description: Description, count: int, arrivals: Arrivals) -> None:
    """One submission of ``count`` works."""
    grid.sweep(description, [()] * count, on_ended=arrivals.tell)


def one_by_one(grid: Grid, description: Description, count: int, arrivals: Arrivals) -> None:
    """``count`` submissions of one work; raises if one is refused."""
    answers: list[Future[dict[str, object]]] = []
    for _ in range(count):
        _, answer = grid.session.start(
            description, Part(0, ((),)), is_single=True, on_ended=arrivals.tell
        )
        answers.append(answer)
    for answer in answers:
        grid.session.answer(answer)


WAYS = {"sweep": as_a_sweep, "single": one_by_one}


@contextmanager
def glidebridge(way: str) -> Iterator[Glidebridge]:
    """The grid, with works submitted in this way."""
    try:
        with running() as (_, grid, description):
            yield Glidebridge(grid, description, WAYS[way])
    except NotMeasured as reason:
        raise side.Unavailable(str(reason)) from reason


if __name__ == "__main__":
    if not sys.argv[1:] or sys.argv[1] not in WAYS:
        sys.exit(f"usage: glidebridge_side.py {'|'.join(WAYS)} [--seconds S | --count N]")
    side.main(OURS[sys.argv[1]], partial(glidebridge, sys.argv[1]), sys.argv[2:])
