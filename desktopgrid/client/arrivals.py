"""Results on their way to one who waits for them: from the link's thread to another."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator

from desktopgrid.client.session import GridSession
from desktopgrid.model.errors import GridError
from desktopgrid.model.objects import Result

LOOK_SECONDS = 1.0
"""After so long without a result one looks whether there is still a session that could tell."""
QUIET_SECONDS = 10.0
"""After so long without any result one who waits is told why."""


class Arrivals:
    """What ended, in the order of its coming; ``tell`` is what a watch wants."""

    def __init__(self, session: GridSession) -> None:
        self._session = session
        self._queue: queue.SimpleQueue[Result | GridError] = queue.SimpleQueue()

    def tell(self, result: Result) -> None:
        """A result has come."""
        self._queue.put(result)

    def fail(self, error: GridError) -> None:
        """None will come, for this reason; who waits is told by its being raised."""
        self._queue.put(error)

    def take(
        self,
        total: int,
        timeout: float | None = None,
        on_quiet: Callable[[], None] | None = None,
    ) -> Iterator[Result]:
        """``total`` results as they come; raises TimeoutError, or what ended the session.
        ``on_quiet`` is called once if not even one has come after QUIET_SECONDS.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        for missing in range(total, 0, -1):
            yield self._next(deadline, missing, on_quiet)
            on_quiet = None

    def _next(
        self, deadline: float | None, missing: int, on_quiet: Callable[[], None] | None
    ) -> Result:
        quiet_at = time.monotonic() + QUIET_SECONDS
        while True:
            left = LOOK_SECONDS if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                arrival = self._queue.get(timeout=min(left, LOOK_SECONDS))
            except queue.Empty:
                self._session.check()
                if on_quiet is not None and time.monotonic() >= quiet_at:
                    on_quiet()
                    on_quiet = None
                if deadline is not None and time.monotonic() >= deadline:
                    works = "1 work has" if missing == 1 else f"{missing} works have"
                    raise TimeoutError(f"{works} not ended in time") from None
            else:
                if isinstance(arrival, GridError):
                    raise arrival
                return arrival
