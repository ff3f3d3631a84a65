"""Sites with a batch system that hang, lie, forget, hold, kill and refuse."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from desktopgrid.model.lifecycle import PilotStatus
from pilot.ce.base import (
    ComputingElementUnavailable,
    JobDescription,
    JobState,
    NothingToRetrieve,
    Reference,
    SubmissionRefused,
)
from pilot.ce.batch import BatchCE
from pilot.ce.batch_system import BatchSystem
from pilot.ce.finding import Finding, Verdict
from pilot.ce.pbs import Pbs
from pilot.ce.shell import LocalShell, ShellUnavailable, Upload
from pilot.ce.slurm import Slurm
from tests.batch_system import change, end_all, install, set_fault
from tests.contract.test_shell import Remote

KINDS: dict[str, BatchSystem] = {"slurm": Slurm(), "pbs": Pbs()}
WORDS = {
    "slurm": {"submit": "sbatch", "ask": "squeue", "remove": "scancel"},
    "pbs": {"submit": "qsub", "ask": "qstat", "remove": "qdel"},
}
PROGRAM = """#!/bin/sh
case "$1" in
    run) trap 'echo term; exit 0' TERM; echo up > up; while :; do sleep 0.05; done ;;
    deaf) trap '' TERM; echo up > up; while :; do sleep 0.05; done ;;
    say) shift; printf '%s\\\\0' "$@" > said ;;
    end) exit "$2" ;;
esac
"""


class Site:
    """A batch system of the given kind, its account's home, and jobs for it."""

    def __init__(self, directory: Path, kind: str) -> None:
        self.directory, self.kind = directory, kind
        self.state, self.home = directory / "state", directory / "home"
        install(directory / "bin", self.state)
        self.home.mkdir()
        (directory / "pilot.pyz").write_text(PROGRAM.replace("\\\\0", "\\0"))
        (directory / "secret").touch(0o600)
        (directory / "secret").write_text("a secret")
        self.ce = self.door()

    def door(self, system: BatchSystem | None = None, seconds: float = 10) -> BatchCE:
        return BatchCE(
            system or KINDS[self.kind],
            LocalShell(self.home),
            "jobs",
            timedelta(seconds=seconds),
            str(self.directory / "bin"),
            "site lal",
        )

    def job(self, stamp: str, *arguments: str, **facts: object) -> JobDescription:
        files = (self.directory / "secret",)
        program = self.directory / "pilot.pyz"
        words = arguments or ("run",)
        return JobDescription(stamp, program, words, files, **facts)  # type: ignore[arg-type]

    def run(self, stamp: str, *arguments: str, **facts: object) -> Reference:
        (reference,) = self.ce.submit([self.job(stamp, *arguments, **facts)])
        return reference

    def own(self, stamp: str) -> Path:
        return self.home / "jobs" / stamp

    def fault(self, what: str, **fault: object) -> None:
        set_fault(self.state, WORDS[self.kind][what], fault or None)

    def close_the_queue(self) -> None:
        (self.state / "closed").touch()

    def eventually(self, reference: Reference, *statuses: PilotStatus) -> JobState:
        deadline = time.monotonic() + 30
        while True:
            state = self.ce.statuses([reference]).get(reference)
            if state is not None and state.status in statuses:
                return state
            assert time.monotonic() < deadline, state
            time.sleep(0.05)

    def is_up(self, stamp: str) -> None:
        deadline = time.monotonic() + 30
        while not (self.own(stamp) / "up").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def left(self, stamp: str) -> set[str]:
        return {path.name for path in self.own(stamp).iterdir() if path.name[0] != "."}


@pytest.fixture(params=["slurm", "pbs"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path, request.param)
    yield made
    end_all(made.state)


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path, "slurm")
    yield made
    end_all(made.state)


@pytest.mark.parametrize("code", [0, 1])
def test_a_batch_system_that_is_not_there_is_unknown_not_empty(site: Site, code: int) -> None:
    reference = site.run("p1")
    said = "slurm_load_jobs error: Unable to contact slurm controller"
    if site.kind == "pbs":
        said = "qstat: cannot connect to server pbs (errno=15034)"
    site.fault("ask", code=code, errors=said)
    for ask in (site.ce.statuses, site.ce.remove, site.ce.discard):
        with pytest.raises(ComputingElementUnavailable, match=r"site lal cannot be asked: .*c"):
            ask([reference])
    with pytest.raises(ComputingElementUnavailable):
        site.ce.find(["p1"])
    site.fault("ask")
    site.eventually(reference, PilotStatus.RUNNING)
    site.ce.remove([reference])


def test_half_an_answer_is_none(site: Site) -> None:
    reference = site.run("p1")
    half = "1|RUNNI\n" if site.kind == "slurm" else "Job Id: 1.fake\n    Job_Name = gb-p1\n"
    site.fault("ask", code=0, output=half)
    with pytest.raises(ComputingElementUnavailable, match="broke off"):
        site.ce.statuses([reference])
    site.fault("ask")
    site.ce.remove([reference])


def test_a_command_that_hangs_is_given_up(site: Site) -> None:
    reference = site.run("p1")
    site.fault("ask", seconds=30)
    with pytest.raises(ComputingElementUnavailable, match="did not answer within 1 s"):
        site.door(seconds=1).statuses([reference])
    site.fault("ask")
    site.ce.remove([reference])


def test_a_submission_that_broke_off_is_found_again_by_name(site: Site) -> None:
    site.fault("submit", silent=True)
    jobs = [site.job("p1"), site.job("p2")]
    with pytest.raises(ComputingElementUnavailable):
        site.door(seconds=0.5).submit(jobs[:1])
    site.fault("submit")
    found = site.ce.find(["p1", "p2"])
    assert list(found) == ["p1"]
    assert not (site.own("p1") / ".job").exists()
    site.eventually(found["p1"], PilotStatus.RUNNING)
    site.ce.remove(list(found.values()))
    site.eventually(found["p1"], PilotStatus.DELETED)


def test_what_a_submission_left_that_broke_off_at_once_does_not_stay_for_ever(slurm: Site) -> None:
    class Broken(LocalShell):
        def put(self, directories: Sequence[str], files: Sequence[Upload]) -> None:
            super().put(directories, files[:2])
            raise ShellUnavailable("the line is cut")

    shell = Broken(slurm.home)
    ce = BatchCE(Slurm(), shell, "jobs", bin_directory=str(slurm.directory / "bin"))
    with pytest.raises(ComputingElementUnavailable, match="the line is cut"):
        ce.submit([slurm.job("p1", queue_limit=timedelta(days=-5))])
    assert slurm.own("p1").exists()
    assert slurm.ce.find(["p1"]) == {}
    slurm.run("p2")
    assert not slurm.own("p1").exists()


def test_who_submits_and_is_told_no_number_knows_nothing(site: Site) -> None:
    site.fault("submit", code=0, output="Have a nice day\n")
    with pytest.raises(ComputingElementUnavailable, match="did not say what it calls them"):
        site.run("p1")


@pytest.mark.parametrize("kind", ["slurm", "pbs"])
def test_all_are_taken_or_none_is(tmp_path: Path, kind: str) -> None:
    site = Site(tmp_path, kind)

    class Fussy(type(KINDS[kind])):  # type: ignore[misc]
        def submission(self, job: JobDescription, name: str) -> list[str]:
            words: list[str] = super().submission(job, name)
            flag = ["--partition=moon"] if kind == "slurm" else ["-q", "moon"]
            return [*words[:-1], *flag, words[-1]] if job.stamp == "p3" else words

    site.ce = site.door(Fussy())
    reason = "refused the jobs: .*(Invalid partition|Unknown queue)"
    with pytest.raises(SubmissionRefused, match=reason):
        site.ce.submit([site.job(stamp) for stamp in ("p1", "p2", "p3", "p4")])
    assert not list((site.home / "jobs").iterdir())
    # Slurm and PBS may name them a while yet, as ended ones.
    states = site.ce.statuses(list(site.ce.find(["p1", "p2", "p3", "p4"]).values()))
    assert all(state.has_ended for state in states.values())


def test_a_batch_system_that_is_down_at_submission_is_unavailable(site: Site) -> None:
    said = "sbatch: error: Batch job submission failed: Unable to contact slurm controller"
    if site.kind == "pbs":
        said = "qsub: cannot connect to server pbs (errno=15034)"
    site.fault("submit", code=1, errors=said)
    with pytest.raises(ComputingElementUnavailable, match=r"contact|connect"):
        site.run("p1")
    assert not list((site.home / "jobs").iterdir())


def test_no_job_takes_another_one_s_directory(site: Site) -> None:
    first = site.run("p1")
    with pytest.raises(SubmissionRefused, match="there is a job p1 already"):
        site.run("p1")
    assert (site.own("p1") / ".job.sh").exists()
    site.eventually(first, PilotStatus.RUNNING)
    site.ce.remove([first])


def test_a_directory_that_cannot_be_made_is_said(site: Site) -> None:
    (site.home / "jobs").write_text("a file")
    with pytest.raises(SubmissionRefused, match="jobs"):
        site.run("p1")


def test_a_job_that_was_cancelled_by_others_is_aborted_and_leaves_no_secret(site: Site) -> None:
    site.close_the_queue()
    reference = site.run("p1")
    change(site.state, 1, state="D")
    assert site.eventually(reference, PilotStatus.ABORTED).reason
    assert site.left("p1") == set()


def test_a_held_job_has_failed_with_its_reason_and_can_be_removed(site: Site) -> None:
    site.close_the_queue()
    reference = site.run("p1")
    change(site.state, 1, state="H")
    assert site.eventually(reference, PilotStatus.FAILED).reason.startswith("on hold: ")
    assert "secret" in site.left("p1")  # it may yet be let go
    site.ce.remove([reference])
    assert site.eventually(reference, PilotStatus.DELETED)
    assert site.left("p1") == set()


def test_a_waiting_job_that_is_removed_leaves_no_secret(site: Site) -> None:
    site.close_the_queue()
    reference = site.run("p1")
    site.ce.remove([reference])
    assert site.left("p1") == set()
    assert site.eventually(reference, PilotStatus.DELETED)


@pytest.mark.parametrize("program", ["run", "deaf"])
def test_a_running_job_that_is_removed_gets_sigterm_and_leaves_no_secret(
    site: Site, program: str
) -> None:
    reference = site.run("p1", program)
    site.is_up("p1")
    site.ce.remove([reference])
    assert site.eventually(reference, PilotStatus.DELETED).reason == "taken back"
    deadline = time.monotonic() + 30
    while site.left("p1") - {"out", "err"}:
        assert time.monotonic() < deadline
        site.ce.statuses([reference])
        time.sleep(0.05)
    if program == "run" and site.kind == "slurm":
        assert (site.own("p1") / "out").read_text().startswith("term\n")


def test_how_a_job_ended_is_known_when_the_batch_system_has_forgotten_it(site: Site) -> None:
    ended = site.run("p1", "end", "3")
    assert site.eventually(ended, PilotStatus.FAILED).exit_code == 3
    site.close_the_queue()
    cancelled = site.run("p2")
    change(site.state, 2, state="D")
    site.eventually(cancelled, PilotStatus.ABORTED)
    for number in (1, 2):
        change(site.state, number)
    states = site.ce.statuses([ended, cancelled])
    assert (states[ended].status, states[ended].exit_code) == (PilotStatus.FAILED, 3)
    assert states[cancelled].status is PilotStatus.ABORTED
    assert site.ce.find(["p1", "p2"]) == {"p1": ended, "p2": cancelled}


def test_a_forgotten_job_without_an_end_is_unknown(site: Site) -> None:
    site.close_the_queue()
    reference = site.run("p1")
    change(site.state, 1)
    assert site.ce.statuses([reference]) == {}


def test_another_one_s_job_with_our_number_is_left_alone(site: Site) -> None:
    site.close_the_queue()
    reference = site.run("p1")
    change(site.state, 1, name="of somebody else")
    assert site.ce.statuses([reference]) == {}
    site.ce.remove([reference])
    assert '"state": "Q"' in (site.state / "jobs/1.json").read_text()


def test_a_job_whose_script_was_killed_has_failed_and_leaves_no_secret(slurm: Site) -> None:
    reference = slurm.run("p1")
    slurm.is_up("p1")
    change(slurm.state, 1, state="D")
    (pid,) = [
        int(entry.name)
        for entry in Path("/proc").glob("[0-9]*")
        if is_script_of(entry, slurm.own("p1"))
    ]
    os.killpg(os.getpgid(pid), signal.SIGKILL)
    assert slurm.eventually(reference, PilotStatus.ABORTED).exit_code is None
    assert "secret" not in slurm.left("p1")


def is_script_of(process: Path, directory: Path) -> bool:
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
        return b"./.job.sh" in words and Path(os.readlink(process / "cwd")) == directory
    except OSError:
        return False


def test_a_job_does_not_start_twice(slurm: Site) -> None:
    slurm.close_the_queue()
    reference = slurm.run("p1", "end", "0")
    (slurm.own("p1") / ".started").touch()
    (slurm.state / "closed").unlink()
    assert slurm.eventually(reference, PilotStatus.FAILED, PilotStatus.DONE).reason.startswith(
        "Slurm says that it failed"
    )
    assert "starts only once" in slurm.ce.last_words(reference)


@pytest.mark.parametrize("marks", [(".started",), (".started", ".exit")])
def test_a_job_that_was_requeued_has_failed_and_is_removed(
    site: Site, marks: tuple[str, ...]
) -> None:
    site.close_the_queue()
    reference = site.run("p1")
    for mark in marks:
        (site.own("p1") / mark).write_text("143\n")
    assert site.ce.statuses([reference])[reference].status is PilotStatus.FAILED
    site.ce.discard([reference])
    assert site.own("p1").exists()
    site.ce.remove([reference])
    assert site.eventually(reference, PilotStatus.DELETED)
    site.ce.discard([reference])
    assert not site.own("p1").exists()


def test_what_was_lost_without_an_end_does_not_stay_for_ever(site: Site) -> None:
    site.close_the_queue()
    for stamp in ("p1", "p2", "p3"):
        site.run(stamp)
    (site.own("p1") / ".until").write_text("1000\n")
    (site.own("p2") / ".exit").write_text("0\n")
    os.utime(site.own("p2") / ".exit", (0, 0))
    site.own("empty").mkdir()
    os.utime(site.own("empty"), (0, 0))
    site.run("p4")
    assert {path.name for path in (site.home / "jobs").iterdir()} == {"p3", "p4"}


def test_a_job_that_waited_too_long_is_not_started(site: Site) -> None:
    site.close_the_queue()
    reference = site.run("p1", queue_limit=timedelta(seconds=-5))
    (site.state / "closed").unlink()
    state = site.eventually(reference, PilotStatus.ABORTED, PilotStatus.DONE)
    assert state.reason == "it waited longer than it was to"
    assert not (site.own("p1") / "up").exists()


NASTY = [
    "a b",
    "",
    "$HOME",
    "`id`",
    "$(id)",
    "'",
    '"',
    "\\",
    "a\nb",
    "*",
    "--",
    "-n",
    ";reboot",
    "é",
]


def test_every_argument_arrives_as_it_is(site: Site, tmp_path: Path) -> None:
    reference = site.run("p1", "say", *NASTY, outputs=("said",))
    site.eventually(reference, PilotStatus.DONE)
    home = tmp_path / "came"
    home.mkdir()
    site.ce.retrieve(reference, home)
    assert (home / "said").read_text().split("\0")[:-1] == NASTY


@pytest.mark.parametrize("name", ["a b", "$HOME", "it's", "-n", "é"])
def test_every_file_s_name_is_a_name(site: Site, name: str) -> None:
    program = site.directory / name
    program.write_text("#!/bin/sh\ntest -f \"$1\" && echo x > 'the output of it'\n")
    job = JobDescription("p1", program, (name,), outputs=("the output of it",))
    (reference,) = site.ce.submit([job])
    assert site.eventually(reference, PilotStatus.DONE, PilotStatus.FAILED).exit_code == 0


def test_options_of_a_site_are_words_and_no_commands(slurm: Site) -> None:
    slurm.ce = slurm.door(Slurm(options="--comment='x; touch here' --foo=$(id)"))
    reference = slurm.run("p1", "end", "0")
    slurm.eventually(reference, PilotStatus.DONE)
    assert not list(slurm.home.rglob("here"))


def test_a_site_whose_disk_is_full_refuses_and_keeps_nothing(slurm: Site, tmp_path: Path) -> None:
    (tmp_path / "ssh").mkdir()
    remote = Remote(tmp_path / "ssh")
    bin_directory = str(slurm.directory / "bin")
    ce = BatchCE(Slurm(), remote.shell(), "jobs", bin_directory=bin_directory)
    remote.server.has_room = False
    with pytest.raises(SubmissionRefused, match="cannot be made there"):
        ce.submit([slurm.job("p1"), slurm.job("p2")])
    assert list((remote.home / "jobs").iterdir()) == []
    assert ce.find(["p1", "p2"]) == {}
    remote.server.has_room = True
    references = ce.submit([slurm.job("p1", "end", "0"), slurm.job("p2", "end", "0")])
    assert len(ce.statuses(references)) == 2
    slurm.ce = ce
    for reference in references:
        slurm.eventually(reference, PilotStatus.DONE)
    remote.server.close()


# Jobs that write over what is known of them


@pytest.mark.parametrize("mark", [".exit", ".ended", ".job", ".until"])
@pytest.mark.parametrize("kind", ["pipe", "large", "link", "folder"])
def test_what_a_job_puts_into_its_directory_stops_nobody(slurm: Site, mark: str, kind: str) -> None:
    slurm.close_the_queue()
    bad, good = slurm.ce.submit([slurm.job("p1"), slurm.job("p2")])
    place = slurm.own("p1") / mark
    place.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "large":
        place.write_text("0" * 3_000_000)
    elif kind == "link":
        place.symlink_to("/dev/zero")
    else:
        place.mkdir()
    slurm.ce = slurm.door(seconds=5)
    states = slurm.ce.statuses([bad, good])
    assert {state.status for state in states.values()} == {PilotStatus.WAITING}
    assert slurm.ce.find(["p1", "p2"]) == {"p1": bad, "p2": good}
    third = slurm.run("p3")
    slurm.ce.remove([bad, good, third])
    assert slurm.eventually(good, PilotStatus.DELETED)


@pytest.mark.parametrize("names", ["../../escaped", "/tmp/escaped", "x" * 100_000, "a\na"])
def test_a_job_cannot_name_outputs_that_it_was_not_sent_with(
    slurm: Site, tmp_path: Path, names: str
) -> None:
    reference = slurm.run("p1", "end", "0", outputs=("said",))
    slurm.eventually(reference, PilotStatus.DONE)
    (slurm.own("p1") / ".outputs").write_text(names + "\n")
    (slurm.own("p1") / ".kept" / "0").write_text("mine")
    home = tmp_path / "a" / "b"
    home.mkdir(parents=True)
    with pytest.raises(NothingToRetrieve):
        slurm.ce.retrieve(reference, home)
    assert not [path for path in (tmp_path / "a").rglob("*") if path.is_file()]


# Trying a site


def findings(site: Site, system: BatchSystem | None = None, **facts: object) -> dict[str, Finding]:
    job = site.job("check", **{"wall_time": timedelta(minutes=30), **facts})  # type: ignore[arg-type]
    return {found.about: found for found in site.door(system, seconds=5).examine(job)}


def test_a_site_that_works_is_told_in_sentences(slurm: Site) -> None:
    said = [found.sentence for found in findings(slurm).values()]
    assert said[0].startswith("commands are run on this machine, by ")
    assert said[1] == f"jobs have their directories in {slurm.home}/jobs, where there is room"
    assert said[2:] == [
        "slurm 22.05.8",
        "slurmctld answers; the account has 0 jobs there",
        "partition main is up; its time limit is 1:00:00",
        "it would take a pilot",
    ]
    assert not slurm.home.joinpath("jobs", "check").exists()


def test_what_is_wrong_with_a_partition_is_told_with_what_to_do(slurm: Site) -> None:
    found = findings(slurm, Slurm("moon"))["partition"]
    assert found.sentence == "there is no partition 'moon'; there are main"
    assert (found.verdict, found.advice) == (Verdict.WRONG, "set `partition`")
    found = findings(slurm, Slurm("moon"))["submission"]
    assert "would refuse a pilot: sbatch: error: " in found.sentence
    found = findings(slurm, wall_time=timedelta(hours=2))["partition"]
    assert found.sentence.startswith("partition main lets jobs run for 1:00:00, and a pilot asks")
    set_fault(slurm.state, "sinfo", {"code": 0, "output": "main*|down|infinite\n"})
    assert findings(slurm)["partition"].sentence == "partition main is down"


def test_what_is_wrong_with_a_queue_is_told_with_what_to_do(tmp_path: Path) -> None:
    site = Site(tmp_path, "pbs")
    assert findings(site)["queue"].sentence == "the server answers; it has the queues main"
    assert findings(site, Pbs(queue="main"))["queue"].sentence == "queue main is open"
    found = findings(site, Pbs(queue="moon"))["queue"]
    assert found.sentence == "there is no queue 'moon'; there are main"
    found = findings(site, Pbs("torque"))["version"]
    assert (found.verdict, found.advice) == (Verdict.WORRYING, "set `dialect = openpbs`")


def test_nothing_more_is_asked_where_nothing_can_be(site: Site) -> None:
    site.fault("ask", code=1, errors="Unable to contact; cannot connect")
    last = list(findings(site).values())[-1]
    assert (last.about, last.verdict) == (
        ("controller" if site.kind == "slurm" else "server"),
        Verdict.WRONG,
    )
    (site.home / "jobs").rmdir()
    (site.home / "jobs").touch()
    found = findings(site)["directory"]
    assert "cannot be written" in found.sentence
    assert "`directory`" in found.advice
    for command in (site.directory / "bin").iterdir():
        command.unlink()
    found = findings(site)["version"]
    assert found.sentence.startswith("there is no ")
    assert "`bin_directory`" in found.advice


def test_a_site_that_hangs_is_a_finding(site: Site) -> None:
    site.fault("ask", seconds=30)
    found = findings(site)["machine"]
    assert (found.verdict, found.sentence) == (Verdict.WRONG, "it did not answer within 5 s")
