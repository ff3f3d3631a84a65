"""A batch system to a computing element: words to say to it, and what is known of a job.

slurm.py and pbs.py are the two there are; batch.py says the words. Nothing is done here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from desktopgrid.model.lifecycle import PilotStatus
from pilot.ce.base import JobDescription, JobState
from pilot.ce.finding import Finding
from pilot.ce.shell import Answer

LOST_ITS_NODE = "its node was taken away, and it starts only once"

PORTION = 500
"""Jobs that one command is told about."""


class Unanswered(Exception):
    """The batch system's command did not say what was asked, whatever its exit code."""


@dataclass(frozen=True)
class Entry:
    """A job in the batch system's queue, or still in its memory."""

    name: str
    state: JobState
    is_in_queue: bool = True
    """Whether it is there to be removed."""
    is_site_s_doing: bool = False
    """Whether ``state`` tells more of how it ended than its exit code does."""


@dataclass(frozen=True)
class Probe:
    """A question to try a site with, and what its answer means."""

    script: str
    judge: Callable[[Answer], Finding]
    is_needed: bool = True
    """Whether no other question makes sense where this one's answer is wrong."""


class BatchSystem(Protocol):
    """Words to say to a batch system, and how to read what it answers; does nothing."""

    kind: str
    """The word before its references."""

    def submission(self, job: JobDescription, name: str) -> list[str]:
        """The command that submits ``.job.sh`` in the directory where it is run."""

    def job_id(self, printed: str) -> str | None:
        """What that command calls the job; None if it says nothing of the kind."""

    def questions(self, ids: Sequence[str] | None) -> list[str]:
        """Scripts that ask for jobs; ``ids`` None: for all of the account."""

    def entries(self, answer: Answer) -> dict[str, Entry]:
        """The jobs in an answer, by id; raises Unanswered."""

    def removal(self, ids: Sequence[str]) -> list[str]:
        """The command that removes jobs, SIGTERM first."""

    def is_removed(self, answer: Answer) -> bool:
        """Whether that command did it, or there was nothing to do."""

    def is_out_of_reach(self, complaint: str) -> bool:
        """Whether a submission failed because the batch system was not there."""

    def probes(self, job: JobDescription, name: str) -> list[Probe]:
        """Questions whose answers tell whether ``job`` could be submitted."""

    @property
    def redirects(self) -> bool:
        """Whether a job's script has to write ``out`` and ``err`` by itself."""


@dataclass(frozen=True)
class Marks:
    """What a job's directory tells."""

    exit_code: int | None = None
    ended: str = ""
    is_removed: bool = False
    has_started: bool = False

    @property
    def tell_the_end(self) -> bool:
        """Whether they say how it ended."""
        return bool(self.ended) or self.exit_code is not None


@dataclass(frozen=True)
class Looked:
    """What is known of a job: in the queue, in its directory, and what both together mean."""

    entry: Entry | None
    marks: Marks | None
    state: JobState | None

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.state is not None and self.state.has_ended

    @property
    def is_in_queue(self) -> bool:
        """Whether it is there to be removed."""
        return self.entry is not None and self.entry.is_in_queue

    @property
    def is_open(self) -> bool:
        """Whether it may still be taken back, rather than end as it did."""
        is_over = self.marks is not None and self.marks.tell_the_end
        return self.is_in_queue and (self.is_waiting or not is_over)

    @property
    def is_waiting(self) -> bool:
        """Whether it is in the queue and has not begun; one that is held, too."""
        status = self.entry.state.status if self.entry is not None else None
        return self.is_in_queue and status is not PilotStatus.RUNNING

    @property
    def is_untold(self) -> bool:
        """Whether it is over, and its directory does not say how or still has what it had."""
        if not self.has_ended or self.is_in_queue or self.marks is None or self.marks.ended:
            return False
        more = self.entry is not None and self.entry.is_site_s_doing
        return more or self.marks.exit_code is None


def state_of(entry: Entry | None, marks: Marks | None) -> JobState | None:
    """Where a job stands by the batch system's word and its directory's; None: nobody knows."""
    code = marks.exit_code if marks else None
    ended = entry.state if entry is not None and entry.state.has_ended else None
    remembered = _remembered(marks.ended) if marks else None
    if marks and marks.is_removed and (ended or remembered or code is not None or entry is None):
        return JobState(PilotStatus.DELETED, "taken back")
    if ended is not None and entry is not None and entry.is_site_s_doing:
        return ended
    if remembered is not None:
        return remembered
    is_waiting = entry is not None and entry.state.status is PilotStatus.WAITING
    if is_waiting and marks and marks.has_started:
        # Requeued: nothing comes of it, and whoever asked removes it.
        return JobState(PilotStatus.FAILED, LOST_ITS_NODE)
    if code == 0:
        return JobState(PilotStatus.DONE, exit_code=0)
    if code is not None:
        return JobState(PilotStatus.FAILED, f"ended with exit code {code}", code)
    return entry.state if entry is not None else None


def portions(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """``ids`` in bounded portions, in their order."""
    for start in range(0, len(ids), PORTION):
        yield ids[start : start + PORTION]


def _remembered(ended: str) -> JobState | None:
    status, _, reason = ended.partition(" ")
    try:
        return JobState(PilotStatus(status), reason)
    except ValueError:
        return None
