"""What every computing element promises, and what a job is to it.

What goes through a door is a job. Most are pilots, whose payload is our worker; those of works that
may not run in a pilot are plain jobs, and bring files home.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import NewType, Protocol

from desktopgrid.model.errors import BadRequest, Unavailable
from desktopgrid.model.lifecycle import PilotStatus
from pilot.ce.finding import Finding

Reference = NewType("Reference", str)
"""A job's name at its computing element, theirs, for as long as they remember it."""

STDOUT, STDERR = "stdout", "stderr"
"""What a job's standard output and standard error are called when they are brought home."""

OUTPUT_LIMIT = 1024**3
"""Bytes of all that one job may bring home, unless somebody says another limit."""


class SubmissionRefused(BadRequest):
    """A computing element will not take these jobs; none of them was submitted."""

    def __init__(self, computing_element: str, reason: str) -> None:
        super().__init__(f"{computing_element} refused the jobs: {reason}")
        self.computing_element, self.reason = computing_element, reason


class NothingToRetrieve(BadRequest):
    """A job's files cannot be brought home: it has not ended, is forgotten, or wrote too much."""

    def __init__(self, computing_element: str, reference: str, reason: str) -> None:
        super().__init__(f"{computing_element} gives back nothing of {reference}: {reason}")
        self.computing_element, self.reference, self.reason = computing_element, reference, reason


class ComputingElementUnavailable(Unavailable):
    """A computing element cannot be asked. What it holds is unknown, which is not nothing."""

    def __init__(self, computing_element: str, reason: str) -> None:
        super().__init__(f"{computing_element} cannot be asked: {reason}")
        self.computing_element, self.reason = computing_element, reason


class CredentialKind(Enum):
    """What a user may delegate."""

    PROXY = "proxy"
    TOKEN = "token"  # noqa: S105 - the word, not one


@dataclass(frozen=True)
class Credential:
    """A user's own, delegated to us: a file of ours, which nobody else can read."""

    kind: CredentialKind
    file: Path


@dataclass(frozen=True)
class JobDescription:
    """One job to be submitted. Raises BadRequest for names that no directory could hold."""

    stamp: str
    """Our name for it, unique for ever; letters, digits and ``-``."""
    program: Path
    """A file of ours that is run there; a pilot's is pilot.pyz."""
    arguments: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    """What goes with it, modes kept: a pilot's enrolment file (0600), the grid's CA."""
    outputs: tuple[str, ...] = ()
    """The files that it may leave and that ``retrieve`` brings home, named within its directory."""
    python: str | None = None
    """The worker node's interpreter for ``program``, absolute; None: what its first line names."""
    cores: int = 1
    memory_mib: int = 1024
    disk_mib: int = 2048
    wall_time: timedelta = timedelta(hours=24)
    """How long it may run. A pilot is told, too; this is for one that does not obey."""
    queue_limit: timedelta = timedelta(hours=24)
    """How long it may wait."""
    attributes: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    """What else the computing element's kind understands; Condor: attributes of the job ad."""

    def __post_init__(self) -> None:
        _check_inputs([self.program.name, *(file.name for file in self.files)])
        check_outputs(self.outputs)


@dataclass(frozen=True)
class JobState:
    """Where a job stands, as its computing element says, and why if that is to be explained."""

    status: PilotStatus
    """The words of a pilot's life; a plain job has the same."""
    reason: str = ""
    exit_code: int | None = None
    """Of one that ended by itself, where the door tells."""

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.status not in OPEN


OPEN = (PilotStatus.SUBMITTED, PilotStatus.WAITING, PilotStatus.RUNNING)


class ComputingElement(Protocol):
    """A door that accepts jobs. A new one is done when tests/contract/test_ce.py passes on it.

    Any process may ask for and remove what another one submitted. Whatever cannot be asked raises
    ComputingElementUnavailable; nobody may conclude anything from that.
    """

    def submit(self, jobs: Sequence[JobDescription]) -> list[Reference]:
        """Submit all or raise SubmissionRefused; references in the order of ``jobs``.

        The door has copies of all files when this returns. After ComputingElementUnavailable the
        jobs may have been submitted all the same: ``find`` tells.
        """

    def find(self, stamps: Sequence[str]) -> dict[str, Reference]:
        """Those of these jobs that the door has, by stamp; one that has ended may be absent."""

    def statuses(self, references: Sequence[Reference]) -> dict[Reference, JobState]:
        """One question for all of them; a reference that the door has forgotten is absent."""

    def remove(self, references: Sequence[Reference]) -> None:
        """Take them back, whatever they do: SIGTERM first, SIGKILL after the door's grace.

        Idempotent; one that has ended keeps the status it ended with, and one that the door holds
        back (Failed, with its reason) leaves nothing behind.
        """

    def last_words(self, reference: Reference) -> str:
        """The end of what a job that has ended wrote to standard error; empty where the door
        cannot tell.
        """

    def retrieve(
        self, reference: Reference, directory: Path, limit: int = OUTPUT_LIMIT
    ) -> list[str]:
        """Bring home what a job that has ended left: STDOUT, STDERR and those of its outputs that
        are there, into ``directory``, which exists; their names.

        Only files, and only those that were asked for, whatever the node put there; no more than
        ``limit`` bytes of all. Raises NothingToRetrieve, and then ``directory`` has nothing new.
        May be asked again until ``discard``.
        """

    def discard(self, references: Sequence[Reference]) -> None:
        """Drop what the door keeps of jobs that have ended. Idempotent; others stay as they are."""

    def examine(self, job: JobDescription) -> Iterator[Finding]:
        """Try the door as far as one can without submitting ``job``, whose files need not be there.

        Raises nothing: a door that cannot be asked is a finding, and the last one.
        """


def _check_inputs(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise BadRequest(f"two files of a job are called {name!r}")
        _check_part(name, name)
        _check_first(name)


def check_outputs(names: Sequence[str]) -> None:
    """Raise BadRequest for names that ``retrieve`` could not give to files."""
    for name in names:
        for part in name.split("/"):
            _check_part(part, name)
        _check_first(name.split("/")[0])
        if name in (STDOUT, STDERR):
            raise BadRequest(f"no output may be called {name}: a job's own {name} comes home so")
        for other in names:
            if other.startswith(f"{name}/"):
                raise BadRequest(f"outputs {name!r} and {other!r} cannot both be files")
    if len(set(names)) < len(names):
        raise BadRequest("two outputs of a job have the same name")


def _check_first(name: str) -> None:
    if name.startswith(".") or name in ("out", "err"):
        raise BadRequest(f"no file of a job may be called {name}: out, err and .* are its door's")


def _check_part(part: str, name: str) -> None:
    if part in ("", ".", ".."):
        raise BadRequest(f"{name!r} is no file below a job's own directory")
    if not part.isprintable() or len(part.encode()) > 255:
        raise BadRequest(f"{name!r} cannot be the name of a job's file")
