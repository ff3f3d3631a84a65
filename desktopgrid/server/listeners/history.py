"""A duty of the server: works that were removed long ago leave the database, some at a time."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

from desktopgrid.model.errors import GridError
from desktopgrid.server import changes as c
from desktopgrid.server.database import engine as database
from desktopgrid.server.database import reading
from desktopgrid.server.listeners.clock import utc_now
from desktopgrid.server.listeners.service import Service
from desktopgrid.server.state import Grid, Outcome

logger = logging.getLogger(__name__)

PERIOD = 3_600.0
"""Seconds between two looks at what there is to forget."""
MOST = 500
"""Works that leave in one transaction, so that nobody waits for it."""
PAUSE = 0.2
"""Seconds that others have the database in between."""


async def forget_history(service: Service, kept: timedelta, period: float = PERIOD) -> None:
    """Let go of what was removed longer ago than ``kept``, now and then; nothing if that is 0."""
    while kept:
        forgotten = 0
        try:
            while some := await _forget_some(service, kept):
                forgotten += some
                await asyncio.sleep(PAUSE)
        except GridError as error:
            logger.warning("Could not forget what was removed: %s", error)
        if forgotten:
            logger.info("Forgot %d works that were removed more than %s ago", forgotten, kept)
        await asyncio.sleep(period)


async def _forget_some(service: Service, kept: timedelta) -> int:
    before = (utc_now() - kept).timestamp()

    def read() -> list[tuple[str, str]]:
        with service.engine.connect() as connection, database.transaction(connection):
            return reading.removed_works(connection, before, MOST)

    works = await service.in_thread(service.files, read)
    if works:
        service.core.change(lambda grid, out: _forget(works, grid, out))
        await service.until_durable()
    return len(works)


def _forget(works: list[tuple[str, str]], grid: Grid, out: Outcome) -> None:
    out.changes += [c.TasksForgotten(work) for work, _ in works]
    out.changes += [c.WorkForgotten(work) for work, _ in works]
    # What is open in memory may get more works at any time.
    submissions = {submission for _, submission in works} - grid.batches.keys()
    out.changes += [c.SubmissionForgotten(submission) for submission in sorted(submissions)]
