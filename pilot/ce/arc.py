"""Jobs of an ARC computing element, through the REST interface of its A-REX.

Each job runs under collect.sh: A-REX follows whatever a job leaves, and keeps of its directory only
what was named before it ran; the numbers that collect.sh gives to outputs are confused with
nothing else.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from desktopgrid.model.errors import BadRequest
from desktopgrid.model.lifecycle import PilotStatus
from jdl import adl
from jdl.errors import JdlError
from jdl.job import File, Job
from pilot.ce import tls
from pilot.ce.arc_rest import Arex, JobAnswer, Refused, elements
from pilot.ce.base import (
    OUTPUT_LIMIT,
    STDERR,
    STDOUT,
    ComputingElementUnavailable,
    CredentialKind,
    JobDescription,
    JobState,
    NothingToRetrieve,
    Reference,
    SubmissionRefused,
    check_outputs,
)
from pilot.ce.delegations import Delegations
from pilot.ce.finding import Finding, Verdict, end_of_token, life_of
from pilot.ce.https import Silent
from pilot.ce.landing import Landing, TooMuch

logger = logging.getLogger(__name__)

COLLECT = Path(__file__).with_name("collect.sh")
KEPT = "glidebridge-outputs"
"""The directory that collect.sh puts the outputs into."""
BULK = 50
"""Jobs in one document."""
UPLOADS = 4
"""Files on their way at a time."""
LAST_BYTES = 4096

STATUS_OF_STATE = {
    "ACCEPTING": PilotStatus.WAITING,
    "ACCEPTED": PilotStatus.WAITING,
    "PREPARING": PilotStatus.WAITING,
    "PREPARED": PilotStatus.WAITING,
    "SUBMITTING": PilotStatus.WAITING,
    "QUEUING": PilotStatus.WAITING,
    "RUNNING": PilotStatus.RUNNING,
    # It has left the batch system, or is about to.
    "OTHER": PilotStatus.RUNNING,
    "EXITINGLRMS": PilotStatus.RUNNING,
    "EXECUTED": PilotStatus.RUNNING,
    "FINISHING": PilotStatus.RUNNING,
    "KILLING": PilotStatus.RUNNING,
    # Nothing comes of it unless somebody releases it, when its secret may have expired.
    "HELD": PilotStatus.FAILED,
    "FAILED": PilotStatus.FAILED,
    "FINISHED": PilotStatus.DONE,
    "KILLED": PilotStatus.DELETED,
}
"""The states of ARC's REST interface; of a job that is WIPED only its name is left."""

GONE = ("WIPED", "None", "")
ENDED = ("FINISHED", "FAILED", "KILLED")
EXPLAINED = ("FAILED", "HELD")

NORDUGRID = "http://www.nordugrid.org/es/2011/12/nordugrid-adl"
_JOB = re.compile(r"/rest/[0-9.]+/jobs/([\w-]+)")
_EXIT = re.compile(r"LRMS error: \(-?\d+\) Job failed\.?")


class ArcCE:
    """One A-REX as a computing element."""

    def __init__(
        self,
        arex: Arex,
        name: str = "",
        queue: str = "",
        software: Sequence[str] = (),
        delegations: Delegations | None = None,
    ) -> None:
        """``software`` are runtime environments; ``delegations`` gives jobs our credential, where
        they are to have it. ``name`` is what errors call this door.
        """
        self._name = name or repr(arex)
        self._arex, self._queue, self._software = arex, queue, tuple(software)
        self._delegations = delegations
        self._stamps: dict[str, str] = {}
        """What the jobs there are called, as far as they were looked at."""

    def __repr__(self) -> str:
        return f"<ArcCE on {self._arex!r}>"

    def submit(self, jobs: Sequence[JobDescription]) -> list[Reference]:
        """In two steps: A-REX accepts all jobs, then gets their files; nothing runs before that."""
        for file in {file for job in jobs for file in (job.program, *job.files)}:
            self._check(file)
        if not jobs:
            return []
        made: list[str] = []
        try:
            with self._asked():
                delegation = self._delegations.current() if self._delegations else ""
                for start in range(0, len(jobs), BULK):
                    made += self._make(jobs[start : start + BULK], delegation)
                self._upload(dict(zip(made, jobs, strict=True)))
        except Exception:
            self._undo(made)
            raise
        return [self._reference(job) for job in made]

    def examine(self, job: JobDescription) -> Iterator[Finding]:
        """The credential's life, the interface, and whether it knows us."""
        https = self._arex.https
        file, now = https.credential.file, https.clock()
        try:
            if https.credential.kind is CredentialKind.PROXY:
                proxy = tls.proxy_in(file, now)
                what, ends_at = f"the proxy in {file}, of {proxy.subject},", proxy.ends_at
                advice = "make a new one there, such as by arcproxy"
                yield life_of("proxy", what, ends_at, now, advice)
            else:
                tls.token_in(file)
                ends = end_of_token(file)
                if ends is not None:
                    yield life_of("token", f"the token in {file}", ends, now, "get a new one")
        except tls.CredentialUnusable as unusable:
            yield Finding("credential", str(unusable), Verdict.WRONG)
            return
        try:
            with self._asked():
                version = self._arex.version
                yield Finding("interface", f"{self._arex.url} speaks REST {version}")
                count = len(self._arex.jobs())
                yield Finding("identity", f"it knows {https.identity}, who has {count} jobs there")
        except (ComputingElementUnavailable, SubmissionRefused) as error:
            advice = "look whether `url`, `ca_directory` and the credential are right, and whether"
            advice += " the CE maps us to an account"
            yield Finding("interface", error.reason, Verdict.WRONG, advice)

    def find(self, stamps: Sequence[str]) -> dict[str, Reference]:
        """Those whose name is their stamp; A-REX is asked for all jobs of ours that were not looked
        at yet.
        """
        if not stamps:
            return {}
        with self._asked():
            present = self._arex.jobs()
            known = {job: self._stamps[job] for job in present if job in self._stamps}
            self._stamps = known | self._names([job for job in present if job not in known])
            wanted = set(stamps)
            found = {stamp: job for job, stamp in self._stamps.items() if stamp in wanted}
            alive = self._arex.states(list(found.values()))
            return {
                stamp: self._reference(job)
                for stamp, job in found.items()
                if job in alive and alive[job].state not in GONE
            }

    def statuses(self, references: Sequence[Reference]) -> dict[Reference, JobState]:
        """One question for the states of all, and one for the reasons of those that failed."""
        jobs = self._ids(references)
        with self._asked():
            if self._delegations:
                self._delegations.keep()
            said = self._arex.states(list(jobs))
            unclear = [job for job, answer in said.items() if answer.state in EXPLAINED]
            said |= self._arex.infos(unclear)
            states = {jobs[job]: state_of(answer) for job, answer in said.items()}
            return {name: state for name, state in states.items() if state is not None}

    def remove(self, references: Sequence[Reference]) -> None:
        """What has not ended is killed, as the site's batch system does that."""
        with self._asked():
            said = self._arex.states(list(self._ids(references)))
            over = (*ENDED, *GONE)
            self._arex.kill([job for job, answer in said.items() if answer.state not in over])

    def last_words(self, reference: Reference) -> str:
        """The end of stderr in the job's directory."""
        with self._asked():
            for job in self._ids([reference]):
                size = self._arex.size(job, STDERR)
                if not size:
                    continue
                chunks = self._arex.fetch(job, STDERR, max(size - LAST_BYTES, 0))
                end = b""
                for chunk in chunks or ():
                    end = (end + chunk)[-LAST_BYTES:]
                return end.decode(errors="replace")
        return ""

    def retrieve(
        self, reference: Reference, directory: Path, limit: int = OUTPUT_LIMIT
    ) -> list[str]:
        """From the job's directory, while the site keeps that."""
        with self._asked():
            for job in self._ids([reference]):
                said = self._arex.states([job]).get(job)
                if said is None or said.state not in ENDED:
                    continue
                return self._bring_home(reference, job, directory, limit)
        reason = "it has not ended, or the site keeps nothing of it"
        raise NothingToRetrieve(self._name, reference, reason)

    def discard(self, references: Sequence[Reference]) -> None:
        """The site removes the jobs' directories and what it knows of them."""
        with self._asked():
            said = self._arex.states(list(self._ids(references)))
            self._arex.clean([job for job, answer in said.items() if answer.state in ENDED])

    # Submitting

    def _check(self, file: Path) -> None:
        try:
            file.open("rb").close()
        except OSError as error:
            reason = f"{file} cannot be read: {error.strerror}"
            raise SubmissionRefused(self._name, reason) from error

    def _make(self, jobs: Sequence[JobDescription], delegation: str) -> list[str]:
        """The names that A-REX gives to ``jobs``; raises SubmissionRefused, and then has none."""
        try:
            documents = [description_of(job, self._queue, self._software) for job in jobs]
        except JdlError as error:
            raise SubmissionRefused(self._name, str(error)) from error
        document = in_bulk(documents, delegation)
        try:
            answers = self._arex.create(document, delegation)
        except Refused as refused:
            raise SubmissionRefused(self._name, str(refused)) from refused
        made = [answer.id for answer in answers if answer.code == 201 and answer.id]
        if len(answers) != len(jobs) or len(made) != len(jobs):
            self._undo(made)
            reasons = [answer.reason for answer in answers if answer.code != 201]
            reason = reasons[0] if reasons else f"it made {len(made)} of {len(jobs)} jobs"
            raise SubmissionRefused(self._name, reason)
        return made

    def _upload(self, jobs: dict[str, JobDescription]) -> None:
        """Give the jobs their files: first all but one each, so that none runs before it is known
        that all of them can.
        """
        first = [
            (job, file.name, file)
            for job, description in jobs.items()
            for file in (*description.files, description.program)
        ]
        last = [(job, COLLECT.name, COLLECT) for job in jobs]
        with ThreadPoolExecutor(UPLOADS) as pool:
            for uploads in (first, last):
                started = [pool.submit(self._arex.put, *upload) for upload in uploads]
                try:
                    for each in started:
                        each.result()
                finally:
                    for each in started:
                        each.cancel()

    def _undo(self, jobs: Sequence[str]) -> None:
        """What of ``jobs`` cannot be removed now waits for files that never come, and fails."""
        with contextlib.suppress(Silent, Refused):
            self._arex.clean(list(jobs))

    # Asking

    def _names(self, jobs: Sequence[str]) -> dict[str, str]:
        found = {}
        for job, answer in self._arex.infos(jobs).items():
            name = answer.info.get("Name")
            if not isinstance(name, str) or not name:
                # The site describes a new job a minute late; A-REX's own file has its name at once.
                local = self._arex.diagnosis(job, "local")
                match = re.search(r"^jobname=(.*)$", local, re.MULTILINE)
                name = match[1] if match else ""
            if name:
                found[job] = name
        return found

    def _bring_home(self, reference: Reference, job: str, directory: Path, limit: int) -> list[str]:
        try:
            names = outputs_of(self._arex.diagnosis(job, "description"))
        except (JdlError, BadRequest, ValueError) as error:
            reason = f"its description, as the site has it, is not ours: {error}"
            raise NothingToRetrieve(self._name, reference, reason) from error
        places = {STDOUT: STDOUT, STDERR: STDERR}
        places |= {name: f"{KEPT}/{number}" for number, name in enumerate(names)}
        try:
            with Landing(directory, limit) as landing:
                for name, place in places.items():
                    chunks = self._arex.fetch(job, place)
                    if chunks is not None:
                        landing.receive(name, chunks)
        except TooMuch as too_much:
            raise NothingToRetrieve(self._name, reference, str(too_much)) from too_much
        return landing.names

    def _reference(self, job: str) -> Reference:
        """The job's address, which ARC's own commands take too."""
        return Reference(f"{self._arex.url}/rest/{self._arex.version}/jobs/{job}")

    def _ids(self, references: Sequence[Reference]) -> dict[str, Reference]:
        """What is no address of a job here was never one of ours, and so is unknown."""
        found = {}
        for reference in references:
            if reference.startswith(self._arex.url):
                match = _JOB.fullmatch(reference[len(self._arex.url) :])
                if match:
                    found[match[1]] = reference
        return found

    @contextmanager
    def _asked(self) -> Iterator[None]:
        try:
            yield
        except (Silent, Refused) as error:
            raise ComputingElementUnavailable(self._name, str(error)) from error


def description_of(job: JobDescription, queue: str = "", software: Sequence[str] = ()) -> str:
    """``job`` as ADL; raises JdlError."""
    command = job.python or f"./{job.program.name}"
    arguments = (job.program.name, *job.arguments) if job.python else job.arguments
    files = (job.program.name, *(file.name for file in job.files))
    return adl.write(
        [
            Job(
                executable="/bin/sh",
                arguments=(
                    *(COLLECT.name, KEPT, str(len(job.outputs)), *job.outputs),
                    *(command, *arguments),
                ),
                stdout=STDOUT,
                stderr=STDERR,
                inputs=(*(File(name) for name in files), File(COLLECT.name)),
                outputs=tuple(File(f"{KEPT}/{number}") for number in range(len(job.outputs))),
                name=job.stamp,
                cores=job.cores,
                memory_mib=job.memory_mib,
                disk_mib=job.disk_mib,
                # No more, though a pilot ends by itself then: queues have limits.
                wall_time=int(job.wall_time.total_seconds()),
                software=tuple(software),
                queue=queue,
            )
        ]
    )


def outputs_of(description: str) -> tuple[str, ...]:
    """The outputs of a job by its description; raises JdlError, BadRequest or ValueError where it
    is none of ours.
    """
    (job,) = adl.read(description).jobs
    if job.arguments[:2] != (COLLECT.name, KEPT):
        raise ValueError("it does not run collect.sh")
    count = int(job.arguments[2])
    names = job.arguments[3 : 3 + count]
    check_outputs(names)
    return names


def in_bulk(documents: Sequence[str], delegation: str = "") -> str:
    """One document with several descriptions, whose jobs get the credential ``delegation``."""
    texts = [each.partition("?>\n")[2] for each in documents]
    if delegation:
        # What REST 1.0 has no parameter for; a name of letters, digits, _ and -.
        said = f'<DelegationID xmlns="{NORDUGRID}">{delegation}</DelegationID></DataStaging>'
        texts = [text.replace("</DataStaging>", said) for text in texts]
    if len(texts) == 1:
        return texts[0]
    return f"<ActivityDescriptions>{''.join(texts)}</ActivityDescriptions>"


def state_of(answer: JobAnswer) -> JobState | None:
    """What A-REX's word on a job means; None for one that is gone."""
    state = _state_in(answer.info) or answer.state
    if state in GONE:
        return None
    status = STATUS_OF_STATE.get(state)
    if status is None:
        raise Silent(f"job {answer.id} is {state!r}, of which we know nothing")
    if status is PilotStatus.DONE:
        return JobState(status, exit_code=0)
    if status is PilotStatus.DELETED:
        return JobState(status, "taken back")
    if status is not PilotStatus.FAILED:
        return JobState(status)
    errors = [str(each) for each in elements(answer.info, "Error")]
    if state == "HELD":
        return JobState(status, "; ".join(["on hold in the site's batch system", *errors]))
    code = str(answer.info.get("ExitCode", ""))
    said = [error for error in errors if not _EXIT.fullmatch(error)]
    if code.lstrip("-").isdigit() and int(code) != 0:
        ended = f"ended with exit code {code}"
        return JobState(status, "; ".join([ended, *said]), int(code))
    return JobState(status, "; ".join(errors) or "the site does not say why")


def _state_in(info: object) -> str:
    """The state in a GLUE 2 document, among those of other interfaces."""
    if not isinstance(info, dict):
        return ""
    states = [str(each) for each in elements(info, "State")]
    return next((each[8:] for each in states if each.startswith("arcrest:")), "")
