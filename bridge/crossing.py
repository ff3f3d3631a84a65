"""A job on its way over: handed in, taken by a destination, followed, and its results brought back.

The bridge remembers nothing of it. What must not be forgotten stands on the two sides: the work
under its origin at the destination, the job with its carrier where it came from. So whoever serves
a job asks first what the destination has of it, and each transfer of responsibility is on record
there before the next step: killed anywhere, another bridge goes on where this one was.
"""

from __future__ import annotations

import logging
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from bridge.destination import Brought, Destination, Taken
from bridge.faults import reached
from bridge.handed import Cancelled, CarrierFailed, Gone, HandedJob, Lost
from bridge.inbound import Inbound
from desktopgrid.model.errors import (
    AccessDenied,
    BadRequest,
    GridError,
    LimitExceeded,
    Unavailable,
    UnknownObject,
)
from desktopgrid.model.objects import UID, Result
from desktopgrid.model.origins import Origin

logger = logging.getLogger(__name__)

T = TypeVar("T")

TERMINATED = 143
"""The exit code of a job that was taken back, as a shell has it of SIGTERM."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
MOST_RUNS = 1000


class Crossing:
    """One job and its destination."""

    def __init__(
        self,
        job: Inbound,
        handed: HandedJob,
        place: str,
        destination: Destination,
        directory: Path,
        on_trouble: Callable[[GridError | None], None] = lambda error: None,
        is_wanted: Callable[[Crossing, UID], bool] = lambda crossing, work: False,
        hold: Callable[[str, str], bool] = lambda job, reason: False,
    ) -> None:
        """``directory`` is where files lie on their way. ``on_trouble`` hears why the destination
        cannot be asked, and with None that it could; ``is_wanted`` says whether another carrier
        waits for the same work: that of a run that its pool gave up lives a little longer. ``hold``
        has a job held where it comes from, and says whether somebody will see to that.
        """
        self.job, self.handed, self.place = job, handed, place
        self.destination, self.directory = destination, directory
        self._on_trouble, self._is_wanted, self._hold_there = on_trouble, is_wanted, hold
        self.taken: Taken | None = None
        self.step = "handed in"

    def __repr__(self) -> str:
        return f"<Crossing of {self.job.job} from {self.place}, {self.step}>"

    def run(self) -> str:
        """Carry it over and back. What became of it: ``brought_back``, ``taken_back`` or ``held``;
        empty if its carrier is gone.
        """
        try:
            self._reach("handed in")
            return self._cross()
        except Gone:
            logger.info("The carrier of %s is away while it is %s", self.job.job, self.step)
        except Cancelled:
            return self._cancel()
        except (BadRequest, AccessDenied, CarrierFailed) as error:
            return self._refused(str(error))
        except OSError as error:
            # Our own disk, most likely. Its carrier hands it in again.
            self._on_trouble(Unavailable(f"the bridge's directory: {error}"))
            time.sleep(FIRST_PAUSE * 10)
        return ""

    def _reach(self, step: str) -> None:
        self.step = step
        reached(step)

    def _cross(self) -> str:
        self.handed.check()
        taken, result = self._taken(), None
        while result is None:
            self.taken = taken
            self._reach("submitted")
            self.handed.note("RUNNING", {"ChirpGlidebridgeWork": f'"{taken.name}"'})
            try:
                result = self._followed(taken)
            except (Lost, UnknownObject) as error:
                logger.info("Looks for %s again: %s", self.job.job, error)
                taken = self._taken()
        self._reach("ended")
        with tempfile.TemporaryDirectory(prefix="back-", dir=self.directory) as place:
            brought = self._persist(
                lambda: self.destination.bring(taken, result, _fresh(Path(place)))
            )
            self._reach("fetched")
            return self._deliver(brought)

    def _followed(self, taken: Taken) -> Result:
        self._persist(lambda: self.destination.follow(taken, self.handed))
        try:
            return self.handed.result()
        finally:
            self.destination.leave(taken, self.handed)

    def _taken(self) -> Taken:
        for _ in range(MOST_RUNS):
            found = self._persist(lambda: self.destination.find(self.job, self.place))
            self._reach("looked")
            if isinstance(found, Taken):
                logger.info("Went on with %s as work %s", self.job.job, found.name)
                return found
            taken = self._persist(lambda origin=found: self._take(origin))  # type: ignore[misc]
            if taken is not None:
                logger.info("Took %s of %s as work %s", self.job.job, self.job.user, taken.name)
                return taken
        raise BadRequest(f"job {self.job.job} was run {MOST_RUNS} times")

    def _take(self, origin: Origin) -> Taken | None:
        with tempfile.TemporaryDirectory(prefix="there-", dir=self.directory) as place:
            return self.destination.take(self.job, origin, self.handed.fetch, Path(place))

    def _deliver(self, brought: Brought) -> str:
        if brought.code is None:
            return self._hold(brought.reason or "it came to nothing")
        for name, path in brought.files.items():
            self.handed.write(name, path)
        self._reach("half delivered")
        for stream, content in (("stdout", brought.stdout), ("stderr", brought.stderr)):
            if content is not None:
                self.handed.stream(stream, content)
        self.handed.note("COMPLETED", brought.attributes)
        self._reach("delivered")
        if brought.code < 0:
            self.handed.end(signal=-brought.code)
        else:
            self.handed.end(code=brought.code)
        logger.info("Brought %s back: it ended with %d", self.job.job, brought.code)
        self._reach("told")
        if self.taken is not None:
            self.destination.delivered(self.taken)
        return "brought_back"

    def _cancel(self) -> str:
        """Nobody wants it any more: the destination is to know before its carrier goes."""
        self._reach("cancelled here")
        self.handed.take_back()
        try:
            found = self._persist(lambda: self.destination.find(self.job, self.place))
            if isinstance(found, Taken) and not self._is_wanted(self, found.name):
                self._persist(lambda: self.destination.cancel(found))
                logger.info("Took work %s of %s back", found.name, self.job.job)
            self._reach("cancelled there")
            self.handed.end(code=TERMINATED)
        except Gone:
            # Killed meanwhile: what is left there is an orphan, and found as such.
            logger.info("The carrier of %s went before it was taken back", self.job.job)
            return ""
        return "taken_back"

    def _refused(self, reason: str) -> str:
        try:
            return self._hold(reason)
        except (Gone, CarrierFailed):
            logger.info("The carrier of %s was not told that it is refused", self.job.job)
            return ""

    def _hold(self, reason: str) -> str:
        """Have it held where it comes from: somebody is to look at it."""
        logger.warning("Held %s of %s: %s", self.job.job, self.job.user, reason)
        reason = f"the desktop grid: {reason}"
        try:
            if self._hold_there(self.job.job, reason):
                self.handed.wait()
            else:
                self.handed.end(hold=reason)
        except Cancelled:
            self.handed.take_back()
            self.handed.end(code=TERMINATED)
        return "held"

    def _persist(self, ask: Callable[[], T]) -> T:
        """What ``ask`` gives once the destination can be asked; raises Gone, Cancelled meanwhile,
        and what will not get better.
        """
        failures = 0
        while True:
            try:
                found = ask()
            except LimitExceeded as error:
                trouble: GridError = error
            except (Gone, Cancelled, CarrierFailed, BadRequest, AccessDenied):
                raise
            except GridError as error:
                trouble = error
            except OSError as error:
                trouble = Unavailable(f"the bridge's directory: {error}")
            else:
                self._on_trouble(None)
                return found
            self._on_trouble(trouble)
            span = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(failures, 10))
            self.handed.pause(span * (0.5 + random.random() / 2))  # noqa: S311 - no secret
            failures += 1


def _fresh(directory: Path) -> Path:
    """A directory in ``directory`` that nothing was written to."""
    return Path(tempfile.mkdtemp(dir=directory))
