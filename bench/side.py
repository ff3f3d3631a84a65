"""How every side of the works/s benchmark is measured, so that the sides differ in nothing else.

A side says how it runs ``count`` works and how it runs one; this module finds a count that keeps
it busy for the asked time and prints the one JSON line that ``bench/run.py`` reads. Standard
library only: it is imported inside the peers' environment too.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from bench.measure import median, timed

TRUE = "/bin/true"
SLOTS = 2
FIRST_PORTION = 16
LARGEST_PORTION = 200_000
STEP = 16
MARGIN = 1.1
SINGLES, FEWEST_SINGLES, SINGLES_SECONDS = 20, 3, 5.0


class Runner(Protocol):
    """A running system with two slots. Both calls return when all results are in hand."""

    def run(self, count: int) -> None:
        """Submit ``count`` runs of /bin/true at once and wait for all; raise if one failed."""

    def single(self) -> None:
        """Submit one to the idle system and wait for it."""


@dataclass(frozen=True)
class Round:
    """What one side did in one round; the JSON line that it prints."""

    peer: str
    works: int
    seconds: float
    rate: float
    single_p50_ms: float


@dataclass(frozen=True)
class LeftOut:
    """A side that cannot run here, and why."""

    peer: str
    left_out: str


def longest_portion(seconds: float, run: Callable[[int], float]) -> tuple[int, float]:
    """(works, seconds) of one portion, submitted at once, that kept the side busy for ``seconds``.

    Smaller portions come before it, to warm the side up and to estimate its rate; only the last
    counts, for a system must not be charged for the pauses between ours.
    """
    count = FIRST_PORTION
    while (took := run(count)) < seconds and count < LARGEST_PORTION:
        # A short portion says little: no step is larger than STEP.
        count = min(LARGEST_PORTION, math.ceil(count * min(STEP, seconds / took * MARGIN)))
    return count, took


def alone_p50(single: Callable[[], None]) -> float:
    """Median seconds of one work after the other; fewer of them where they are slow."""
    times: list[float] = []
    while len(times) < SINGLES and (len(times) < FEWEST_SINGLES or sum(times) < SINGLES_SECONDS):
        times.append(timed(single))
    return median(times)


def measured(peer: str, runner: Runner, seconds: float, count: int | None) -> Round:
    """One round: ``count`` works, or as many as keep ``runner`` busy for ``seconds``."""

    def run(portion: int) -> float:
        return timed(lambda: runner.run(portion))

    run(FIRST_PORTION)
    alone = alone_p50(runner.single)
    works, spent = longest_portion(seconds, run) if count is None else (count, run(count))
    return Round(peer, works, round(spent, 3), round(works / spent, 1), round(alone * 1000, 2))


def main(
    peer: str,
    system: Callable[[], AbstractContextManager[Runner]],
    words: Sequence[str] | None = None,
) -> None:
    """The command line of a peer: measure it and print one JSON line, the last on stdout.

    A peer that cannot run here raises Unavailable, and prints the reason instead.
    """
    parser = argparse.ArgumentParser(description=f"Runs of {TRUE} on {SLOTS} slots: {peer}.")
    parser.add_argument("--seconds", type=float, default=15.0, help="keep it busy for so long")
    parser.add_argument("--count", type=int, help="run so many works instead")
    options = parser.parse_args(words)
    # What a peer prints itself goes to stderr: our line is the only one on stdout.
    line = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    outcome: Round | LeftOut
    try:
        with system() as runner:
            outcome = measured(peer, runner, options.seconds, options.count)
    except Unavailable as missing:
        outcome = LeftOut(peer, str(missing))
    print(json.dumps(asdict(outcome)), file=line, flush=True)


class Unavailable(Exception):
    """This side cannot run on this machine; the text says what is missing."""


def wait_until(condition: Callable[[], bool], limit: float, pause: float) -> None:
    """Poll ``condition`` every ``pause`` seconds; raises TimeoutError after ``limit``."""
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not reached in {limit:g} s")
        time.sleep(pause)
