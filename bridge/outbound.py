"""A route by which demand goes out: works that wait on a grid become pilots at a site.

What is sent, and when it is taken back, is the factory's to decide; this embeds it, beside the
other routes and under the same breaker.
"""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from typing import Any

from bridge.config import BridgeConfig, PilotsRoute
from bridge.home import Home
from bridge.members import Members
from desktopgrid.model.errors import BadRequest
from pilot.factory.daemon import Factory, only_one
from pilot.factory.sites import Sites

logger = logging.getLogger(__name__)

EVERY = 15.0
"""Seconds between two rounds."""


class OutRoute:
    """Pilots of one grid at the sites of the bridge."""

    def __init__(self, route: PilotsRoute, config: BridgeConfig, home: Home) -> None:
        self.route = route
        grid = config.grids[route.from_]
        if grid.identity is None:
            raise BadRequest(f"[grid {route.from_}] needs an identity, by which pilots are sent")
        self._identity = grid.identity
        self._members = Members(grid.identity, None)
        sites = Sites.read(config.bridge.sites)
        self._sites = Sites({route.to: sites[route.to]}, home.of_route(route.name), route.to)
        self._factory: Factory | None = None
        self._right = ExitStack()
        self._said: tuple[str, ...] = ()
        self._again_at = 0.0
        home.of_route(route.name).mkdir(parents=True, exist_ok=True)
        self._directory = home.of_route(route.name)

    def __repr__(self) -> str:
        return f"<OutRoute {self.route.name} to {self.route.to}>"

    def open(self) -> None:
        """Nobody comes to it."""

    def run_once(self) -> None:
        """One round of the factory, if it is time; raises what keeps it from one."""
        if time.monotonic() < self._again_at:
            return
        grid = self._members.grid(self._identity)
        if self._factory is None or self._factory.grid is not grid:
            self._right.close()
            self._right.enter_context(only_one(self._directory, grid.session.welcome.user))
            self._factory = Factory(grid, self._sites)
        done = self._factory.run_once().done
        self._again_at = time.monotonic() + EVERY
        for sentence in done:
            logger.info("Route %s: %s", self.route.name, sentence)
        self._said = done or self._said

    def close(self, *, keeps_jobs: bool) -> None:
        """End it. Pilots go on, and end by themselves when there is nothing for them to do."""
        self._right.close()
        self._members.close()

    def facts(self) -> dict[str, Any]:
        """How it does, for those who ask."""
        return {"last": " ".join(self._said), "trouble": ""}
