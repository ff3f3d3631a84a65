"""Jobs of an HTCondor pool, through a JobQueue of the HTCondor seam.

A job with outputs runs under collect.sh: HTCondor holds a job that does not leave every file that
it was to leave, and the numbers that collect.sh gives them are confused with nothing else.

A pilot reads its slot's ad by itself (``_CONDOR_MACHINE_AD``): cores, memory, the site's grace.
"""

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from condor.errors import CondorError, PoolUnavailable
from condor.jobs import Job, JobId, JobQueue, JobStatus
from condor.submit import STANDARD_PATH
from condor.submit import JobDescription as CondorJob
from desktopgrid.model.errors import BadRequest
from desktopgrid.model.lifecycle import PilotStatus
from pilot.ce.base import (
    OUTPUT_LIMIT,
    STDERR,
    STDOUT,
    ComputingElementUnavailable,
    JobDescription,
    JobState,
    NothingToRetrieve,
    Reference,
    SubmissionRefused,
    check_outputs,
)
from pilot.ce.finding import Finding, Verdict, end_of_token, life_of
from pilot.ce.landing import Landing, TooMuch, open_regular

STAMP_ATTRIBUTE = "GlidebridgeStamp"
OUTPUTS_ATTRIBUTE = "GlidebridgeOutputs"

COLLECT = Path(__file__).with_name("collect.sh")
KEPT = "glidebridge-outputs"
"""The directory, and what collect.sh puts into it, that HTCondor is to bring back."""

REMOVED_BY_US = "taken back by Glidebridge"
"""In the RemoveReason of a job: it tells our removals from those of the site."""

ENDED_JOBS_STAY = timedelta(minutes=10)
"""In the queue, as completed ones; HTCondor's history may be seconds late."""
OUTPUTS_STAY = timedelta(days=10)

WALL_TIME_SLACK = timedelta(minutes=10)
"""A pilot ends by itself at its wall time; the schedd takes what did not."""

LAST_BYTES = 4096

STATUS_OF_JOB = {
    JobStatus.SPOOLING: PilotStatus.WAITING,
    JobStatus.IDLE: PilotStatus.WAITING,
    JobStatus.RUNNING: PilotStatus.RUNNING,
    JobStatus.TRANSFERRING_OUTPUT: PilotStatus.RUNNING,
    JobStatus.SUSPENDED: PilotStatus.RUNNING,
}
"""As far as the job's status alone decides it: ``state_of`` knows the rest."""


class CondorCE:
    """One schedd as a computing element."""

    def __init__(
        self,
        queue: JobQueue,
        spool: bool = True,
        logs: Path | None = None,
        requirements: str | None = None,
        vacate_time: timedelta = timedelta(seconds=60),
        name: str = "",
        token: Path | None = None,
    ) -> None:
        """``spool``: the schedd copies all files at submission, and need not see ours later.

        ``logs`` is a directory for the jobs' stdout and stderr, where the schedd can write it;
        what is spooled stays with the schedd. ``requirements`` is about the pool's slots. ``name``
        is what errors call this door. ``token`` is looked at by ``examine``; the queue shows it.
        """
        self._token = token
        self._name = name or repr(queue)
        self._queue, self._spool, self._logs = queue, spool, logs
        self._requirements, self._vacate_time = requirements, vacate_time

    def __repr__(self) -> str:
        return f"<CondorCE on {self._queue!r}>"

    def submit(self, jobs: Sequence[JobDescription]) -> list[Reference]:
        """One cluster for all of them."""
        with self._asked():
            described = [self._described(job) for job in jobs]
            taken = self._queue.submit(described, spool=self._spool)
            return [Reference(str(job)) for job in taken]

    def find(self, stamps: Sequence[str]) -> dict[str, Reference]:
        """Those in the queue, by the attribute that they were submitted with."""
        with self._asked():
            found = self._queue.having(STAMP_ATTRIBUTE, stamps)
            return {stamp: Reference(str(job)) for stamp, job in found.items()}

    def last_words(self, reference: Reference) -> str:
        """From the schedd, while it keeps what was spooled."""
        with self._asked(), tempfile.TemporaryDirectory(prefix="glidebridge-output-") as place:
            for job in _job_ids([reference]):
                spooled = self._queue.retrieve(job, Path(place))
                error = spooled and open_regular(Path(place), spooled.error)
                if error:
                    with error:
                        return error.read()[-LAST_BYTES:].decode(errors="replace")
        return ""

    def retrieve(
        self, reference: Reference, directory: Path, limit: int = OUTPUT_LIMIT
    ) -> list[str]:
        """From the schedd, while it keeps what was spooled."""
        with self._asked(), tempfile.TemporaryDirectory(prefix="glidebridge-output-") as place:
            for job in _job_ids([reference]):
                spooled = self._queue.retrieve(job, Path(place))
                if spooled is None:
                    continue
                try:
                    outputs = json.loads(spooled.attributes.get(OUTPUTS_ATTRIBUTE, "[]"))
                    check_outputs(outputs)
                    with Landing(directory, limit) as landing:
                        landing.take(STDOUT, Path(place), spooled.output)
                        landing.take(STDERR, Path(place), spooled.error)
                        for number, name in enumerate(outputs):
                            landing.take(name, Path(place), f"{KEPT}/{number}")
                except (TooMuch, BadRequest, ValueError) as refused:
                    raise NothingToRetrieve(self._name, reference, str(refused)) from refused
                return landing.names
        reason = "it has not ended, or the schedd keeps nothing of it"
        raise NothingToRetrieve(self._name, reference, reason)

    def discard(self, references: Sequence[Reference]) -> None:
        """The schedd need not keep them any longer."""
        with self._asked():
            self._queue.let_go(list(_job_ids(references)))

    def statuses(self, references: Sequence[Reference]) -> dict[Reference, JobState]:
        """One look into the queue, and one into the history if some are no longer there."""
        with self._asked():
            jobs = _job_ids(references)
            found = self._queue.jobs(list(jobs))
            if len(found) < len(jobs):
                found = self._queue.history([job for job in jobs if job not in found]) | found
            return {jobs[name]: state_of(job) for name, job in found.items()}

    def remove(self, references: Sequence[Reference]) -> None:
        """What is in the queue and has not ended."""
        with self._asked():
            queued = self._queue.jobs(list(_job_ids(references)))
            alive = [name for name, job in queued.items() if job.status not in _ENDED]
            self._queue.remove(alive, REMOVED_BY_US)

    def examine(self, job: JobDescription) -> Iterator[Finding]:
        """The token's life, then the schedd's own word on who we are."""
        ends_at = end_of_token(self._token) if self._token is not None else None
        if ends_at is not None:
            advice = "ask the pool's administrators for a new one (condor_token_create)"
            now = datetime.now(UTC)
            yield life_of("token", f"the token in {self._token}", ends_at, now, advice)
        try:
            with self._asked():
                facts = self._queue.facts()
        except (ComputingElementUnavailable, SubmissionRefused) as error:
            advice = "look whether the schedd runs, whether `schedd`, `pool` and `address` name it,"
            advice += " and whether it takes our token (ALLOW_WRITE, SEC_*)"
            yield Finding("schedd", error.reason, Verdict.WRONG, advice)
            return
        version = f", HTCondor {facts.version}," if facts.version else ""
        yield Finding("schedd", f"schedd {facts.name}{version} answers")
        if not facts.identity or facts.identity.startswith("unauthenticated"):
            advice = "name a token by `token`"
            sentence = "it does not know who we are, and takes no jobs of nobody"
            yield Finding("identity", sentence, Verdict.WRONG, advice)
        else:
            yield Finding("identity", f"it takes us for {facts.identity}, who may submit")

    def _described(self, job: JobDescription) -> CondorJob:
        # The slot's own interpreter gets the program as a file; else the program is what runs.
        program = job.program if job.python is None else Path(job.python)
        arguments, files = job.arguments, job.files
        if job.python is not None:
            arguments, files = (job.program.name, *arguments), (job.program, *files)
        attributes = {**job.attributes, STAMP_ATTRIBUTE: job.stamp}
        is_transferred = job.python is None
        if job.outputs:
            if not self._spool:
                raise SubmissionRefused(self._name, "only what is spooled brings outputs home")
            command = job.python or f"./{job.program.name}"
            arguments = (KEPT, str(len(job.outputs)), *job.outputs, command, *arguments)
            files = (*([job.program] if is_transferred else []), *files)
            program, is_transferred = COLLECT, True
            attributes[OUTPUTS_ATTRIBUTE] = json.dumps(job.outputs)
        return CondorJob(
            program,
            transfer_executable=is_transferred,
            arguments=arguments,
            environment={"PATH": STANDARD_PATH},
            input_files=files,
            output_files=(KEPT,) if job.outputs else (),
            directory=self._logs,
            output=f"{job.stamp}.out" if self._keeps_output else None,
            error=f"{job.stamp}.err" if self._keeps_output else None,
            cores=job.cores,
            memory_mib=job.memory_mib,
            disk_mib=job.disk_mib,
            requirements=self._requirements,
            attributes=attributes,
            vacate_time=self._vacate_time,
            idle_limit=job.queue_limit,
            run_limit=job.wall_time + WALL_TIME_SLACK,
            keep_for=OUTPUTS_STAY if job.outputs else ENDED_JOBS_STAY,
            # A pilot's enrolment secret is good for one; what becomes of a work, we decide.
            starts_once=True,
        )

    @property
    def _keeps_output(self) -> bool:
        return self._spool or self._logs is not None

    @contextmanager
    def _asked(self) -> Iterator[None]:
        try:
            yield
        except PoolUnavailable as error:
            raise ComputingElementUnavailable(self._name, error.reason) from error
        except CondorError as error:
            raise SubmissionRefused(self._name, str(error)) from error


_ENDED = (JobStatus.COMPLETED, JobStatus.REMOVED)


def state_of(job: Job) -> JobState:
    """What HTCondor's word on a job means."""
    if job.status == JobStatus.COMPLETED:
        return _ended(job)
    if job.status == JobStatus.REMOVED:
        reason = job.policy_words or job.reason or "removed from the queue"
        ours = reason.startswith(REMOVED_BY_US)
        return JobState(PilotStatus.DELETED if ours else PilotStatus.ABORTED, reason)
    if job.status == JobStatus.HELD:
        # Nothing comes of it unless somebody releases it, when its secret may have expired.
        return JobState(PilotStatus.FAILED, f"on hold: {job.hold_words}: {job.reason}")
    return JobState(STATUS_OF_JOB[job.status])


def _ended(job: Job) -> JobState:
    if job.exit_signal is not None:
        return JobState(PilotStatus.FAILED, f"killed by signal {job.exit_signal} on {job.host}")
    if job.exit_code == 0:
        return JobState(PilotStatus.DONE, exit_code=0)
    reason = f"ended with exit code {job.exit_code} on {job.host}"
    return JobState(PilotStatus.FAILED, reason, job.exit_code)


def _job_ids(references: Sequence[Reference]) -> dict[JobId, Reference]:
    """What is no job's name was never one of ours, so it is as unknown as a forgotten one."""
    found = {}
    for reference in references:
        try:
            found[JobId.parse(reference)] = reference
        except CondorError:
            continue
    return found
