"""Pilots as jobs of an HTCondor pool, through a JobQueue of the HTCondor seam.

The pilot reads its slot's ad by itself (``_CONDOR_MACHINE_AD``): cores, memory, the site's grace.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from condor.errors import CondorError, PoolUnavailable
from condor.jobs import Job, JobId, JobQueue, JobStatus
from condor.submit import STANDARD_PATH, JobDescription
from desktopgrid.model.lifecycle import PilotStatus
from pilot.ce.base import (
    ComputingElementUnavailable,
    PilotDescription,
    PilotState,
    Reference,
    SubmissionRefused,
)

STAMP_ATTRIBUTE = "GlidebridgeStamp"

REMOVED_BY_US = "taken back by Glidebridge"
"""In the RemoveReason of a job: it tells our removals from those of the site."""

ENDED_PILOTS_STAY = timedelta(minutes=10)
"""In the queue, as a completed job; HTCondor's history may be seconds late."""

WALL_TIME_SLACK = timedelta(minutes=10)
"""A pilot ends by itself at its wall time; the schedd takes one that did not."""

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
    ) -> None:
        """``spool``: the schedd copies all files at submission, and need not see ours later.

        ``logs`` is a directory for the pilots' stdout and stderr, where the schedd can write it;
        what is spooled stays with the schedd. ``requirements`` is about the pool's slots. ``name``
        is what errors call this door.
        """
        self._name = name or repr(queue)
        self._queue, self._spool, self._logs = queue, spool, logs
        self._requirements, self._vacate_time = requirements, vacate_time

    def __repr__(self) -> str:
        return f"<CondorCE on {self._queue!r}>"

    def submit(self, pilots: Sequence[PilotDescription]) -> list[Reference]:
        """One cluster of jobs for all of them."""
        with self._asked():
            jobs = [self._job(pilot) for pilot in pilots]
            return [Reference(str(job)) for job in self._queue.submit(jobs, spool=self._spool)]

    def find(self, stamps: Sequence[str]) -> dict[str, Reference]:
        """Those in the queue, by the attribute that they were submitted with."""
        with self._asked():
            found = self._queue.having(STAMP_ATTRIBUTE, stamps)
            return {stamp: Reference(str(job)) for stamp, job in found.items()}

    def last_words(self, reference: Reference) -> str:
        """From the schedd, while it keeps what was spooled."""
        with self._asked():
            for job in _job_ids([reference]):
                return self._queue.errors_of(job)[-LAST_BYTES:].decode(errors="replace")
            return ""

    def statuses(self, references: Sequence[Reference]) -> dict[Reference, PilotState]:
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

    def _job(self, pilot: PilotDescription) -> JobDescription:
        # The slot's own interpreter gets the bundle as a file; else the bundle is the program.
        program = pilot.bundle if pilot.python is None else Path(pilot.python)
        arguments, files = pilot.arguments, pilot.files
        if pilot.python is not None:
            arguments, files = (pilot.bundle.name, *arguments), (pilot.bundle, *files)
        return JobDescription(
            program,
            transfer_executable=pilot.python is None,
            arguments=arguments,
            environment={"PATH": STANDARD_PATH},
            input_files=files,
            directory=self._logs,
            output=f"{pilot.stamp}.out" if self._keeps_output else None,
            error=f"{pilot.stamp}.err" if self._keeps_output else None,
            cores=pilot.cores,
            memory_mib=pilot.memory_mib,
            disk_mib=pilot.disk_mib,
            requirements=self._requirements,
            attributes={**pilot.attributes, STAMP_ATTRIBUTE: pilot.stamp},
            vacate_time=self._vacate_time,
            idle_limit=pilot.queue_limit,
            run_limit=pilot.wall_time + WALL_TIME_SLACK,
            keep_for=ENDED_PILOTS_STAY,
            # Its enrolment secret is good for one.
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


def state_of(job: Job) -> PilotState:
    """What a job's state means for its pilot."""
    if job.status == JobStatus.COMPLETED:
        return _ended(job)
    if job.status == JobStatus.REMOVED:
        reason = job.policy_words or job.reason or "removed from the queue"
        ours = reason.startswith(REMOVED_BY_US)
        return PilotState(PilotStatus.DELETED if ours else PilotStatus.ABORTED, reason)
    if job.status == JobStatus.HELD:
        # Nothing comes of it unless somebody releases it, when its secret may have expired.
        return PilotState(PilotStatus.FAILED, f"on hold: {job.hold_words}: {job.reason}")
    return PilotState(STATUS_OF_JOB[job.status])


def _ended(job: Job) -> PilotState:
    if job.exit_signal is not None:
        return PilotState(PilotStatus.FAILED, f"killed by signal {job.exit_signal} on {job.host}")
    if job.exit_code == 0:
        return PilotState(PilotStatus.DONE)
    return PilotState(PilotStatus.FAILED, f"ended with exit code {job.exit_code} on {job.host}")


def _job_ids(references: Sequence[Reference]) -> dict[JobId, Reference]:
    """What is no job's name was never one of ours, so it is as unknown as a forgotten one."""
    found = {}
    for reference in references:
        try:
            found[JobId.parse(reference)] = reference
        except CondorError:
            continue
    return found
