"""What the benchmarks make of what they measured: no figure is met that was not measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import figures
from bench.grid import NotMeasured
from bench.measure import (
    fdatasync_p50,
    percentile,
    resident_bytes,
    tree_cpu_seconds,
)
from bench.report import at_least, at_most, beside, flat, not_measured, table, without_goal, write
from bench.side import LARGEST_PORTION, Round, longest_portion
from bench.sides import Comparison, Side, compare


@pytest.mark.parametrize(
    "values, share, expected",
    [
        pytest.param([3, 1, 2], 50, 2, id="the middle of three"),
        pytest.param(range(1, 101), 99, 99, id="one in a hundred is beyond the 99th"),
        pytest.param(range(1, 11), 99, 10, id="with few values it is the largest"),
        pytest.param([7], 99, 7, id="of one value it is that"),
    ],
)
def test_percentile(values, share, expected):
    assert percentile(values, share) == expected


def test_no_values_have_no_percentile():
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


@pytest.mark.parametrize(
    "figure, is_met",
    [
        (at_least("rate", 8000.0, 8000, "/s"), True),
        (at_least("rate", 7999.9, 8000, "/s"), False),
        (at_most("time", 15.0, 15, "s"), True),
        (at_most("time", 15.1, 15, "s"), False),
        (beside("rate", 200.0, 100.0, 2.0), True),
        (beside("rate", 199.0, 100.0, 2.0), False),
        (flat("cost", 120.0, 100.0, 1.2), True),
        (flat("cost", 121.0, 100.0, 1.2), False),
        (without_goal("time", 1.0), True),
        (not_measured("rate", ">= 1", "no server"), False),
    ],
)
def test_a_figure_is_met_when_its_goal_is_reached(figure, is_met):
    assert figure.met is is_met


def test_the_result_has_the_columns_that_others_read(tmp_path):
    path = tmp_path / "latest.json"
    write(path, "abc", 0.123456, [beside("1", 3.0, 2.0, 1.0), not_measured("2", ">= 1", "no disk")])
    assert json.loads(path.read_text()) == {
        "commit": "abc",
        "load": 0.1235,
        "figures": [
            {
                "figure": "1",
                "measured": 3.0,
                "peer": 2.0,
                "ratio": 1.5,
                "goal": ">= 1 x",
                "met": True,
            },
            {
                "figure": "2",
                "measured": None,
                "peer": None,
                "ratio": None,
                "goal": ">= 1",
                "met": False,
                "reason": "no disk",
            },
        ],
    }


def test_the_table_says_why_a_figure_was_not_measured():
    assert table([not_measured("2 rate", ">= 1", "no disk")]).splitlines()[1:] == [
        "2 rate         -     -      -  >= 1   NO",
        "2 rate: no disk",
    ]


def test_a_figure_that_cannot_be_measured_is_reported_and_not_met(monkeypatch, capsys):
    def fails(scale):
        raise NotMeasured("the server ended")

    monkeypatch.setitem(figures.FIGURES, 2, fails)
    (figure,) = figures.measure(2, figures.QUICK)
    assert (figure.met, figure.measured, figure.reason) == (False, None, "the server ended")


@pytest.mark.parametrize("rate", [3.0, 500.0, 5_000.0])
def test_the_counted_portion_lasts_as_long_as_asked(rate):
    asked = []

    def run(count):
        asked.append(count)
        return count / rate

    works, seconds = longest_portion(15.0, run)
    assert works == asked[-1] <= LARGEST_PORTION
    assert 15.0 <= seconds < 30.0
    assert len(asked) < 8


def a_side(name, line):
    return Side(name, (sys.executable, "-c", f"print({json.dumps(line)!r})"))


def a_round(peer, rate):
    return {"peer": peer, "works": 1, "seconds": 1.0, "rate": rate, "single_p50_ms": 1.0}


def test_rounds_of_all_sides_alternate():
    order = []
    sides = [a_side("a", a_round("a", 1.0)), a_side("b", a_round("b", 2.0))]
    found = compare(sides, 2, 1.0, lambda number, outcome: order.append((number, outcome.peer)))
    assert order == [(1, "a"), (1, "b"), (2, "a"), (2, "b")]
    assert found.fastest(["a", "b"]) == "b"


def test_a_side_that_fails_is_left_out_and_not_asked_again():
    order = []
    sides = [
        Side("broken", (sys.executable, "-c", "import sys; sys.exit('no licence')")),
        a_side("absent", {"peer": "absent", "left_out": "not installed"}),
        a_side("b", a_round("b", 2.0)),
    ]
    found = compare(sides, 2, 1.0, lambda number, outcome: order.append(outcome.peer))
    assert order == ["broken", "absent", "b", "b"]
    assert found.left_out == {"broken": "exit code 1: no licence", "absent": "not installed"}
    assert found.fastest(["broken", "absent"]) is None


def test_what_is_beside_a_peer_that_did_not_run_is_not_met():
    ours = {name: [Round(name, 9, 1.0, 9.0, 1.0)] for name in figures.OURS.values()}
    found = Comparison(ours, {figures.LIMIT: "no compiler"})
    for name in figures.OURS.values():
        for figure in figures._beside_all(name, found):
            assert (figure.met, figure.reason) == (False, f"{figures.LIMIT}: no compiler")


def test_a_process_is_charged_for_its_children():
    burn = "sum(range(3_000_000))"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}])"
    before = tree_cpu_seconds(os.getpid())
    subprocess.run([sys.executable, "-c", code], check=True)
    assert tree_cpu_seconds(os.getpid()) - before >= 0.02
    assert resident_bytes(os.getpid()) > 1 << 20


def test_the_probe_of_the_disk_leaves_nothing(tmp_path):
    assert 0 < fdatasync_p50(tmp_path, count=3) < 10
    assert list(Path(tmp_path).iterdir()) == []
