"""A computing element in memory, for tests of whoever decides on pilots.

Nothing happens by itself: ``step`` lets running pilots end and waiting ones start, ``report`` says
what the site says.
"""

from collections.abc import Callable, Sequence

from desktopgrid.model.lifecycle import PilotStatus
from pilot.ce.base import (
    ComputingElementUnavailable,
    PilotDescription,
    PilotState,
    Reference,
    SubmissionRefused,
)

OPEN = (PilotStatus.WAITING, PilotStatus.RUNNING)


def run_on(pilot: PilotDescription) -> PilotState | None:
    """What pilots do unless told otherwise: they do not end."""
    return None


class FakeCE:
    """A door with ``slots`` slots behind it, first come first served."""

    def __init__(
        self,
        slots: int = 2,
        behaviour: Callable[[PilotDescription], PilotState | None] = run_on,
    ) -> None:
        """``behaviour`` says how a pilot ends after a step of running; None: it runs on."""
        self.slots = slots
        self.unavailable_because: str | None = None
        """Set it, and every question raises ComputingElementUnavailable until it is None again."""
        self.refused_because: str | None = None
        """Set it, and every submission is refused until it is None again."""
        self.pilots: dict[Reference, PilotDescription] = {}
        """All that was ever submitted."""
        self.breaks_off_because: str | None = None
        """Set it, and the next submission raises ComputingElementUnavailable after it was taken."""
        self.words: dict[Reference, str] = {}
        """What pilots wrote to standard error."""
        self._behaviour = behaviour
        self._states: dict[Reference, PilotState] = {}

    def __repr__(self) -> str:
        counts = ", ".join(f"{len(self.having(status))} {status.value}" for status in OPEN)
        return f"<FakeCE: {counts}>"

    def submit(self, pilots: Sequence[PilotDescription]) -> list[Reference]:
        """All of them wait, or none was taken."""
        self._check()
        if self.refused_because is not None:
            raise SubmissionRefused(repr(self), self.refused_because)
        for file in [file for pilot in pilots for file in (pilot.bundle, *pilot.files)]:
            if not file.exists():
                raise SubmissionRefused(repr(self), f"there is no file {file}")
        references = []
        for pilot in pilots:
            reference = Reference(f"fake:{len(self.pilots) + 1}")
            self.pilots[reference] = pilot
            self._states[reference] = PilotState(PilotStatus.WAITING)
            references.append(reference)
        if self.breaks_off_because is not None:
            reason, self.breaks_off_because = self.breaks_off_because, None
            raise ComputingElementUnavailable(repr(self), reason)
        return references

    def find(self, stamps: Sequence[str]) -> dict[str, Reference]:
        """Those that were submitted and are not forgotten."""
        self._check()
        known = {self.pilots[name].stamp: name for name in self._states}
        return {stamp: known[stamp] for stamp in stamps if stamp in known}

    def statuses(self, references: Sequence[Reference]) -> dict[Reference, PilotState]:
        """What the last ``step`` or ``report`` left."""
        self._check()
        return {name: self._states[name] for name in references if name in self._states}

    def remove(self, references: Sequence[Reference]) -> None:
        """At once."""
        self._check()
        for name, state in self.statuses(references).items():
            if state.status in OPEN:
                self.report(name, PilotStatus.DELETED, "taken back")

    def last_words(self, reference: Reference) -> str:
        """What ``words`` has."""
        self._check()
        return self.words.get(reference, "")

    def report(self, reference: Reference, status: PilotStatus, reason: str = "") -> None:
        """Say this about a pilot from now on."""
        self._states[reference] = PilotState(status, reason)

    def forget(self, reference: Reference) -> None:
        """Say nothing about a pilot from now on."""
        del self._states[reference]

    def step(self) -> None:
        """Running pilots may end, then waiting ones take the free slots."""
        for name in self.having(PilotStatus.RUNNING):
            ended = self._behaviour(self.pilots[name])
            if ended is not None:
                self._states[name] = ended
        free = self.slots - len(self.having(PilotStatus.RUNNING))
        for name in self.having(PilotStatus.WAITING)[: max(free, 0)]:
            self.report(name, PilotStatus.RUNNING)

    def having(self, status: PilotStatus) -> list[Reference]:
        """The pilots that have this status, in the order of their submission."""
        return [name for name, state in self._states.items() if state.status is status]

    def _check(self) -> None:
        if self.unavailable_because is not None:
            raise ComputingElementUnavailable(repr(self), self.unavailable_because)
