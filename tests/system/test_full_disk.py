"""A full disk: what is asked is refused with a reason, nothing acknowledged is lost, and the same
server goes on when there is room.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from desktopgrid.client.grid import Grid
from desktopgrid.link.errors import RefusedByServer
from desktopgrid.model.errors import NoRoom, Unavailable
from desktopgrid.model.lifecycle import WorkStatus
from desktopgrid.model.objects import ANY_PLATFORM, Description, Result
from tests.system.peers import RawPeer
from tests.system.processes import ServerUnderTest, until

MIB = 1 << 20
DISK = 40 * MIB
CUBE = b"#!/bin/sh\nsleep 0.02\necho $(($1 * $1))\necho $(($1 * $1 * $1)) > cube\n"

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
        super().__init__(directory, ("unshare", "-rm", "sh", "-c", SMALL_DISK, place))

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


@pytest.fixture
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cramped]:
    """As the test asks, else as it can be had here."""
    kind = getattr(request, "param", SmallDisk if SmallDisk.is_possible() else ShortFiles)
    if kind is SmallDisk and not SmallDisk.is_possible():
        pytest.skip("this account may not mount a file system of its own (unshare -rm)")
    server: Cramped = kind(tmp_path)
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def grid(server: Cramped) -> Grid:
    grid = server.client(patience=3.0)
    grid.send_application("cube", CUBE, ANY_PLATFORM)
    return grid


def cubes(grid: Grid, numbers: range) -> dict[str, int]:
    """Submit works; their numbers."""
    sweep = grid.sweep(Description("cube"), [[str(n)] for n in numbers])
    return dict(zip(sweep.works, numbers, strict=True))


def check(grid: Grid, works: dict[str, int]) -> None:
    """All of them are done, and right."""
    for result in _waited(grid, works):
        number = works[result.work]
        assert result.status is WorkStatus.COMPLETED, result
        assert result.stdout == f"{number**2}\n".encode()
    for result in grid.results(list(works)):
        assert grid.content(result, "cube") == f"{works[result.work] ** 3}\n".encode()


def _waited(grid: Grid, works: dict[str, int]) -> list[Result]:
    results = list(grid.wait(list(works), 60))
    assert len(results) == len(works)
    return results


@pytest.mark.parametrize("server", [SmallDisk, ShortFiles], indirect=True)
def test_a_full_disk_refuses_with_a_reason_and_loses_nothing(server: Cramped, grid: Grid) -> None:
    server.worker("worker")
    first = cubes(grid, range(20))
    check(grid, first)
    before, pid = server.rows("SELECT count(*) FROM works"), server.process.pid

    server.fill()
    with pytest.raises(Unavailable, match="cannot store anything at present"):
        for _ in range(100):  # until what there is of room in its files is used up
            grid.submit(Description("cube", expected_host="nowhere"))
    with pytest.raises(RefusedByServer, match="cannot store anything at present"):
        RawPeer(server.identity())
    with pytest.raises(Unavailable):
        grid.send_data(b"x" * 3 * MIB, "too-much")
    assert not server.status()

    server.free()
    until(server.status, "the server serves again")
    assert server.process.pid == pid
    assert server.rows("SELECT count(*) FROM works") >= before
    check(grid, first | cubes(grid, range(20, 30)))
    assert grid.content(_waited(grid, first)[0], "stdout")
    assert "Traceback" not in server.log


def test_an_upload_without_room_gets_507_and_the_grid_goes_on(server: Cramped, grid: Grid) -> None:
    server.worker("worker")
    # The database has room, a data of some size has none.
    server.fill(leave=2 * MIB)
    with pytest.raises(NoRoom, match="no room"):
        grid.send_data(os.urandom(8 * MIB), "too-much")
    check(grid, cubes(grid, range(5)))
    assert list((server.seen(server.place) / "data" / "partial").iterdir()) == []
    server.free()
    content = os.urandom(8 * MIB)
    uid = grid.send_data(content, "fits").uid
    assert server.rows("SELECT is_available FROM datas WHERE uid = ?", uid) == [(1,)]
    assert "Traceback" not in server.log


def test_a_disk_that_fills_up_under_load_again_and_again_loses_nothing(
    server: Cramped, grid: Grid
) -> None:
    for name in ("worker-1", "worker-2"):
        server.worker(name)
    acknowledged: dict[str, int] = {}
    over = threading.Event()
    load = threading.Thread(target=_submit_until, args=(grid, acknowledged, over))
    load.start()
    try:
        for _ in range(3):
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


def _submit_until(grid: Grid, acknowledged: dict[str, int], over: threading.Event) -> None:
    number = 0
    while not over.is_set():
        try:
            acknowledged |= cubes(grid, range(number, number + 5))
        except Unavailable:
            continue
        number += 5
        time.sleep(0.02)
