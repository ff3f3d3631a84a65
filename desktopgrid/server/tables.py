"""Bringing a grid's database to a revision of its tables, at the server's machine while no server
runs.
"""

from __future__ import annotations

from typing import NamedTuple

from desktopgrid.model.errors import Unavailable
from desktopgrid.server.database import engine as database
from desktopgrid.server.database import upgrading
from desktopgrid.server.home import Home
from desktopgrid.server.lock import DirectoryLock


class Plan(NamedTuple):
    """From which revision to which."""

    now: str | None
    target: str
    is_down: bool


def plan(home: Home, target: str = "") -> Plan:
    """What it takes to bring the database to ``target``, the newest unless given.

    Raises Unavailable while a server runs, and UnknownObject where there is no such revision.
    """
    if DirectoryLock.is_held(home.directory):
        raise Unavailable(f"the grid in {home.directory} is being served; `xwserver stop` first")
    target = target or upgrading.newest()
    known = upgrading.check_known(target)
    engine = database.open(home)
    try:
        now = upgrading.revision(engine)
    finally:
        engine.dispose()
    is_down = now is not None and now in known and known.index(target) < known.index(now)
    return Plan(now, target, is_down)


def bring(home: Home, target: str) -> None:
    """Bring the database to the revision ``target``; raises Unavailable if it cannot be."""
    engine = database.open(home)
    try:
        upgrading.migrate(engine, target)
    finally:
        engine.dispose()
