"""The figures of the grid, one function each: what is measured, beside what, with which goal.

A function that cannot measure its figure raises NotMeasured. The measuring itself is elsewhere:
sides.py runs whole systems beside each other, scenarios.py loads our server with simulated workers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench import peer_venv
from bench.alone import alone
from bench.foundation import copy_of_ours, foundation, measured_in, side_in
from bench.grid import NotMeasured, Server, load_on
from bench.lists import listed
from bench.measure import median, percentile
from bench.provisioning import SITES, rounds_of, simulated
from bench.report import (
    Figure,
    at_least,
    at_most,
    beside,
    flat,
    not_measured,
    tell,
    without_goal,
)
from bench.side import LeftOut, Round
from bench.sides import TREE, Comparison, Side, compare, peer

PEERS = {"HyperQueue": "hyperqueue_peer.py", "Parsl": "parsl_peer.py", "Dask": "dask_peer.py"}
POOL, LIMIT = "HTCondor", "C loop"
OURS = {"sweep": "Glidebridge, sweep", "single": "Glidebridge, single submissions"}

TIMES_THE_BEST_PEER, TIMES_THE_LIMIT = 2.0, 0.5
CREWS, CREW_WITH_GOAL = (1, 100, 1_000), 100
DISPATCHES_PER_SECOND, MICROSECONDS_A_WORK = 8_000, 120
FLATNESS, BYTES_A_WAITING_WORK, RESTART_SECONDS = 1.2, 1_000, 15
# Few, so that a round trip of all their tasks moves less than the least level.
WORKERS_AT_A_LEVEL = 8
ALONE_MILLISECONDS, FDATASYNCS = 6.0, 2.0
KILOBYTES_A_CONNECTION = 60
# Of what the foundation does, with all that came later switched on.
OF_THE_FOUNDATION = 0.8
ACCEPTED_SECONDS, ROWS_PER_SECOND = 10, 20_000
REGISTRATIONS_PER_SECOND, REGISTRATION_MILLISECONDS = 2_000, 100
USEFUL_PERCENT, TIMES_THE_ORACLE, IDLE_PERCENT = 99.0, 1.5, 3.0
PLANNING_SECONDS = 1.0
# A rate counts as kept when no more than this share of it was lost.
KEPT = 0.95


@dataclass(frozen=True)
class Scale:
    """How much a run of the benchmarks measures."""

    rounds: int
    seconds: float
    window: float
    levels: tuple[int, ...]
    singles: int
    connections: int
    pushes: int
    jobs: int
    rates: tuple[int, ...]
    listed: int
    simulated_days: float
    pilots: int


FULL = Scale(
    rounds=3,
    seconds=15.0,
    window=8.0,
    levels=(1_000, 100_000, 1_000_000),
    singles=300,
    connections=10_000,
    pushes=500,
    jobs=3_000,
    rates=(2_500, 5_000, 10_000),
    listed=100_000,
    simulated_days=7,
    pilots=20_000,
)
QUICK = Scale(
    rounds=1,
    seconds=3.0,
    window=2.0,
    levels=(1_000, 10_000, 50_000),
    singles=50,
    connections=500,
    pushes=50,
    jobs=300,
    rates=(1_000, 2_500),
    listed=10_000,
    simulated_days=1,
    pilots=2_000,
)


def works_per_second(scale: Scale) -> Iterable[Figure]:
    """Figure 1: /bin/true end to end on two slots, beside four peers and the machine's limit."""
    found = compare([*_ours(), *_peers()], scale.rounds, scale.seconds, partial(_tell_round, 1))
    for name in OURS.values():
        yield from _beside_all(name, found)


def _beside_all(name: str, found: Comparison) -> Iterable[Figure]:
    best = found.fastest((*PEERS, POOL))
    for other, goal in ((best, TIMES_THE_BEST_PEER), (LIMIT, TIMES_THE_LIMIT)):
        title = f"1 works/s: {name}, beside {other or 'the best peer'}"
        if name not in found.rounds:
            yield not_measured(title, f">= {goal:g} x", found.left_out[name])
        elif other is None or other not in found.rounds:
            reasons = "; ".join(f"{each}: {why}" for each, why in found.left_out.items())
            yield not_measured(title, f">= {goal:g} x", reasons)
        else:
            yield beside(title, found.rate(name), found.rate(other), goal)


def _ours() -> list[Side]:
    program = str(TREE / "bench" / "glidebridge_side.py")
    return [Side(name, (sys.executable, program, how)) for how, name in OURS.items()]


def _peers() -> list[Side]:
    sides = [peer(LIMIT, "spawn_loop.py"), peer(POOL, "condor_peer.py")]
    try:
        interpreter = peer_venv.python()
    except peer_venv.PeersUnavailable as missing:
        tell(f"{', '.join(PEERS)} are left out: {missing}")
        return sides
    versions = peer_venv.versions(interpreter)
    tell("from PyPI: " + ", ".join(f"{name} {version}" for name, version in versions.items()))
    return [*(peer(name, file, str(interpreter)) for name, file in PEERS.items()), *sides]


def _tell_round(figure: int, number: int, outcome: Round | LeftOut) -> None:
    if isinstance(outcome, LeftOut):
        tell(f"{figure} round {number}: {outcome.peer} is left out: {outcome.left_out}")
        return
    tell(
        f"{figure} round {number}: {outcome.peer}: {outcome.rate:.1f} works/s"
        f" ({outcome.works} in {outcome.seconds:.1f} s), one alone {outcome.single_p50_ms:.2f} ms"
    )


def dispatches(scale: Scale) -> Iterable[Figure]:
    """Figure 2: dispatch and completion by simulated workers, durable, over TLS."""
    found: dict[int, list[dict[str, Any]]] = {crew: [] for crew in CREWS}
    with Server.fresh() as server:
        for number in range(1, scale.rounds + 1):
            for crew in CREWS:
                one = load_on(server, "dispatch", workers=crew, seconds=scale.window)
                tell(
                    f"2 round {number}: {crew} workers: {one['rate']:.0f} works/s,"
                    f" {one['cpu_us']:.0f} us of server CPU a work"
                )
                found[crew].append(one)
    for crew, rounds in found.items():
        rate = median(one["rate"] for one in rounds)
        cpu = median(one["cpu_us"] for one in rounds)
        rate_title = f"2 dispatches/s, {crew} simulated workers"
        cpu_title = f"2 server CPU us a work, {crew} simulated workers"
        if crew == CREW_WITH_GOAL:
            yield at_least(rate_title, rate, DISPATCHES_PER_SECOND, "works/s")
            yield at_most(cpu_title, cpu, MICROSECONDS_A_WORK, "us")
        else:
            yield without_goal(rate_title, rate)
            yield without_goal(cpu_title, cpu)


def waiting_works(scale: Scale) -> Iterable[Figure]:
    """Figure 3: what waiting works cost: time at dispatch, memory, time at a restart."""
    costs: dict[int, list[float]] = {level: [] for level in scale.levels}
    sizes, restarts = [], []
    levels = ",".join(map(str, scale.levels))
    for number in range(1, scale.rounds + 1):
        with Server.fresh() as server:
            found = load_on(
                server,
                "waiting",
                levels=levels,
                workers=WORKERS_AT_A_LEVEL,
                seconds=scale.window,
            )["levels"]
            # Submitting a work costs the same at any level; it is measured on most works, the last.
            submitting = found[-1]["submit_cpu_us"]
            for one in found:
                costs[one["level"]].append(one["cpu_us"] - submitting)
                tell(
                    f"3 round {number}: {one['level']} waiting:"
                    f" {one['cpu_us'] - submitting:.0f} us of server CPU to dispatch and complete,"
                    f" {submitting:.0f} us to submit, at {one['rate']:.0f} works/s"
                )
            sizes.append(found[-1]["bytes"])
            server.kill()
            restarts.append(server.start())
            tell(
                f"3 round {number}: {sizes[-1]:.0f} bytes a waiting work,"
                f" restart with {scale.levels[-1]} after kill -9: {restarts[-1]:.1f} s"
            )
    least = median(costs[scale.levels[0]])
    for level in scale.levels[1:]:
        title = f"3 dispatch cost in us at {level} waiting works, beside {scale.levels[0]}"
        yield flat(title, median(costs[level]), least, FLATNESS)
    yield at_most("3 bytes a waiting work", median(sizes), BYTES_A_WAITING_WORK, "bytes")
    title = f"3 seconds to restart with {scale.levels[-1]} works"
    yield at_most(title, median(restarts), RESTART_SECONDS, "s")


def one_alone(scale: Scale) -> Iterable[Figure]:
    """Figure 4: one work alone to an idle slot, from its submission to the result in hand."""
    p50, p99, disk = [], [], []
    for number in range(1, scale.rounds + 1):
        found = alone(scale.singles)
        tell(
            f"4 round {number}: p50 {found.p50:.2f} ms, p99 {found.p99:.2f} ms,"
            f" fdatasync p50 {found.fdatasync_p50:.2f} ms"
        )
        p50.append(found.p50)
        p99.append(found.p99)
        disk.append(found.fdatasync_p50)
    goal = ALONE_MILLISECONDS + FDATASYNCS * median(disk)
    yield at_most("4 ms for one work alone, p50", median(p50), goal, "ms")
    yield without_goal("4 ms for one work alone, p99", median(p99))
    yield without_goal("4 ms for an fdatasync, p50", median(disk))


def idle_workers(scale: Scale) -> Iterable[Figure]:
    """Figure 5: many idle connected workers: memory of each, and how soon a push reaches one."""
    kilobytes, p99 = [], []
    for number in range(1, scale.rounds + 1):
        with Server.fresh() as server:
            options = {"connections": scale.connections, "pushes": scale.pushes}
            found = load_on(server, "idle", **options)
        kilobytes.append(found["bytes"] / 1e3)
        p99.append(found["push_p99"] * 1e3)
        tell(
            f"5 round {number}: {scale.connections} idle workers at {kilobytes[-1]:.1f} kB each,"
            f" push p50 {found['push_p50'] * 1e3:.1f} ms, p99 {p99[-1]:.1f} ms,"
            f" connected at {found['connects_per_second']:.0f}/s"
        )
    title = f"5 kB a connection, {scale.connections} idle workers"
    yield at_most(title, median(kilobytes), KILOBYTES_A_CONNECTION, "kB")
    yield without_goal("5 ms for a push to one of them, p99", median(p99))


def registrations(scale: Scale) -> Iterable[Figure]:
    """Figure 6: re-registrations of known jobs, durable; beside it, new connections."""
    rates, p99, connections = [], [], []
    for number in range(1, scale.rounds + 1):
        with Server.fresh() as server:
            options = {"jobs": scale.jobs, "seconds": scale.window}
            offered = ",".join(map(str, scale.rates))
            connected = load_on(server, "connect", seconds=scale.window)
            found = load_on(server, "register", rates=offered, **options)["rates"]
        for one in found:
            tell(
                f"6 round {number}: {one['offered']} re-registrations/s offered:"
                f" {one['rate']:.0f}/s, p50 {one['p50'] * 1e3:.1f} ms,"
                f" p99 {one['p99'] * 1e3:.1f} ms"
            )
        tell(f"6 round {number}: {connected['rate']:.0f} new authenticated connections/s")
        best = _fastest_in_time(found)
        rates.append(best["rate"])
        p99.append(best["p99"] * 1e3)
        connections.append(connected["rate"])
    title = f"6 re-registrations/s of {scale.jobs} known jobs"
    yield at_least(title, median(rates), REGISTRATIONS_PER_SECOND, "/s")
    yield at_most("6 ms for one of them, p99", median(p99), REGISTRATION_MILLISECONDS, "ms")
    yield without_goal("6 new authenticated connections/s", median(connections))


def _fastest_in_time(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The highest offered rate that was kept in time; the lowest if none was."""
    kept = [
        one
        for one in found
        if one["p99"] * 1e3 < REGISTRATION_MILLISECONDS and one["rate"] >= KEPT * one["offered"]
    ]
    return kept[-1] if kept else found[0]


def lists(scale: Scale) -> Iterable[Figure]:
    """Figure 7: very many works: until a sweep of them is durable, and how fast they are listed."""
    rounds = []
    for number in range(1, scale.rounds + 1):
        found = listed(scale.listed)
        tell(
            f"7 round {number}: a sweep of {scale.listed} works accepted in {found.accepted:.1f} s,"
            f" listed at {found.rows_of_all:.0f} rows/s,"
            f" by its name at {found.rows_of_one:.0f} rows/s"
        )
        rounds.append(found)
    accepted = median(found.accepted for found in rounds)
    yield at_most(
        f"7 s until a sweep of {scale.listed} works is accepted", accepted, ACCEPTED_SECONDS, "s"
    )
    for name, rates in (
        (f"7 rows/s of a list of {scale.listed} works", [r.rows_of_all for r in rounds]),
        ("7 rows/s of the same by their submission", [r.rows_of_one for r in rounds]),
    ):
        yield at_least(name, median(rates), ROWS_PER_SECOND, "rows/s")


def beside_the_foundation(scale: Scale) -> Iterable[Figure]:
    """Figure 8: figures 1 to 3 once more, beside the commit at which the foundation was finished.

    Our own side runs in a copy as well, so that its figures are not taken for those of this run.
    """
    with foundation() as then, copy_of_ours() as now:
        yield from _works_beside(then, scale)
        yield from _costs_beside(then, now, scale)


def _works_beside(then: Path, scale: Scale) -> Iterable[Figure]:
    earlier = {how: f"foundation, {how}" for how in OURS}
    sides = [*_ours(), *(side_in(then, name, how) for how, name in earlier.items())]
    found = compare(sides, scale.rounds, scale.seconds, partial(_tell_round, 8))
    for how, name in OURS.items():
        title = f"8 works/s: {name}, beside the foundation"
        if name in found.rounds and earlier[how] in found.rounds:
            yield beside(title, found.rate(name), found.rate(earlier[how]), OF_THE_FOUNDATION)
        else:
            reasons = "; ".join(f"{each}: {why}" for each, why in found.left_out.items())
            yield not_measured(title, f">= {OF_THE_FOUNDATION:g} x", reasons)


def _costs_beside(then: Path, now: Path, scale: Scale) -> Iterable[Figure]:
    found: dict[str, list[tuple[float, float]]] = {}
    is_quick = scale.seconds < FULL.seconds
    # Figure 3 takes minutes and is steady.
    for number in [2] * scale.rounds + [3]:
        ours, earlier = (measured_in(tree, number, is_quick) for tree in (now, then))
        for title in ours.keys() & earlier.keys():
            found.setdefault(title, []).append((ours[title], earlier[title]))
        tell(f"8: figure {number} of both was measured")
    for title in sorted(found):
        here, there = (median(values) for values in zip(*found[title], strict=True))
        of_both = f"8 {title[2:]}, beside the foundation"
        if "dispatches/s" in title:
            yield beside(of_both, here, there, OF_THE_FOUNDATION)
        else:
            yield flat(of_both, here, there, 1 / OF_THE_FOUNDATION)


def simulated_week(scale: Scale) -> Iterable[Figure]:
    """Figure 9: a week of bursty demand and ten unreliable sites, simulated with the factory's own
    code; how long works wait stands beside an oracle to which all slots belong all the time.
    """
    found = simulated(scale.simulated_days)
    for sentence in found.sentences:
        tell(f"9 {sentence}")
    title = "9 % of the pilots that started which ran works"
    yield at_least(title, 100 * found.useful_share, USEFUL_PERCENT, "%")
    # Those that were taken back while they waited cost no slot.
    yield without_goal("9 % of the pilots that were sent", 100 * found.useful_of_submitted)
    mine, best = percentile(found.waits, 95), percentile(found.oracle_waits, 95)
    yield flat("9 s that works waited, p95, beside the oracle's", mine, best, TIMES_THE_ORACLE)
    title = "9 % of the core time in pilots that was idle"
    yield at_most(title, 100 * found.idle_share, IDLE_PERCENT, "%")
    yield at_most("9 times that a cap was broken", found.violations, 0, "times")


def planning_cycle(scale: Scale) -> Iterable[Figure]:
    """Figure 10: one round of a factory at very many pilots: asking sites and server, planning."""
    found = rounds_of(scale.pilots, max(3, scale.rounds))
    for number, (whole, planning) in enumerate(zip(found.whole, found.planning, strict=True), 1):
        tell(f"10 round {number}: {whole:.2f} s, {planning:.2f} s without asking the sites")
    title = f"10 s for a factory's round, {scale.pilots} pilots at {SITES} sites"
    yield at_most(title, median(found.whole), PLANNING_SECONDS, "s")
    yield without_goal("10 s of it without asking the sites", median(found.planning))


FIGURES: dict[int, Callable[[Scale], Iterable[Figure]]] = {
    1: works_per_second,
    2: dispatches,
    3: waiting_works,
    4: one_alone,
    5: idle_workers,
    6: registrations,
    7: lists,
    8: beside_the_foundation,
    9: simulated_week,
    10: planning_cycle,
}


def measure(number: int, scale: Scale) -> list[Figure]:
    """The figure ``number``; one line that says why, if it cannot be measured."""
    try:
        return list(FIGURES[number](scale))
    except (NotMeasured, OSError) as reason:
        tell(f"{number} cannot be measured: {reason}")
        return [not_measured(f"{number} {FIGURES[number].__name__}", "measured", str(reason))]
