"""What each kind of door does besides what all promise (test_ce.py)."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from condor.personal import LoopbackPool
from condor.pool import Schedd, ScheddLocation
from desktopgrid.model.lifecycle import PilotStatus
from pilot.ce.base import (
    ComputingElementUnavailable,
    NothingToRetrieve,
    Reference,
    SubmissionRefused,
)
from pilot.ce.condor import CondorCE
from pilot.ce.fake import FakeCE
from pilot.ce.finding import Verdict
from pilot.ce.local import LocalCE
from tests.contract.test_ce import PATIENCE_SECONDS, World, a_place, schedd_of, wait_a_little


@pytest.fixture(name="directory")
def place() -> Iterator[Path]:
    with a_place() as made:
        yield made


def test_a_pilot_that_the_pool_holds_has_failed_with_its_reason(
    condor_pool: LoopbackPool, directory: Path
) -> None:
    schedd = schedd_of(condor_pool)
    world = World(CondorCE(schedd), wait_a_little, directory)
    (reference,) = world.ce.submit([world.a_pilot()])
    world.eventually(reference, PilotStatus.RUNNING)
    job = reference.partition("#")[2]
    condor_pool.tool("condor_hold", "-reason", "maintenance", job, identity="alice")
    state = world.eventually(reference, PilotStatus.FAILED)
    assert state.reason.startswith("on hold: held by a user: maintenance")
    world.ce.remove([reference])
    assert world.eventually(reference, PilotStatus.DELETED)


def test_a_pilot_that_lost_its_slot_does_not_start_again(
    condor_pool: LoopbackPool, directory: Path
) -> None:
    world = World(CondorCE(schedd_of(condor_pool)), wait_a_little, directory)
    (reference,) = world.ce.submit([world.a_pilot()])
    job = reference.partition("#")[2]
    started = ["condor_q", job, "-af", "JobCurrentStartExecutingDate"]
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condor_pool.tool(*started, identity="alice").strip().isdigit():
        assert time.monotonic() < deadline
    condor_pool.tool("condor_vacate_job", job, identity="alice")
    seen = set()

    def look() -> None:
        state = world.state(reference)
        seen.add(state.status if state is not None else None)

    world.let_time_pass = look
    world.eventually(reference, PilotStatus.WAITING)
    seen.clear()
    reason = "its slot was taken away, and it starts only once"
    assert world.eventually(reference, PilotStatus.ABORTED).reason == reason
    assert PilotStatus.RUNNING not in seen


def test_a_pilot_that_the_pool_removes_is_aborted(
    condor_pool: LoopbackPool, directory: Path
) -> None:
    world = World(CondorCE(schedd_of(condor_pool)), wait_a_little, directory)
    (reference,) = world.ce.submit([world.a_pilot()])
    condor_pool.tool("condor_rm", reference.partition("#")[2], identity="alice")
    assert "alice" in world.eventually(reference, PilotStatus.ABORTED).reason


def test_a_pool_that_does_not_answer_is_unknown_not_empty(directory: Path) -> None:
    ce = CondorCE(Schedd(ScheddLocation(address="<127.0.0.1:1>")))
    for ask in (ce.statuses, ce.remove):
        with pytest.raises(ComputingElementUnavailable):
            ask([Reference("schedd#1.0")])
    job = World(ce, wait_a_little, directory).a_pilot()
    with pytest.raises(ComputingElementUnavailable):
        ce.submit([job])
    (finding,) = ce.examine(job)
    assert (finding.about, finding.verdict) == ("schedd", Verdict.WRONG)


def test_the_fake_can_be_out_of_reach_and_can_refuse(directory: Path) -> None:
    fake = FakeCE()
    world = World(fake, fake.step, directory)
    (reference,) = fake.submit([world.a_pilot()])
    fake.unavailable_because = "its network is down"
    with pytest.raises(ComputingElementUnavailable, match="network is down"):
        fake.statuses([reference])
    fake.unavailable_because = None
    fake.refused_because = "it is closed"
    with pytest.raises(SubmissionRefused, match="it is closed"):
        fake.submit([world.a_pilot()])
    assert fake.having(PilotStatus.WAITING) == [reference]


def test_a_local_pilot_may_end_itself_at_sigterm_and_gets_it_once(directory: Path) -> None:
    (directory / "pilot.pyz").write_text(
        "#!/bin/sh\n"
        "trap 'echo term; sleep 0.3; exit 0' TERM\n"
        "echo up > up\n"
        "while :; do sleep 0.05; done\n"
    )
    world = World(LocalCE(directory / "local"), wait_a_little, directory)
    pilot = world.a_pilot()
    (reference,) = world.ce.submit([pilot])
    own = directory / "local" / pilot.stamp
    deadline = time.monotonic() + 10
    while not (own / "up").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    world.ce.remove([reference])
    assert (own / "out").read_text() == "term\n"
    assert (own / ".exit").read_text() == "0\n"


def test_a_local_pilot_leaves_no_secret_behind(directory: Path) -> None:
    world = World(LocalCE(directory / "local"), wait_a_little, directory)
    pilots = [world.a_pilot("exit", "3"), world.a_pilot(), world.a_pilot()]
    ended, taken_back, killed = world.ce.submit(pilots)
    own = [directory / "local" / pilot.stamp for pilot in pilots]
    world.eventually(ended, PilotStatus.FAILED)
    world.ce.remove([taken_back])
    os.killpg(int((own[2] / ".pid").read_text()), signal.SIGKILL)
    world.eventually(killed, PilotStatus.ABORTED)
    world.ce.remove([killed])
    for place in own:
        assert {path.name for path in place.iterdir() if path.name[0] != "."} == {"out", "err"}


def test_a_local_pilot_that_does_not_listen_is_killed_with_what_it_started(
    directory: Path,
) -> None:
    (directory / "pilot.pyz").write_text(
        "#!/bin/sh\ntrap '' TERM\nsetsid sleep 600 &\nwhile :; do sleep 0.05; done\n"
    )
    world = World(
        LocalCE(directory / "local", grace=timedelta(seconds=0.5)), wait_a_little, directory
    )
    (reference,) = world.ce.submit([world.a_pilot()])
    world.ce.remove([reference])
    assert world.eventually(reference, PilotStatus.DELETED)


def test_a_local_pilot_whose_processes_were_killed_is_aborted(directory: Path) -> None:
    world = World(LocalCE(directory / "local"), wait_a_little, directory)
    pilot = world.a_pilot()
    (reference,) = world.ce.submit([pilot])
    waiter = int((directory / "local" / pilot.stamp / ".pid").read_text())
    os.killpg(waiter, signal.SIGKILL)
    assert world.eventually(reference, PilotStatus.ABORTED).reason


def test_a_local_pilot_s_wall_time_is_kept(directory: Path) -> None:
    world = World(LocalCE(directory / "local"), wait_a_little, directory)
    long_over = timedelta(minutes=-10, seconds=1)  # with its slack that is one second
    (reference,) = world.ce.submit([world.a_pilot(wall_time=long_over)])
    state = world.eventually(reference, PilotStatus.FAILED)
    assert "wall time" in state.reason


@pytest.mark.parametrize("stamp", ["", "../x", "a b", "-x", "x/y"])
def test_a_local_pilot_s_stamp_must_be_one(directory: Path, stamp: str) -> None:
    world = World(LocalCE(directory / "local"), wait_a_little, directory)
    with pytest.raises(SubmissionRefused, match="is no stamp"):
        world.ce.submit([world.a_pilot(stamp=stamp)])


@pytest.mark.parametrize("names", ["../../escaped", "/tmp/escaped", "x" * 100_000])
def test_a_local_job_cannot_name_outputs_that_it_was_not_sent_with(
    directory: Path, tmp_path: Path, names: str
) -> None:
    world = World(LocalCE(directory / "local"), wait_a_little, directory)
    job = world.a_pilot("exit", "0", outputs=("said",))
    (reference,) = world.ce.submit([job])
    world.eventually(reference, PilotStatus.DONE)
    own = directory / "local" / job.stamp
    (own / ".outputs").write_text(f"{names}\n")
    (own / ".kept" / "0").write_text("mine")
    with pytest.raises(NothingToRetrieve):
        world.ce.retrieve(reference, tmp_path)
    (own / ".outputs").unlink()
    (own / ".exit").unlink()
    for name in (".exit", ".outputs"):
        os.mkfifo(own / name)
    assert world.state(reference) is not None
    with pytest.raises(NothingToRetrieve):
        world.ce.retrieve(reference, tmp_path)
    assert not list(tmp_path.iterdir())
