"""The figures of the grid, one function each: what is measured, beside what, with which goal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench import peer_venv
from bench.report import Figure, beside, not_measured, tell
from bench.side import LeftOut, Round
from bench.sides import Comparison, Side, compare, peer

PEERS = ("HyperQueue", "Parsl", "Dask", "HTCondor")
LIMIT = "C loop"
TIMES_THE_BEST_PEER = 2.0
TIMES_THE_LIMIT = 0.5


@dataclass(frozen=True)
class Scale:
    """How much a run of the benchmarks measures."""

    rounds: int
    seconds: float


FULL = Scale(rounds=3, seconds=15.0)
QUICK = Scale(rounds=1, seconds=3.0)


def works_per_second(scale: Scale) -> list[Figure]:
    """Figure 1: /bin/true end to end on two slots, beside four peers and the machine's limit."""
    ours: list[Side] = []
    found = compare([*ours, *_peers()], scale.rounds, scale.seconds, _tell_round)
    return [figure for side in ours for figure in _against_all(side.name, found)]


def _against_all(name: str, found: Comparison) -> list[Figure]:
    best = found.fastest(PEERS)
    figures = []
    for other, goal in ((best, TIMES_THE_BEST_PEER), (LIMIT, TIMES_THE_LIMIT)):
        title = f"1 works/s, {name}, beside {other or 'the best peer'}"
        if name not in found.rounds:
            figures.append(not_measured(title, f">= {goal:g} x", found.left_out[name]))
        elif other is None or other not in found.rounds:
            reasons = "; ".join(f"{each}: {why}" for each, why in found.left_out.items())
            figures.append(not_measured(title, f">= {goal:g} x", reasons))
        else:
            figures.append(beside(title, found.rate(name), found.rate(other), goal))
    return figures


def _peers() -> list[Side]:
    sides = [peer(LIMIT, "spawn_loop.py"), peer("HTCondor", "condor_peer.py")]
    try:
        interpreter = peer_venv.python()
    except peer_venv.PeersUnavailable as missing:
        tell(f"HyperQueue, Parsl and Dask are left out: {missing}")
        return sides
    versions = peer_venv.versions(interpreter)
    tell("from PyPI: " + ", ".join(f"{name} {version}" for name, version in versions.items()))
    files = {"HyperQueue": "hyperqueue_peer.py", "Parsl": "parsl_peer.py", "Dask": "dask_peer.py"}
    return [*(peer(name, file, str(interpreter)) for name, file in files.items()), *sides]


def _tell_round(number: int, outcome: Round | LeftOut) -> None:
    if isinstance(outcome, LeftOut):
        tell(f"1 round {number}  {outcome.peer:12} is left out: {outcome.left_out}")
        return
    tell(
        f"1 round {number}  {outcome.peer:12} {outcome.rate:8.1f} works/s"
        f" ({outcome.works} in {outcome.seconds:.1f} s), one alone {outcome.single_p50_ms:.2f} ms"
    )


FIGURES: dict[int, Callable[[Scale], Sequence[Figure]]] = {1: works_per_second}
