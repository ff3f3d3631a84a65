"""What is removed frees the server's disk, while it serves; what is needed stays."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from desktopgrid.client.grid import Grid
from desktopgrid.model.errors import UnknownObject
from desktopgrid.model.objects import ANY_PLATFORM, Description
from desktopgrid.server.storage import Store
from tests.system.processes import ServerUnderTest, a_grid, run, until

COLLECT = "from desktopgrid.server.cli import main; main()"
LEAVE = b'#!/bin/sh\necho "$1" > left\ncat\n'


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerUnderTest]:
    with a_grid(tmp_path) as server:
        server.worker("public")
        yield server


@pytest.fixture
def grid(server: ServerUnderTest) -> Grid:
    grid = server.client()
    grid.send_application("leave", LEAVE, ANY_PLATFORM)
    return grid


def grow_old(server: ServerUnderTest) -> Store:
    """Everything that is there was uploaded long ago."""
    store = Store(server.home.datas)
    for sha256, _ in list(store.contents(1e12)):
        os.utime(store.path(sha256), (1000, 1000))
    return store


def collect(server: ServerUnderTest, *options: str) -> set[str]:
    """What `xwserver collect` throws away."""
    done = run(COLLECT, "--directory", server.place, "collect", *options)
    assert done.returncode == 0, done.stderr
    assert "contents of" in done.stderr
    return {line.split()[0] for line in done.stdout.splitlines()}


@pytest.mark.feature("XW-RS-2", "XW-DM-3")
def test_what_was_removed_is_thrown_away_and_nothing_else(
    server: ServerUnderTest, grid: Grid, tmp_path: Path
) -> None:
    kept, gone = grid.send_data(b"kept", "kept"), grid.send_data(b"gone", "gone")
    results = [
        grid.run(Description("leave", stdin=gone.uid), [text], timeout=60) for text in ("a", "b")
    ]
    outputs = [output.sha256 for result in results for output in result.outputs]
    grid.remove([gone.uid, results[0].work])
    with pytest.raises(UnknownObject):
        grid.fetch(results[0], tmp_path / "a")
    assert list(grid.results([results[0].work])) == []
    grow_old(server)
    assert collect(server, "--dry-run") == {gone.sha256, outputs[0]}
    assert collect(server) == {gone.sha256, outputs[0]}
    assert collect(server) == set()
    grid.fetch(results[1], tmp_path / "b")
    assert (tmp_path / "b" / "left").read_text() == "b\n"
    # What is gone can be sent again, and is then there again.
    again = grid.send_data(b"gone", "gone")
    result = grid.run(Description("leave", stdin=again.uid), ["c"], timeout=60)
    assert result.stdout == b"gone"
    assert grid.run(Description("leave", stdin=kept.uid), ["d"], timeout=60).stdout == b"kept"


def test_a_server_collects_by_itself(server: ServerUnderTest, grid: Grid) -> None:
    server.stop()
    server.configure(datas__collect_every="1 s")
    server.start()
    data = grid.send_data(b"gone", "gone")
    grid.remove([data.uid])
    store = grow_old(server)
    until(lambda: not store.has(data.sha256), "the content is gone")
    until(lambda: "Collected garbage: 1 contents" in server.log, "the server says so")
    server.stop()


def test_works_that_were_removed_long_ago_are_forgotten(
    server: ServerUnderTest, grid: Grid
) -> None:
    results = [grid.run(Description("leave"), [text], timeout=60) for text in ("a", "b")]
    grid.remove([results[0].work])
    server.stop()
    server.configure(limits__history_kept="0.01 s")
    server.start()
    until(lambda: len(server.rows("SELECT uid FROM works")) == 1, "one of them is forgotten")
    until(lambda: "Forgot 1 works" in server.log, "the server says so")
    assert server.rows("SELECT work FROM tasks") == [(results[1].work,)]
    assert server.rows("SELECT uid FROM submissions") == [(results[1].work,)]
    assert [result.work for result in grid.results([result.work for result in results])] == [
        results[1].work
    ]
    assert grid.run(Description("leave"), ["c"], timeout=60).stdout == b""
