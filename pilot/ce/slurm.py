"""What to say to Slurm, and how to read its answers."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from desktopgrid.model.lifecycle import PilotStatus
from pilot.ce.base import JobDescription, JobState
from pilot.ce.batch_system import Entry, Probe, Unanswered
from pilot.ce.finding import Finding, Verdict
from pilot.ce.shell import Answer, quoted

WARNING_SECONDS = 60
"""A job gets SIGTERM so long before its time is up."""


@dataclass(frozen=True)
class Meaning:
    """What a state of Slurm's means for a job of ours."""

    status: PilotStatus
    reason: str = ""
    is_site_s_doing: bool = False


_WAITS, _RUNS = Meaning(PilotStatus.WAITING), Meaning(PilotStatus.RUNNING)


def _taken(reason: str) -> Meaning:
    return Meaning(PilotStatus.ABORTED, reason, is_site_s_doing=True)


def _failed(reason: str) -> Meaning:
    return Meaning(PilotStatus.FAILED, reason, is_site_s_doing=True)


MEANING: Mapping[str, Meaning] = {
    "PENDING": _WAITS,
    "CONFIGURING": _WAITS,
    "REQUEUED": _WAITS,
    "REQUEUE_FED": _WAITS,
    "REQUEUE_HOLD": Meaning(PilotStatus.FAILED, "on hold: it was requeued"),
    "SPECIAL_EXIT": Meaning(PilotStatus.FAILED, "on hold: it was requeued"),
    "RESV_DEL_HOLD": Meaning(PilotStatus.FAILED, "on hold: its reservation is gone"),
    "RUNNING": _RUNS,
    "COMPLETING": _RUNS,
    "RESIZING": _RUNS,
    "SIGNALING": _RUNS,
    "STAGE_OUT": _RUNS,
    "STOPPED": _RUNS,
    "SUSPENDED": _RUNS,
    "COMPLETED": Meaning(PilotStatus.DONE),
    "FAILED": Meaning(PilotStatus.FAILED, "Slurm says that it failed"),
    "TIMEOUT": _failed("it ran longer than it was to"),
    "OUT_OF_MEMORY": _failed("it used more memory than it asked for"),
    "DEADLINE": _taken("it waited longer than it was to"),
    "CANCELLED": _taken("it was cancelled at the site"),
    "PREEMPTED": _taken("it was preempted"),
    "NODE_FAIL": _taken("its node failed"),
    "BOOT_FAIL": _taken("its node did not come up"),
    "REVOKED": _taken("another cluster of the federation took it"),
}
"""Job states (squeue's manual, JOB STATE CODES). One that is not here yet counts as waiting: what
is unknown has not ended."""

HOLDS = ("JobHeldUser", "JobHeldAdmin", "launch failed requeued held", "user env retrieval")
"""Reasons of a pending job that nobody will start unless somebody lets it go."""

NEVER = (
    "BadConstraints",
    "DependencyNeverSatisfied",
    "InvalidAccount",
    "InvalidQOS",
    "PartitionNodeLimit",
    "PartitionTimeLimit",
    "AccountNotAllowed",
    "QOSNotAllowed",
)
"""Reasons of one that cannot start as it was asked for."""

USUAL = ("None", "Priority", "Resources", "BeginTime", "Cleaning", "")
"""Reasons of one that takes its turn."""

OUT_OF_REACH = (
    "Unable to contact slurm controller",
    "Socket timed out",
    "Connection refused",
    "Zero Bytes were transmitted",
    "temporarily",
    "Slurm controller not responding",
)
_GONE = ("Invalid job id specified", "already completing or completed", "Job has already finished")

_FORMAT = "%A|%T|%r|%j"


@dataclass(frozen=True)
class Slurm:
    """A BatchSystem; what is left out is as Slurm has it for the account."""

    partition: str = ""
    account: str = ""
    qos: str = ""
    options: str = ""

    kind = "slurm"
    redirects = False

    def submission(self, job: JobDescription, name: str) -> list[str]:
        """sbatch in the job's directory, where slurmd writes what goes wrong before the script."""
        minutes = max(math.ceil(job.wall_time.total_seconds() / 60), 1)
        latest = math.ceil((job.queue_limit + job.wall_time).total_seconds()) + 60
        words = [
            *("sbatch", "--parsable", "--no-requeue", "--export=PATH", f"--job-name={name}"),
            *("--nodes=1", "--ntasks=1", f"--cpus-per-task={job.cores}"),
            *(f"--mem={job.memory_mib}M", f"--time={minutes}", f"--deadline=now+{latest}"),
            *(f"--signal=B:TERM@{WARNING_SECONDS}", "--open-mode=append"),
            *("--output=out", "--error=err"),
        ]
        given = {"partition": self.partition, "account": self.account, "qos": self.qos}
        words += [f"--{key}={value}" for key, value in given.items() if value]
        return [*words, *shlex.split(self.options), ".job.sh"]

    def job_id(self, printed: str) -> str | None:
        """Of ``17`` or ``17;cluster``, which may stand behind a site's own greetings."""
        lines = printed.split()
        match = re.fullmatch(r"(\d+)(;[\w.-]+)?", lines[-1]) if lines else None
        return match[1] if match else None

    def questions(self, ids: Sequence[str] | None) -> list[str]:
        """One for all jobs of the account, ended ones too while slurmctld remembers them.

        By user and not by number: slurmctld then answers with this user's jobs, and of a list of
        numbers squeue makes a question for everybody's.
        """
        return [
            'squeue --noheader --states=all --user="$(id -u)"'
            f" --format={quoted(_FORMAT)} < /dev/null"
        ]

    def entries(self, answer: Answer) -> dict[str, Entry]:
        """Of squeue's lines; Slurm 22.05:

        41|RUNNING|None|gb-1f0cb3e0
        42|PENDING|Resources|gb-1f0cb3e1
        43|PENDING|JobHeldUser|gb-1f0cb3e2
        40|FAILED|NonZeroExitCode|gb-1f0cb3df
        39|CANCELLED|None|gb-1f0cb3de
        """
        # A dead slurmctld is an error on stderr; some wrappers lose the exit code.
        if answer.code or "error:" in answer.errors:
            raise Unanswered(f"squeue: {answer.complaint}")
        found = {}
        for line in answer.output.splitlines():
            number, _, rest = line.strip().partition("|")
            if not number.isdigit():
                continue  # a greeting
            state, _, rest = rest.partition("|")
            reason, bar, name = rest.rpartition("|")
            if not bar or not name:
                raise Unanswered(f"squeue broke off at {line.strip()!r}")
            found[number] = _entry(name, state, reason)
        return found

    def removal(self, ids: Sequence[str]) -> list[str]:
        """SIGTERM; SIGKILL after the cluster's KillWait."""
        return ["scancel", *ids]

    def is_removed(self, answer: Answer) -> bool:
        """scancel complains of each job that is over."""
        lines = [line for line in answer.errors.splitlines() if line.strip()]
        return (
            all(any(gone in line for gone in _GONE) for line in lines)
            if lines
            else (answer.code == 0)
        )

    def probes(self, job: JobDescription, name: str) -> list[Probe]:
        """Its version, its controller, its partitions, and a submission that is none."""
        words = [word for word in self.submission(job, name) if word != ".job.sh"]
        trial = " ".join(map(quoted, [words[0], "--test-only", *words[1:]]))
        return [
            Probe("sbatch --version < /dev/null", _judge_version),
            Probe(self.questions(None)[0], self._judge_queue),
            Probe(
                "sinfo --noheader --format='%P|%a|%l' < /dev/null",
                lambda answer: self._judge_partition(answer, job.wall_time),
                is_needed=False,
            ),
            Probe(f"printf '#!/bin/sh\\n:\\n' | {trial}", _judge_trial),
        ]

    def _judge_queue(self, answer: Answer) -> Finding:
        try:
            count = len(self.entries(answer))
        except Unanswered as unanswered:
            advice = "ask the cluster's administrators whether slurmctld runs"
            return Finding("controller", str(unanswered), Verdict.WRONG, advice)
        return Finding("controller", f"slurmctld answers; the account has {count} jobs there")

    def _judge_partition(self, answer: Answer, wall_time: timedelta) -> Finding:
        lines = [line.split("|") for line in answer.output.splitlines() if line.count("|") == 2]
        limits = {name.rstrip("*"): (state, limit) for name, state, limit in lines}
        default = next((name[:-1] for name, _, _ in lines if name.endswith("*")), "")
        wanted = self.partition or default
        known = ", ".join(sorted(limits)) or "none"
        if answer.code or not limits:
            return Finding("partition", f"sinfo: {answer.complaint}", Verdict.WRONG)
        if wanted not in limits:
            sentence = f"there is no partition {wanted!r}; there are {known}"
            return Finding("partition", sentence, Verdict.WRONG, "set `partition`")
        state, limit = limits[wanted]
        if state != "up":
            sentence = f"partition {wanted} is {state}"
            return Finding("partition", sentence, Verdict.WRONG, "wait, or set `partition`")
        longest = limit_of(limit)
        if longest is not None and longest < wall_time:
            sentence = (
                f"partition {wanted} lets jobs run for {longest}, and a pilot asks for {wall_time}"
            )
            return Finding("partition", sentence, Verdict.WRONG, "set `wall_time` to less")
        return Finding("partition", f"partition {wanted} is up; its time limit is {limit}")

    def is_out_of_reach(self, complaint: str) -> bool:
        """Whether slurmctld was not there."""
        return any(words in complaint for words in OUT_OF_REACH)


def limit_of(text: str) -> timedelta | None:
    """The span that ``1-02:03:04``, ``02:03:04`` or ``03:04`` is; None for ``infinite``."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text.strip())
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


def _judge_version(answer: Answer) -> Finding:
    said = answer.output.strip().splitlines()
    advice = "name the directory of Slurm's commands by `bin_directory`"
    if answer.is_no_command:
        sentence = f"there is no sbatch that the account may run: {answer.complaint}"
        return Finding("version", sentence, Verdict.WRONG, advice)
    if answer.code or not said:
        return Finding("version", f"sbatch: {answer.complaint}", Verdict.WRONG, advice)
    return Finding("version", said[-1])


def _judge_trial(answer: Answer) -> Finding:
    if answer.code:
        advice = "change `partition`, `account`, `qos`, `options` or what a pilot asks for"
        return Finding(
            "submission", f"it would refuse a pilot: {answer.complaint}", Verdict.WRONG, advice
        )
    return Finding("submission", "it would take a pilot")


def _entry(name: str, state: str, reason: str) -> Entry:
    meaning = MEANING.get(state, Meaning(PilotStatus.WAITING, f"Slurm says {state}"))
    told = meaning.reason
    status = meaning.status
    if state == "PENDING" and any(reason.startswith(hold) for hold in HOLDS):
        status, told = PilotStatus.FAILED, f"on hold: {reason}"
    elif state == "PENDING" and reason in NEVER:
        status, told = PilotStatus.FAILED, f"it cannot start: {reason}"
    elif state == "PENDING" and reason not in USUAL:
        told = f"Slurm says {reason}"
    elif status not in (PilotStatus.WAITING, PilotStatus.RUNNING) and reason not in USUAL:
        told = f"{told}: {reason}" if told else ""
    is_over = JobState(meaning.status).has_ended and not meaning.reason.startswith("on hold")
    return Entry(name, JobState(status, told), not is_over, meaning.is_site_s_doing)
