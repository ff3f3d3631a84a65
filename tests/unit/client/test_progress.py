"""What is shown of something that takes time: a bar that moves, or a line now and then."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from desktopgrid.client.cli import xw
from desktopgrid.client.commands.shell import Shell
from desktopgrid.client.fake import FakeGrid
from desktopgrid.client.progress import Progress, in_mib
from desktopgrid.model.objects import Description


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


@pytest.fixture
def shown_bars(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What bars there were, each with the last thing it showed."""
    ended: list[str] = []

    def leave(bar: Progress, *_: object) -> None:
        ended.append(bar.line(0).partition("  ")[0])

    monkeypatch.setattr(Progress, "__exit__", leave)
    return ended


def test_uploads_waits_and_downloads_have_a_bar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shown_bars: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    fake = FakeGrid(tmp_path / "grid")
    (tmp_path / "big.sh").write_text("#!/bin/sh\nhead -c 3145728 /dev/zero > big\n")
    (tmp_path / "in.txt").write_bytes(b"x" * (2 << 20))

    def run(*words: str) -> str:
        done = CliRunner().invoke(xw, words, obj=Shell(lambda path, patience: fake.open()))
        assert done.exit_code == 0, done.stderr
        return done.stdout.strip()

    run("sendapp", "big", "big.sh")
    run("senddata", "in.txt")
    work = run("submit", "big", "--stdin", "in.txt")
    run("wait", work)
    run("result", work)
    assert shown_bars == [
        "big.sh: 0.0 MiB/0.0 MiB",
        "in.txt: 2.0 MiB/2.0 MiB",
        "in.txt: 0.0 MiB/2.0 MiB",  # the grid had it already
        "works: 1/1",
        "results: 1/1",
    ]


def test_a_download_shows_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fake, notes = FakeGrid(tmp_path / "grid"), []
    (tmp_path / "two.sh").write_text(
        "#!/bin/sh\nhead -c 1048576 /dev/zero > a\nhead -c 1048576 /dev/zero > b\n"
    )
    with fake.open() as grid:
        grid.send_application("two", tmp_path / "two.sh")
        work = grid.run(Description("two"), timeout=20).work
    monkeypatch.setattr(Progress, "show", lambda bar, done, note="": notes.append(note))
    shell = Shell(lambda path, patience: fake.open())
    assert CliRunner().invoke(xw, ["result", work], obj=shell).exit_code == 0
    assert notes == ["the next one: 1.0 MiB", "the next one: 2.0 MiB", ""]


def test_who_wants_quiet_sees_no_bar(tmp_path: Path) -> None:
    shell = Shell()
    shell.output.is_quiet = True
    with shell.progress("works", 10) as progress:
        progress.show(10)
        progress._write()
    assert progress._stream is not sys.stderr
