"""The commit at which the foundation was finished, beside us: what came later may not cost much.

`make bench` unpacks its sources. They are measured by the benchmarks of today, so that the two
sides differ in nothing but the grid.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.disk import scratch
from bench.grid import NotMeasured
from bench.sides import TREE, Side

SOURCES = "GLIDEBRIDGE_EARLIER"
TIME_FOR_A_FIGURE = 900.0


@contextmanager
def foundation() -> Iterator[Path]:
    """A tree with the foundation's grid and our benchmarks; raises NotMeasured if there is none."""
    sources = os.environ.get(SOURCES)
    if not sources:
        raise NotMeasured(f"{SOURCES} is not set; `make bench` sets it where the history is whole")
    with scratch("foundation") as directory:
        tree = directory / "tree"
        shutil.copytree(sources, tree, ignore=shutil.ignore_patterns("bench"))
        shutil.copytree(TREE / "bench", tree / "bench")
        yield tree


@contextmanager
def copy_of_ours() -> Iterator[Path]:
    """This tree, in a place of its own."""
    with scratch("now") as directory:
        tree = directory / "tree"
        shutil.copytree(TREE, tree, ignore=shutil.ignore_patterns(".git", "*_cache"))
        yield tree


def side_in(tree: Path, name: str, how: str) -> Side:
    """The grid of ``tree`` as a side of figure 1."""
    program = str(tree / "bench" / "glidebridge_side.py")
    return Side(name, (sys.executable, program, how), {"PYTHONPATH": str(tree)})


def measured_in(tree: Path, number: int, is_quick: bool) -> dict[str, float]:
    """One round of a figure in ``tree``: what was measured, by its title; raises NotMeasured."""
    result = tree / "bench" / "latest.json"
    words = [sys.executable, "bench/run.py", "--figure", str(number), "--rounds", "1"]
    words += ["--result", str(result), *(["--quick"] if is_quick else [])]
    try:
        done = subprocess.run(
            words,
            cwd=tree,
            env={**os.environ, "PYTHONPATH": str(tree)},
            capture_output=True,
            text=True,
            timeout=TIME_FOR_A_FIGURE,
        )
    except subprocess.TimeoutExpired:
        raise NotMeasured(f"figure {number} did not end in {TIME_FOR_A_FIGURE:g} s") from None
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines() or ["it said nothing"]
        raise NotMeasured(f"figure {number} failed: {said[-1]}")
    found = json.loads(result.read_text())["figures"]
    return {each["figure"]: each["measured"] for each in found}
