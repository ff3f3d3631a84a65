"""Somebody else's client, who must not notice anything."""

from __future__ import annotations

import itertools
from typing import Any

from desktopgrid.client.grid import Grid
from desktopgrid.client.session import GridSession
from desktopgrid.link.session import Link
from desktopgrid.model.objects import ANY_PLATFORM, Description
from desktopgrid.wire.messages import Welcome
from tests.system.processes import DEADLINE, ServerUnderTest

SQUARE = b"#!/bin/sh\necho $(($1 * $1))\n"


class Bystander:
    """A client with an application `square` on a grid that has a worker."""

    def __init__(self, server: ServerUnderTest) -> None:
        self.server = server
        self.openings = 0
        self._numbers = itertools.count(1)
        self.grid = Grid(GridSession(server.identity(), self._connect))
        self.grid.session.open()
        self.grid.send_application("square", SQUARE, ANY_PLATFORM)
        self.incarnation = self._incarnation()

    def _connect(self, *args: Any, **callbacks: Any) -> Link:
        told = callbacks.pop("on_open")

        def on_open(welcome: Welcome) -> None:
            self.openings += 1
            told(welcome)

        return Link(*args, on_open=on_open, **callbacks)

    def _incarnation(self) -> int:
        return int(self.grid.stats()["incarnation"])

    def works(self) -> None:
        """Its works are done, over its first connection, by the server that was there before."""
        number = next(self._numbers)
        result = self.grid.run(Description("square"), [str(number)], DEADLINE)
        assert result.stdout == f"{number**2}\n".encode()
        assert self.openings == 1, "the bystander's connection was cut"
        assert self._incarnation() == self.incarnation, "the server had to load its database again"
        assert "Traceback" not in self.server.log

    def close(self) -> None:
        """Take leave."""
        self.grid.close()
