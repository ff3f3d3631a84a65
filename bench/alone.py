"""One work alone on our own grid: what a user waits for whose slot is idle."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.grid import NotMeasured, Server
from bench.measure import fdatasync_p50, median, percentile, timed
from bench.side import SLOTS, TRUE
from desktopgrid.client.grid import Grid
from desktopgrid.model.errors import GridError
from desktopgrid.model.objects import Description

WARM_UPS = 10
PATIENCE = 30.0
# So that each work finds the grid at rest: no commit, no acknowledgement of the last one under way.
REST_SECONDS = 0.02


@dataclass(frozen=True)
class Alone:
    """Milliseconds from a submission to the result in hand, beside those of an fdatasync."""

    p50: float
    p99: float
    fdatasync_p50: float


@contextmanager
def running() -> Iterator[tuple[Server, Grid, Description]]:
    """A server, a worker with two slots, a client, and how to ask for one run of /bin/true."""
    with Server.fresh() as server, server.with_worker(SLOTS), Grid.open(server.client) as grid:
        reply = grid.send_application("true", Path(TRUE))
        yield server, grid, Description(reply["uid"])


def alone(count: int) -> Alone:
    """``count`` works, one after the other; raises NotMeasured if one fails."""
    try:
        with running() as (server, grid, description):

            def once() -> None:
                result = grid.run(description, timeout=PATIENCE)
                if result.exit_code != 0:
                    raise NotMeasured(f"a work ended with {result.exit_code}: {result.reason}")

            def measured() -> float:
                time.sleep(REST_SECONDS)
                return timed(once) * 1e3

            for _ in range(WARM_UPS):
                once()
            disk_before = fdatasync_p50(server.home)
            times = [measured() for _ in range(count)]
            disk_after = fdatasync_p50(server.home)
    except (GridError, TimeoutError) as error:
        raise NotMeasured(f"{type(error).__name__}: {error}") from error
    return Alone(median(times), percentile(times, 99), median([disk_before, disk_after]) * 1e3)
