"""Objects with a dull default for every field, so that a test names only what it is about."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from desktopgrid.model.objects import (
    ANY_PLATFORM,
    Application,
    Credential,
    Data,
    Facts,
    Site,
    Submitted,
    User,
)
from desktopgrid.model.rights import EVERYTHING, PUBLIC, Scope, UserLevel, Who
from desktopgrid.server import dispatcher, hosts, requests
from desktopgrid.server.proved import Shown
from desktopgrid.server.scheduler import HostState
from desktopgrid.server.state import Grid, Outcome, Policy
from desktopgrid.wire import messages as m

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
_numbers = itertools.count(1)


def hours(count: float) -> timedelta:
    """So many hours."""
    return timedelta(hours=count)


def seconds(count: float) -> timedelta:
    """So many seconds."""
    return timedelta(seconds=count)


def a_user(login: str = "alice", **fields: Any) -> User:
    """A standard user whose UID is her login."""
    return User(**{"uid": login, "login": login, "level": UserLevel.STANDARD, **fields})


def who(user: User) -> Who:
    """``user`` as far as rights go."""
    return Who(user.uid, user.level, user.group)


def a_data(uid: str = "program", **fields: Any) -> Data:
    """A public data that has arrived."""
    default: dict[str, Any] = {
        "name": uid,
        "owner": "admin",
        "rights": PUBLIC,
        "sha256": "0" * 64,
        "size": 10,
        "is_available": True,
    }
    return Data(uid, **{**default, **fields})


def an_application(uid: str = "app", **fields: Any) -> Application:
    """A public application that runs everywhere."""
    default: dict[str, Any] = {
        "name": uid,
        "owner": "admin",
        "rights": PUBLIC,
        "executables": {ANY_PLATFORM: "program"},
    }
    return Application(uid, **{**default, **fields})


def facts(name: str = "desk1", **fields: Any) -> Facts:
    """A host with two cores."""
    default: dict[str, Any] = {
        "cpu": "x86_64",
        "os": "linux",
        "cores": 2,
        "memory_mib": 4096,
        "disk_mib": 10_000,
    }
    return Facts(name, **{**default, **fields})


class GridUnderTest:
    """A grid with an administrator, a public worker identity, alice and one public application;
    time is told to it.
    """

    def __init__(self, policy: Policy | None = None, sites: dict[str, Site] | None = None) -> None:
        self.now = NOON
        self.grid = Grid(policy or Policy(), 1, sites or {})
        for user in (
            a_user("admin", level=UserLevel.SUPER),
            a_user("worker", level=UserLevel.WORKER),
            a_user("alice"),
        ):
            self.add_user(user)
        self.grid.put_data(a_data())
        self.grid.put_application(an_application())
        self.out = Outcome()
        self.ended: dict[str, str] = {}
        """Works that are over, with their owners, as the database would tell."""
        self.submitted: Submitted | None = None
        """The same of a submission."""
        self.shown: Shown | None = None
        """What the chain shows that somebody delegates."""

    def add_user(self, user: User) -> User:
        """``user`` is there."""
        self.grid.put_user(user)
        self.grid.credentials[f"token-{user.uid}"] = Credential(
            f"token-{user.uid}", user.uid, "token", "0" * 64, NOON
        )
        return user

    def after(self, span: timedelta) -> None:
        """Time goes by."""
        self.now += span

    def ask(
        self,
        request: m.Request,
        login: str = "alice",
        session: str = "s-alice",
        scope: Scope = EVERYTHING,
    ) -> Any:
        """What ``login`` is answered; raises the error it gets."""
        self.out = Outcome(ended=self.ended, submitted=self.submitted, shown=self.shown)
        asker = replace(who(self.grid.users[login]), scope=scope)
        return requests.answer(self.grid, asker, session, request, self.now, self.out)

    def submit(self, count: int = 1, login: str = "alice", **description: Any) -> list[str]:
        """Submit works, and give their names."""
        uid = f"sweep{next(_numbers)}"
        asked = m.Submit(uid, {"application": "app", **description}, ((),) * count)
        self.ask(asked, login)
        return [f"{uid}-{n}" for n in range(count)]

    def arrives(
        self, uid: str = "desk1", login: str = "worker", lifetime: int | None = None, **fields: Any
    ) -> HostState:
        """A worker says hello for a host."""
        self.out = Outcome()
        known = facts(uid, **fields)
        hello = m.Hello(
            1,
            "worker",
            f"token-{login}",
            "",
            f"session{uid}",
            host=uid,
            facts={**known.__dict__},
            lifetime=lifetime,
        )
        user = self.grid.users[login]
        return hosts.host_arrived(self.grid, who(user), hello, False, self.now, self.out)

    def says(self, state: HostState, message: m.Message) -> None:
        """The worker of a host says something."""
        self.out = Outcome()
        dispatcher.WORKER_SAYS[type(message)](self.grid, state, message, self.now, self.out)

    def finishes(self, state: HostState, work: str | None = None, **fields: Any) -> None:
        """The worker of a host is through with the task of a work, or with its first."""
        tasks = list(state.tasks.values())
        task = next(t for t in tasks if work is None or t.work == work)
        self.says(
            state,
            m.Finished(
                task.uid, task.epoch, **{"exit_code": 0, "usage": (60.0, 0.0, 0.0, 0), **fields}
            ),
        )

    def status(self, work: str) -> str:
        """What an open work is waiting for; "gone" if it is final."""
        found = self.grid.works.get(work)
        return found.status.value if found is not None else "gone"

    def changes(self, kind: type[Any]) -> list[Any]:
        """What the last decision writes, of one kind."""
        return [change for change in self.out.changes if isinstance(change, kind)]

    def pushes(self, kind: type[Any]) -> list[Any]:
        """What the last decision says to sessions, of one kind."""
        return [message for _, message in self.out.pushes if isinstance(message, kind)]


__all__ = [
    "NOON",
    "GridUnderTest",
    "a_data",
    "a_user",
    "an_application",
    "facts",
    "hours",
    "replace",
    "seconds",
    "who",
]
