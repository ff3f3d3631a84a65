"""Words that a shell offers."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from desktopgrid.client.cli import xw
from desktopgrid.client.commands.shell import Shell
from desktopgrid.client.fake import FakeGrid
from desktopgrid.model.errors import Unavailable
from desktopgrid.model.lifecycle import TaskStatus, WorkStatus
from desktopgrid.server.cli import main as xwserver
from desktopgrid.wire import messages as m
from pilot.cli import pilot

COMMANDS = {"xw": xw, "pilot": pilot, "xwserver": xwserver}


def offered(words: list[str], incomplete: str = "", shell: Shell | None = None) -> list[str]:
    """What `xw` offers after ``words``."""
    completer = ShellComplete(xw, {"obj": shell} if shell else {}, "xw", "_XW_COMPLETE")
    return [item.value for item in completer.get_completions(words, incomplete)]


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_command_prints_what_its_shell_evaluates(name: str, shell: str) -> None:
    done = CliRunner().invoke(COMMANDS[name], ["completion", shell])
    assert done.exit_code == 0
    assert f"_{name.upper()}_COMPLETE={shell}_complete" in done.stdout
    program = shutil.which(shell)
    if program:
        subprocess.run([program, "-n"], input=done.stdout, text=True, check=True)


def test_an_unknown_shell_is_named_with_those_that_are_known() -> None:
    done = CliRunner().invoke(xw, ["completion", "csh"])
    assert done.exit_code == 2
    assert "'bash', 'zsh', 'fish'" in done.stderr


def test_commands_options_and_statuses_are_offered() -> None:
    assert {"submit", "sendapp", "doctor"} <= set(offered([]))
    assert offered([], "send") == [
        *("sendapp", "senddata", "sendgroup", "sendsession", "senduser", "sendusergroup"),
    ]
    assert "--status" in offered(["works"], "--s")
    assert offered(["works", "--status"]) == [each.value.lower() for each in WorkStatus]
    assert offered(["tasks", "--status"], "SUS") == [TaskStatus.SUSPENDED.value.lower()]
    assert offered(["--format"], "c") == ["csv"]
    assert offered(["token", "--kind"]) == ["worker", "client", "bridge"]


def test_names_are_those_that_the_grid_knows(tmp_path: Path) -> None:
    fake = FakeGrid(tmp_path / "grid")
    (tmp_path / "say.sh").write_text("#!/bin/sh\n")
    with fake.open() as grid:
        for name in ("say", "save", "echo"):
            grid.send_application(name, tmp_path / "say.sh")
    shell = Shell(lambda path, patience: fake.open())
    assert sorted(offered(["submit"], "sa", shell)) == ["save", "say"]


def test_a_grid_that_does_not_answer_offers_nothing_and_says_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(path: Path, patience: float) -> None:
        assert patience <= 2, "somebody waits at the terminal"
        raise Unavailable("no server has answered")

    assert offered(["why"], "", Shell(fail)) == []  # type: ignore[arg-type]
    assert capsys.readouterr() == ("", "")


def test_a_status_narrows_a_list(tmp_path: Path) -> None:
    fake = FakeGrid(tmp_path / "grid")
    shell = Shell(lambda path, patience: fake.open())
    done = CliRunner().invoke(xw, ["works", "--status", "running", "--status", "ERROR"], obj=shell)
    assert done.exit_code == 0, done.stderr
    asked = [request for request in fake.requests if isinstance(request, m.ListObjects)][-1]
    assert asked.where == {"status": ["RUNNING", "ERROR"]}
    done = CliRunner().invoke(xw, ["works", "--status", "REPLICATED"], obj=shell)
    assert (done.exit_code, "'running'" in done.stderr.lower()) == (2, True)
