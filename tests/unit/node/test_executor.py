"""One task as real processes: its environment, its end, and that nothing of it stays."""

from __future__ import annotations

import errno
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilot.node import processes, spawning
from pilot.node.errors import CouldNotRun
from pilot.node.executor import Execution, Program, environment_in
from pilot.node.sandbox import Sandbox
from tests.unit.node.fakes import until

SHELL = Path("/bin/sh")


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    box = Sandbox(tmp_path / "slots" / "0")
    yield box
    box.close()


def a_program(script: str = "", **fields: object) -> Program:
    if script:
        fields = {"arguments": ("sh", "-c", script), **fields}
    dull = {"task": "w.1", "work": "w", "executable": SHELL, "arguments": ("sh", "-c", ":")}
    return Program(**{**dull, **fields})  # type: ignore[arg-type]


def started(sandbox: Sandbox, script: str, **fields: object) -> Execution:
    execution = Execution(a_program(script, **fields), sandbox, environment_in(sandbox, "host-1"))
    execution.start()
    return execution


def ran(sandbox: Sandbox, script: str, **fields: object) -> tuple[int, bytes, bytes]:
    execution = started(sandbox, script, **fields)
    ended = execution.wait()
    stdout, stderr, _ = execution.output()
    return ended.code, stdout, stderr


def alive(pid: int) -> bool:
    one = processes.process(pid)
    return one is not None and not one.is_zombie


def pid_in(path: Path) -> int:
    until(lambda: path.exists() and path.read_text().strip())
    return int(path.read_text())


def test_output_and_exit_code_are_caught(sandbox: Sandbox) -> None:
    assert ran(sandbox, "echo out; echo err >&2; exit 3") == (3, b"out\n", b"err\n")


def test_a_signal_is_a_negative_exit_code(sandbox: Sandbox) -> None:
    assert ran(sandbox, "kill -SEGV $$")[0] == -signal.SIGSEGV


def test_arguments_arrive_as_they_are(sandbox: Sandbox) -> None:
    arguments = ("name", "-c", 'printf "%s|" "$0" "$@"', "a b", "", "*", "$HOME", "é\n")
    code, stdout, _ = ran(sandbox, "", arguments=arguments)
    assert (code, stdout) == (0, "a b||*|$HOME|é\n|".encode())


def test_standard_input_is_a_file_or_nothing(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("words")
    assert ran(sandbox, "cat", stdin=tmp_path / "in")[1] == b"words"
    assert ran(sandbox, "cat")[1] == b"words", "and then nothing was added"


def test_the_environment_is_clean(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "secret")
    variables = (("A", "b"), ("GLIDEBRIDGE_TASK", "somebody else's"))
    _, stdout, _ = ran(
        sandbox, "", arguments=("env",), executable=Path("/usr/bin/env"), variables=variables
    )
    assert dict(line.split("=", 1) for line in stdout.decode().splitlines()) == {
        "PATH": os.environ["PATH"],
        "HOME": str(sandbox.work),
        "TMPDIR": str(sandbox.tmp),
        "A": "b",
        "GLIDEBRIDGE_TASK": "w.1",
        "GLIDEBRIDGE_WORK": "w",
        "GLIDEBRIDGE_HOST": "host-1",
    }


def test_a_slot_without_a_path_gives_one(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PATH")
    assert ran(sandbox, "echo $PATH")[1] == b"/usr/local/bin:/usr/bin:/bin\n"


def test_a_task_runs_in_its_directory_and_in_a_session_of_its_own(sandbox: Sandbox) -> None:
    _, stdout, _ = ran(sandbox, "pwd; cat /proc/self/stat")
    directory, status = stdout.decode().splitlines()
    assert directory == str(sandbox.work)
    assert int(status.split()[5]) != os.getsid(0)


def test_no_descriptor_of_ours_is_left_to_a_task(sandbox: Sandbox) -> None:
    inherited = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(inherited, True)
    processes.keep_descriptors()
    _, stdout, _ = ran(sandbox, "ls /proc/self/fd")
    os.close(inherited)
    # and the one by which ls reads
    assert stdout.split() == [b"0", b"1", b"2", b"3"]


def test_usage_is_measured(sandbox: Sandbox) -> None:
    # Below the peak of the process that spawned it a program's own is not known.
    mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10) + 60
    script = f"x = bytearray({mib} << 20); sum(range(3000000))"
    execution = started(
        sandbox, "", executable=Path(sys.executable), arguments=("py", "-c", script)
    )
    wall, user, system, memory_kib = execution.wait().usage
    assert user + system > 0
    assert 0 < wall < 60
    assert memory_kib in range(mib << 10, (mib + 200) << 10)


def test_a_small_program_is_not_blamed_for_our_memory(sandbox: Sandbox) -> None:
    execution = started(sandbox, ":")
    assert execution.wait().usage[3] < 10 << 10


def test_long_output_is_cut_and_kept_whole_in_a_file(sandbox: Sandbox) -> None:
    execution = started(sandbox, "head -c 100000 /dev/zero; head -c 65536 /dev/zero >&2")
    execution.wait()
    stdout, stderr, long = execution.output()
    assert (len(stdout), len(stderr)) == (65536, 65536)
    [(name, path, size)] = long
    assert (name, size, len(path.read_bytes())) == ("stdout", 100000, 100000)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"executable": Path("/no/such/program")}, id="no such program"),
        pytest.param({"arguments": ("sh", "a\0b")}, id="NUL in an argument"),
        pytest.param({"variables": (("A=B", "c"),)}, id="bad variable"),
        pytest.param({"stdin": Path("/no/such/input")}, id="no such input"),
        pytest.param({"executable": Path("/etc/passwd")}, id="not executable"),
    ],
)
def test_what_cannot_be_started_says_so(sandbox: Sandbox, fields: dict[str, object]) -> None:
    with pytest.raises(CouldNotRun, match="could not be started"):
        Execution(a_program(**fields), sandbox, environment_in(sandbox, "h")).start()  # type: ignore[arg-type]


def test_a_program_that_is_still_being_written_is_tried_again(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    program = tmp_path / "program"
    program.write_bytes(Path("/bin/true").read_bytes())
    program.chmod(0o755)
    busy = open(program, "r+b")  # noqa: SIM115
    timer = threading.Timer(0.1, busy.close)
    timer.start()
    assert ran(sandbox, "", executable=program)[0] == 0
    timer.join()


def test_a_program_that_is_never_let_go_is_given_up(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spawning, "BUSY_TRIES", 2)
    program = tmp_path / "program"
    program.write_bytes(Path("/bin/true").read_bytes())
    program.chmod(0o755)
    with open(program, "r+b"), pytest.raises(CouldNotRun, match=os.strerror(errno.ETXTBSY)):
        Execution(a_program("", executable=program), sandbox, environment_in(sandbox, "h")).start()


def test_a_signal_reaches_the_whole_group(sandbox: Sandbox, tmp_path: Path) -> None:
    execution = started(sandbox, f"sleep 100 & echo $! > {tmp_path}/child; wait")
    child = pid_in(tmp_path / "child")
    execution.send(signal.SIGTERM)
    assert execution.wait().code == -signal.SIGTERM
    until(lambda: not alive(child))


def test_a_signal_before_the_start_comes_after_it(sandbox: Sandbox) -> None:
    execution = Execution(a_program("sleep 100"), sandbox, environment_in(sandbox, "h"))
    execution.send(signal.SIGKILL)
    execution.start()
    assert execution.wait().code == -signal.SIGKILL


def test_a_signal_after_the_end_hits_nobody(sandbox: Sandbox) -> None:
    execution = started(sandbox, ":")
    execution.wait()
    execution.send(signal.SIGKILL)
    assert execution.sample() == (0, 0)


def test_a_program_that_ignores_sigterm_is_killed_with_its_children(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    script = f"trap '' TERM; (trap '' TERM; echo $$ > {tmp_path}/child; sleep 100) & wait; wait"
    execution = started(sandbox, script)
    pid_in(tmp_path / "child")
    execution.send(signal.SIGTERM)
    pid = execution.pid
    assert pid is not None
    assert alive(pid)
    execution.send(signal.SIGKILL)
    assert execution.wait().code == -signal.SIGKILL


def test_children_that_a_task_leaves_in_its_group_are_killed(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    execution = started(sandbox, f"sleep 100 & echo $! > {tmp_path}/child; exit 0")
    assert execution.wait().code == 0
    child = int((tmp_path / "child").read_text())
    until(lambda: not alive(child))


def test_a_descendant_in_another_session_is_killed_too(sandbox: Sandbox, tmp_path: Path) -> None:
    script = f"setsid sh -c 'echo $$ > {tmp_path}/child; sleep 100' & wait"
    execution = started(sandbox, script)
    child = pid_in(tmp_path / "child")
    assert child in [one.pid for one in execution.members()]
    execution.send(signal.SIGKILL)
    execution.wait()
    until(lambda: not alive(child))


def test_a_suspended_task_does_not_compute_and_can_go_on(sandbox: Sandbox) -> None:
    execution = started(sandbox, "while :; do :; done")
    pid = execution.pid
    assert pid is not None

    def state() -> str:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]

    until(lambda: state() == "R")
    execution.suspend()
    until(lambda: state() == "T")
    execution.resume()
    until(lambda: state() != "T")
    execution.suspend()
    until(lambda: state() == "T")
    execution.send(signal.SIGTERM)
    assert execution.wait().code == -signal.SIGTERM, "a suspended one obeys as well"


def test_memory_of_all_processes_is_sampled(sandbox: Sandbox) -> None:
    script = "import os, time; os.fork(); x = bytearray(60 << 20); time.sleep(100)"
    execution = started(
        sandbox,
        "",
        executable=Path(sys.executable),
        arguments=("py", "-c", script),
        memory_mib=1000,
    )
    until(lambda: execution.sample()[0] >= 120)
    execution.send(signal.SIGKILL)
    assert execution.wait().usage[3] >= 120 << 10


def test_pages_that_processes_share_count_once(sandbox: Sandbox) -> None:
    script = "import os, time; x = bytearray(100 << 20); os.fork(); os.fork(); time.sleep(100)"
    execution = started(
        sandbox, "", executable=Path(sys.executable), arguments=("py", "-c", script), memory_mib=150
    )
    until(lambda: len(execution.members()) == 4)
    memory, _ = execution.sample()
    execution.send(signal.SIGKILL)
    execution.wait()
    assert 100 <= memory < 200


def test_disk_is_sampled_and_a_single_file_is_limited(sandbox: Sandbox) -> None:
    script = "head -c 2000000 /dev/zero > small; sleep 100"
    execution = started(sandbox, script, disk_mib=3)
    assert execution.is_limited
    until(lambda: execution.sample()[1] == 1)
    execution.send(signal.SIGKILL)
    execution.wait()


def test_a_file_beyond_the_disk_limit_ends_its_writer(sandbox: Sandbox) -> None:
    # The limit is set from outside a moment after the start.
    script = "sleep 0.3; exec head -c 9000000 /dev/zero > large"
    assert ran(sandbox, script, disk_mib=3)[0] == -signal.SIGXFSZ
    assert (sandbox.work / "large").stat().st_size == 3 << 20


def test_repr_tells_the_story(sandbox: Sandbox) -> None:
    execution = Execution(a_program(), sandbox, environment_in(sandbox, "h"))
    assert repr(execution) == "<Execution of w.1, process None>"
    assert execution.members() == []
    assert not execution.is_limited
    assert stat.S_ISREG(os.fstat(sandbox.stdout).st_mode)


def test_a_process_is_told_from_another_with_its_number() -> None:
    child = subprocess.Popen(["sleep", "100"])
    one = processes.process(child.pid)
    assert one is not None
    other = processes.Process(**{**vars(one), "started": one.started - 1})
    assert not processes.send(other, signal.SIGKILL)
    assert alive(child.pid)
    assert processes.send(one, signal.SIGKILL)
    child.wait()
    assert not processes.send(one, signal.SIGKILL)


def test_an_old_kernel_is_served_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    child = subprocess.Popen(["sleep", "100"])
    one = processes.process(child.pid)
    assert one is not None
    other = processes.Process(**{**vars(one), "started": one.started - 1})
    assert not processes.send(other, signal.SIGKILL)
    assert processes.send(one, signal.SIGKILL)
    child.wait()
