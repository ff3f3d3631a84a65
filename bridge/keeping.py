"""What is to be done at a grid about jobs that came from a place, beside carrying them: works whose
job is gone are taken back, and those that have been delivered are removed after a while.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from bridge.members import Members, group_of
from desktopgrid.client.grid import Grid
from desktopgrid.model.lifecycle import FINAL_WORKS, WorkStatus
from desktopgrid.model.objects import UID

logger = logging.getLogger(__name__)

ON_THE_WAY = "inbound"
"""The type of a data that a work of a job's needs; the work's name follows."""
OPEN = tuple(status.value for status in WorkStatus if status not in FINAL_WORKS)
FINAL = tuple(status.value for status in FINAL_WORKS)


class Keeper:
    """Keeps the works that came to one grid; ``run_once`` is its duty."""

    def __init__(self, members: Members, keep: timedelta, orphan_after: timedelta) -> None:
        self._members = members
        self._keep, self._orphan_after = keep, orphan_after
        self._alone_since: dict[UID, datetime] = {}

    def __repr__(self) -> str:
        return f"<Keeper of works, {len(self._alone_since)} without a job>"

    def run_once(self, place: str, attended: Collection[UID], now: datetime) -> int:
        """Look after all members' works from ``place``; ``attended`` are those whose jobs are at
        the counter. How many are open. Raises what keeps it from asking.
        """
        seen: set[UID] = set()
        for path in self._members.all():
            grid = self._members.grid(path)
            group = group_of(grid, place)
            if group is not None:
                seen |= self._look_after(grid, group, attended, now)
        self._alone_since = {uid: at for uid, at in self._alone_since.items() if uid in seen}
        return len(seen)

    def _look_after(
        self, grid: Grid, group: UID, attended: Collection[UID], now: datetime
    ) -> set[UID]:
        login = grid.session.welcome.user
        found = {
            str(row["uid"])
            for status in OPEN
            for row in grid.objects("works", group=group, status=status, owner=login)
        }
        orphans = []
        for uid in found:
            if uid in attended:
                self._alone_since.pop(uid, None)
            elif now >= self._alone_since.setdefault(uid, now) + self._orphan_after:
                orphans.append(uid)
        if orphans:
            grid.cancel(orphans)
            logger.warning("Took back works without a job: %s", ", ".join(orphans))
        self._remove_old(grid, group, login, now)
        return found - set(orphans)

    def _remove_old(self, grid: Grid, group: UID, login: str, now: datetime) -> None:
        rows = [
            row
            for status in FINAL
            for row in grid.objects("works", group=group, status=status, owner=login)
        ]
        old = [str(row["uid"]) for row in rows if self._is_old(row, now)]
        for uid in old:
            sent = [str(row["uid"]) for row in grid.objects("datas", type=f"{ON_THE_WAY} {uid}")]
            # The work last: by it what else there is to be removed is found.
            if sent:
                grid.remove(sent)
            grid.remove([uid])
        if old:
            logger.info("Removed %d works that were delivered", len(old))

    def _is_old(self, row: dict[str, Any], now: datetime) -> bool:
        return datetime.fromisoformat(str(row["ended_at"])) + self._keep <= now
