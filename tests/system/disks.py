"""Servers whose disk a test can fill and empty."""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from desktopgrid.client.grid import Grid
from desktopgrid.model.errors import Unavailable
from desktopgrid.model.lifecycle import WorkStatus
from desktopgrid.model.objects import ANY_PLATFORM, Description, Result
from tests.system.processes import ServerUnderTest, until

MIB = 1 << 20
DISK = 40 * MIB

# A file system of its own for the grid's directory, in a namespace that ends with the server.
SMALL_DISK = f"""
cp -a "$0" "$0.copy" && mount -t tmpfs -o size={DISK},mode=700 none "$0" &&
cp -a "$0.copy/." "$0" && exec "$@"
"""


ASK = """
import json, sqlite3, sys
database, question, values = json.loads(sys.argv[1])
rows = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)
print(json.dumps(rows.execute(question, values).fetchall()))
"""


class SmallDisk(ServerUnderTest):
    """A server on a small file system that a test can fill."""

    def __init__(self, directory: Path) -> None:
        place = str(directory / "grid")
        # Who may mount something there counts as root there.
        wrapper = ("unshare", "-rm", "sh", "-c", SMALL_DISK, place)
        super().__init__(directory, wrapper, user="root")

    @staticmethod
    def is_possible() -> bool:
        """Whether we may mount a file system for ourselves here."""
        tried = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"]
        return subprocess.run(tried, capture_output=True).returncode == 0

    def seen(self, path: Path) -> Path:
        """Where the server's file systems are seen from outside."""
        return Path(f"/proc/{self.process.pid}/root{path}")

    def rows(self, question: str, *values: Any) -> list[tuple[Any, ...]]:
        """What the database answers. SQLite looks up by itself what a path leads to, and would find
        the file that the server's disk hides.
        """
        enter = ("nsenter", "-t", str(self.process.pid), "-U", "-m", "--preserve-credentials")
        asked = json.dumps([str(self.home.database), question, values])
        done = subprocess.run(
            [*enter, sys.executable, "-c", ASK, asked], capture_output=True, text=True, check=True
        )
        return [tuple(row) for row in json.loads(done.stdout)]

    @property
    def ballast(self) -> Path:
        """What fills the disk."""
        return self.seen(self.place) / "ballast"

    def fill(self, leave: int = 0) -> None:
        """Leave so many bytes to the server."""
        with self.ballast.open("wb", buffering=0) as file:
            free = os.statvfs(file.fileno())
            room = free.f_bavail * free.f_frsize - leave
            try:
                for _ in range(room // 4096 + (0 if leave else 1000)):
                    file.write(bytes(4096))
            except OSError as full:
                assert full.errno == errno.ENOSPC

    def free(self) -> None:
        """Give the room back."""
        self.ballast.unlink()


class ShortFiles(ServerUnderTest):
    """A server that may not write to files for a while; for where nobody may mount anything."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)

    def fill(self, leave: int = 0) -> None:
        """Let the server write no byte beyond this place in a file."""
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (leave, resource.RLIM_INFINITY))

    def free(self) -> None:
        """Let it write again."""
        unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, unlimited)


Cramped = SmallDisk | ShortFiles


CUBE = b"#!/bin/sh\nsleep 0.02\necho $(($1 * $1))\necho $(($1 * $1 * $1)) > cube\n"


def cubist(server: ServerUnderTest) -> Grid:
    """A client of little patience, with an application `cube`."""
    grid = server.client(patience=3.0)
    grid.send_application("cube", CUBE, ANY_PLATFORM)
    return grid


def cubes(grid: Grid, numbers: range) -> dict[str, int]:
    """Submit works; their numbers."""
    sweep = grid.sweep(Description("cube"), [[str(n)] for n in numbers])
    return dict(zip(sweep.works, numbers, strict=True))


def check(grid: Grid, works: dict[str, int]) -> None:
    """All of them are done, and right."""
    for result in waited(grid, works):
        number = works[result.work]
        assert result.status is WorkStatus.COMPLETED, result
        assert result.stdout == f"{number**2}\n".encode()
    for result in grid.results(list(works)):
        assert grid.content(result, "cube") == f"{works[result.work] ** 3}\n".encode()


def waited(grid: Grid, works: dict[str, int]) -> list[Result]:
    """Their results, when all are there."""
    results = list(grid.wait(list(works), 60))
    assert len(results) == len(works)
    return results


def fill_under_load(server: Cramped, grid: Grid, times: int) -> None:
    """Fill the disk and empty it again while works are submitted and done; none is lost."""
    for name in ("worker-1", "worker-2"):
        server.worker(name)
    acknowledged: dict[str, int] = {}
    over = threading.Event()
    load = threading.Thread(target=submit_until, args=(grid, acknowledged, over))
    load.start()
    try:
        for _ in range(times):
            known = len(acknowledged)
            until(lambda known=known: len(acknowledged) > known + 30, "works are submitted")
            server.fill()
            until(lambda: not server.status(), "the server has noticed")
            time.sleep(0.3)
            server.free()
            until(server.status, "the server serves again")
    finally:
        over.set()
        load.join()
    check(grid, acknowledged)
    done = server.rows("SELECT work FROM tasks WHERE status = 'COMPLETED'")
    assert len(done) == len(set(done))
    assert "Traceback" not in server.log


def submit_until(grid: Grid, acknowledged: dict[str, int], over: threading.Event) -> None:
    """Submit works until it is ``over``; the numbers of those that were acknowledged."""
    number = 0
    while not over.is_set():
        try:
            acknowledged |= cubes(grid, range(number, number + 5))
        except Unavailable:
            continue
        number += 5
        time.sleep(0.02)
