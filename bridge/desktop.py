"""A Glidebridge grid as a destination: jobs become works of the users whom they belong to."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bridge.destination import Brought, Fetch, Follower, Taken
from bridge.faults import reached
from bridge.inbound import Inbound
from bridge.keeping import ON_THE_WAY, Keeper
from bridge.members import Members, group_name, group_of, plain
from desktopgrid.client.descriptions import LAUNCHER
from desktopgrid.client.files import measure, pack, platform_of
from desktopgrid.client.grid import Grid
from desktopgrid.client.programs import application_of
from desktopgrid.model.errors import (
    BadRequest,
    GridError,
    Unavailable,
    UnknownObject,
)
from desktopgrid.model.lifecycle import FINAL_WORKS, WorkStatus
from desktopgrid.model.objects import ANY_PLATFORM, UID, Platform, Result
from desktopgrid.model.origins import Origin
from desktopgrid.model.rights import PRIVATE, PUBLIC, UserLevel

logger = logging.getLogger(__name__)

RUNS_ASKED = 8
"""Runs of a job that one question is about."""
KEEPS_EVERY = timedelta(seconds=10)


class DesktopGrid:
    """The grid ``name`` as a destination."""

    def __init__(self, name: str, members: Members, keeper: Keeper) -> None:
        self.name, self._members, self._keeper = name, members, keeper
        self._keeps_again_at, self._open = datetime.min.replace(tzinfo=UTC), 0
        self._lock = threading.Lock()
        self._applications: dict[tuple[Path, str, str], UID] = {}
        self._groups: dict[tuple[Path, str], UID] = {}

    def __repr__(self) -> str:
        return f"<DesktopGrid {self.name}>"

    def _grid(self, user: str) -> Grid:
        return self._members.grid(self._members.identity_of(user))

    # A job's way

    def find(self, job: Inbound, place: str) -> Taken | Origin:
        """See Destination."""
        grid = self._grid(job.user)
        first = 0
        while True:
            runs = [job.origin(place, run) for run in range(first, first + RUNS_ASKED)]
            names = {str(origin): grid.uid_of(str(origin)) for origin in runs}
            rows = grid.objects("works", tuple(names.values()))
            statuses = {str(row["uid"]): WorkStatus(row["status"]) for row in rows}
            for origin in runs:
                name = names[str(origin)]
                status = statuses.get(name)
                if status is None:
                    return origin
                if status not in FINAL_WORKS or status is WorkStatus.COMPLETED:
                    return Taken(origin, name, job.user, is_new=False)
            first += RUNS_ASKED

    def take(self, job: Inbound, origin: Origin, fetch: Fetch, directory: Path) -> Taken | None:
        """See Destination."""
        grid = self._grid(job.user)
        uid = grid.uid_of(str(origin))
        is_open = grid.session.welcome.level >= UserLevel.ADVANCED
        rights = PUBLIC if is_open else PRIVATE
        kind = f"{ON_THE_WAY} {uid}"
        sent: list[UID] = []

        def send(path: Path, name: str) -> UID:
            sent.append(grid.send_data(path, name, type=kind, rights=rights).uid)
            path.unlink()
            return sent[-1]

        arguments = job.arguments
        if job.is_carried:
            program = fetch(job.program, directory / "program")
            application = self._application(job.user, job.program, program, rights)
        else:
            application = self._application(job.user, "program", LAUNCHER, rights)
            arguments = (job.program, *arguments)
        inputs = tuple(
            (file.name, send(fetch(file.name, directory / "input"), file.name))
            for file in job.inputs
        )
        env = send(_packed(job, fetch, directory), "sandbox.zip") if job.packed else None
        stdin = send(fetch("", directory / "stdin"), "stdin") if job.has_stdin else None
        reached("staged")
        description = replace(
            job.description,
            application=application,
            inputs=inputs,
            stdin=stdin,
            env=env,
            group=self._group(job.user, origin.places[-1]),
            origin=str(origin),
        )
        try:
            submitted = grid.submit(description, arguments)
        except UnknownObject:
            # Somebody removed the application, or the group, of which we knew.
            self._forget()
            raise Unavailable("what its work refers to was removed from the grid") from None
        if submitted.was_there:
            if sent:
                grid.remove(sent)
            if not list(grid.objects("works", (uid,))):
                return None
        return Taken(origin, uid, job.user, is_new=not submitted.was_there)

    def follow(self, taken: Taken, follower: Follower) -> None:
        """See Destination."""
        session = self._of(taken).session
        session.when_ended(follower.lost)
        session.watch((taken.name,), follower.ended)

    def leave(self, taken: Taken, follower: Follower) -> None:
        """See Destination."""
        with suppress(GridError):
            self._of(taken).session.unwatch((taken.name,), follower.ended)

    def bring(self, taken: Taken, result: Result, directory: Path) -> Brought:
        """See Destination."""
        if result.status is not WorkStatus.COMPLETED or result.exit_code is None:
            return Brought(None, result.reason or f"its work is {result.status.value}")
        grid = self._of(taken)
        whole = next(grid.results((taken.name,)), result)
        written = grid.fetch(result, directory)
        found = {path.relative_to(directory).as_posix(): path for path in written}
        stdout, stderr = found.pop("stdout", None), found.pop("stderr", None)
        usage = whole.usage
        attributes = {
            "ChirpGlidebridgeWork": f'"{taken.name}"',
            "ChirpGlidebridgeHost": f'"{plain(whole.host or "")}"',
            "ChirpGlidebridgeWallTime": f"{usage.wall:.3f}",
            "ChirpGlidebridgeUserCpu": f"{usage.user:.3f}",
            "ChirpGlidebridgeSystemCpu": f"{usage.system:.3f}",
            "ChirpGlidebridgeMemoryKib": f"{usage.memory_kib}",
        }
        return Brought(result.exit_code, "", stdout, stderr, found, attributes)

    def cancel(self, taken: Taken) -> None:
        """See Destination."""
        self._of(taken).cancel((taken.name,))

    def delivered(self, taken: Taken) -> None:
        """See Destination. Its work stays for a while: its pool may not have heard of its end."""

    def look_after(self, place: str, attended: Collection[UID], now: datetime) -> int:
        """See Destination."""
        if now >= self._keeps_again_at:
            self._open = self._keeper.run_once(place, attended, now)
            self._keeps_again_at = now + KEEPS_EVERY
        return self._open

    # What it needs for that

    def _of(self, taken: Taken) -> Grid:
        return self._grid(taken.user)

    def _application(self, user: str, name: str, source: Path | bytes, rights: int) -> UID:
        identity = self._members.identity_of(user)
        platform = ANY_PLATFORM if isinstance(source, bytes) else _platform(source)
        key = (identity, name, measure(source)[0])
        # Of jobs that come together the first one registers their program.
        with self._lock:
            known = self._applications.get(key)
            if known is None:
                grid = self._members.grid(identity)
                known = application_of(grid, name, source, rights, platform)
                self._applications[key] = known
            return known

    def _forget(self) -> None:
        with self._lock:
            self._applications.clear()
            self._groups.clear()

    def _group(self, user: str, place: str) -> UID:
        """The group of works that hold what comes from ``place`` for a user."""
        identity = self._members.identity_of(user)
        with self._lock:
            known = self._groups.get((identity, place))
            if known is None:
                grid = self._members.grid(identity)
                known = group_of(grid, place) or grid.send_bag("group", group_name(place))
                self._groups[identity, place] = known
            return known


def _packed(job: Inbound, fetch: Fetch, directory: Path) -> Path:
    """A zip of what has to travel as it lies there."""
    top = directory / "sandbox"
    for file in job.packed:
        path = top / file.name
        if file.is_directory:
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            fetch(file.name, path)
            path.chmod(file.mode & 0o777)
    archive = directory / "sandbox.zip"
    pack(top, archive)
    return archive


def _platform(program: Path) -> Platform:
    """What a program was made for; what says nothing is left to the machine that tries it."""
    try:
        return platform_of(program)
    except BadRequest:
        return ANY_PLATFORM
