"""Both ways to start a program do the same."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pilot.node import spawning

WAYS = [True, False]
Run = Callable[..., "tuple[int, str]"]


@pytest.fixture(params=WAYS, ids=["posix_spawn", "subprocess"])
def run(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a script; its exit code and output."""
    if request.param:
        assert spawning.library() is not None
    else:
        monkeypatch.setattr(spawning, "library", lambda: None)

    def run(script: str, executable: str = "/bin/sh") -> tuple[int, str]:
        nothing = os.open(os.devnull, os.O_RDONLY)
        output = os.open(tmp_path / "output", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        work = tmp_path / "work"
        work.mkdir(exist_ok=True)
        files = (nothing, output, output)
        arguments = ("sh", "-c", script)
        try:
            pid = spawning.spawn(Path(executable), arguments, {"A": "b"}, work, files)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            return code, os.pread(output, 10_000, 0).decode()
        finally:
            os.close(nothing)
            os.close(output)

    return run


def test_a_program_runs_in_its_directory_and_we_stay_in_ours(run: Run, tmp_path: Path) -> None:
    before = Path.cwd()
    assert run("pwd; echo $A; exit 3") == (3, f"{tmp_path}/work\nb\n")
    assert Path.cwd() == before


def test_a_program_leads_its_session(run: Run) -> None:
    number, group, session = run("exec cut -d' ' -f1,5,6 /proc/self/stat")[1].split()
    assert number == group == session


def test_a_program_blocks_and_ignores_no_signal(run: Run) -> None:
    _, blocked, _, ignored = run("exec grep -E '^Sig(Blk|Ign)' /proc/self/status")[1].split()
    assert int(blocked, 16) == 0
    # 32 and 33 are the C library's own
    assert int(ignored, 16) & ~(0b11 << 31) == 0


def test_a_program_that_is_not_there_is_an_error(run: Run) -> None:
    with pytest.raises(FileNotFoundError):
        run("", "/no/such/program")


def test_what_cannot_be_an_argument_is_an_error(run: Run) -> None:
    with pytest.raises(ValueError, match="null"):
        run("echo \0")
