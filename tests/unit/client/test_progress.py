"""What is shown of something that takes time: a bar that moves, or a line now and then."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest

from desktopgrid.client.progress import Progress, in_mib


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock() -> Callable[[], float]:
    """A clock that a test moves: `clock.now = ...`."""

    class Clock:
        now = 0.0

        def __call__(self) -> float:
            return self.now

    return Clock()


def shown(stream: io.StringIO, clock: Callable[[], float], moments: list[float]) -> str:
    """What is written when one more of ten is done at each of these moments."""
    with Progress("works", 10, stream, clock) as progress:
        for done, moment in enumerate(moments, 1):
            clock.now = moment  # type: ignore[attr-defined]
            progress.show(done)
    return stream.getvalue()


def test_what_is_done_at_once_needs_no_line(clock: Callable[[], float]) -> None:
    assert shown(io.StringIO(), clock, [0.1, 0.2]) == ""


def test_a_file_gets_a_line_every_five_seconds_and_one_at_the_end(
    clock: Callable[[], float],
) -> None:
    lines = shown(io.StringIO(), clock, [1.0, 5.0, 6.0, 10.0, 11.0]).splitlines()
    assert lines == [
        "works: 2/10  0.4/s  20 s left",
        "works: 4/10  0.4/s  15 s left",
        "works: 5/10  0.5/s  11 s left",
    ]


def test_a_terminal_gets_a_bar_that_is_drawn_over_itself(clock: Callable[[], float]) -> None:
    text = shown(Terminal(), clock, [0.05, 0.5, 0.55, 1.0])
    first, second, last = text.removeprefix("\r").removesuffix("\n").split("\r")
    assert first.startswith("works [########...")
    assert "4/10" in second and second.count("#") == 16
    assert last.strip() == second.strip()


@pytest.mark.parametrize("columns", [20, 30, 40, 200])
def test_a_bar_fits_the_terminal(columns: int) -> None:
    progress = Progress("works", 1000, io.StringIO())
    progress.show(123, "3 failed")
    assert len(progress.line(columns)) < columns


def test_bytes_are_told_in_mebibytes() -> None:
    assert in_mib(5 << 20) == "5.0 MiB"
