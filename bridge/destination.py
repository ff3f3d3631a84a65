"""What every destination of jobs promises: a grid, or a site."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from bridge.inbound import Inbound
from desktopgrid.model.errors import GridError
from desktopgrid.model.objects import UID, Result
from desktopgrid.model.origins import Origin

Fetch = Callable[[str, Path], Path]
"""Writes one of a job's files (standard input has no name) to a place of ours."""


@dataclass(frozen=True)
class Taken:
    """A job that a destination has: our name for it, its own, and which run of it this is."""

    origin: Origin
    name: UID
    user: str
    is_new: bool = True


@dataclass(frozen=True)
class Brought:
    """What came of a job: how it ended, and where its files lie. ``reason``: why it has no end."""

    code: int | None
    reason: str = ""
    stdout: Path | None = None
    stderr: Path | None = None
    files: dict[str, Path] = field(default_factory=dict)
    attributes: dict[str, str] = field(default_factory=dict)
    """What it used, as expressions, for the place that it came from."""


class Follower(Protocol):
    """Who waits for what becomes of a job; told from any thread, and must not wait."""

    def ended(self, result: Result) -> None:
        """It is over."""

    def lost(self, error: GridError) -> None:
        """Nothing more will be told, for this reason; it is to be looked for anew."""


class Destination(Protocol):
    """Takes jobs, once each. A new one is done when tests/contract/test_destinations.py passes.

    Nothing of it has to be kept: whatever was taken is found again by its origin. What cannot be
    asked raises Unavailable, and then nothing is known.
    """

    def find(self, job: Inbound, place: str) -> Taken | Origin:
        """The run of ``job`` that goes on, or has ended by itself; else the origin of a new one:
        those before were taken back, or came to nothing.
        """

    def take(self, job: Inbound, origin: Origin, fetch: Fetch, directory: Path) -> Taken | None:
        """Have ``job`` run; when this returns it is not lost any more. ``directory`` is empty, for
        what is on its way. None if that run is over already and was removed: the next is to be
        tried. Raises BadRequest, AccessDenied for what it will not run.
        """

    def follow(self, taken: Taken, follower: Follower) -> None:
        """Tell what becomes of it, once; raises UnknownObject if it is there no more."""

    def leave(self, taken: Taken, follower: Follower) -> None:
        """Tell it no more."""

    def bring(self, taken: Taken, result: Result, directory: Path) -> Brought:
        """Write what it left into ``directory``. May be asked again."""

    def cancel(self, taken: Taken) -> None:
        """Take it back. Idempotent; of one that has ended its result stays."""

    def delivered(self, taken: Taken) -> None:
        """Its results are where they belong: what need not be kept may go."""

    def look_after(self, place: str, attended: Collection[UID], now: datetime) -> int:
        """See to jobs that came from ``place``, of which these are ``attended`` by their carriers;
        how many are open. Asked every few seconds; raises what keeps it from asking.
        """
