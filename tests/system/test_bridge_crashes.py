"""The bridge killed at every step of a job's way: no job is lost, none runs twice.

The jobs come from a batch system of one process each: their carriers, as HTCondor's starter or a
batch system's script starts them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge import carrier, faults
from desktopgrid.model.lifecycle import WorkStatus
from tests.system.bridges import BridgeUnderTest, a_place, grid_section
from tests.system.processes import DEADLINE, ServerUnderTest, a_grid, environment, until

COUNTED = """#!/bin/sh
# Leaves a line in the file $1 for each time that it ran, and waits for the file $2.
echo ran >> "$1"
while [ ! -e "$2" ]; do sleep 0.02; done
cat in.txt
echo made > made.txt
echo more > more.txt
exit 0
"""
ROUTE = """
[route batch]
kind = batch
from = batch
to = desktop
"""


class Job:
    """A job whose carrier stands at the counter."""

    def __init__(self, stage: Stage, name: str) -> None:
        self.stage, self.name = stage, name
        self.directory = stage.place / "jobs" / name
        self.directory.mkdir(parents=True)
        self.count, self.gate = self.directory / "count", self.directory / "gate"
        self.state = self.directory / "state"
        (self.directory / "run.sh").write_text(COUNTED)
        (self.directory / "run.sh").chmod(0o755)
        (self.directory / "in.txt").write_text("input\n")
        job = {"job": f"job-{name}", "user": "ann", "outputs": ["*.txt"]}
        job["command"] = ["run.sh", str(self.count), str(self.gate)]  # type: ignore[assignment]
        spec = {
            "directory": str(self.directory),
            "job": job,
            "inputs": {"run.sh": "run.sh", "in.txt": "in.txt"},
            "outputs": {"more.txt": "renamed.txt"},
            "stdin": "",
            "streams": {"stdout": "out", "stderr": "err"},
            "state": str(self.state),
        }
        (self.directory / "spec").write_text(json.dumps(spec))
        self.process = self._carried()

    def _carried(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [
                *(sys.executable, "-IS", carrier.__file__, str(self.stage.counter), "spec"),
                str(self.directory / "spec"),
            ],
            stdin=subprocess.DEVNULL,
        )

    def wait(self) -> int:
        """Its carrier's exit code."""
        return self.process.wait(DEADLINE)

    @property
    def runs(self) -> int:
        """How often it ran."""
        return self.count.read_text().count("ran") if self.count.exists() else 0

    def works(self) -> list[dict[str, Any]]:
        """The works that were made of it."""
        origin = f"batch/job-{self.name}/"
        rows = self.stage.grid.objects("works")
        return [dict(row) for row in rows if (row["origin"] or "").startswith(origin)]

    def check_delivered(self) -> None:
        """All that it left is there, once."""
        assert (self.directory / "out").read_text() == "input\n"
        assert (self.directory / "made.txt").read_text() == "made\n"
        assert (self.directory / "renamed.txt").read_text() == "more\n"
        assert json.loads(self.state.read_text())["code"] == 0


class Stage:
    """A grid with a worker, and a bridge at whose counter jobs are handed in."""

    def __init__(self, place: Path, server: ServerUnderTest) -> None:
        self.place, self.server = place, server
        self.grid = server.client()
        text = grid_section(server, place / "bridge.json") + ROUTE
        self.bridge = BridgeUnderTest(place / "bridge", text)
        self.counter = place / "bridge/routes/batch/counter"

    def start_to_die_at(self, step: str) -> Path:
        """Start the bridge anew so that it is killed at ``step``; the file that then is there."""
        mark = self.place / f"died at {step}".replace(" ", "-")
        self.bridge.variables = {faults.VARIABLE: f"{step} {mark}"}
        self.bridge.run("restart")
        self.bridge.variables = {}
        return mark

    def has_died(self, mark: Path) -> None:
        """Wait until it is dead, and start it again."""
        until(mark.exists, f"the bridge dies: {self.bridge.log[-2000:]}")
        until(lambda: self.bridge.status()["state"] == "stopped", "it is gone")
        self.bridge.run("start")


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with a_place() as place, a_grid(place / "server") as server:
        made = Stage(place, server)
        server.worker("desk", slots=4)
        try:
            yield made
        finally:
            made.bridge.close()


@pytest.mark.feature("XW-PIL-9")
@pytest.mark.parametrize("step", [step for step in faults.STEPS if "cancelled" not in step])
def test_a_job_is_neither_lost_nor_doubled_where_the_bridge_is_killed(
    stage: Stage, step: str
) -> None:
    mark = stage.start_to_die_at(step)
    job = Job(stage, step.replace(" ", "-"))
    if step in ("handed in", "looked", "staged", "submitted"):
        stage.has_died(mark)
        job.gate.touch()
    else:
        until(lambda: job.runs, "it runs")
        job.gate.touch()
        stage.has_died(mark)
    # Of one that was told before the end its carrier is gone already.
    assert job.wait() == 0
    job.check_delivered()
    assert job.runs == 1
    assert [row["status"] for row in job.works()] == ["COMPLETED"]


@pytest.mark.parametrize("step", [step for step in faults.STEPS if "cancelled" in step])
def test_a_job_that_is_wanted_no_more_stops_where_the_bridge_is_killed(
    stage: Stage, step: str
) -> None:
    mark = stage.start_to_die_at(step)
    job = Job(stage, step.replace(" ", "-"))
    until(lambda: job.runs, "it runs")
    job.process.terminate()
    stage.has_died(mark)
    assert job.wait() == 143
    assert [row["status"] for row in job.works()] == ["ABORTED"]


def test_a_job_whose_carrier_dies_is_found_again_by_the_next_one(stage: Stage) -> None:
    stage.bridge.run("restart")
    job = Job(stage, "repeated")
    until(lambda: job.runs, "it runs")
    job.process.kill()
    job.wait()
    again = job.process = job._carried()
    job.gate.touch()
    assert again.wait(DEADLINE) == 0
    job.check_delivered()
    assert job.runs == 1


def test_a_bridge_that_is_stopped_leaves_works_alone(stage: Stage) -> None:
    stage.bridge.run("restart")
    job = Job(stage, "stopped")
    until(lambda: job.runs, "it runs")
    stage.bridge.run("stop")
    assert job.works()[0]["status"] == WorkStatus.RUNNING.value
    job.gate.touch()
    stage.bridge.run("start")
    assert job.wait() == 0
    assert job.runs == 1


def test_a_server_that_is_killed_delays_jobs_and_loses_none(stage: Stage) -> None:
    stage.bridge.run("restart")
    running, late = Job(stage, "before"), None
    until(lambda: running.runs, "it runs")
    stage.server.kill()
    late = Job(stage, "meanwhile")
    until(lambda: "Jobs of route batch wait" in stage.bridge.log, "the bridge notices")
    stage.server.start()
    for job in (running, late):
        job.gate.touch()
        assert job.wait() == 0
        job.check_delivered()
        assert job.runs == 1


def test_what_the_grid_refuses_is_held_with_the_reason(stage: Stage) -> None:
    directory = stage.place / "refused"
    directory.mkdir()
    spec = {
        "directory": str(directory),
        "job": {"job": "refused", "user": "ann", "command": ["/bin/true"], "cores": 100_000},
        **{"inputs": {}, "outputs": {}, "stdin": "", "streams": {}, "state": str(directory / "s")},
    }
    (directory / "spec").write_text(json.dumps(spec))
    done = subprocess.run(
        [sys.executable, carrier.__file__, str(stage.counter), "spec", str(directory / "spec")],
        env=environment(),
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 1
    said = json.loads((directory / "s").read_text())
    assert said["status"] == "held"
    assert "cores is 100000; 1 to 4096 are allowed" in said["hold"]


@pytest.mark.feature("XW-PIL-10")
def test_the_bridge_is_started_and_stopped_by_the_verbs_of_the_server(tmp_path: Path) -> None:
    bridge = BridgeUnderTest(tmp_path / "b", "[bridge]\nlog_level = debug\n")
    assert "No bridge was running." in bridge.run("stop").stdout
    assert f"The bridge in {tmp_path}/b is stopped." in bridge.run("status", code=1).stderr
    assert "runs as process" in bridge.run("start").stdout
    try:
        assert "runs already, as process" in bridge.run("start", code=1).stderr
        assert bridge.status()["state"] == "running"
        before = bridge.pid
        bridge.run("restart")
        assert bridge.pid != before
        assert "another process keeps the bridge" in bridge.run("console", code=1).stderr
    finally:
        assert "Stopped." in bridge.run("stop").stdout


def test_a_bridge_that_cannot_start_says_why(tmp_path: Path) -> None:
    bridge = BridgeUnderTest(tmp_path / "b", "[bridge]\nlog_level = loud\n")
    for verb in ("start", "console", "check", "restart"):
        assert "bridge.conf:2: [bridge] log_level must be one of" in bridge.run(verb, code=1).stderr
    empty = BridgeUnderTest(tmp_path / "c", "")
    (tmp_path / "c" / "bridge.conf").unlink()
    assert "`xwbridge init` makes one" in empty.run("start", code=1).stderr
    assert empty.run("init").stdout.strip() == str(tmp_path / "c" / "bridge.conf")
    assert "is there already" in empty.run("init", code=1).stderr


def test_a_route_that_fails_touches_no_other_and_says_why(stage: Stage) -> None:
    configuration = stage.place / "bridge" / "bridge.conf"
    before = configuration.read_text()
    broken = "[route lost]\nkind = condor\nfrom = pool\nto = desktop\npool = 127.0.0.1:1\n"
    nowhere = f"htcondor = {stage.place}/nowhere\n"
    configuration.write_text(f"{before}{broken}{nowhere}")
    try:
        stage.bridge.run("restart")
        found = {each["route"]: each for each in stage.bridge.status()["routes"]}
        assert found["batch"]["state"] == "well"
        assert found["lost"]["state"] in ("failing", "broken")
        reason = f"there is no {stage.place}/nowhere/usr/sbin/condor_master: set htcondor of"
        assert reason in found["lost"]["trouble"]
        assert stage.bridge.status()["state"] == "troubled"
        assert reason in stage.bridge.run("check", code=1).stdout
        job = Job(stage, "beside")
        job.gate.touch()
        assert job.wait() == 0
    finally:
        configuration.write_text(before)
        stage.bridge.run("restart")
