"""A client's grid whose server decides in memory, for tests of who provisions."""

from __future__ import annotations

from typing import Any, cast

from desktopgrid.client.grid import Grid
from desktopgrid.client.session import GridSession
from desktopgrid.link.identity import Identity
from desktopgrid.model.errors import Unavailable
from desktopgrid.model.objects import Site
from desktopgrid.model.rights import EVERYTHING, UserLevel
from desktopgrid.wire import messages as m
from tests.builders import GridUnderTest, a_user

SITE = Site("lal", "fake", max_pilots=4, max_idle=3, max_an_hour=9)


class AskedGrid:
    """A server with the site `lal`, and ada who may provision."""

    def __init__(self) -> None:
        self.server = GridUnderTest(sites={"lal": SITE, "cern": Site("cern", "fake")})
        self.server.add_user(a_user("ada", level=UserLevel.ADVANCED))
        self.identity = Identity(("https://grid:1",), "client", "token", "secret", "the CA")
        self.fails_at: type[m.Request] | None = None
        """Set it, and no request of that kind is answered."""
        self.scope = EVERYTHING
        """What ada's token is good for."""

    @property
    def welcome(self) -> m.Welcome:
        """What the server said first."""
        return m.Welcome(False, 0, 60.0, "ticket", "ada", 0)

    @property
    def client(self) -> Grid:
        """The grid as ada sees it."""
        return Grid(cast(GridSession, self))

    def ask(self, request: m.Request) -> dict[str, Any]:
        """What a session does."""
        if self.fails_at is not None and isinstance(request, self.fails_at):
            raise Unavailable("the server has not answered for 60 s")
        answer: dict[str, Any] = self.server.ask(request, "ada", scope=self.scope)
        return answer

    def status(self, stamp: str) -> str:
        """A pilot's status on record."""
        return self.server.grid.pilots[stamp].status.value
