"""Two grids that take works of each other, by a bridge that is a worker here and a user there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from desktopgrid.client.grid import Grid
from desktopgrid.model.objects import ANY_PLATFORM, Description
from tests.system.bridges import BridgeUnderTest, a_place
from tests.system.processes import ServerUnderTest, a_grid, until

SCRIPT = b"""#!/bin/sh
echo "$1 $COLOUR $(cat in.txt) $(cat)"
echo made > made.txt
exit 4
"""


class Stage:
    """Grid `a` has no worker but the bridge's, `b` has one; routes lead both ways."""

    def __init__(self, place: Path, servers: dict[str, ServerUnderTest]) -> None:
        self.place = place
        self.grids: dict[str, Grid] = {}
        text = ""
        for name, server in servers.items():
            self.grids[name] = server.client()
            server.identity().write(place / f"{name}.json")
            server.identity(server.home.worker_identity).write(place / f"{name}-worker.json")
            text += f"[grid {name}]\nidentity = {place}/{name}.json\n"
        for name, other in (("a", "b"), ("b", "a")):
            text += (
                f"[route {name}-to-{other}]\nkind = grid\nfrom = {name}\nto = {other}\n"
                f"worker = {place}/{name}-worker.json\nslots = 4\n"
            )
        self.bridge = BridgeUnderTest(place / "bridge", text)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with (
        a_place() as place,
        a_grid(place / "one") as one,
        a_grid(place / "two") as two,
    ):
        made = Stage(place, {"a": one, "b": two})
        two.worker("desk", slots=2)
        made.bridge.run("start")
        try:
            yield made
        finally:
            made.bridge.close()


@pytest.mark.feature("XW-PIL-9")
def test_a_work_of_one_grid_runs_on_the_other_and_its_result_goes_home(stage: Stage) -> None:
    here = stage.grids["a"]
    here.send_application("script", SCRIPT, ANY_PLATFORM)
    given = here.send_data(b"input", "in.txt")
    stdin = here.send_data(b"stdin", "stdin")
    description = Description(
        "script",
        inputs=(("in.txt", given.uid),),
        stdin=stdin.uid,
        variables=(("COLOUR", "deep blue"),),
    )
    result = here.run(description, ["two words"], timeout=120)
    assert result.exit_code == 4
    assert result.stdout == b"two words deep blue input stdin\n"
    assert here.content(result, "made.txt") == b"made\n"
    (work,) = stage.grids["b"].objects("works")
    assert work["origin"] == f"a/{result.work}/0"
    assert work["status"] == "COMPLETED"


@pytest.mark.feature("XW-PIL-9")
def test_what_came_from_a_grid_is_not_sent_back_there(stage: Stage) -> None:
    """No worker of `b` can take it, but the bridge's, which leads to where it came from."""
    here, there = stage.grids["a"], stage.grids["b"]
    here.send_application("big", SCRIPT, ANY_PLATFORM)
    before = len(list(there.objects("works")))
    submitted = here.submit(Description("big", cores=4, memory_mib=8192))

    def arrived() -> bool:
        return len(list(there.objects("works"))) > before

    until(arrived, f"it arrives; {stage.bridge.log[-2000:]}")
    work = next(row for row in there.objects("works") if submitted.uid in row["origin"])
    sentences = " ".join(there.why(work["uid"]))
    assert "came from a, where this host would send it" in sentences
    assert work["status"] == "WAITING"
    here.cancel([submitted.uid])
    until(
        lambda: next(iter(there.objects("works", (work["uid"],))))["status"] == "ABORTED",
        "it is taken back there, too",
    )
