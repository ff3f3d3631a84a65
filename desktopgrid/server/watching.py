"""What the server tells of itself to those who watch the grid: counts, and lines for the logs.

Nothing here decides anything, and nothing here waits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from desktopgrid.model.errors import (
    AccessDenied,
    AlreadyThere,
    BadRequest,
    GridError,
    LimitExceeded,
    NoRoom,
    NotAuthenticated,
    Unavailable,
    UnknownObject,
)
from desktopgrid.server import access
from desktopgrid.server.logs import LineFile
from desktopgrid.wire import messages as m

if TYPE_CHECKING:
    from desktopgrid.server.core import Peer
    from desktopgrid.server.state import Grid

STATUSES: tuple[tuple[type[GridError], int], ...] = (
    (NotAuthenticated, 401),
    (AccessDenied, 403),
    (UnknownObject, 404),
    (AlreadyThere, 409),
    (LimitExceeded, 413),
    (BadRequest, 400),
    (NoRoom, 507),
    (Unavailable, 503),
)
"""The HTTP status of each error, the first that fits."""
STATUS_OF_CODE = {kind.code: status for kind, status in STATUSES}
DONE = "done"


def status_of(error: GridError) -> int:
    """The HTTP status that says ``error``."""
    return next((status for kind, status in STATUSES if isinstance(error, kind)), 500)


class Watcher:
    """Is told what the server did."""

    def __init__(self, clock: Callable[[], datetime], requests_log: LineFile | None = None) -> None:
        self._clock, self._access = clock, requests_log
        self.requests: Counter[tuple[str, str]] = Counter()
        """Requests of clients, by verb and outcome: `done`, or the code of the error."""
        self.served: Counter[tuple[str, int]] = Counter()
        """HTTP requests, by method and status."""
        self.received = self.sent = 0
        """Bytes of frames."""
        self.taken = self.given = 0
        """Bytes of contents and answers."""

    def answered(self, grid: Grid, peer: Peer, asked: m.Message, said: m.Message) -> None:
        """A request of a client was answered by ``said``, and what it changed is on disk."""
        code = said.code if isinstance(said, m.Failure) else DONE
        self.requests[asked.verb, code] += 1
        if self._access is not None:
            status = 200 if code == DONE else STATUS_OF_CODE.get(code, 400)
            path = f"/v1/link/{asked.verb}"
            login = grid.users[peer.who.user].login
            self._access.put(
                access.Line(self._clock(), peer.address, login, "POST", path, "1.1", status)
            )

    def has_served(self, line: access.Line) -> None:
        """An HTTP request was answered."""
        self.served[line.method, line.status] += 1
        self.given += line.bytes or 0
        if self._access is not None:
            self._access.put(line)

    def close(self) -> None:
        """Write what waits to be written."""
        if self._access is not None:
            self._access.close()
