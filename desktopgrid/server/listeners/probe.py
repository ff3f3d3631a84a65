"""Whether the database answers: however many want to know how the server does, it is asked now and
then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from desktopgrid.model.errors import GridError, Unavailable

PAUSE, PATIENCE = 1.0, 3.0
"""Seconds between two questions, and for how long to wait for an answer."""


class Probe:
    """What asks the database, by ``ask``, a question that it answers if it answers any."""

    def __init__(self, ask: Callable[[], Awaitable[None]]) -> None:
        self._ask = ask
        self._asking: asyncio.Task[str] | None = None
        self._asked_at = 0.0

    async def check(self) -> None:
        """Raises Unavailable, with the reason, where the database does not answer."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._asking is None or now >= self._asked_at + PAUSE:
            self._asked_at = now
            self._asking = loop.create_task(self._complaint())
        try:
            complaint = await asyncio.wait_for(asyncio.shield(self._asking), PATIENCE)
        except TimeoutError:
            complaint = "the database does not answer"
        if complaint:
            raise Unavailable(complaint)

    async def _complaint(self) -> str:
        """What the database says instead of an answer."""
        try:
            await self._ask()
        except GridError as error:
            return str(error)
        return ""
