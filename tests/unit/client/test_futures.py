"""The executor over a grid in memory, whose works really run."""

from __future__ import annotations

import base64
import json
import pickle
import time
import warnings
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import pytest

from desktopgrid.client import runner
from desktopgrid.client.calls import answer_in
from desktopgrid.client.fake import FakeGrid
from desktopgrid.client.futures import (
    GridExecutor,
    NamedData,
    PrivateWorks,
    RemoteError,
    WorkFailed,
)
from desktopgrid.client.grid import Grid
from desktopgrid.client.shipping import NotShippable
from desktopgrid.model.errors import Unavailable
from desktopgrid.model.objects import ANY_PLATFORM
from desktopgrid.model.rights import UserLevel
from desktopgrid.wire import messages as m


def square(number: int) -> int:
    print("squaring", number)
    return number * number


def fail() -> None:
    raise KeyError("missing")


def length(path: str, times: int = 1) -> int:
    with open(path) as file:
        return len(file.read()) * times


def die() -> None:
    import os
    import sys

    print("out of luck", file=sys.stderr, flush=True)
    os._exit(7)


def repeat(text: str, times: int) -> str:
    return text * times


class Box:
    def __init__(self, content: Any) -> None:
        self.content = content


def boxed(content: str) -> Box:
    return Box({content})


@pytest.fixture
def fake(tmp_path: Path) -> FakeGrid:
    """A grid with the application `python` for all."""
    fake = FakeGrid(tmp_path)
    with fake.open() as grid:
        grid.send_application("python", Path(runner.__file__).read_bytes(), ANY_PLATFORM)
    return fake


@pytest.fixture
def grid(fake: FakeGrid) -> Iterator[Grid]:
    """It, opened."""
    with fake.open() as grid:
        yield grid


def test_a_function_runs_and_its_future_holds_the_value(grid: Grid) -> None:
    with GridExecutor(grid) as executor:
        promise = executor.submit(square, 7)
        assert promise.result(20) == 49
        assert promise.ended is not None
        assert promise.ended.stdout.startswith(b"squaring 7\n")


def test_map_keeps_the_order_and_shares_messages(fake: FakeGrid, grid: Grid) -> None:
    with GridExecutor(grid) as executor:
        assert list(executor.map(square, range(20), timeout=20)) == [n * n for n in range(20)]
        assert list(executor.map(lambda a, b: a**b, [2, 3], [5, 2], timeout=20)) == [32, 9]
        assert list(executor.map(square, [])) == []
    submits = [request for request in fake.requests if isinstance(request, m.Submit)]
    assert [len(request.arguments) for request in submits] == [1, 19, 2]


def test_what_the_function_raised_is_raised_here(grid: Grid) -> None:
    with GridExecutor(grid) as executor, pytest.raises(RemoteError) as raised:
        executor.submit(fail).result(20)
    assert (raised.value.type, raised.value.message) == ("KeyError", "'missing'")
    assert 'raise KeyError("missing")' in raised.value.traceback
    assert "On the worker" in raised.value.__notes__[0]


def test_a_work_that_died_says_how(grid: Grid) -> None:
    with (
        GridExecutor(grid) as executor,
        pytest.raises(WorkFailed, match="exit code 7 and no answer: out of luck"),
    ):
        executor.submit(die).result(20)


def test_datas_are_arguments(grid: Grid) -> None:
    data = grid.send_data(b"four", "number.txt")
    with GridExecutor(grid) as executor:
        promise = executor.submit(length, NamedData(data.uid, "number.txt"), times=3)
        assert promise.result(20) == 12


def test_long_calls_and_long_results_travel_as_datas(fake: FakeGrid, grid: Grid) -> None:
    with GridExecutor(grid) as executor:
        text = "x" * 50_000
        calls = executor.map(repeat, [text, "y"], [3, 1], timeout=20)
        assert list(calls) == [text * 3, "y"]
    long, short = [request for request in fake.requests if isinstance(request, m.Submit)]
    assert long.arguments == ((),) and "stdin" in long.description
    assert len(short.arguments[0][0]) < 2000 and "stdin" not in short.description


def test_what_cannot_be_sent_is_refused_at_once(fake: FakeGrid, grid: Grid) -> None:
    before = len(fake.requests)
    with GridExecutor(grid) as executor:
        with pytest.raises(NotShippable, match="is no function"):
            executor.submit(Box("x"))  # type: ignore[arg-type]
        with pytest.raises(NotShippable, match="set"):
            executor.submit(square, {1})  # type: ignore[arg-type]
    assert len(fake.requests) == before


def test_a_future_is_cancelled_until_its_result_is_here(fake: FakeGrid, grid: Grid) -> None:
    fake.pause()
    with GridExecutor(grid) as executor:
        first, second = executor.submit(square, 1), executor.submit(square, 2)
        assert first.cancel() and first.cancel()
        assert futures.wait([first], timeout=1).done == {first}
        fake.resume()
        assert second.result(20) == 4
        assert not second.cancel()
    cancels = [request.works for request in fake.requests if isinstance(request, m.Cancel)]
    assert cancels == [(first.work,)]


def test_shutdown_cancels_what_is_open_and_takes_no_more(fake: FakeGrid, grid: Grid) -> None:
    fake.pause()
    executor = GridExecutor(grid)
    promises = [executor.submit(square, n) for n in range(3)]
    executor.shutdown(cancel_futures=True)
    assert all(promise.cancelled() for promise in promises)
    with pytest.raises(RuntimeError, match="no more calls"):
        executor.submit(square, 1)
    assert list(grid.stats()) != [], "a grid that was given stays open"
    fake.resume()


def test_a_map_that_is_left_takes_its_works_back(fake: FakeGrid, grid: Grid) -> None:
    with GridExecutor(grid) as executor:
        assert next(executor.map(square, [3])) == 9
        fake.pause()
        values = executor.map(square, range(5), timeout=0.01)
        with pytest.raises(TimeoutError):
            next(values)
    assert len([request for request in fake.requests if isinstance(request, m.Cancel)]) == 5
    fake.resume()


def test_a_work_that_others_cancelled_fails(fake: FakeGrid, grid: Grid) -> None:
    fake.pause()
    with GridExecutor(grid) as executor:
        promise = executor.submit(square, 1)
        grid.cancel([promise.work])
        with pytest.raises(WorkFailed, match="cancelled by its user"):
            promise.result(20)
    fake.resume()


def test_a_session_that_ends_fails_what_is_open(fake: FakeGrid, grid: Grid) -> None:
    fake.pause()
    executor = GridExecutor(grid)
    promise = executor.submit(square, 1)
    grid.close()
    with pytest.raises(Unavailable):
        promise.result(20)
    executor.shutdown()
    fake.resume()


def test_without_the_application_works_are_private_and_submit_says_so(tmp_path: Path) -> None:
    fake = FakeGrid(tmp_path, UserLevel.STANDARD)
    with fake.open() as grid:
        for _ in range(2):
            with GridExecutor(grid) as executor:
                with pytest.warns(PrivateWorks, match="only your own workers"):
                    promise = executor.submit(square, 3)
                assert promise.result(20) == 9
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    assert executor.submit(square, 4).result(20) == 16
    sent = [request for request in fake.requests if isinstance(request, m.SendApplication)]
    assert [(request.rights, request.cpu) for request in sent] == [(0o700, "any")]


def test_pickles_come_from_ones_own_workers(grid: Grid) -> None:
    with GridExecutor(grid, results="pickle") as executor:
        with pytest.warns(PrivateWorks):
            promise = executor.submit(boxed, "a")
        assert promise.result(20).content == {"a"}


def test_pickles_of_somebody_elses_worker_are_not_loaded(tmp_path: Path) -> None:
    with (
        FakeGrid(tmp_path, host_owner="somebody").open() as grid,
        GridExecutor(grid, results="pickle") as executor,
    ):
        with pytest.warns(PrivateWorks):
            promise = executor.submit(boxed, "a")
        with pytest.raises(WorkFailed, match="not your own; its pickle was not loaded"):
            promise.result(20)


class Bomb:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("exploded"),))


def lie(answer: Any) -> str:
    """A worker's program that answers so whatever it is asked."""
    return f"""#!/usr/bin/env python3
import json, sys
print("\\n" + json.loads(sys.argv[1])["marker"], {json.dumps(answer)!r})
"""


@pytest.mark.parametrize(
    "answer, complaint",
    [
        ({"pickle": base64.b64encode(pickle.dumps(Bomb())).decode()}, "nobody asked for"),
        ({"pickle": 1}, "makes no sense"),
        ({}, "makes no sense"),
        ([1], "makes no sense"),
        ({"error": 1}, "makes no sense"),
        ({"value": 1, "pickle": ""}, "makes no sense"),
    ],
)
def test_a_worker_that_lies_is_not_believed(
    answer: Any, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with FakeGrid(tmp_path).open() as grid:
        grid.send_application("python", lie(answer).encode(), ANY_PLATFORM)
        with GridExecutor(grid) as executor, pytest.raises(WorkFailed, match=complaint):
            executor.submit(square, 2).result(20)
    assert not (tmp_path / "exploded").exists()


def test_the_last_answer_counts() -> None:
    stdout = b'\nm {"value": 1}\nand more\nm {"value": 2}\n'
    assert answer_in(stdout, "m") == {"value": 2}
    assert answer_in(b"nothing", "m") is None


def test_a_result_is_told_quickly(grid: Grid) -> None:
    with GridExecutor(grid) as executor:
        executor.submit(pow, 2, 3).result(20)
        began = time.monotonic()
        executor.submit(pow, 2, 3).result(20)
        assert time.monotonic() - began < 5, "it waits for no clock of ours"
