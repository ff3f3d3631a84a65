"""What the server tells of itself to those who watch the grid: counts, and lines for the logs.

Nothing here decides anything, and nothing here waits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from prometheus_client import Histogram

from desktopgrid.server import access, audit
from desktopgrid.server.logs import LineFile
from desktopgrid.server.requests import PASSING, READING
from desktopgrid.server.statuses import STATUS_OF_CODE
from desktopgrid.wire import messages as m

if TYPE_CHECKING:
    from desktopgrid.server.core import Peer
    from desktopgrid.server.state import Grid

DONE = "done"
COMMIT_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Watcher:
    """Is told what the server did."""

    def __init__(
        self,
        clock: Callable[[], datetime],
        access_log: LineFile | None = None,
        audit_log: LineFile | None = None,
    ) -> None:
        self._clock, self._access, self._audit = clock, access_log, audit_log
        self.requests: Counter[tuple[str, ...]] = Counter()
        """Requests of clients, by verb and outcome: `done`, or the code of the error."""
        self.served: Counter[tuple[str, int]] = Counter()
        """HTTP requests, by method and status."""
        self.received = self.sent = 0
        """Bytes of frames."""
        self.taken = self.given = 0
        """Bytes of contents and answers."""
        self.commits = Histogram(
            "glidebridge_journal_commit_seconds",
            "How long commits of the journal took.",
            registry=None,
            buckets=COMMIT_SECONDS,
        )
        self.changes = 0
        """Changes that are on disk."""

    def answered(self, grid: Grid, peer: Peer, asked: m.Message, said: m.Message) -> None:
        """A request of a session was answered by ``said``, and what it changed is on disk."""
        code = said.code if isinstance(said, m.Failure) else ""
        by = audit.actor(grid, peer.who, peer.credential, peer.address, peer.session)
        if self._access is not None:
            status = STATUS_OF_CODE.get(code, 400) if code else 200
            path = f"/v1/link/{asked.verb}"
            self._access.put(
                access.Line(self._clock(), by.address, by.user, "POST", path, "1.1", status)
            )
        self.requested(by, asked, said.body if isinstance(said, m.Reply) else {}, code)

    def requested(
        self, by: audit.Actor, asked: m.Message, body: Mapping[str, Any], code: str = ""
    ) -> None:
        """A request was answered by ``body``, or refused for ``code``, and what it changed is on
        disk.
        """
        self.requests[asked.verb, code or DONE] += 1
        if self._audit is not None and type(asked) not in READING | PASSING:
            self._audit.put(audit.of_request(by, asked, body, code, self._clock()))

    def assigned(self, grid: Grid, peer: Peer, task: m.Assign) -> None:
        """The host of ``peer`` was given ``task``, and that is on disk."""
        if self._audit is not None:
            self._audit.put(audit.of_task(grid, peer, task, self._clock()))

    def logged_in(self, login: str, address: str, token: str = "", code: str = "") -> None:
        """Somebody logged in and has ``token``, or did not, for the reason ``code``."""
        self.requests["login", code or DONE] += 1
        if self._audit is not None:
            self._audit.put(audit.of_login(login, address, token, code, self._clock()))

    def changed_password(self, login: str, address: str, uid: str) -> None:
        """A user has another password, and that is on disk."""
        self.requests["passwd", DONE] += 1
        if self._audit is not None:
            self._audit.put(audit.of_password(login, address, uid, self._clock()))

    def uploaded(self, grid: Grid, peer: Peer, data: str) -> None:
        """The content of ``data`` is whole, and that is on disk."""
        if self._audit is not None:
            by = audit.actor(grid, peer.who, peer.credential, peer.address, peer.session)
            self._audit.put(audit.of_upload(by, data, self._clock()))

    def committed(self, seconds: float, changes: int) -> None:
        """So many changes are on disk. Called in the journal's thread."""
        self.commits.observe(seconds)
        self.changes += changes

    def has_served(self, line: access.Line) -> None:
        """An HTTP request was answered."""
        self.served[line.method, line.status] += 1
        self.given += line.bytes or 0
        if self._access is not None:
            self._access.put(line)

    def close(self) -> None:
        """Write what waits to be written."""
        for log in self.logs:
            log.close()

    @property
    def logs(self) -> list[LineFile]:
        """The logs that are written."""
        return [log for log in (self._access, self._audit) if log is not None]
