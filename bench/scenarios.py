"""What simulated workers and clients do to a running server, and what it costs that server.

Measured from outside: what was acknowledged, when, and what the server's processes used meanwhile.
No goal is known here.
"""

from __future__ import annotations

import asyncio
import random
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

from bench.measure import median, percentile, resident_bytes, tree_cpu_seconds
from bench.simulated import (
    AT_ONCE,
    Client,
    Fleet,
    Worker,
    connect_workers,
    each_of,
    http_session,
    stay_alive,
)
from desktopgrid.link.identity import Identity
from desktopgrid.wire import messages as m

MICROSECONDS = 1e6
WARM_UP_WORKS = 2_000
WARM_UP_SECONDS = 2.0
FIRST_PORTION, TRIES, STEP, MARGIN = 20_000, 4, 8.0, 1.2
# How many works a client sends in a message that tops a queue up; small against the least level.
TOP_UP = 100
TOP_UP_LANES = 8
TOP_UP_PAUSE = 0.001
SPARE_FILES = 64
BREATH = 16
PATIENCE = 60.0


@dataclass(frozen=True)
class Door:
    """The server under load: who connects to it, and its process."""

    worker: Identity
    client: Identity
    server: int

    def usage(self) -> tuple[float, float]:
        """(now, processor seconds of the server's processes so far)."""
        return time.perf_counter(), tree_cpu_seconds(self.server)


class Counted:
    """Looks at a fleet whenever it heard from the server, until it is where one waits for."""

    def __init__(self, fleet: Fleet) -> None:
        self._heard = asyncio.Event()
        fleet.on_frame = self._heard.set

    async def reach(self, crew: Sequence[Worker], is_there: Callable[[], bool]) -> None:
        """Wait until ``is_there``; raises if a connection ended, or nothing was heard for long."""
        while not is_there():
            self._heard.clear()
            try:
                await asyncio.wait_for(self._heard.wait(), PATIENCE)
            except TimeoutError:
                for worker in crew:
                    worker.check()
                raise TimeoutError(f"nothing was heard for {PATIENCE:g} s") from None


def cost(before: tuple[float, float], after: tuple[float, float], count: int) -> dict[str, float]:
    """The rate of ``count`` events between two usages, and what each cost the server."""
    seconds, cpu = after[0] - before[0], after[1] - before[1]
    return {
        "count": count,
        "seconds": seconds,
        "rate": count / seconds,
        "cpu_us": cpu / max(count, 1) * MICROSECONDS,
    }


async def dispatch(door: Door, workers: int, seconds: float) -> dict[str, Any]:
    """Dispatch and completion of works that wait already, by ``workers`` connected workers.

    Counts the works that are dispatched and completed from the moment at which all workers are
    there to that at which the last result is durable.
    """
    async with http_session(door.worker) as http:
        client = await Client.connect(http, door.client)
        application = await client.insert_application(http)

        async def portion(works: int) -> dict[str, float]:
            await client.submit(application, works, m.MAX_WORKS)
            # The first to connect must not be through before the last one is there.
            fleet = Fleet(holds=True)
            counted = Counted(fleet)
            crew = await connect_workers(http, door.worker, fleet, workers)
            held, before = fleet.assigned, door.usage()
            fleet.holds = False
            for worker in crew:
                await worker.release()
            await counted.reach(crew, partial(_has_completed, fleet, works))
            after = door.usage()
            await leave(crew)
            return cost(before, after, works - held)

        # How many works last as long as is asked for is found by trying.
        works = FIRST_PORTION
        found = await portion(works)
        for _ in range(TRIES):
            if found["seconds"] >= seconds:
                break
            works = int(works * min(STEP, MARGIN * seconds / found["seconds"]))
            found = await portion(works)
        await client.close()
    return found


async def waiting(
    door: Door, levels: Sequence[int], workers: int, seconds: float
) -> dict[str, Any]:
    """What a work costs at each level of the queue, and how much memory a waiting one takes.

    A client keeps the queue at the level while the workers empty it: the cost is that of
    submitting, dispatching and completing. What submitting costs alone is measured while the queue
    is filled.
    """
    found: list[dict[str, float]] = []
    async with http_session(door.worker) as http:
        client = await Client.connect(http, door.client)
        application = await client.insert_application(http)
        present, memory_before = 0, resident_bytes(door.server)
        for level in levels:
            added = level - present
            before = door.usage()
            await client.submit(application, added, TOP_UP)
            filling = cost(before, door.usage(), added)
            memory = resident_bytes(door.server) - memory_before

            fleet = Fleet()
            warm = partial(_has_completed, fleet, WARM_UP_WORKS)
            crew = await connect_workers(http, door.worker, fleet, workers)
            with kept_full(client, application, fleet):
                await Counted(fleet).reach(crew, warm)
                await asyncio.sleep(WARM_UP_SECONDS)
                before, begun = door.usage(), fleet.completed
                await asyncio.sleep(seconds)
                after, ended = door.usage(), fleet.completed
            fleet.holds = True
            await leave(crew)
            present = level
            found.append(
                {
                    "level": level,
                    "submit_rate": filling["rate"],
                    "submit_cpu_us": filling["cpu_us"],
                    "bytes": memory / level,
                    **cost(before, after, ended - begun),
                }
            )
        await client.close()
    return {"levels": found}


def _has_completed(fleet: Fleet, works: int) -> bool:
    return fleet.completed >= works


@contextmanager
def kept_full(client: Client, application: str, fleet: Fleet) -> Iterator[None]:
    """Inside, a client submits as many works as the fleet takes."""
    submitted = 0

    async def top_up() -> None:
        nonlocal submitted
        while True:
            if fleet.assigned - submitted >= TOP_UP:
                submitted += TOP_UP
                await client.submit(application, TOP_UP, TOP_UP)
            else:
                await asyncio.sleep(TOP_UP_PAUSE)

    # Several, for one that waits until its works are durable would let a small queue run dry.
    lanes = [asyncio.ensure_future(top_up()) for _ in range(TOP_UP_LANES)]
    try:
        yield
        for lane in lanes:
            if lane.done():
                lane.result()
    finally:
        for lane in lanes:
            lane.cancel()


async def idle(door: Door, connections: int, pushes: int) -> dict[str, Any]:
    """Memory of the server a connected worker that does nothing, and how soon a push reaches one.

    A push is a work submitted for one of the hosts alone: from the client's request to the
    ``assign`` in that worker's hands, both made durable on the way.
    """
    raise_file_limit(connections + SPARE_FILES)
    fleet = Fleet()
    async with http_session(door.worker) as http:
        client = await Client.connect(http, door.client)
        application = await client.insert_application(http)
        memory, started = resident_bytes(door.server), time.perf_counter()
        crew = await connect_workers(http, door.worker, fleet, connections)
        connecting = time.perf_counter() - started
        memory = resident_bytes(door.server) - memory
        alive = asyncio.ensure_future(stay_alive(crew))

        times: list[float] = []
        for worker in random.choices(crew, k=pushes):  # noqa: S311 - nothing secret
            arrival = asyncio.get_running_loop().create_future()
            fleet.on_assign = arrival.set_result
            sent = time.perf_counter()
            await client.submit(application, 1, 1, expected_host=worker.host)
            await asyncio.wait_for(arrival, PATIENCE)
            times.append(time.perf_counter() - sent)
        alive.cancel()
        for worker in crew:
            worker.check()
        await leave(crew)
        await client.close()
    return {
        "connections": connections,
        "bytes": memory / connections,
        "connects_per_second": connections / connecting,
        "push_p50": median(times),
        "push_p99": percentile(times, 99),
    }


def raise_file_limit(wanted: int) -> None:
    """Let this process have ``wanted`` files open; ends it where the system forbids that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        sys.exit(f"{wanted} files would have to be open at once; the hard limit here is {hard}")
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def register(door: Door, jobs: int, rates: Sequence[float], seconds: float) -> dict[str, Any]:
    """Durable re-registrations of ``jobs`` running jobs, each over an open connection of its own.

    Registrations are offered at each rate in turn whether or not earlier ones were answered; a
    latency counts from the moment at which the registration was due.
    """
    raise_file_limit(jobs + SPARE_FILES)
    fleet = Fleet(holds=True)
    async with http_session(door.worker) as http:
        client = await Client.connect(http, door.client)
        application = await client.insert_application(http)
        # A worker is given a task ahead as well: of two works a worker, each worker gets one.
        crew = await connect_workers(http, door.worker, fleet, jobs)
        await client.submit(application, 2 * jobs, m.MAX_WORKS)
        known = await _one_running_each(crew)
        await _offer(known, rates[0], WARM_UP_SECONDS)
        found = [await _offer(known, rate, seconds) for rate in rates]
        await leave(crew)
        await client.close()
    return {"jobs": jobs, "rates": found}


async def _one_running_each(crew: Sequence[Worker]) -> list[tuple[Worker, m.Assign]]:
    deadline = time.monotonic() + PATIENCE
    while not all(worker.held for worker in crew):
        if time.monotonic() > deadline:
            idle_ones = sum(not worker.held for worker in crew)
            raise TimeoutError(f"{idle_ones} of {len(crew)} workers were given no task")
        await asyncio.sleep(0.05)
    known = [(worker, worker.held[0]) for worker in crew]
    for worker, task in known:
        worker.say(m.Started(task.task, task.epoch), lambda: None)
        await worker.flush()
    while any(worker.unacknowledged for worker in crew):
        if time.monotonic() > deadline:
            raise TimeoutError("not every start of a task was acknowledged")
        await asyncio.sleep(0.05)
    return known


async def _offer(
    known: Sequence[tuple[Worker, m.Assign]], rate: float, seconds: float
) -> dict[str, float]:
    """Latencies of registrations that fall due ``rate`` times a second."""
    latencies: list[float] = []
    total = int(rate * seconds)
    order = random.sample(known, len(known))
    started = time.perf_counter()
    last = started

    def acknowledged(due: float) -> None:
        nonlocal last
        last = time.perf_counter()
        latencies.append(last - due)

    for number in range(total):
        due = started + number / rate
        while time.perf_counter() < due:
            await asyncio.sleep(0.001)
        worker, task = order[number % len(order)]
        worker.say(m.Registered(task.task, task.epoch), partial(acknowledged, due))
        await worker.flush()
        if number % BREATH == 0:
            await asyncio.sleep(0)  # A generator that lags must still read the answers.
    deadline = time.monotonic() + PATIENCE
    while len(latencies) < total:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(latencies)} of {total} registrations were acknowledged")
        for worker, _ in known:
            worker.check()
        await asyncio.sleep(0.01)
    return {
        "offered": rate,
        "rate": total / (last - started),
        "p50": median(latencies),
        "p99": percentile(latencies, 99),
    }


async def connect(door: Door, seconds: float) -> dict[str, Any]:
    """New authenticated connections a second: TLS, WebSocket, proof, a host that was never seen."""
    fleet = Fleet()
    numbers = count()
    async with http_session(door.worker) as http:
        before = door.usage()

        async def lane() -> None:
            while time.perf_counter() < before[0] + seconds:
                worker = await Worker.connect(http, door.worker, fleet)
                next(numbers)
                await worker.leave()

        await asyncio.gather(*(lane() for _ in range(AT_ONCE)))
        return cost(before, door.usage(), next(numbers))


async def leave(crew: Sequence[Worker]) -> None:
    """All workers of ``crew`` say bye and close."""
    await each_of(crew, Worker.leave, AT_ONCE)
