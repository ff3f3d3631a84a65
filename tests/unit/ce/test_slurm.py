"""What is said to Slurm, and what its answers mean. They have the form of Slurm 22.05's squeue."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from desktopgrid.model.lifecycle import PilotStatus
from pilot.ce.base import JobDescription
from pilot.ce.batch_system import Entry, Unanswered
from pilot.ce.shell import Answer
from pilot.ce.slurm import MEANING, Slurm

WAITING, RUNNING, DONE = PilotStatus.WAITING, PilotStatus.RUNNING, PilotStatus.DONE
FAILED, ABORTED = PilotStatus.FAILED, PilotStatus.ABORTED


def entry_of(line: str) -> Entry:
    (entry,) = Slurm().entries(Answer(0, f"{line}\n")).values()
    return entry


@pytest.mark.parametrize(
    "said, status, reason, is_in_queue",
    [
        ("PENDING|None", WAITING, "", True),
        ("PENDING|Resources", WAITING, "", True),
        ("PENDING|QOSMaxJobsPerUserLimit", WAITING, "Slurm says QOSMaxJobsPerUserLimit", True),
        ("PENDING|JobHeldAdmin", FAILED, "on hold: JobHeldAdmin", True),
        ("PENDING|launch failed requeued held", FAILED, "on hold: launch failed requeue", True),
        ("PENDING|PartitionTimeLimit", FAILED, "it cannot start: PartitionTimeLimit", True),
        ("CONFIGURING|None", WAITING, "", True),
        ("REQUEUE_HOLD|None", FAILED, "on hold: it was requeued", True),
        ("RUNNING|None", RUNNING, "", True),
        ("SUSPENDED|None", RUNNING, "", True),
        ("COMPLETING|None", RUNNING, "", True),
        ("COMPLETED|None", DONE, "", False),
        ("FAILED|NonZeroExitCode", FAILED, "Slurm says that it failed: NonZeroExitCode", False),
        ("TIMEOUT|TimeLimit", FAILED, "it ran longer than it was to: TimeLimit", False),
        ("OUT_OF_MEMORY|OutOfMemory", FAILED, "it used more memory than it asked for", False),
        ("CANCELLED|None", ABORTED, "it was cancelled at the site", False),
        ("DEADLINE|DeadLine", ABORTED, "it waited longer than it was to", False),
        ("PREEMPTED|None", ABORTED, "it was preempted", False),
        ("NODE_FAIL|NodeDown", ABORTED, "its node failed: NodeDown", False),
        ("A_STATE_OF_TOMORROW|None", WAITING, "Slurm says A_STATE_OF_TOMORROW", True),
    ],
)
def test_a_state_has_a_meaning(
    said: str, status: PilotStatus, reason: str, is_in_queue: bool
) -> None:
    entry = entry_of(f"41|{said}|gb-p1")
    assert (entry.name, entry.state.status, entry.is_in_queue) == ("gb-p1", status, is_in_queue)
    assert entry.state.reason.startswith(reason)
    assert bool(entry.state.reason) == bool(reason)


def test_what_waits_or_runs_has_not_ended_and_what_the_site_did_is_its_doing() -> None:
    for state, meaning in MEANING.items():
        entry = entry_of(f"41|{state}|None|gb-p1")
        assert not (meaning.is_site_s_doing and entry.is_in_queue), state
        assert entry.is_in_queue or entry.state.has_ended, state


def test_greetings_are_no_jobs_and_a_name_may_hold_bars() -> None:
    answer = Answer(0, "Welcome | to the cluster\n41|RUNNING|None|gb-p1\n42|RUNNING|a|b|other\n")
    found = Slurm().entries(answer)
    assert {number: entry.name for number, entry in found.items()} == {"41": "gb-p1", "42": "other"}


@pytest.mark.parametrize(
    "answer, said",
    [
        (Answer(1, "", "slurm_load_jobs error: Unable to contact slurm controller"), "contact"),
        (Answer(0, "", "slurm_load_jobs error: Unable to contact slurm controller"), "contact"),
        (Answer(0, "41|RUNNING|None|gb-p1\n42|RUNN\n"), "broke off at '42|RUNN'"),
        (Answer(0, "41|RUNNING|None|gb-p1\n42|RUNNING|None|\n"), "broke off"),
        (Answer(127, "", "sh: 1: squeue: not found"), "squeue: not found"),
    ],
)
def test_no_answer_is_not_an_empty_queue(answer: Answer, said: str) -> None:
    with pytest.raises(Unanswered, match=said.replace("|", r"\|")):
        Slurm().entries(answer)


@pytest.mark.parametrize(
    "printed, number",
    [
        ("17", "17"),
        ("17;cluster", "17"),
        ("Welcome!\n17", "17"),
        ("", None),
        ("Submitted batch job", None),
        ("17 && reboot", None),
    ],
)
def test_a_submission_says_a_number(printed: str, number: str | None) -> None:
    assert Slurm().job_id(printed) == number


def test_a_job_asks_for_what_it_is_described_with() -> None:
    job = JobDescription(
        "p1",
        Path("pilot.pyz"),
        cores=8,
        memory_mib=9000,
        wall_time=timedelta(hours=2, seconds=1),
        queue_limit=timedelta(hours=1),
    )
    words = Slurm("long", "biomed", "", "--exclude='n[1-4]'").submission(job, "gb-p1")
    assert words[0] == "sbatch"
    assert words[-2:] == ["--exclude=n[1-4]", ".job.sh"]
    for word in (
        "--cpus-per-task=8",
        "--mem=9000M",
        "--time=121",
        "--deadline=now+10861",
        "--partition=long",
        "--account=biomed",
        "--job-name=gb-p1",
        "--no-requeue",
    ):
        assert word in words
    assert not [word for word in words if word.startswith("--qos")]


@pytest.mark.parametrize(
    "answer, done",
    [
        (Answer(0, ""), True),
        (Answer(1, "", "scancel: error: Invalid job id specified\n"), True),
        (
            Answer(1, "", "scancel: error: Kill job error on job id 4: Invalid job id specified"),
            True,
        ),
        (Answer(1, "", "scancel: error: Unable to contact slurm controller"), False),
        (
            Answer(0, "", "scancel: error: Kill job error on job id 4: Access/permission denied"),
            False,
        ),
        (Answer(127, ""), False),
    ],
)
def test_who_removes_what_is_gone_has_removed_it(answer: Answer, done: bool) -> None:
    assert Slurm().is_removed(answer) is done
