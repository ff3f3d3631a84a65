"""Asking many sites at once: each in a thread of its own, with its own deadline, so that one which
hangs holds up no other.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from desktopgrid.model.errors import GridError

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Answer(Generic[T]):
    """What a site answered; or why it did not, and for how long it hangs already."""

    value: T | None = None
    error: GridError | None = None
    hangs_for: float | None = None


class Lanes:
    """One lane a site. What hangs in it stays there; the site is not asked again before it ends."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._hanging: dict[str, tuple[Future[Any], float]] = {}

    def __repr__(self) -> str:
        return f"<Lanes, {len(self._hanging)} of them not through>"

    def ask(self, calls: Mapping[str, Callable[[], T]], within: float) -> dict[str, Answer[T]]:
        """What the sites answer who answer ``within`` so many seconds."""
        asked: dict[str, Future[T]] = {}
        answers: dict[str, Answer[T]] = {}
        for site, call in calls.items():
            earlier = self._hanging.get(site)
            if earlier is not None and not earlier[0].done():
                error = GridError("it does not answer what it was asked before")
                answers[site] = Answer(None, error, self._clock() - earlier[1])
                continue
            future: Future[T] = Future()
            asked[site] = future
            self._hanging[site] = (future, self._clock())
            name = f"site {site}"
            threading.Thread(target=_run, args=(site, call, future), name=name, daemon=True).start()
        wait(asked.values(), within)
        for site, future in asked.items():
            if not future.done():
                error = GridError(f"it has not answered for {within:g} s")
                answers[site] = Answer(None, error, within)
                continue
            del self._hanging[site]
            failure = future.exception()
            if failure is None:
                answers[site] = Answer(future.result())
            elif isinstance(failure, GridError):
                answers[site] = Answer(None, failure)
            else:
                raise failure
        return answers


def _run(site: str, call: Callable[[], T], future: Future[T]) -> None:
    """The one place in which whatever a door does wrong is taken for the site's trouble."""
    try:
        future.set_result(call())
    except GridError as error:
        future.set_exception(error)
    except Exception as error:
        logger.exception("The door of site %s failed", site)
        future.set_exception(GridError(f"its door failed: {type(error).__name__}: {error}"))
    except BaseException as ending:
        future.set_exception(ending)
