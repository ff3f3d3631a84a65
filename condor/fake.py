"""A schedd in memory with slots of its own, for tests: a JobQueue that needs no HTCondor.

Time comes from the ``clock``: whatever should have happened since the last question happens at the
next one. It passes tests/contract/test_condor_pool.py, as the real one does.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from condor.errors import PoolUnavailable
from condor.jobs import Job, JobId, JobStatus, ScheddFacts, Spooled
from condor.submit import JobDescription, as_cluster, require_files

HELD_BY_USER, SUBMITTED_ON_HOLD = 1, 15


@dataclass(frozen=True)
class Outcome:
    """How a job of the fake will end: after this time on its slot, with this exit code."""

    after: timedelta
    exit_code: int = 0
    files: Mapping[str, bytes] = field(default_factory=dict)
    """What it leaves."""


UNTIL_REMOVED = Outcome(timedelta.max)


def run_until_removed(job: JobDescription) -> Outcome:
    """What jobs do unless told otherwise."""
    return UNTIL_REMOVED


@dataclass
class _Entry:
    job: Job
    description: JobDescription
    started_at: datetime | None = None
    outcome: Outcome = UNTIL_REMOVED

    def ends_at(self) -> datetime | None:
        if self.started_at is None or self.outcome.after == timedelta.max:
            return None
        return self.started_at + self.outcome.after


class FakeSchedd:
    """A job queue with ``slots`` slots, first come first served."""

    def __init__(
        self,
        name: str = "fake.pool",
        slots: int = 2,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        behaviour: Callable[[JobDescription], Outcome] = run_until_removed,
    ) -> None:
        self.name = name
        self.slots = slots
        self.unavailable_because: str | None = None
        """Set it, and every question raises PoolUnavailable until it is None again."""
        self._clock, self._behaviour = clock, behaviour
        self._queue: dict[JobId, _Entry] = {}
        self._history: dict[JobId, _Entry] = {}
        self._let_go: set[JobId] = set()
        self._last_cluster = 0

    def __repr__(self) -> str:
        return f"<FakeSchedd {self.name}: {len(self._queue)} jobs on {self.slots} slots>"

    def submit(self, jobs: Sequence[JobDescription], spool: bool = False) -> list[JobId]:
        """Submit all or none; refuses the descriptions that a real schedd's client refuses."""
        now = self._advance()
        if not jobs:
            return []
        require_files(jobs)
        as_cluster(jobs)
        self._last_cluster += 1
        taken = []
        for proc, description in enumerate(jobs):
            job = Job(
                JobId(self.name, self._last_cluster, proc), JobStatus.IDLE, entered_status_at=now
            )
            if description.on_hold:
                job = _held(job, "submitted on hold at user's request", SUBMITTED_ON_HOLD, now)
            self._queue[job.id] = _Entry(job, description)
            taken.append(job.id)
        self._fill_slots(now)
        return taken

    def facts(self) -> ScheddFacts:
        """Of a fake."""
        self._advance()
        return ScheddFacts(self.name, "none", f"user@{self.name}")

    def jobs(self, ids: Sequence[JobId]) -> dict[JobId, Job]:
        """Those that are in the queue."""
        self._advance()
        return {job: self._queue[job].job for job in ids if job in self._queue}

    def having(self, attribute: str, values: Sequence[str]) -> dict[str, JobId]:
        """The jobs in the queue that were submitted with one of ``values``, by that value."""
        self._advance()
        found = {
            entry.description.attributes.get(attribute): name for name, entry in self._queue.items()
        }
        return {value: found[value] for value in values if value in found}

    def history(
        self, ids: Sequence[JobId], ended_after: datetime | None = None
    ) -> dict[JobId, Job]:
        """Those that have left the queue, without delay."""
        self._advance()
        found = {job: self._history[job].job for job in ids if job in self._history}
        if ended_after is None:
            return found
        return {
            name: job
            for name, job in found.items()
            if job.entered_status_at is not None and job.entered_status_at >= ended_after
        }

    def descriptions(self) -> dict[JobId, JobDescription]:
        """What is in the queue, as it was submitted: for tests."""
        self._advance()
        return {job: entry.description for job, entry in self._queue.items()}

    def retrieve(self, job: JobId, directory: Path) -> Spooled | None:
        """What the job's Outcome has, until it is let go."""
        self._advance()
        entry = self._history.get(job)
        if entry is None or entry.job.status != JobStatus.COMPLETED or job in self._let_go:
            return None
        for name, content in entry.outcome.files.items():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_bytes(content)
        said = entry.description
        texts = {name: text for name, text in said.attributes.items() if isinstance(text, str)}
        return Spooled(said.output or "", said.error or "", texts)

    def let_go(self, ids: Sequence[JobId]) -> None:
        """What they left is gone."""
        self._advance()
        self._let_go |= set(ids)

    def remove(self, ids: Sequence[JobId], reason: str) -> None:
        """Idempotent."""
        now = self._advance()
        for entry in self._entries(ids):
            self._leave(entry, JobStatus.REMOVED, now, reason=reason, hold_code=None)
        self._fill_slots(now)

    def hold(self, ids: Sequence[JobId], reason: str) -> None:
        """At once, without the grace of a real slot."""
        now = self._advance()
        for entry in self._entries(ids):
            entry.started_at = None
            entry.job = _held(entry.job, reason, HELD_BY_USER, now)
        self._fill_slots(now)

    def release(self, ids: Sequence[JobId], reason: str) -> None:
        """Held jobs are idle again."""
        now = self._advance()
        for entry in self._entries(ids):
            if entry.job.status == JobStatus.HELD:
                entry.job = replace(
                    entry.job,
                    status=JobStatus.IDLE,
                    reason=None,
                    hold_code=None,
                    entered_status_at=now,
                )
        self._fill_slots(now)

    def _entries(self, ids: Sequence[JobId]) -> list[_Entry]:
        return [self._queue[job] for job in ids if job in self._queue]

    def _leave(
        self, entry: _Entry, status: JobStatus, now: datetime, **facts: str | int | None
    ) -> None:
        del self._queue[entry.job.id]
        changes = {"status": status, "entered_status_at": now, "is_in_queue": False, **facts}
        entry.job = replace(entry.job, **changes)  # type: ignore[arg-type]
        self._history[entry.job.id] = entry

    def _advance(self) -> datetime:
        """Let happen, in its order, what should have happened by now."""
        if self.unavailable_because is not None:
            raise PoolUnavailable(self.name, self.unavailable_because)
        now = self._clock()
        while (ending := self._next_to_end(now)) is not None:
            entry, ends_at = ending
            self._leave(entry, JobStatus.COMPLETED, ends_at, exit_code=entry.outcome.exit_code)
            self._fill_slots(ends_at)
        return now

    def _next_to_end(self, now: datetime) -> tuple[_Entry, datetime] | None:
        ending = [
            (ends_at, entry) for entry in self._queue.values() if (ends_at := entry.ends_at())
        ]
        if not ending:
            return None
        ends_at, entry = min(ending, key=lambda pair: pair[0])
        return (entry, ends_at) if ends_at <= now else None

    def _fill_slots(self, now: datetime) -> None:
        running = [e for e in self._queue.values() if e.job.status == JobStatus.RUNNING]
        waiting = [e for e in self._queue.values() if e.job.status == JobStatus.IDLE]
        free = self.slots - len(running)
        for entry in waiting[: max(free, 0)]:
            entry.started_at, entry.outcome = now, self._behaviour(entry.description)
            entry.job = replace(
                entry.job, status=JobStatus.RUNNING, entered_status_at=now, host=f"slot@{self.name}"
            )


def _held(job: Job, reason: str, code: int, now: datetime) -> Job:
    return replace(job, status=JobStatus.HELD, reason=reason, hold_code=code, entered_status_at=now)
