"""The simulator is the same each time, breaks no cap, and shows what factories are judged by."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from desktopgrid.model.errors import ConfigurationError
from desktopgrid.model.sites import FakeSite
from pilot.factory.plan import Policy
from pilot.factory.simulator import Report, Simulation, percentile
from pilot.factory.trace import NEVER, Behaviour, Trace, read_trace

TRACE = Path(__file__).parents[3] / "conf" / "trace.conf"


@pytest.fixture
def trace() -> Trace:
    return read_trace(TRACE)


def a_trace(tmp_path: Path, *lines: str) -> Trace:
    file = tmp_path / "trace.conf"
    text = "[trace]\nseed = 1\ndays = 0.25\n" + "\n".join(lines) + "\n"
    file.write_text(text)
    return read_trace(file)


SITE = "[site lal]\nmax_pilots = 20\nmax_idle = 20\nmax_an_hour = 500\nwall_time = 6 h"
STEADY = "[crowd c]\nworks_an_hour = 120\nnight = 1\nduration = 5 min\nwall_time = 1 h"
BURSTS = "[crowd b]\nbursts_a_day = 40\nnight = 1\nburst_works = 30\nwall_time = 1 h"


def test_a_day_goes_as_it_should(trace: Trace) -> None:
    trace = replace(trace, course=replace(trace.course, period=timedelta(seconds=60)))
    report = Simulation(trace.lasting(1)).run()
    assert report.violations == 0
    assert report.works > 1_000
    assert report.failed > 0, "and pilots that fail"
    assert report.useful_share > 0.98
    assert report.idle_share < 0.05
    assert report.waiting_ratio < 2
    assert sum(counts["submitted"] for counts in report.by_site.values()) == report.submitted
    assert "Caps were broken 0 times." in report.sentences
    assert {row["site"] for row in report.rows} == set(trace.sites)


def test_bursts_that_vanish_and_pilots_that_fail_are_among_it(trace: Trace) -> None:
    assert any(each.vanishes_at < NEVER for each in trace.arrivals())
    assert any(behaviour.failing for behaviour in trace.behaviours.values())
    assert any(behaviour.losing for behaviour in trace.behaviours.values())
    assert any(trace.spells(name, "outage") for name in trace.sites)
    assert any(trace.spells(name, "black hole") for name in trace.sites)


def test_the_same_file_is_always_the_same_day(tmp_path: Path) -> None:
    trace = a_trace(tmp_path, STEADY, BURSTS, SITE, "[behaviour lal]\nfailing = 0.1")
    first, second = Simulation(trace).run(), Simulation(trace).run()
    assert first == second
    other = replace(trace, course=replace(trace.course, seed=2))
    assert Simulation(other).run() != first


def test_works_wait_for_a_slot_that_falls_free_or_for_a_pilot_to_come(tmp_path: Path) -> None:
    calm = "[behaviour lal]\nlatency = 100 s\nlatency_spread = 0"
    report = Simulation(a_trace(tmp_path, STEADY, SITE, calm)).run()
    assert percentile(report.waits, 50) <= 100 + 30
    assert percentile(report.waits, 100) <= 3 * 100
    assert percentile(report.oracle_waits, 95) < 60
    assert report.useful_share > 0.9


def test_a_black_hole_swallows_few_pilots(tmp_path: Path) -> None:
    hole = "[behaviour lal]\nblack_holes_a_day = 1e6\nblack_hole = 24 h"
    report = Simulation(a_trace(tmp_path, STEADY, SITE, hole)).run()
    assert report.useful == 0
    assert 3 <= report.started < 40, "in six hours, at 120 works an hour"


def test_what_a_site_forgets_is_given_up_and_what_it_preempts_runs_elsewhere(
    tmp_path: Path,
) -> None:
    bad = "[behaviour lal]\nlosing = 0.2\npreempting = 0.5"
    report = Simulation(a_trace(tmp_path, STEADY, SITE, bad)).run()
    assert report.failed > 2
    assert len(report.waits) > 600


def test_an_outage_lets_nothing_start(tmp_path: Path) -> None:
    dark = "[behaviour lal]\noutages_a_day = 1e6\noutage = 24 h"
    report = Simulation(a_trace(tmp_path, STEADY, SITE, dark)).run()
    assert report.started == 0
    assert report.waits == []
    assert (report.useful_share, report.useful_of_submitted, report.idle_share) == (1.0, 1.0, 0.0)


def test_desktops_and_the_oracle_need_no_pilots(tmp_path: Path) -> None:
    trace = a_trace(tmp_path, STEADY, "[site lal]\nmax_pilots = 0")
    trace = replace(trace, course=replace(trace.course, desktop_cores=40))
    report = Simulation(trace).run()
    assert report.submitted == 0
    assert report.waits == report.oracle_waits
    assert percentile(report.waits, 95) == 0


def test_other_settings_may_be_tried(tmp_path: Path) -> None:
    small = a_trace(tmp_path, BURSTS, SITE)
    wide = small.at({"mine": FakeSite("mine", max_pilots=7, max_idle=7)})
    assert wide.behaviours == {"mine": Behaviour("mine", slots=7)}
    assert Simulation(wide, Policy(lasting=0)).run().submitted > 0
    assert repr(Report()).startswith("Report(works=0")


@pytest.mark.parametrize(
    "text, said",
    [
        ("[crowd c]\n", "section [trace] is missing"),
        ("[trace]\nseed = 1\n[crowd c]\nvanishing = 2\n", "between 0 and 1"),
        ("[trace]\nseed = 1\n[crowd c]\ncores = 0\n", "at least 1"),
        ("[trace]\nseed = 1\ndays = 0\n", "days must be more than 0"),
        ("[trace]\nseed = 1\nperiod = 0.5 s\n", "at least a second"),
        ("[trace]\nseed = 1\n[behaviour b]\n", "no [site b]"),
        ("[trace]\nseed = 1\n[site a]\n[behaviour a]\nfailing = 2\n", "failing must be between"),
        ("[trace]\nseed = 1\n[site a]\n[behaviour a]\nslots = -1\n", "slots must not be"),
        ("[trace]\nseed = 1\n[weather w]\n", "unknown section [weather w]"),
        ("[trace]\nseed = 1\n[site a]\ncomputing_element = fax\n", "not 'fax'"),
    ],
)
def test_a_trace_that_makes_no_sense_is_refused_with_its_line(
    tmp_path: Path, text: str, said: str
) -> None:
    file = tmp_path / "t.conf"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        read_trace(file)
