"""Who fetches what is not on the server: the web's schemes, and a site's own commands."""

from __future__ import annotations

import hashlib
import os
import shlex
import sys
from pathlib import Path

import pytest

from desktopgrid.wire import messages as m
from pilot.node import fetching
from pilot.node.errors import BrokenOff, CouldNotRun, UnusableInput
from pilot.node.fetching import Errand, Fetchers

CONTENT = b"a content"


def a_file(uri: str, content: bytes = CONTENT) -> m.File:
    return m.File("name", "uid", hashlib.sha256(content).hexdigest(), len(content), uri)


class Watch:
    """What an errand is told."""

    def __init__(self) -> None:
        self.started: list[int] = []
        self.error: Exception | None = None

    def errand(self) -> Errand:
        return Errand(self.progress, self.started.append, {"MARK": "a task's"})

    def progress(self, _done: int) -> None:
        if self.error is not None:
            raise self.error


def fetchers(script: str) -> Fetchers:
    """A site whose command for loop:// is this Python ``script``."""
    return Fetchers({"loop": f"{sys.executable} -c {shlex.quote(script)}"})


def fetch(script: str, target: Path, content: bytes = CONTENT) -> Watch:
    watch = Watch()
    fetchers(script).fetch(a_file("loop://host/a;b", content), target, watch.errand())
    return watch


WRITE = "import sys, os; open(sys.argv[2], 'wb').write(b'a content')"


@pytest.mark.feature("XW-ARC-6")
def test_a_command_of_the_site_fetches_its_scheme(tmp_path: Path) -> None:
    script = "import sys, os; assert os.environ['MARK'] == \"a task's\"; " + (
        "assert sys.argv[1] == 'loop://host/a;b'; open(sys.argv[2], 'wb').write(b'a content')"
    )
    watch = fetch(script, tmp_path / "data")
    assert (tmp_path / "data").read_bytes() == CONTENT
    assert len(watch.started) == 1


@pytest.mark.feature("XW-PIL-11")
@pytest.mark.parametrize(
    "content, said", [(b"a CONTENT", "its SHA-256 is"), (b"longer than it", "has 9 bytes, not")]
)
def test_what_a_command_brings_is_checked(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(UnusableInput, match=f"loop://host/a;b .*{said}"):
        fetch(WRITE, tmp_path / "data", content)
    assert not (tmp_path / "data").exists()


def test_what_a_command_says_is_the_reason(tmp_path: Path) -> None:
    with pytest.raises(CouldNotRun, match=r"loop://host/a;b: .* ended with 3: no such door"):
        fetch("import sys; print('no such door'); sys.exit(3)", tmp_path / "data")


def test_a_command_that_is_not_there_is_named(tmp_path: Path) -> None:
    fetching_nothing = Fetchers({"loop": "/no/such/command"})
    with pytest.raises(CouldNotRun, match="/no/such/command cannot be run"):
        fetching_nothing.fetch(a_file("loop://x/y"), tmp_path / "data", Watch().errand())


HANG = "import signal; signal.pause()"


def test_a_command_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "patience_for", lambda size: 0.1)
    watch = Watch()
    with pytest.raises(CouldNotRun, match="longer than it may"):
        fetchers(HANG).fetch(a_file("loop://x/y"), tmp_path / "data", watch.errand())
    with pytest.raises(ProcessLookupError):
        os.kill(watch.started[0], 0)


def test_a_command_is_ended_with_its_task(tmp_path: Path) -> None:
    watch = Watch()
    watch.error = BrokenOff("nobody wants it any more")
    with pytest.raises(BrokenOff):
        fetchers(HANG).fetch(a_file("loop://x/y"), tmp_path / "data", watch.errand())
    with pytest.raises(ProcessLookupError):
        os.kill(watch.started[0], 0)


@pytest.mark.feature("XW-ARC-6")
def test_a_scheme_that_nobody_fetches_is_the_hosts_fault(tmp_path: Path) -> None:
    with pytest.raises(CouldNotRun, match=r"davs://x/y cannot .* it fetches http, https, loop"):
        fetchers(HANG).fetch(a_file("davs://x/y"), tmp_path / "data", Watch().errand())
