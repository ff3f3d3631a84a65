"""A computing element in memory, for tests of whoever decides on jobs.

Nothing happens by itself: ``step`` lets running jobs end and waiting ones start, ``report`` says
what the site says.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from desktopgrid.model.lifecycle import PilotStatus
from pilot.ce.base import (
    OUTPUT_LIMIT,
    STDERR,
    STDOUT,
    ComputingElementUnavailable,
    Credential,
    JobDescription,
    JobState,
    NothingToRetrieve,
    Reference,
    SubmissionRefused,
)
from pilot.ce.finding import Finding, Verdict
from pilot.ce.landing import Landing, TooMuch

ALIVE = (PilotStatus.WAITING, PilotStatus.RUNNING)


def run_on(job: JobDescription) -> JobState | None:
    """What jobs do unless told otherwise: they do not end."""
    return None


class FakeCE:
    """A door with ``slots`` slots behind it, first come first served."""

    def __init__(
        self,
        slots: int = 2,
        behaviour: Callable[[JobDescription], JobState | None] = run_on,
        credential: Credential | None = None,
    ) -> None:
        """``behaviour`` says how a job ends after a step of running; None: it runs on."""
        self.slots, self.credential = slots, credential
        self.unavailable_because: str | None = None
        """Set it, and every question raises ComputingElementUnavailable until it is None again."""
        self.refused_because: str | None = None
        """Set it, and every submission is refused until it is None again."""
        self.jobs: dict[Reference, JobDescription] = {}
        """All that was ever submitted."""
        self.breaks_off_because: str | None = None
        """Set it, and the next submission raises ComputingElementUnavailable after it was taken."""
        self.words: dict[Reference, str] = {}
        """What jobs wrote to standard error."""
        self.out: dict[Reference, str] = {}
        """What they wrote to standard output."""
        self.left: dict[Reference, Mapping[str, bytes]] = {}
        """The files that they left."""
        self._behaviour = behaviour
        self._states: dict[Reference, JobState] = {}

    def __repr__(self) -> str:
        counts = ", ".join(f"{len(self.having(status))} {status.value}" for status in ALIVE)
        return f"<FakeCE: {counts}>"

    def submit(self, jobs: Sequence[JobDescription]) -> list[Reference]:
        """All of them wait, or none was taken."""
        self._check()
        if self.refused_because is not None:
            raise SubmissionRefused(repr(self), self.refused_because)
        for file in [file for job in jobs for file in (job.program, *job.files)]:
            if not file.exists():
                raise SubmissionRefused(repr(self), f"there is no file {file}")
        references = []
        for job in jobs:
            reference = Reference(f"fake:{len(self.jobs) + 1}")
            self.jobs[reference] = job
            self._states[reference] = JobState(PilotStatus.WAITING)
            references.append(reference)
        if self.breaks_off_because is not None:
            reason, self.breaks_off_because = self.breaks_off_because, None
            raise ComputingElementUnavailable(repr(self), reason)
        return references

    def find(self, stamps: Sequence[str]) -> dict[str, Reference]:
        """Those that were submitted and are not forgotten."""
        self._check()
        known = {self.jobs[name].stamp: name for name in self._states}
        return {stamp: known[stamp] for stamp in stamps if stamp in known}

    def statuses(self, references: Sequence[Reference]) -> dict[Reference, JobState]:
        """What the last ``step`` or ``report`` left."""
        self._check()
        return {name: self._states[name] for name in references if name in self._states}

    def remove(self, references: Sequence[Reference]) -> None:
        """At once."""
        self._check()
        for name, state in self.statuses(references).items():
            if state.status in ALIVE:
                self.report(name, PilotStatus.DELETED, "taken back")

    def last_words(self, reference: Reference) -> str:
        """What ``words`` has."""
        self._check()
        return self.words.get(reference, "")

    def retrieve(
        self, reference: Reference, directory: Path, limit: int = OUTPUT_LIMIT
    ) -> list[str]:
        """What ``out``, ``words`` and ``left`` have."""
        self._check()
        state = self._states.get(reference)
        if state is None or not state.has_ended:
            reason = "there is no such job" if state is None else "it has not ended"
            raise NothingToRetrieve(repr(self), reference, reason)
        left = self.left.get(reference, {})
        files = {STDOUT: self.out.get(reference, "").encode()}
        files[STDERR] = self.words.get(reference, "").encode()
        files |= {name: left[name] for name in self.jobs[reference].outputs if name in left}
        try:
            with Landing(directory, limit) as landing:
                for name, content in files.items():
                    landing.receive(name, [content])
        except TooMuch as too_much:
            raise NothingToRetrieve(repr(self), reference, str(too_much)) from too_much
        return landing.names

    def examine(self, job: JobDescription) -> Iterator[Finding]:
        """As ``unavailable_because`` and ``refused_because`` have it."""
        reason = self.unavailable_because or self.refused_because
        if reason is not None:
            yield Finding("door", reason, Verdict.WRONG, "wait until the test is over")
        else:
            yield Finding("door", "it takes jobs, and runs none of them")

    def discard(self, references: Sequence[Reference]) -> None:
        """Those that have ended are forgotten."""
        for name, state in self.statuses(references).items():
            if state.has_ended:
                self.forget(name)

    def report(
        self,
        reference: Reference,
        status: PilotStatus,
        reason: str = "",
        exit_code: int | None = None,
    ) -> None:
        """Say this about a job from now on."""
        self._states[reference] = JobState(status, reason, exit_code)

    def forget(self, reference: Reference) -> None:
        """Say nothing about a job from now on."""
        del self._states[reference]

    def step(self) -> None:
        """Running jobs may end, then waiting ones take the free slots."""
        for name in self.having(PilotStatus.RUNNING):
            ended = self._behaviour(self.jobs[name])
            if ended is not None:
                self._states[name] = ended
        free = self.slots - len(self.having(PilotStatus.RUNNING))
        for name in self.having(PilotStatus.WAITING)[: max(free, 0)]:
            self.report(name, PilotStatus.RUNNING)

    def having(self, status: PilotStatus) -> list[Reference]:
        """The jobs that have this status, in the order of their submission."""
        return [name for name, state in self._states.items() if state.status is status]

    def _check(self) -> None:
        if self.unavailable_because is not None:
            raise ComputingElementUnavailable(repr(self), self.unavailable_because)
