"""Requirements of works against hosts: the matcher is asked in a thread, and the core told."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from condor.matcher import Matcher, MatcherUnavailable
from condor.matcher import RequirementRefused as MatcherRefused
from desktopgrid.model.errors import RequirementRefused, Unavailable
from desktopgrid.model.objects import attributes_of
from desktopgrid.server.core import Core
from desktopgrid.server.listeners.clock import utc_now
from desktopgrid.server.state import Grid, Outcome
from desktopgrid.server.tasks import offer

if TYPE_CHECKING:
    from desktopgrid.server.listeners.service import Service

logger = logging.getLogger(__name__)

HOSTS_A_JUDGEMENT = 1000


class Judge:
    """Judges what stands in the way of matches, a requirement at a time."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._thread = ThreadPoolExecutor(1, "matcher")
        self._matcher = Matcher()
        self._is_judging = False

    async def check(self, text: str) -> None:
        """Raises RequirementRefused where ``text`` is no requirement that can be judged."""
        await self._service.in_thread(self._thread, self._check, text)

    def _check(self, text: str) -> None:
        try:
            self._matcher.check(text)
        except MatcherRefused as error:
            raise RequirementRefused(str(error)) from error
        except MatcherUnavailable as error:
            raise Unavailable(f"requirements cannot be judged now: {error}") from error

    def judge_soon(self, core: Core) -> None:
        """Judge what is not judged yet, beside everything else."""
        if not self._is_judging and core.grid.scheduler.unjudged:
            self._is_judging = True
            self._service.spawn(self._judge(core))

    async def _judge(self, core: Core) -> None:
        """Ask the matcher what stands in the way of matches."""
        try:
            while core.grid.scheduler.unjudged and self._service.is_present(core):
                pairs = list(core.grid.scheduler.unjudged)
                text = pairs[0][0]
                uids = [uid for expression, uid in pairs if expression == text]
                uids = uids[:HOSTS_A_JUDGEMENT]
                ads = [attributes_of(core.grid.known_hosts[uid]) for uid in uids]
                verdicts = await self._service.in_thread(self._thread, self._verdicts, text, ads)
                judged = {(text, uid): ok for uid, ok in zip(uids, verdicts, strict=True)}
                core.change(partial(_judged, judged))
        finally:
            self._is_judging = False

    def _verdicts(self, text: str, ads: list[dict[str, Any]]) -> list[bool]:
        try:
            return self._matcher.matches(text, ads)
        except MatcherRefused as error:
            logger.warning("Requirements %r match no host: %s", text[:200], error)
            return [False] * len(ads)

    def close(self) -> None:
        """End the matcher."""
        self._thread.shutdown(wait=False)
        self._matcher.close()


def _judged(judged: dict[tuple[str, str], bool], grid: Grid, out: Outcome) -> None:
    grid.scheduler.judge(judged)
    offer(grid, utc_now(), out)
