"""What a factory does: over a simulated week, and in one round at very many pilots."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from bench.disk import scratch
from bench.grid import NotMeasured, Server
from bench.side import TRUE
from bench.sides import TREE
from desktopgrid.client.grid import Grid
from desktopgrid.client.pilots import PilotRecord, Told
from desktopgrid.model.lifecycle import PilotStatus
from desktopgrid.model.objects import Description
from pilot.ce.base import JobState, Reference
from pilot.ce.fake import FakeCE
from pilot.factory.daemon import Factory
from pilot.factory.simulator import Report, Simulation
from pilot.factory.sites import Sites
from pilot.factory.trace import read_trace

TRACE = TREE / "conf" / "trace.conf"
SITES, SHAPES = 50, 40
SITE = """
[site s{number}]
computing_element = fake
max_pilots = {cap}
max_idle = {cap}
max_an_hour = {cap}
cores = {cores}
memory_mib = 4096
"""


def simulated(days: float) -> Report:
    """The trace that the repository has, or its first days."""
    return Simulation(read_trace(TRACE).lasting(days)).run()


@dataclass(frozen=True)
class Rounds:
    """Seconds of a factory's rounds, and of the server's answer and the plan alone."""

    whole: tuple[float, ...]
    planning: tuple[float, ...]


class FullDoor(FakeCE):
    """A site that says of each pilot what is on record already."""

    def statuses(self, references: Sequence[Reference]) -> dict[Reference, JobState]:
        return {name: JobState(PilotStatus(name.partition(":")[0])) for name in references}


class FullSites(Sites):
    """Sites whose doors are full ones."""

    def door(self, name: str) -> FullDoor:
        return FullDoor()


def rounds_of(pilots: int, count: int) -> Rounds:
    """``count`` rounds of a factory with so many pilots on record, and no room for more."""
    with _server(pilots // SITES) as server, Grid.open(server.client) as grid:
        _fill(grid, pilots // SITES)
        sites = FullSites.read(server.home / "sites.d")
        factory = Factory(grid, sites)
        factory.run_once()  # the first one asks for what is over, too
        whole, planning = [], []
        for _ in range(count):
            begun_at = time.perf_counter()
            done = factory.run_once()
            whole.append(time.perf_counter() - begun_at)
            if done.plan.orders or not done.plan.reasons:
                raise NotMeasured(f"a round without orders was expected, not {done.plan.orders}")
            begun_at = time.perf_counter()
            factory.run_once(is_dry=True)
            planning.append(time.perf_counter() - begun_at)
    return Rounds(tuple(whole), tuple(planning))


@contextmanager
def _server(each: int) -> Iterator[Server]:
    with scratch("grid") as directory:
        server = Server(directory)
        server.make()
        for path in (server.home / "sites.d").glob("*.conf"):
            path.unlink()
        for number in range(SITES):
            text = SITE.format(number=number, cap=each, cores=1 + number % 8)
            Path(server.home / "sites.d" / f"s{number}.conf").write_text(text)
        server.start()
        try:
            yield server
        finally:
            server.kill()


def _fill(grid: Grid, each: int) -> None:
    """Pilots at each site, three of four of which run, and works of many shapes that wait."""
    record = PilotRecord(grid)
    day = timedelta(days=1)
    for number in range(SITES):
        identities = record.mint(each)
        record.add(f"s{number}", identities, day, day)
        told = {}
        for position, identity in enumerate(identities):
            status = PilotStatus.WAITING if position % 4 == 0 else PilotStatus.RUNNING
            told[identity.identity] = Told(status, f"{status.value}:{identity.identity}")
        record.tell(told)
    application = grid.send_application("true", Path(TRUE))["uid"]
    for shape in range(SHAPES):
        description = Description(application, cores=1 + shape % 8, memory_mib=100 + shape)
        grid.sweep(replace(description, wall_time=600 * (1 + shape % 5)), [[]] * 100)
