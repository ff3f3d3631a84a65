"""What every computing element promises, and what a pilot is to it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import NewType, Protocol

from desktopgrid.model.errors import BadRequest, Unavailable
from desktopgrid.model.lifecycle import PilotStatus

Reference = NewType("Reference", str)
"""A pilot's name at its computing element, theirs, for as long as they remember it."""


class SubmissionRefused(BadRequest):
    """A computing element will not take these pilots; none of them was submitted."""

    def __init__(self, computing_element: str, reason: str) -> None:
        super().__init__(f"{computing_element} refused the pilots: {reason}")
        self.computing_element, self.reason = computing_element, reason


class ComputingElementUnavailable(Unavailable):
    """A computing element cannot be asked. What it holds is unknown, which is not nothing."""

    def __init__(self, computing_element: str, reason: str) -> None:
        super().__init__(f"{computing_element} cannot be asked: {reason}")
        self.computing_element, self.reason = computing_element, reason


@dataclass(frozen=True)
class PilotDescription:
    """One pilot to be submitted."""

    stamp: str
    """Our name for it, unique for ever; letters, digits and ``-``."""
    bundle: Path
    """The program, pilot.pyz."""
    arguments: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    """What goes with it, modes kept: the enrolment file (0600), the grid's CA."""
    python: str | None = None
    """The worker node's interpreter, absolute; None: the one that the bundle's first line finds."""
    cores: int = 1
    memory_mib: int = 1024
    disk_mib: int = 2048
    wall_time: timedelta = timedelta(hours=24)
    """How long it may run. The pilot is told, too; this is for one that does not obey."""
    queue_limit: timedelta = timedelta(hours=24)
    """How long it may wait."""
    attributes: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    """What else the computing element's kind understands; Condor: attributes of the job ad."""


@dataclass(frozen=True)
class PilotState:
    """Where a pilot stands, as its computing element says, and why if that is to be explained."""

    status: PilotStatus
    reason: str = ""


class ComputingElement(Protocol):
    """A door that accepts pilots. A new one is done when tests/contract/test_ce.py passes on it.

    Any process may ask for and remove what another one submitted. Whatever cannot be asked raises
    ComputingElementUnavailable; nobody may conclude anything from that.
    """

    def submit(self, pilots: Sequence[PilotDescription]) -> list[Reference]:
        """Submit all or raise SubmissionRefused; references in the order of ``pilots``.

        The door has copies of all files when this returns. After ComputingElementUnavailable the
        pilots may have been submitted all the same: ``find`` tells.
        """

    def find(self, stamps: Sequence[str]) -> dict[str, Reference]:
        """Those of these pilots that the door has, by stamp; one that has ended may be absent."""

    def statuses(self, references: Sequence[Reference]) -> dict[Reference, PilotState]:
        """One question for all of them; a reference that the door has forgotten is absent."""

    def remove(self, references: Sequence[Reference]) -> None:
        """Take them back, whatever they do: SIGTERM first, SIGKILL after the door's grace.

        Idempotent; one that has ended keeps the status it ended with, and one that the door holds
        back (Failed, with its reason) leaves nothing behind.
        """

    def last_words(self, reference: Reference) -> str:
        """The end of what a pilot that has ended wrote to standard error; empty where the door
        cannot tell.
        """
