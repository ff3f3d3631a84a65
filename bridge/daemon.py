"""The bridge as a process: its routes, each in a thread of its own, so that what is wrong with one
touches no other.
"""

from __future__ import annotations

import logging
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import FrameType
from typing import Any, Protocol

from bridge.breaker import Breaker
from bridge.config import (
    BatchRoute,
    BridgeConfig,
    CondorRoute,
    GridRoute,
    JobsRoute,
    PilotsRoute,
    Route,
)
from bridge.home import Home
from bridge.inroute import InRoute
from bridge.outbound import OutRoute
from condor.errors import CondorError
from desktopgrid.model.errors import GridError
from desktopgrid.model.version import VERSION

logger = logging.getLogger(__name__)

ROUND = 2.0
"""Seconds between two looks at a route that does well."""
SAID_EVERY = 5.0
LEAVE = signal.SIGUSR1
"""Ends the bridge and leaves its gateways, for one that comes at once."""


class Served(Protocol):
    """What a route of any kind can do."""

    def open(self) -> None:
        """Begin."""

    def run_once(self) -> None:
        """Do its duties; raises what keeps it from them."""

    def close(self, *, keeps_jobs: bool) -> None:
        """End."""

    def facts(self) -> dict[str, Any]:
        """How it does; ``trouble`` says what is wrong."""


OPENERS: Mapping[type[Route], Callable[[Any, BridgeConfig, Home], Served]] = {
    CondorRoute: InRoute,
    BatchRoute: InRoute,
    GridRoute: InRoute,
    JobsRoute: InRoute,
    PilotsRoute: OutRoute,
}


class Runner:
    """One route: opened, looked after again and again, later and later while it fails."""

    def __init__(self, route: Route, config: BridgeConfig, home: Home) -> None:
        self.route, self._config, self._home = route, config, home
        self.breaker = Breaker()
        self._served: Served | None = None
        self._is_over = threading.Event()
        self._has_tried = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"route {route.name}", daemon=True)

    def start(self) -> None:
        """Begin; see ``wait``."""
        self._thread.start()

    def wait(self, seconds: float) -> None:
        """Wait until it has been tried once."""
        self._has_tried.wait(seconds)

    def _run(self) -> None:
        while True:
            self._try()
            self._has_tried.set()
            pause = ROUND
            if self.breaker.again_at is not None:
                pause = (self.breaker.again_at - datetime.now(UTC)).total_seconds()
            if self._is_over.wait(max(0.0, pause)):
                return

    def _try(self) -> None:
        try:
            if self._served is None:
                served = OPENERS[type(self.route)](self.route, self._config, self._home)
                served.open()
                self._served = served
            self._served.run_once()
        except (GridError, CondorError, OSError) as error:
            reason = str(error)
            if reason != self.breaker.reason:
                logger.error("Route %s: %s", self.route.name, reason)
            chance = random.random()  # noqa: S311 - no secret
            self.breaker = self.breaker.failed(reason, datetime.now(UTC), chance)
        else:
            if self.breaker.failures:
                logger.info("Route %s does well again", self.route.name)
            self.breaker = self.breaker.worked()

    def close(self, *, keeps_jobs: bool) -> None:
        """End the route."""
        self._is_over.set()
        self._thread.join()
        if self._served is not None:
            self._served.close(keeps_jobs=keeps_jobs)

    def facts(self) -> dict[str, Any]:
        """How it does."""
        facts = self._served.facts() if self._served is not None else {}
        state = "broken" if self.breaker.is_open else "failing" if self.breaker.failures else "well"
        reason = self.breaker.reason or str(facts.pop("trouble", ""))
        return {
            "route": self.route.name,
            "kind": self.route.kind,
            "from": self.route.from_,
            "to": self.route.to,
            "state": "waiting" if state == "well" and reason else state,
            **facts,
            "trouble": reason,
            "again_at": self.breaker.again_at.isoformat() if self.breaker.again_at else "",
        }


def serve(home: Home, config: BridgeConfig, on_ready: Callable[[], None]) -> None:
    """Serve all routes until SIGTERM or SIGINT, or LEAVE; raises Unavailable if another does."""
    descriptor = home.lock()
    over = threading.Event()
    keeps_jobs = False

    def end(number: int, _frame: FrameType | None) -> None:
        nonlocal keeps_jobs
        keeps_jobs = number == LEAVE
        over.set()

    for number in (signal.SIGTERM, signal.SIGINT, LEAVE):
        signal.signal(number, end)
    home.on_the_way.mkdir(mode=0o700, exist_ok=True)
    _sweep(home)
    runners = [Runner(route, config, home) for route in config.routes.values()]
    began_at = time.time()

    def say() -> None:
        routes = [runner.facts() for runner in runners]
        wrong = [each["route"] for each in routes if each["state"] not in ("well", "waiting")]
        trouble = f"routes in trouble: {', '.join(wrong)}" if wrong else ""
        facts = {"pid": os.getpid(), "version": VERSION, "began_at": began_at}
        home.say({**facts, "said_at": time.time(), "trouble": trouble, "routes": routes})

    say()
    for runner in runners:
        runner.start()
    for runner in runners:
        runner.wait(SAID_EVERY)
    say()
    logger.info("The bridge in %s serves %d routes", home.directory, len(runners))
    on_ready()
    while not over.wait(SAID_EVERY):
        say()
    closing = [
        threading.Thread(target=runner.close, kwargs={"keeps_jobs": keeps_jobs})
        for runner in runners
    ]
    for thread in closing:
        thread.start()
    for thread in closing:
        thread.join()
    os.close(descriptor)
    logger.info("The bridge in %s is through", home.directory)


def _sweep(home: Home) -> None:
    """Remove what a bridge that was killed had on its way: it is carried again."""
    for path in home.on_the_way.iterdir():
        shutil.rmtree(path, ignore_errors=True)
