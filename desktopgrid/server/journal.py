"""Group commit: one writer thread makes durable, in one transaction, whatever has been put while it
wrote the last one.

Positions count what was put. Who put something is told nothing by itself: ``on_durable`` names the
position up to which everything is on disk. A commit that fails ends the journal: the server must
forget what it believed and load the database again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from desktopgrid.server.changes import Change

logger = logging.getLogger(__name__)

WINDOW = 0.05
"""Seconds over which it is counted how often something is put."""
BUSY = 50
"""Puts in a window from which on commits are paced: 1,000 a second. One user who waits for one work
after the other stays below.
"""
PACE = 0.012
"""Seconds between the starts of two commits while the journal is busy. A commit costs the processor
0.3 ms whatever is in it; without a pace a server whose disk is quick would spend itself on commits
of a work or two.
"""

Write = Callable[[Sequence[Change]], None]
"""Makes changes durable in one transaction, or raises and has made none of them."""


class Journal:
    """The changes that wait for the disk, and the thread that takes them there.

    ``on_durable``, ``on_failure`` and, last of all, ``on_end`` are called in the writer's thread.
    """

    def __init__(
        self,
        write: Write,
        on_durable: Callable[[int], None],
        on_failure: Callable[[Exception], None],
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        self._write, self._on_durable, self._on_failure = write, on_durable, on_failure
        self._on_end = on_end
        self._lock = threading.Lock()
        self._news = threading.Condition(self._lock)
        self._waiting: list[Change] = []
        self._window_ends_at, self._put_in_window, self._is_busy = 0.0, 0, False
        self._is_closing = False
        self.position = 0
        """The position after what was put last."""
        self.written = 0
        """The position up to which everything is on disk."""
        self.durable = 0
        """What the thread that is told knows of that."""
        self._writing_since: float | None = None
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    @property
    def backlog(self) -> int:
        """How many changes wait."""
        return len(self._waiting)

    @property
    def writing_for(self) -> float:
        """Seconds that the commit under way has taken so far; 0 if there is none."""
        since = self._writing_since
        return 0.0 if since is None else time.monotonic() - since

    def put(self, changes: Sequence[Change]) -> int:
        """Make ``changes`` durable soon, after what was put before; gives the position that says
        so.
        """
        with self._news:
            self.position += 1
            self._waiting.extend(changes)
            self._count(time.monotonic())
            self._news.notify()
            return self.position

    def _count(self, now: float) -> None:
        self._put_in_window += 1
        if now >= self._window_ends_at:
            is_next = now < self._window_ends_at + WINDOW
            self._is_busy = is_next and self._put_in_window >= BUSY
            self._window_ends_at, self._put_in_window = now + WINDOW, 0

    def close(self, timeout: float = 30.0) -> bool:
        """Write what waits and end; False if that took too long."""
        with self._news:
            self._is_closing = True
            self._news.notify()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._write_batches()
        finally:
            self._on_end()

    def _write_batches(self) -> None:
        started_at = 0.0
        while True:
            with self._news:
                while not self._waiting and not self._is_closing:
                    self._news.wait()
            pause = started_at + PACE - time.monotonic()
            if self._is_busy and pause > 0 and not self._is_closing:
                time.sleep(pause)
            started_at = time.monotonic()
            with self._news:
                batch, self._waiting = self._waiting, []
                position = self.position
            if not batch:
                return
            self._writing_since = started_at
            try:
                self._write(batch)
            # Whatever goes wrong here, the database does not have what memory believes: the top of
            # a daemon's loop.
            except Exception as error:
                logger.error("A commit of %d changes failed: %s", len(batch), error)
                self._on_failure(error)
                return
            self._writing_since = None
            self.written = position
            self._on_durable(position)
