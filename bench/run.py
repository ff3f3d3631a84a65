"""Measure the grid beside its peers and the limits of this machine.

    python bench/run.py [--figure N]... [--rounds 3] [--quick] [--result FILE]

Prints what it does with the machine's load, then a table, and writes bench/latest.json.
``--quick`` shows in a few minutes that all parts work; its numbers are too short to mean much and
are written to no file but one that is named.
"""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from bench.figures import FIGURES, FULL, QUICK, measure
from bench.measure import commit, load
from bench.report import table, tell, write

TREE = Path(__file__).resolve().parents[1]
RESULT = TREE / "bench" / "latest.json"


def main() -> int:
    """The command; 0 if all was measured, whatever was found, 1 if not, 2: wrong command line."""
    parser = argparse.ArgumentParser(description="Measure the grid beside its peers.")
    parser.add_argument("--figure", type=int, action="append", choices=sorted(FIGURES))
    parser.add_argument("--rounds", type=int, help=f"rounds of each, {FULL.rounds} by default")
    parser.add_argument("--quick", action="store_true", help="short and rough")
    parser.add_argument("--result", type=Path, metavar="FILE", help=f"not {RESULT.name}, but this")
    options = parser.parse_args()
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds is at least 1")
    scale = QUICK if options.quick else FULL
    scale = replace(scale, rounds=options.rounds or scale.rounds)

    # Clients say that they took leave; here that is no news.
    logging.basicConfig(level=logging.ERROR)
    load_before, of = load(), commit(TREE)
    tell(f"commit {of}, {scale.rounds} rounds of {scale.seconds:g} s")
    figures = [
        figure for number in options.figure or sorted(FIGURES) for figure in measure(number, scale)
    ]
    print(table(figures))
    result = options.result or (None if options.quick else RESULT)
    if result is not None:
        write(result, of, load_before, figures)
        print(f"written to {result}")
    return 0 if all(figure.measured is not None for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
