"""What to say to PBS (OpenPBS, PBS Pro, Torque), and how to read its answers.

The two dialects ask for cores in different words, and remember ended jobs in different ways.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from desktopgrid.model.lifecycle import PilotStatus
from pilot.ce.base import JobDescription, JobState
from pilot.ce.batch_system import Entry, Probe, Unanswered, portions
from pilot.ce.finding import Finding, Verdict
from pilot.ce.shell import Answer, quoted

STATUS_OF_STATE: Mapping[str, PilotStatus] = {
    "Q": PilotStatus.WAITING,
    "W": PilotStatus.WAITING,  # for its time
    "T": PilotStatus.WAITING,  # being moved
    "M": PilotStatus.WAITING,  # moved to another server
    "R": PilotStatus.RUNNING,
    "E": PilotStatus.RUNNING,  # ending
    "S": PilotStatus.RUNNING,  # suspended
    "U": PilotStatus.RUNNING,  # suspended for the machine's user
    "B": PilotStatus.RUNNING,
    "H": PilotStatus.FAILED,
}
"""Job states that are no end (qstat's manual). One that is not here yet counts as waiting: what is
unknown has not ended."""

ENDED = ("F", "C", "X")
"""Finished, and Torque's completed."""

_NOT_STARTED = (PilotStatus.FAILED, "PBS could not start it")
_TOO_LONG = (PilotStatus.FAILED, "it ran longer than it was to")
_TOO_LARGE = (PilotStatus.FAILED, "it used more memory than it asked for")
_TOO_BUSY = (PilotStatus.FAILED, "it used more processor time than it asked for")
EXIT_WORDS: Mapping[str, Mapping[int, tuple[PilotStatus, str]]] = {
    "openpbs": {
        **dict.fromkeys((-1, -2, -3), _NOT_STARTED),
        **dict.fromkeys((-24, -25, -28), _TOO_BUSY),
        **dict.fromkeys((-26, -27), _TOO_LARGE),
        -29: _TOO_LONG,
    },
    "torque": {
        **dict.fromkeys((-1, -2, -3, -8, -9), _NOT_STARTED),
        -10: _TOO_LARGE,
        -11: _TOO_LONG,
        -12: _TOO_BUSY,
    },
}
"""Exit_status where it is no exit code (PBS and Torque administrator's guides, job exit codes)."""

SIGNALLED = 256
"""Exit_status of a job that a signal ended is this and the signal's number."""

_UNKNOWN = re.compile(r"Unknown Job|unknown job|has finished|Job has completed", re.I)
_OVER = re.compile(r"Unknown Job|finished|invalid state|already|not.*modif.*state", re.I)
_OUT_OF_REACH = re.compile(
    r"cannot connect|Connection refused|timed out|No route|15034|15033", re.I
)
_ATTRIBUTE = re.compile(r"\s+([A-Za-z_][\w.-]*) = (.*)")


@dataclass(frozen=True)
class Pbs:
    """A BatchSystem; what is left out is as PBS has it for the account."""

    dialect: str = "openpbs"
    queue: str = ""
    account: str = ""
    options: str = ""

    kind = "pbs"
    redirects = True

    def submission(self, job: JobDescription, name: str) -> list[str]:
        """qsub in the job's directory; what the job writes would come home by PBS's own ways."""
        seconds = int(job.wall_time.total_seconds())
        time = f"{seconds // 3600:02}:{seconds % 3600 // 60:02}:{seconds % 60:02}"
        share = f"select=1:ncpus={job.cores}:mem={job.memory_mib}mb"
        if self.dialect == "torque":
            share = f"nodes=1:ppn={job.cores},mem={job.memory_mib}mb"
        words = ["qsub", "-N", name, "-r", "n", "-S", "/bin/sh", "-W", "umask=077"]
        words += ["-o", "/dev/null", "-e", "/dev/null", "-l", f"{share},walltime={time}"]
        words += ["-q", self.queue] if self.queue else []
        words += ["-A", self.account] if self.account else []
        return [*words, *shlex.split(self.options), ".job.sh"]

    def job_id(self, printed: str) -> str | None:
        """Of ``17.server.example``, which may stand behind a site's own greetings."""
        lines = printed.split()
        match = re.fullmatch(r"\d+(\[\])?(\.[\w.-]+)?", lines[-1]) if lines else None
        return match[0] if match else None

    def questions(self, ids: Sequence[str] | None) -> list[str]:
        """qstat with the numbers, in portions; all of the account's where there are none."""
        full = "qstat -f" if self.dialect == "torque" else "qstat -x -f"
        if ids is not None:
            return [f"{full} {' '.join(map(quoted, each))} < /dev/null" for each in portions(ids)]
        # Not every qstat can be asked for the jobs of one account.
        return [
            "if command -v qselect > /dev/null; then\n"
            '    ids=$(qselect -u "$(id -un)" < /dev/null) || exit 1\n'
            f"    [ -z \"$ids\" ] || printf '%s\\n' $ids | xargs -n 500 {full}\n"
            f"else {full} < /dev/null; fi"
        ]

    def entries(self, answer: Answer) -> dict[str, Entry]:
        """Of ``qstat -f``; OpenPBS 20.0 (Torque writes C for F, and `exit_status`):

        Job Id: 17.pbs.example
            Job_Name = gb-1f0cb3e0
            Job_Owner = pilots@login.example
            job_state = F
            Exit_status = 271
            comment = Job run at Wed Nov 25 at 12:01 on (n1:ncpus=1) and fini
        \tshed
        """
        complaints = [line for line in answer.errors.splitlines() if line.strip()]
        unusual = [line for line in complaints if not _UNKNOWN.search(line)]
        # Exit code 153 with nothing to say: Slurm's qstat, for jobs that it does not know.
        if unusual or (answer.code not in (0, 35, 153, 170) and not complaints):
            raise Unanswered(f"qstat: {answer.complaint}")
        found = {}
        for number, attributes in _jobs(answer.output).items():
            state, name = attributes.get("job_state", ""), attributes.get("Job_Name", "")
            if not state or not name:
                raise Unanswered(f"qstat broke off in the middle of job {number}")
            found[number] = self._entry(name, state, attributes)
        return found

    def removal(self, ids: Sequence[str]) -> list[str]:
        """SIGTERM; SIGKILL after the server's kill_delay."""
        return ["qdel", *ids]

    def is_removed(self, answer: Answer) -> bool:
        """qdel complains of each job that is over."""
        said = answer.errors + answer.output
        lines = [line for line in said.splitlines() if line.strip()]
        # Slurm's qdel counts those in its exit code and says nothing.
        return all(_OVER.search(line) for line in lines)

    def probes(self, job: JobDescription, name: str) -> list[Probe]:
        """Its version, its server and queues; a submission cannot be tried without one."""
        return [
            Probe("qstat --version < /dev/null", self._judge_version),
            Probe("qstat -Q -f < /dev/null", self._judge_queue),
        ]

    def _judge_version(self, answer: Answer) -> Finding:
        said = f"{answer.output}\n{answer.errors}".strip().splitlines()
        if answer.is_no_command:
            advice = "name the directory of PBS's commands by `bin_directory`"
            sentence = f"there is no qstat that the account may run: {answer.complaint}"
            return Finding("version", sentence, Verdict.WRONG, advice)
        versions = [line.strip() for line in said if re.search(r"version\W+\d", line, re.I)]
        if not versions:
            return Finding("version", "qstat is there, and does not say its version")
        is_openpbs = versions[0].startswith("pbs_version")
        if is_openpbs is not (self.dialect == "openpbs"):
            right = "openpbs" if is_openpbs else "torque"
            sentence = f"it says {versions[0]!r}, and dialect is {self.dialect}"
            return Finding("version", sentence, Verdict.WORRYING, f"set `dialect = {right}`")
        return Finding("version", versions[0])

    def _judge_queue(self, answer: Answer) -> Finding:
        queues: dict[str, str] = {}
        name = ""
        for line in answer.output.splitlines():
            if match := re.fullmatch(r"Queue:\s*(\S+)\s*", line):
                name = match[1]
            if name:
                queues[name] = f"{queues.get(name, '')}{line}\n"
        if answer.code or not queues:
            advice = "ask the administrators whether the server runs"
            return Finding("server", f"qstat: {answer.complaint}", Verdict.WRONG, advice)
        known = ", ".join(sorted(queues))
        if not self.queue:
            return Finding("queue", f"the server answers; it has the queues {known}")
        if self.queue not in queues:
            sentence = f"there is no queue {self.queue!r}; there are {known}"
            return Finding("queue", sentence, Verdict.WRONG, "set `queue`")
        if stopped := re.search(r"(enabled|started) = False", queues[self.queue]):
            sentence = f"queue {self.queue} is not {stopped[1]}"
            return Finding("queue", sentence, Verdict.WRONG, "wait, or set `queue`")
        return Finding("queue", f"queue {self.queue} is open")

    def is_out_of_reach(self, complaint: str) -> bool:
        """Whether the server was not there."""
        return bool(_OUT_OF_REACH.search(complaint))

    def _entry(self, name: str, state: str, attributes: Mapping[str, str]) -> Entry:
        if state in ENDED:
            status, reason, is_site_s_doing = self._ending(attributes)
            return Entry(name, JobState(status, reason), False, is_site_s_doing)
        if state == "H":
            held = attributes.get("Hold_Types", "")
            said = [attributes.get("comment", ""), f"Hold_Types {held}" if held else ""]
            words = "; ".join(filter(None, said)) or "PBS does not say why"
            return Entry(name, JobState(PilotStatus.FAILED, f"on hold: {words}"))
        known = STATUS_OF_STATE.get(state)
        if known is None:
            return Entry(name, JobState(PilotStatus.WAITING, f"PBS says {state}"))
        return Entry(name, JobState(known))

    def _ending(self, attributes: Mapping[str, str]) -> tuple[PilotStatus, str, bool]:
        """What its end means, why, and whether that tells more than an exit code."""
        said = attributes.get("Exit_status", attributes.get("exit_status", ""))
        try:
            code = int(said)
        except ValueError:
            return PilotStatus.ABORTED, "PBS says that it is over, and not how", False
        if code in EXIT_WORDS[self.dialect]:
            return *EXIT_WORDS[self.dialect][code], True
        if code < 0:
            return PilotStatus.ABORTED, f"PBS ended it with status {code}", True
        if code >= SIGNALLED:
            return PilotStatus.ABORTED, f"signal {code - SIGNALLED} ended it at the site", True
        if code == 0:
            return PilotStatus.DONE, "", False
        return PilotStatus.FAILED, f"ended with exit code {code}", False


def _jobs(text: str) -> dict[str, dict[str, str]]:
    """Attributes by job; a value goes on in lines that begin no attribute."""
    found: dict[str, dict[str, str]] = {}
    attributes: dict[str, str] = {}
    last = ""
    for line in text.splitlines():
        if line.startswith("Job Id:"):
            attributes = found.setdefault(line.partition(":")[2].strip(), {})
            last = ""
        elif match := _ATTRIBUTE.fullmatch(line):
            last = match[1]
            attributes[last] = match[2]
        elif last and line.startswith(("\t", " ")):
            attributes[last] += line.strip()
    return found
