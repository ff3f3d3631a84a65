"""`pilot factory` as a process: a real server, and pilots that are processes of this machine."""

from __future__ import annotations

import json
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from desktopgrid.client.pilots import RecordedPilot
from desktopgrid.model.lifecycle import PilotStatus
from desktopgrid.model.sites import read_sites
from pilot.ce.local import LocalCE
from pilot.factory.daemon import Factory, mark_of
from pilot.factory.removal import remove_pilots
from pilot.factory.sites import Sites
from tests.system.processes import Process, environment, run, until
from tests.system.test_pilots import LOCAL_SITE, Stage, a_stage

MORE = "max_pilots = 3\nmax_idle = 3\nmax_an_hour = 100\nidle_time = 2 s"

KILLED = """
import os, signal, sys
from pathlib import Path
from desktopgrid.client.grid import Grid
from pilot.factory.daemon import Factory
from pilot.factory.sites import Sites

identity, sites, last = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
taken = 0

def step():
    global taken
    if taken == last:
        os.kill(os.getpid(), signal.SIGKILL)
    taken += 1

def around(do):
    def stepping(*arguments, **keywords):
        step()
        done = do(*arguments, **keywords)
        step()
        return done
    return stepping

grid = Grid.open(identity)
factory = Factory(grid, Sites.read(sites))
door = factory.sites.door("local")
for name in ("submit", "find", "statuses", "remove", "_start"):
    setattr(door, name, around(getattr(door, name)))
grid.session.ask = around(grid.session.ask)
factory.run_once()
print("through after", taken)
grid.close()
"""
"""One round of a factory that is killed at a step: before or after anything that it asks or does,
and before or after each pilot is started.
"""


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="glidebridge-factory-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(autouse=True, scope="module")
def state(place: Path) -> Iterator[None]:
    """Where the local door keeps its pilots."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(place / "state"))
        yield


@pytest.fixture(scope="module")
def stage(place: Path) -> Iterator[Stage]:
    (place / "main").mkdir(mode=0o755)
    with a_stage(place / "main", {"local": LOCAL_SITE.format(name="local", more=MORE)}) as stage:
        yield stage


@pytest.fixture(autouse=True)
def nothing_stays(stage: Stage) -> Iterator[None]:
    yield
    clear(stage)


def clear(stage: Stage) -> None:
    """No work waits, and no pilot is anywhere."""
    stage.grid.cancel([work["uid"] for work in stage.grid.objects("works")])
    remove_pilots(stage.record, sites_of(stage), open_pilots(stage), is_urgent=True)


def sites_of(stage: Stage) -> Sites:
    return Sites.read(stage.server.home.directory / "sites.d")


def open_pilots(stage: Stage) -> list[RecordedPilot]:
    return stage.record.pilots(is_open=True)


@pytest.mark.feature("XW-PIL-9")
def test_pilots_come_with_the_works_and_go_when_these_are_done(stage: Stage, place: Path) -> None:
    start = "import sys; from pilot.cli import main; sys.argv[0] = 'pilot'; main()"
    identity = str(stage.server.home.admin_identity)
    command = [sys.executable, "-c", start, "--identity", identity, "factory", "--period", "1"]
    works = [stage.start_waiting(f"work{number}") for number in range(2)]
    factory = Process(command, place / "factory.log", place)
    try:
        until(lambda: sum(p.tasks for p in open_pilots(stage)) == 2, "both works run in pilots")
        assert len(open_pilots(stage)) == 2
        said = stage.pilot("why", "local").stdout
        assert "2 of 3 (max_pilots)" in said
        assert "The factory of admin decided" in said
        for work, flag in works:
            stage.finish(work, flag)
        until(lambda: not open_pilots(stage), "the pilots have gone")
        ended = [p for p in stage.record.pilots() if p.stamp.startswith(mark_of(stage.record.user))]
        assert {pilot.status for pilot in ended} <= {PilotStatus.DONE, PilotStatus.DELETED}
        assert sum(pilot.tasks_done for pilot in ended) == 2
        other = stage.pilot("factory", code=1)
        assert f"runs here already: process {factory.pid}" in other.stderr
        factory.send(signal.SIGTERM)
        assert factory.wait() == 0
    finally:
        factory.kill()
    assert "Traceback" not in (place / "factory.log").read_text()


def test_a_cap_that_is_lowered_and_a_dry_run(stage: Stage) -> None:
    stage.start_waiting("never")
    rows = json.loads(stage.pilot("factory", "--dry-run", "--format", "json").stdout)
    assert {row["because"] for row in rows} == {"sent-for", "sent"}
    assert not open_pilots(stage)


def test_a_factory_killed_at_every_step_neither_loses_nor_doubles_a_pilot(stage: Stage) -> None:
    sites = stage.server.home.directory / "sites.d"
    door = LocalCE(Path(environment()["XDG_STATE_HOME"]) / "glidebridge" / "pilots" / "local")
    assert set(read_sites(sites)) == {"local"}
    steps = 0
    while True:
        stage.start_waiting(f"killed-at-{steps}")
        identity = str(stage.server.home.admin_identity)
        done = run(KILLED, identity, str(sites), str(steps))
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        Factory(stage.grid, sites_of(stage)).run_once()
        pilots = open_pilots(stage)
        assert len(pilots) == 1, f"killed at step {steps}"
        alive = [d.name for d in door.directory.iterdir() if is_alive(door, d.name)]
        assert set(Counter(alive).values()) <= {1}
        assert set(alive) <= {pilot.stamp for pilot in pilots}
        assert [p.reference for p in pilots if p.stamp in alive] == [f"local:{s}" for s in alive]
        clear(stage)
        if done.returncode == 0:
            break
        steps += 1
    assert steps >= 14


def is_alive(door: LocalCE, stamp: str) -> bool:
    references = list(door.find([stamp]).values())
    return any(not state.has_ended for state in door.statuses(references).values())
