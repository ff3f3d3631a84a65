"""Real Slurm and real sshd that go away, show another key, hold jobs and requeue them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import paramiko
import pytest

from desktopgrid.model.lifecycle import PilotStatus
from desktopgrid.model.sites import Login, SlurmSite
from pilot.ce.base import ComputingElementUnavailable, Reference, SubmissionRefused
from pilot.ce.batch import BatchCE
from pilot.ce.batch_system import LOST_ITS_NODE
from pilot.ce.doors import build_computing_element
from pilot.ce.finding import Verdict
from pilot.ce.shell import Answer
from pilot.ce.slurm import Slurm
from pilot.ce.ssh import SshShell
from tests.contract.test_ce import PATIENCE_SECONDS, World, a_place, wait_a_little
from tests.grid_box import GridBox

PATIENCE = timedelta(seconds=30)


@pytest.fixture(name="directory")
def place() -> Iterator[Path]:
    with a_place() as made:
        yield made


@pytest.fixture
def box(grid_box: GridBox) -> GridBox:
    for service in ("ssh", "slurm"):
        grid_box.start(service)
    return grid_box


@pytest.fixture
def shell(box: GridBox) -> Iterator[SshShell]:
    login = Login(box.ssh.user, box.ssh.host, box.ssh.port)
    made = SshShell(login, box.ssh.key, box.ssh.known_hosts)
    yield made
    made.close()


@pytest.fixture
def world(shell: SshShell, directory: Path) -> World:
    return World(BatchCE(Slurm(), shell, "own jobs"), wait_a_little, directory)


def number_of(reference: Reference) -> str:
    return reference.split(":")[1]


def files_of(shell: SshShell, stamp: str) -> set[str]:
    return set(shell.run(f"ls 'own jobs/{stamp}'", PATIENCE).output.split())


def until(condition: Callable[[], bool], patience: float = PATIENCE_SECONDS) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_site_s_file_is_all_that_it_takes(box: GridBox, directory: Path, tmp_path: Path) -> None:
    ssh = box.ssh
    site = SlurmSite(
        "lal",
        ssh=f"{ssh.user}@{ssh.host}:{ssh.port}",
        ssh_key=ssh.key,
        known_hosts=ssh.known_hosts,
        partition="main",
    )
    world = World(build_computing_element(site, tmp_path), wait_a_little, directory)
    found = list(world.ce.examine(world.a_pilot()))
    assert [(each.about, each.verdict) for each in found] == [
        (about, Verdict.FINE)
        for about in ("machine", "directory", "version", "controller", "partition", "submission")
    ], found
    (reference,) = world.ce.submit([world.a_pilot("exit", "0")])
    assert world.eventually(reference, PilotStatus.DONE).exit_code == 0


def test_a_partition_that_there_is_not_is_found_out_and_refused(
    world: World, shell: SshShell
) -> None:
    world.ce = BatchCE(Slurm("moon"), shell, "own jobs")
    found = {each.about: each for each in world.ce.examine(world.a_pilot())}
    assert "there is no partition 'moon'; there are " in found["partition"].sentence
    assert found["submission"].verdict is Verdict.WRONG
    pilot = world.a_pilot()
    with pytest.raises(SubmissionRefused, match="nvalid partition"):
        world.ce.submit([pilot])
    assert files_of(shell, pilot.stamp) == set()


def test_the_real_sshd_is_not_trusted_by_another_key(box: GridBox, tmp_path: Path) -> None:
    other = tmp_path / "known_hosts"
    key = paramiko.Ed25519Key.from_private_key_file(str(box.ssh.key))
    name = f"[{box.ssh.host}]:{box.ssh.port}"
    other.write_text(f"{name} {key.get_name()} {key.get_base64()}\n")
    login = Login(box.ssh.user, box.ssh.host, box.ssh.port)
    with pytest.raises(Exception, match="shows another host key"):
        SshShell(login, box.ssh.key, other).run("id", PATIENCE)
    other.write_text("")
    with pytest.raises(Exception, match="is not known: it shows ssh-ed25519 SHA256:"):
        SshShell(login, box.ssh.key, other).run("id", PATIENCE)


def test_a_machine_that_went_away_is_unknown_and_found_again(world: World, box: GridBox) -> None:
    (reference,) = world.ce.submit([world.a_pilot()])
    world.eventually(reference, PilotStatus.RUNNING)
    box.kill("ssh")
    # A session that is open may outlive the server that opened it.
    world.ce.shell.close()  # type: ignore[attr-defined]
    with pytest.raises(ComputingElementUnavailable, match=r"SSH to .* broke"):
        world.ce.statuses([reference])
    box.start("ssh")
    assert world.eventually(reference, PilotStatus.RUNNING)
    world.ce.remove([reference])
    assert world.eventually(reference, PilotStatus.DELETED)


def test_a_slurmctld_that_went_away_is_unknown_not_empty(world: World, box: GridBox) -> None:
    (reference,) = world.ce.submit([world.a_pilot()])
    world.eventually(reference, PilotStatus.RUNNING)
    box.kill("slurm")
    with pytest.raises(ComputingElementUnavailable):
        world.ce.statuses([reference])
    with pytest.raises(ComputingElementUnavailable):
        world.ce.submit([world.a_pilot()])
    last = list(world.ce.examine(world.a_pilot()))[-1]
    assert (last.about, last.verdict) in (("controller", Verdict.WRONG), ("machine", Verdict.WRONG))
    box.start("slurm")
    # It may have lost what it had not written down yet; it answers again, that is all.
    world.ce.statuses([reference])
    (other,) = world.ce.submit([world.a_pilot("exit", "0")])
    assert world.eventually(other, PilotStatus.DONE)
    world.ce.remove([reference])


def test_a_job_that_somebody_cancels_is_aborted_and_leaves_no_secret(
    world: World, shell: SshShell
) -> None:
    pilot = world.a_pilot()
    (reference,) = world.ce.submit([pilot])
    world.eventually(reference, PilotStatus.RUNNING)
    shell.run(f"scancel {number_of(reference)}", PATIENCE)
    state = world.eventually(reference, PilotStatus.ABORTED)
    assert state.reason.startswith("it was cancelled at the site")
    until(lambda: files_of(shell, pilot.stamp) <= {"out", "err"})


def test_a_job_that_waits_and_is_held_has_failed_until_it_is_removed(
    world: World, shell: SshShell
) -> None:
    world.ce = BatchCE(Slurm(options="--hold"), shell, "own jobs")
    pilot = world.a_pilot()
    (reference,) = world.ce.submit([pilot])
    assert world.eventually(reference, PilotStatus.FAILED).reason == "on hold: JobHeldUser"
    world.ce.remove([reference])
    assert world.eventually(reference, PilotStatus.DELETED)
    assert files_of(shell, pilot.stamp) == set()


def test_a_job_that_is_requeued_does_not_start_twice(world: World, shell: SshShell) -> None:
    world.ce = BatchCE(Slurm(options="--requeue"), shell, "own jobs")
    pilot = world.a_pilot()
    (reference,) = world.ce.submit([pilot])
    world.eventually(reference, PilotStatus.RUNNING)
    shell.run(f"scontrol requeue {number_of(reference)}", PATIENCE)
    # Until Slurm has it waiting again, all that is known may be how its program ended.
    assert world.eventually(reference, PilotStatus.FAILED)
    until(lambda: world.state(reference).reason == LOST_ITS_NODE)
    world.ce.remove([reference])
    until(lambda: not in_queue(shell, reference))
    assert "enrolment" not in files_of(shell, pilot.stamp)


def in_queue(shell: SshShell, reference: Reference) -> bool:
    asked = f"squeue --noheader --jobs={number_of(reference)} --format=%A 2> /dev/null"
    return bool(shell.run(asked, PATIENCE).output.strip())


def test_a_job_that_cannot_start_in_time_is_given_up_by_slurm(
    world: World, shell: SshShell
) -> None:
    word = "--begin=now+1hour"
    world.ce = BatchCE(Slurm(options=word), shell, "own jobs")
    short = timedelta(minutes=1)
    pilot = world.a_pilot(queue_limit=timedelta(seconds=1), wall_time=short)
    try:
        (reference,) = world.ce.submit([pilot])
    except SubmissionRefused as refused:
        assert "deadline" in str(refused).lower()  # it saw at once that it cannot
        return
    state = world.eventually(reference, PilotStatus.ABORTED, PilotStatus.FAILED)
    assert state.reason


def test_many_are_submitted_and_asked_for_in_few_questions(
    world: World, shell: SshShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    run = shell.run

    def noted(script: str, patience: timedelta) -> Answer:
        asked.append(script)
        return run(script, patience)

    monkeypatch.setattr(shell, "run", noted)
    references = world.ce.submit([world.a_pilot() for _ in range(25)])
    assert len(asked) == 2
    asked.clear()
    assert len(world.ce.statuses(references)) == 25
    assert len(asked) == 2
    world.ce.remove(references)
    for reference in references:
        world.eventually(reference, PilotStatus.DELETED)
