"""Jobs as the schedd knows them, in words. HTCondor's numbers are read here and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Protocol, Self

from condor.errors import CondorError
from condor.submit import JobDescription


@dataclass(frozen=True, order=True)
class JobId:
    """The name of a job for its whole life; in text ``schedd#Cluster.Proc``."""

    schedd: str
    cluster: int
    proc: int

    def __str__(self) -> str:
        return f"{self.schedd}#{self.cluster}.{self.proc}"

    @property
    def in_schedd(self) -> str:
        """The name that the schedd itself uses, ``Cluster.Proc``."""
        return f"{self.cluster}.{self.proc}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The job that ``str`` of it names; raises CondorError."""
        schedd, _, job = text.rpartition("#")
        cluster, _, proc = job.partition(".")
        digits = (cluster + proc).isascii() and cluster.isdigit() and proc.isdigit()
        if not (schedd and digits):
            raise CondorError(f"{text!r} is no job; jobs are written schedd#Cluster.Proc")
        return cls(schedd, int(cluster), int(proc))


class JobStatus(StrEnum):
    """HTCondor's own words, and one of ours: a job on hold only until its files are there."""

    SPOOLING = "Spooling"
    IDLE = "Idle"
    RUNNING = "Running"
    TRANSFERRING_OUTPUT = "TransferringOutput"
    SUSPENDED = "Suspended"
    HELD = "Held"
    REMOVED = "Removed"
    COMPLETED = "Completed"


STATUS_OF_CODE = {
    1: JobStatus.IDLE,
    2: JobStatus.RUNNING,
    3: JobStatus.REMOVED,
    4: JobStatus.COMPLETED,
    5: JobStatus.HELD,
    6: JobStatus.TRANSFERRING_OUTPUT,
    7: JobStatus.SUSPENDED,
}
"""The attribute ``JobStatus`` (HTCondor manual, Job ClassAd Attributes)."""

HELD_FOR_SPOOLING = 16
"""The HoldReasonCode of a job whose files are on their way: no failure, it ends by itself."""

HOLD_WORDS = {
    1: "held by a user",
    3: "held by the job's own policy",
    4: "its credential is bad",
    5: "the job's own policy is undefined",
    6: "its process could not be started",
    7: "its output file could not be opened",
    8: "its input file could not be opened",
    9: "its output stream could not be opened",
    10: "its input stream could not be opened",
    11: "a file transfer was acknowledged wrongly",
    12: "its output files could not be transferred",
    13: "its input files could not be transferred",
    14: "its initial directory cannot be used",
    15: "submitted on hold",
    HELD_FOR_SPOOLING: "its input files are being spooled",
    21: "held by the startd",
    22: "its event log cannot be written",
    26: "held by the schedd's policy",
    27: "the schedd's policy is undefined",
    32: "its input files are too large",
    33: "its output files are too large",
    34: "it used more than it asked for",
    46: "it took more than its allowed time",
    47: "it ran for more than its allowed time",
}
"""The attribute ``HoldReasonCode``, as far as pilots can meet it (same chapter of the manual)."""


@dataclass(frozen=True)
class Job:
    """What HTCondor says about a job now, or said last, if it is no longer in the queue."""

    id: JobId
    status: JobStatus
    reason: str | None = None
    """Why it is held or was removed, in HTCondor's words."""
    hold_code: int | None = None
    is_removed_by_policy: bool = False
    """Whether a rule that the job was submitted with removed it (the limits of JobDescription)."""
    last_status: JobStatus | None = None
    """What it was before ``status``."""
    starts: int = 0
    """How often it was started."""
    exit_code: int | None = None
    exit_signal: int | None = None
    entered_status_at: datetime | None = None
    host: str | None = None
    """The slot that runs it, or ran it last."""
    is_in_queue: bool = True

    @property
    def hold_words(self) -> str | None:
        """What kind of hold it is in; None for a job that is not held."""
        if self.hold_code is None:
            return None
        return HOLD_WORDS.get(self.hold_code, f"hold reason {self.hold_code}")

    @property
    def policy_words(self) -> str | None:
        """Which rule of its own removed it; None for a job that none did."""
        if not self.is_removed_by_policy or self.last_status is None:
            return None
        if self.last_status == JobStatus.IDLE and self.starts:
            return LOST_ITS_SLOT
        return POLICY_WORDS.get(self.last_status)


POLICY_WORDS = {
    JobStatus.IDLE: "it waited longer than it was to",
    JobStatus.HELD: "it was held longer than it was to",
    JobStatus.RUNNING: "it ran longer than it was to",
}
LOST_ITS_SLOT = "its slot was taken away, and it starts only once"


@dataclass(frozen=True)
class ScheddFacts:
    """A schedd that answers, and who it takes us for."""

    name: str
    version: str
    identity: str


@dataclass(frozen=True)
class Spooled:
    """What came back of a job: which file is which, and what it was submitted with."""

    output: str
    error: str
    attributes: Mapping[str, str]
    """Those of its own attributes that are strings."""


class JobQueue(Protocol):
    """The jobs of one schedd. A new kind is done when tests/contract/test_condor_pool.py passes."""

    @property
    def name(self) -> str:
        """The schedd's name, which is part of its jobs' names."""

    def facts(self) -> ScheddFacts:
        """Ask it who it is, and whom it would let submit."""

    def submit(self, jobs: Sequence[JobDescription], spool: bool = False) -> list[JobId]:
        """Submit all or none; names in the order of ``jobs``."""

    def jobs(self, ids: Sequence[JobId]) -> dict[JobId, Job]:
        """Those that are in the queue, by one question for all of them."""

    def having(self, attribute: str, values: Sequence[str]) -> dict[str, JobId]:
        """The jobs in the queue that were submitted with one of ``values``, by that value."""

    def history(
        self, ids: Sequence[JobId], ended_after: datetime | None = None
    ) -> dict[JobId, Job]:
        """Those that have left the queue, as far as it is remembered; perhaps seconds late."""

    def retrieve(self, job: JobId, directory: Path) -> Spooled | None:
        """Bring what a spooled job that has ended left into ``directory``; None where it is not
        kept. What is in ``directory`` then has the names that the job's machine gave it.
        """

    def remove(self, ids: Sequence[JobId], reason: str) -> None:
        """Idempotent."""

    def hold(self, ids: Sequence[JobId], reason: str) -> None:
        """Stop them, and keep them in the queue."""

    def release(self, ids: Sequence[JobId], reason: str) -> None:
        """Let held jobs run again."""

    def let_go(self, ids: Sequence[JobId]) -> None:
        """Jobs that have ended and were to stay in the queue need not any more. Idempotent."""
