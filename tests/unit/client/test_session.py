"""Questions, answers and awaited works, over a grid in memory."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from desktopgrid.client.fake import FakeGrid
from desktopgrid.client.grid import Grid
from desktopgrid.model.errors import BadRequest, Unavailable, UnknownObject
from desktopgrid.model.lifecycle import WorkStatus
from desktopgrid.model.objects import Description
from desktopgrid.wire import messages as m

ECHO = Description("echo")
SCRIPT = b"#!/bin/sh\necho $1 | tee out\nexit ${2:-0}\n"


@pytest.fixture
def fake(tmp_path: Path) -> FakeGrid:
    """A grid in memory."""
    return FakeGrid(tmp_path)


@pytest.fixture
def grid(fake: FakeGrid, tmp_path: Path) -> Grid:
    """It, with an application `echo`."""
    (tmp_path / "echo").write_bytes(SCRIPT)
    grid = fake.open()
    grid.send_application("echo", tmp_path / "echo")
    return grid


def test_one_work_is_one_message_and_its_result_is_pushed(fake: FakeGrid, grid: Grid) -> None:
    before = len(fake.requests)
    result = grid.run(ECHO, ["hello", "3"], timeout=20)
    assert (result.status, result.exit_code, result.stdout) == (
        WorkStatus.COMPLETED,
        3,
        b"hello\n",
    )
    assert [request.verb for request in fake.requests[before:]] == ["submit"]


def test_a_refusal_is_raised_as_the_error_it_names(grid: Grid) -> None:
    with pytest.raises(UnknownObject, match="no application 'nothing'"):
        grid.run(Description("nothing"), timeout=20)
    with pytest.raises(UnknownObject, match="no application 'nothing'"):
        grid.sweep(Description("nothing"), [["1"]])


def test_the_works_of_a_sweep_are_numbered_through_its_parts(
    fake: FakeGrid, grid: Grid, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("desktopgrid.client.parts.parts_of.__defaults__", (3, 1000))
    sweep = grid.sweep(ECHO, [[str(n)] for n in range(8)])
    assert sweep.works == tuple(f"{sweep.uid}-{n}" for n in range(8))
    submits = [request for request in fake.requests if isinstance(request, m.Submit)]
    assert [(request.first, len(request.arguments)) for request in submits] == [
        (0, 3),
        (3, 3),
        (6, 2),
    ]
    results = {result.work: result.stdout for result in grid.wait(sweep.works, timeout=20)}
    assert results == {f"{sweep.uid}-{n}": b"%d\n" % n for n in range(8)}


def test_an_empty_sweep_is_refused(grid: Grid) -> None:
    with pytest.raises(BadRequest, match="at least one"):
        grid.sweep(ECHO, [])


def test_works_that_ended_before_one_waits_are_told_as_well(grid: Grid) -> None:
    sweep = grid.sweep(ECHO, [[str(n)] for n in range(5)])
    assert len(list(grid.wait(sweep.works, timeout=20))) == 5
    assert {result.exit_code for result in grid.wait(sweep.works, timeout=20)} == {0}
    assert len(list(grid.results(sweep.works))) == 5


def test_waiting_for_an_unknown_work_is_refused(grid: Grid) -> None:
    with pytest.raises(UnknownObject, match="'w-9'"):
        grid.wait(["w-9"])


def test_waiting_has_an_end(fake: FakeGrid, grid: Grid) -> None:
    fake.pause()
    work = grid.submit(ECHO, ["x"])
    with pytest.raises(TimeoutError, match="1 work has not ended"):
        list(grid.wait(work.works, timeout=0.01))
    fake.resume()
    assert len(list(grid.wait(work.works, timeout=20))) == 1


def test_works_are_awaited_across_a_restart_of_the_server(fake: FakeGrid, grid: Grid) -> None:
    fake.pause()
    arrivals = grid.arrivals()
    sweep = grid.sweep(ECHO, [["a"], ["b"]], on_ended=arrivals.tell)
    fake.restart()
    fake.resume()
    assert {result.work for result in arrivals.take(2, timeout=20)} == set(sweep.works)


def test_a_work_that_vanished_with_a_restart_is_not_waited_for(fake: FakeGrid, grid: Grid) -> None:
    fake.pause()
    arrivals = grid.arrivals()
    work = grid.submit(ECHO, ["a"], on_ended=arrivals.tell)
    grid.remove([work.uid])
    fake.restart()
    (result,) = arrivals.take(1, timeout=20)
    assert (result.status, result.reason) == (WorkStatus.ABORTED, "it was removed from the grid")
    fake.resume()


def test_a_session_that_ended_leaves_nobody_waiting(fake: FakeGrid, grid: Grid) -> None:
    fake.pause()
    arrivals = grid.arrivals()
    grid.submit(ECHO, ["a"], on_ended=arrivals.tell)
    grid.close()
    with pytest.raises(Unavailable):
        next(arrivals.take(1))
    with pytest.raises(Unavailable):
        grid.stats()
    fake.resume()


def test_cancelled_works_end_as_aborted(fake: FakeGrid, grid: Grid) -> None:
    fake.pause()
    sweep = grid.sweep(ECHO, [["a"], ["b"]])
    assert sorted(grid.cancel([sweep.uid])) == sorted(sweep.works)
    assert {result.status for result in grid.wait(sweep.works, timeout=20)} == {WorkStatus.ABORTED}
    fake.resume()


def test_lists_are_read_page_by_page(fake: FakeGrid, grid: Grid) -> None:
    sweep = grid.sweep(ECHO, [[str(n)] for n in range(5)])
    listed = list(grid.objects("works", (sweep.uid,), limit=3))
    assert [row["uid"] for row in listed] == [f"{sweep.uid}-{n}" for n in (4, 3, 2)]
    assert list(grid.works_of([sweep.uid])) == list(sweep.works)
    assert list(grid.works_of([sweep.works[2]])) == [sweep.works[2]]


def test_many_threads_share_one_grid(grid: Grid) -> None:
    with ThreadPoolExecutor(8) as threads:
        results = threads.map(lambda n: grid.run(ECHO, [str(n)], timeout=20), range(40))
        assert [result.stdout for result in results] == [b"%d\n" % n for n in range(40)]
