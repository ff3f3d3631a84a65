"""Who we are at a grid: a session for each user whose jobs are his works there, and his groups."""

from __future__ import annotations

import re
import threading
from pathlib import Path

from desktopgrid.client.grid import Grid
from desktopgrid.client.profile import load
from desktopgrid.model.errors import AccessDenied, GridError
from desktopgrid.model.objects import UID

PATIENCE = 30.0


class Members:
    """The sessions with a grid, one for each user who has an identity here."""

    def __init__(self, identity: Path | None, identities: Path | None) -> None:
        self._identity, self._identities = identity, identities
        self._lock = threading.Lock()
        self._grids: dict[Path, Grid] = {}

    def identity_of(self, user: str) -> Path:
        """The file by which jobs of ``user`` are submitted; raises AccessDenied."""
        if self._identities is not None:
            for name in (user, user.partition("@")[0]):
                path = self._identities / f"{plain(name)}.json"
                if path.is_file():
                    return path
        if self._identity is None:
            raise AccessDenied(
                f"{user} has no identity of the grid: {self._identities} has no {user}.json"
            )
        return self._identity

    def all(self) -> list[Path]:
        """The identity files that there are."""
        own = [self._identity] if self._identity is not None else []
        return own + sorted(self._identities.glob("*.json") if self._identities else ())

    def grid(self, path: Path) -> Grid:
        """An open session of the identity in ``path``; raises Unavailable, NotAuthenticated."""
        with self._lock:
            known = self._grids.get(path)
            if known is not None:
                try:
                    known.session.check()
                    return known
                except GridError:
                    del self._grids[path]
                    known.close()
            opened = self._grids[path] = Grid.open(load(path), PATIENCE)
            return opened

    def close(self) -> None:
        """End the sessions."""
        with self._lock:
            for grid in self._grids.values():
                grid.close()
            self._grids.clear()


def group_name(place: str) -> str:
    """What the group of works that came from ``place`` is called."""
    return f"from {place}"


def group_of(grid: Grid, place: str) -> UID | None:
    """Our group of works that came from ``place``, if there is one."""
    login = grid.session.welcome.user
    rows = grid.objects("groups", name=group_name(place), owner=login)
    return min((str(row["uid"]) for row in rows), default=None)


def plain(text: str) -> str:
    """``text`` as it can stand in a file's name, and in quotes."""
    return re.sub(r"[^\w.@+-]", "_", text)
