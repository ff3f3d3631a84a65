"""Jobs of a real ARC computing element on a desktop grid: `arcsub`, and all comes home."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from desktopgrid.model.lifecycle import WorkStatus
from tests.grid_box import GridClients
from tests.system.bridges import BridgeUnderTest, grid_section
from tests.system.processes import ServerUnderTest, a_grid, until

PATIENCE = 120.0
"""Seconds for a job: an ARC computing element looks at its jobs every five, several times over."""
# Accounts of the box, which this machine has no names for.
ROUTE = """
[route arex]
kind = batch
from = arc
to = desktop
accounts = 20001, 20002, 20003, 20004
"""
XRSL = """&
(executable="run.sh")(arguments="two  words" "don't" "$HOME")
(inputFiles=("run.sh" "")("in.txt" ""))(outputFiles=("made/out.txt" ""))
(stdin="in.txt")(stdout="std.out")(stderr="std.err")(jobName="over the bridge")
(environment=("COLOUR" "deep  blue"))(memory=100)(wallTime=10)
"""
SCRIPT = """#!/bin/sh
for word in "$@"; do echo "[$word]"; done
echo "$COLOUR|$(cat in.txt)|$(cat)"
mkdir made; echo made >made/out.txt; echo no >left.txt
echo complaint >&2
echo ran >>{count}
while [ ! -e {gate} ]; do sleep 0.1; done
exit {code}
"""


class Stage:
    """A grid with a worker, a computing element with a bridge to it, and a user of that."""

    def __init__(self, clients: GridClients, server: ServerUnderTest, place: Path) -> None:
        self.clients, self.box, self.place = clients, clients.box, place
        self.grid = server.client()
        configuration = grid_section(server, place / "bridge.json") + ROUTE
        self.bridge = BridgeUnderTest(self.box.shared / "bridge", configuration)
        self.gate, self.count = place / "gate", place / "count"

    def submit(self, name: str, code: int = 0) -> Path:
        """Submit a job; the directory that it was submitted in."""
        directory = self.place / name
        directory.mkdir()
        script = SCRIPT.format(count=self.count, gate=self.gate, code=code)
        for file, text in {"run.sh": script, "in.txt": "in\n", "job.xrsl": XRSL}.items():
            (directory / file).write_text(text)
        (directory / "run.sh").chmod(0o755)
        self.arc(
            directory, "arcsub", "-C", self.box.desktop, "-T", "org.nordugrid.arcrest",
            *("-Q", "NONE", "job.xrsl"),
        )  # fmt: skip
        return directory

    def arc(self, directory: Path, *command: str) -> str:
        """What a command of ARC's client says."""
        done = self.clients.run("alice", *command, directory=directory)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def becomes(self, directory: Path, *words: str) -> None:
        """Wait until arcstat says one of these of the job."""
        said = [""]

        def is_so() -> bool:
            done = self.clients.run("alice", "arcstat", "-a", "-l", directory=directory)
            said[0] = done.stdout.lower()
            return any(each in said[0] for each in words)

        try:
            until(is_so, f"arcstat says one of {words}", PATIENCE)
        except AssertionError:
            raise AssertionError(f"{said[0]}; {self.works()}; {self.bridge.log[-2000:]}") from None

    def works(self) -> list[dict[str, Any]]:
        """The works that came over the bridge."""
        return [row for row in self.grid.objects("works") if row["origin"]]

    def work(self, status: WorkStatus) -> dict[str, Any]:
        """The one work that came over the bridge, once it has ``status``."""
        until(lambda: [w["status"] for w in self.works()] == [status.value], "the work", PATIENCE)
        return self.works()[0]


@pytest.fixture
def stage(grid_clients: GridClients, tmp_path: Path) -> Iterator[Stage]:
    grid_clients.box.start("desktop")
    with a_grid(tmp_path / "server") as server:
        made = Stage(grid_clients, server, tmp_path)
        server.worker("desk", slots=2)
        made.bridge.run("start")
        try:
            yield made
        finally:
            made.bridge.close()


@pytest.mark.feature("XW-PIL-9")
def test_a_job_of_arcsub_runs_on_a_desktop_worker_and_comes_home(stage: Stage) -> None:
    directory = stage.submit("whole", code=7)
    stage.work(WorkStatus.RUNNING)
    # Whoever carries it dies, on both sides, and it is still one job.
    stage.bridge.kill()
    stage.bridge.run("start")
    stage.gate.touch()
    stage.becomes(directory, "state: failed")  # so ARC calls an exit code that is not 0
    stage.becomes(directory, "exit code: 7")
    stage.arc(directory, "arcget", "-a")
    (home,) = {path.parent for path in directory.glob("*/std.out")}
    assert (home / "std.out").read_text().splitlines() == [
        *("[two  words]", "[don't]", "[$HOME]"),
        "deep  blue|in|in",
    ]
    assert (home / "std.err").read_text() == "complaint\n"
    assert (home / "made/out.txt").read_text() == "made\n"
    assert not (home / "left.txt").exists()
    assert stage.count.read_text() == "ran\n"
    (work,) = stage.works()
    assert work["label"] == "over the bridge"


@pytest.mark.feature("XW-PIL-9")
def test_a_job_that_is_killed_there_ends_here(stage: Stage) -> None:
    directory = stage.submit("killed")
    stage.work(WorkStatus.RUNNING)
    stage.arc(directory, "arckill", "-a", "--keep")
    stage.work(WorkStatus.ABORTED)
    stage.becomes(directory, "state: killed")
