"""A full disk: what is asked is refused with a reason, nothing acknowledged is lost, and the same
server goes on when there is room.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from desktopgrid.client.grid import Grid
from desktopgrid.link.errors import RefusedByServer
from desktopgrid.model.errors import NoRoom, Unavailable
from desktopgrid.model.objects import Description
from tests.system.disks import (
    MIB,
    Cramped,
    ShortFiles,
    SmallDisk,
    check,
    cubes,
    cubist,
    fill_under_load,
    waited,
)
from tests.system.peers import RawPeer
from tests.system.processes import until


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
    return cubist(server)


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
    assert grid.content(waited(grid, first)[0], "stdout")
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
    fill_under_load(server, grid, times=2)
