"""Works that may not run in pilots: each is a plain job at a site, by a bridge that is a worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge import faults
from desktopgrid.client.grid import Grid
from desktopgrid.model.objects import ANY_PLATFORM, Description
from tests.system.bridges import BridgeUnderTest, a_place
from tests.system.processes import ServerUnderTest, a_grid, until

SCRIPT = b"""#!/bin/sh
# Leaves a line in the file $1 for each time that it ran, and waits for the file $2.
echo ran >> "$1"
while [ -n "$2" ] && [ ! -e "$2" ]; do sleep 0.05; done
echo "$COLOUR $(cat in.txt) $(cat)"
echo complaint >&2
mkdir deep && echo made > deep/made.txt
exit 4
"""


class Stage:
    """A grid without a worker, and a site whose door is this machine's."""

    def __init__(self, place: Path, server: ServerUnderTest) -> None:
        self.place = place
        self.grid: Grid = server.client()
        self.grid.send_application("script", SCRIPT, ANY_PLATFORM)
        self.given = self.grid.send_data(b"input", "in.txt").uid
        self.stdin = self.grid.send_data(b"stdin", "stdin").uid
        server.identity().write(place / "me.json")
        server.identity(server.home.worker_identity).write(place / "worker.json")
        text = (
            f"[grid desktop]\nidentity = {place}/me.json\n[route plain]\nkind = jobs\n"
            f"from = desktop\nto = here\nworker = {place}/worker.json\nslots = 4\n"
        )
        self.bridge = BridgeUnderTest(place / "bridge", text)
        self.variables = {"XDG_STATE_HOME": str(place / "state")}
        self.bridge.variables = self.variables
        (place / "bridge/sites.d").mkdir()
        site = "[site here]\ncomputing_element = local\nmemory_mib = 100\ndisk_mib = 100\n"
        (place / "bridge/sites.d/here.conf").write_text(site)

    def described(self) -> Description:
        """A work with inputs, standard input and a variable."""
        return Description(
            "script",
            inputs=(("in.txt", self.given),),
            stdin=self.stdin,
            variables=(("COLOUR", "deep blue"),),
        )


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with a_place() as place, a_grid(place / "server") as server:
        made = Stage(place, server)
        made.bridge.run("start")
        try:
            yield made
        finally:
            made.bridge.variables = made.variables
            made.bridge.close()


@pytest.mark.feature("XW-PIL-9")
def test_a_work_runs_as_a_job_of_a_site_and_its_result_goes_home(stage: Stage) -> None:
    result = stage.grid.run(stage.described(), [str(stage.place / "count"), ""], timeout=120)
    assert result.exit_code == 4
    assert result.stdout == b"deep blue input stdin\n"
    assert result.stderr == b"complaint\n"
    assert stage.grid.content(result, "deep/made.txt") == b"made\n"


@pytest.mark.parametrize("step", ["staged", "submitted", "half delivered"])
def test_it_is_one_job_also_where_the_bridge_is_killed(stage: Stage, step: str) -> None:
    name = step.replace(" ", "-")
    mark, count, gate = (stage.place / f"{name}.{each}" for each in ("died", "count", "gate"))
    stage.bridge.variables = {**stage.variables, faults.VARIABLE: f"{step} {mark}"}
    stage.bridge.run("restart")
    stage.bridge.variables = stage.variables
    (work,) = stage.grid.submit(stage.described(), [str(count), str(gate)]).works
    if step == "half delivered":
        until(count.exists, "it runs")
        gate.touch()
    until(mark.exists, f"the bridge dies: {stage.bridge.log[-2000:]}")
    until(lambda: stage.bridge.status()["state"] == "stopped", "it is gone")
    stage.bridge.run("start")
    gate.touch()
    (result,) = stage.grid.wait([work], timeout=120)
    assert (result.exit_code, result.stdout) == (4, b"deep blue input stdin\n")
    assert count.read_text().count("ran") == 1


def test_a_work_that_is_cancelled_is_taken_back_at_the_site(stage: Stage) -> None:
    count = stage.place / "cancelled"
    submitted = stage.grid.submit(stage.described(), [str(count), "/nowhere/gate"])
    until(count.exists, "it runs")
    stage.grid.cancel([submitted.uid])

    def is_taken_back() -> bool:
        (route,) = stage.bridge.status()["routes"]
        return bool(route["taken_back"])

    until(is_taken_back, f"the site's job is taken back: {stage.bridge.log[-2000:]}")
