"""Runs the sides of a comparison, each round a process of its own: A B A B, never A A B B.

What else happens on the machine then happens to all sides alike.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.measure import descendants, median
from bench.side import LeftOut, Round

TREE = Path(__file__).resolve().parents[1]
PEERS = TREE / "bench" / "peers"
TIME_TO_START = 120
SLOWEST = 6


@dataclass(frozen=True)
class Side:
    """A program that measures one round of itself and prints it as a JSON line (see side.py)."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)

    def round(self, seconds: float) -> Round | LeftOut:
        """One round; LeftOut where it cannot run, fails, or takes far longer than it should."""
        words = [*self.command, "--seconds", str(seconds)]
        limit = TIME_TO_START + SLOWEST * seconds
        with tempfile.TemporaryFile("w+") as talk:
            program = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=talk,
                text=True,
                env={**os.environ, **self.environment},
                cwd=TREE,
                start_new_session=True,
            )
            try:
                said, _ = program.communicate(timeout=limit)
            except subprocess.TimeoutExpired:
                kill(program)
                return LeftOut(self.name, f"did not end in {limit:g} s")
            except BaseException:
                kill(program)
                raise
            if program.returncode != 0:
                talk.seek(0)
                complaint = (talk.read().strip().splitlines() or ["it said nothing"])[-1]
                return LeftOut(self.name, f"exit code {program.returncode}: {complaint}")
        line = json.loads(said.splitlines()[-1])
        return LeftOut(**line) if "left_out" in line else Round(**line)


def kill(program: subprocess.Popen[str]) -> None:
    """End ``program`` and everything it started."""
    for pid in (program.pid, *descendants(program.pid)):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    program.wait()


def peer(name: str, file: str, interpreter: str = sys.executable) -> Side:
    """The side that ``file`` of bench/peers measures."""
    return Side(name, (interpreter, str(PEERS / file)))


@dataclass(frozen=True)
class Comparison:
    """The medians of the rounds of each side that ran, and why the others did not."""

    rounds: Mapping[str, Sequence[Round]]
    left_out: Mapping[str, str]

    def rate(self, name: str) -> float:
        """Median works/s of the side ``name``."""
        return median(each.rate for each in self.rounds[name])

    def fastest(self, names: Sequence[str]) -> str | None:
        """The one of ``names`` with the highest median; None if none of them ran."""
        return max((name for name in names if name in self.rounds), key=self.rate, default=None)


def compare(
    sides: Sequence[Side],
    rounds: int,
    seconds: float,
    tell: Callable[[int, Round | LeftOut], None],
) -> Comparison:
    """Interleave ``rounds`` rounds of all sides. A side that failed once is not asked again."""
    done: dict[str, list[Round]] = {side.name: [] for side in sides}
    left_out: dict[str, str] = {}
    for number in range(1, rounds + 1):
        for side in sides:
            if side.name in left_out:
                continue
            outcome = side.round(seconds)
            tell(number, outcome)
            if isinstance(outcome, LeftOut):
                left_out[side.name] = outcome.left_out
            else:
                done[side.name].append(outcome)
    whole = {name: got for name, got in done.items() if name not in left_out}
    return Comparison(whole, left_out)
