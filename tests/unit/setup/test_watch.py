"""A command ends with all that it started, and its exit code is the watcher's."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import watch

RUN = """
import sys; from pathlib import Path; import watch
sys.exit(watch.run([*sys.argv[1:]], Path.cwd(), {"PATH": "/usr/bin:/bin"}))
"""


def watched(script: str, command: str = "sh") -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", RUN, command, "-c", script],
        env={**os.environ, "PYTHONPATH": str(Path(watch.__file__).parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("script, code", [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 137)])
def test_the_exit_code_is_the_commands(script: str, code: int) -> None:
    with watched(script) as process:
        assert process.wait() == code
        assert process.stderr and process.stderr.read() == ""


def test_what_left_its_session_is_ended_too(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    daemon = (
        f"echo $$ >>{pids}; (setsid sh -c 'echo $$ >>{pids}; exec sleep 1000') & exec sleep 1000"
    )
    script = f'setsid sh -c "{daemon.replace("$", chr(92) + "$")}" & '
    with watched(
        f"{script} until [ -s {pids} ] && [ $(wc -l <{pids}) = 2 ]; do :; done"
    ) as process:
        assert process.wait() == 0
    started = [int(pid) for pid in pids.read_text().split()]
    assert len(started) == 2
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]


def test_a_request_to_end_reaches_the_command() -> None:
    with watched(
        "trap 'echo told; exit 4' TERM; echo ready; while :; do sleep 0.01; done"
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 4
        assert process.stdout.read() == "told\n"


def test_a_missing_command_is_named() -> None:
    with watched("", command="no-such-command") as process:
        assert process.wait() == 1
        assert process.stderr
        assert "cannot run no-such-command: No such file" in process.stderr.read()
