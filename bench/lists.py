"""What a user waits for who has very many works: until a sweep is taken, and until it is listed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from bench.grid import NotMeasured, Server
from bench.side import TRUE
from desktopgrid.client.grid import Grid
from desktopgrid.model.errors import GridError
from desktopgrid.model.objects import Description


@dataclass(frozen=True)
class Listed:
    """Seconds until a sweep was durable, and rows a second of two lists of its works: all works,
    and those of the submission by its name.
    """

    accepted: float
    rows_of_all: float
    rows_of_one: float


def listed(count: int) -> Listed:
    """A sweep of ``count`` works on a fresh grid without workers; raises NotMeasured if the lists
    miss one.
    """
    try:
        with Server.fresh() as server, Grid.open(server.client) as grid:
            description = Description(grid.send_application("true", Path(TRUE))["uid"])
            started = time.perf_counter()
            sweep = grid.sweep(description, [[str(number)] for number in range(count)])
            accepted = time.perf_counter() - started
            return Listed(
                accepted, _rows_a_second(grid, (), count), _rows_a_second(grid, (sweep.uid,), count)
            )
    except GridError as error:
        raise NotMeasured(f"{type(error).__name__}: {error}") from error


def _rows_a_second(grid: Grid, names: tuple[str, ...], count: int) -> float:
    started = time.perf_counter()
    found = sum(1 for _ in grid.objects("works", names))
    if found != count:
        raise NotMeasured(f"{found} works of {count} were listed")
    return found / (time.perf_counter() - started)
