"""What is said to PBS, and what its answers mean.

The answers have the form that the guides of OpenPBS 20.0 and Torque 6.1 describe, and that of the
qstat that comes with Slurm 22.05; they are written for these tests.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from desktopgrid.model.lifecycle import PilotStatus
from pilot.ce.base import JobDescription
from pilot.ce.batch_system import Unanswered
from pilot.ce.pbs import Pbs
from pilot.ce.shell import Answer

WAITING, RUNNING, DONE = PilotStatus.WAITING, PilotStatus.RUNNING, PilotStatus.DONE
FAILED, ABORTED = PilotStatus.FAILED, PilotStatus.ABORTED

OPENPBS = """Job Id: 17.pbs.example
    Job_Name = gb-1f0cb3e02a7e4d5c9b6f0123
\t456789ab
    Job_Owner = pilots@login.example
    job_state = F
    queue = long
    Exit_status = 3
    comment = Job run at Wed Nov 25 at 12:01 on (n1:ncpus=1) and fini
\tshed
    Variable_List = PBS_O_HOME=/home/pilots,PBS_O_LANG=C,PBS_O_PATH=/usr/bin:/b
\tin,PBS_O_WORKDIR=/home/pilots/jobs
    Submit_arguments = -N gb-1f0cb3e0 -l select=1:ncpus=1 .job.sh

Job Id: 18.pbs.example
    Job_Name = gb-p2
    job_state = H
    Hold_Types = s
    comment = job held, too many failed attempts to run

"""

TORQUE = """Job Id: 21.torque.example
    Job_Name = gb-p3
    job_state = C
    exit_status = 0

Job Id: 22.torque.example
    Job_Name = gb-p4
    job_state = R

"""

SLURMS_QSTAT = """Job Id:\t41
\tJob_Name = gb-p5
\tJob_Owner = pilots@login
\tjob_state = Q
\tqueue = main

"""


def test_openpbs_says_names_states_and_ends_over_several_lines() -> None:
    found = Pbs().entries(Answer(0, OPENPBS))
    assert list(found) == ["17.pbs.example", "18.pbs.example"]
    ended, held = found.values()
    assert ended.name == "gb-1f0cb3e02a7e4d5c9b6f0123456789ab"
    assert (ended.state.status, ended.state.reason) == (FAILED, "ended with exit code 3")
    assert (ended.is_in_queue, held.is_in_queue) == (False, True)
    reason = "on hold: job held, too many failed attempts to run; Hold_Types s"
    assert (held.state.status, held.state.reason) == (FAILED, reason)


def test_torque_and_slurm_s_qstat_say_it_in_other_words() -> None:
    ended, running = Pbs("torque").entries(Answer(0, TORQUE)).values()
    assert (ended.state.status, running.state.status) == (DONE, RUNNING)
    assert Pbs("torque").entries(Answer(0, SLURMS_QSTAT))["41"].state.status is WAITING


@pytest.mark.parametrize(
    "dialect, code, status, reason",
    [
        ("openpbs", "0", DONE, ""),
        ("openpbs", "-29", FAILED, "it ran longer than it was to"),
        ("torque", "-11", FAILED, "it ran longer than it was to"),
        ("openpbs", "-11", ABORTED, "PBS ended it with status -11"),
        ("openpbs", "271", ABORTED, "signal 15 ended it at the site"),
        ("openpbs", "", ABORTED, "PBS says that it is over, and not how"),
    ],
)
def test_how_a_job_ended_is_told(dialect: str, code: str, status: PilotStatus, reason: str) -> None:
    said = f"Job Id: 1.s\n    Job_Name = gb-p\n    job_state = F\n    Exit_status = {code}\n"
    state = Pbs(dialect).entries(Answer(0, said))["1.s"].state
    assert (state.status, state.reason) == (status, reason)


def test_a_state_that_nobody_knows_has_not_ended() -> None:
    said = "Job Id: 1.s\n    Job_Name = gb-p\n    job_state = Z\n"
    entry = Pbs().entries(Answer(0, said))["1.s"]
    assert (entry.state.status, entry.state.reason) == (WAITING, "PBS says Z")


@pytest.mark.parametrize(
    "answer, count",
    [
        (Answer(153, OPENPBS, "qstat: Unknown Job Id 19.pbs.example\n"), 2),
        (Answer(35, "", "qstat: 17.pbs Job has finished, use -x or -H to obtain history"), 0),
        (Answer(153, "", ""), 0),
    ],
)
def test_a_job_that_the_server_does_not_know_is_absent(answer: Answer, count: int) -> None:
    assert len(Pbs().entries(answer)) == count


@pytest.mark.parametrize(
    "answer, said",
    [
        (Answer(255, "", "qstat: cannot connect to server pbs (errno=15034)"), "cannot connect"),
        (Answer(153, "", "qstat: Unknown Job Id 1\nqstat: cannot connect to server"), "cannot con"),
        (Answer(127, ""), "exit code 127"),
        (Answer(0, "Job Id: 17.pbs.example\n    Job_Name = gb-p\n"), "in the middle of job 17"),
    ],
)
def test_no_answer_is_not_an_empty_queue(answer: Answer, said: str) -> None:
    with pytest.raises(Unanswered, match=said):
        Pbs().entries(answer)


def test_many_are_asked_for_in_bounded_portions() -> None:
    asked = Pbs().questions([f"{number}.s" for number in range(1201)])
    assert len(asked) == 3
    assert asked[2].startswith("qstat -x -f 1000.s ")
    assert Pbs("torque").questions(["1.s"]) == ["qstat -f 1.s < /dev/null"]


def test_a_job_asks_for_what_it_is_described_with() -> None:
    job = JobDescription(
        "p1", Path("x"), cores=8, memory_mib=900, wall_time=timedelta(hours=30, seconds=61)
    )
    words = Pbs(queue="long", account="bio", options="-l place=free").submission(job, "gb-p1")
    assert words[:3] == ["qsub", "-N", "gb-p1"]
    assert "select=1:ncpus=8:mem=900mb,walltime=30:01:01" in words
    assert words[-7:] == ["-q", "long", "-A", "bio", "-l", "place=free", ".job.sh"]
    words = Pbs("torque").submission(job, "gb-p1")
    assert "nodes=1:ppn=8,mem=900mb,walltime=30:01:01" in words


@pytest.mark.parametrize(
    "printed, number",
    [
        ("17.pbs.example", "17.pbs.example"),
        ("Hello\n17", "17"),
        ("17[].pbs", "17[].pbs"),
        ("", None),
        ("17.pbs;reboot", None),
    ],
)
def test_a_submission_says_a_number(printed: str, number: str | None) -> None:
    assert Pbs().job_id(printed) == number


@pytest.mark.parametrize(
    "answer, done",
    [
        (Answer(0, ""), True),
        (Answer(153, "", "qdel: Unknown Job Id 17.pbs"), True),
        (Answer(35, "", "qdel: Job has finished 17.pbs"), True),
        (Answer(1, ""), True),
        (Answer(255, "", "qdel: cannot connect to server pbs (errno=111)"), False),
        (Answer(159, "", "qdel: Unauthorized Request 17.pbs"), False),
    ],
)
def test_who_removes_what_is_gone_has_removed_it(answer: Answer, done: bool) -> None:
    assert Pbs().is_removed(answer) is done
