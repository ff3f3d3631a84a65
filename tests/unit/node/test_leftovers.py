"""No process of a task outlives it, whatever it does, and whatever becomes of the worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pilot.node import leftovers, processes
from pilot.node.executor import HOST_VARIABLE
from pilot.node.storage import Running
from tests.unit.node.fakes import until

ROOT = Path(__file__).parents[3]
WORKER = Path(__file__).with_name("worker_process.py")
NOWHERE = Path("/no/such/directory")
Start = Callable[..., "subprocess.Popen[str]"]


def alive(pid: int) -> bool:
    one = processes.process(pid)
    return one is not None and not one.is_zombie


def pid_in(path: Path) -> int:
    until(lambda: path.exists() and path.read_text().strip())
    return int(path.read_text())


@pytest.fixture
def a_worker(tmp_path: Path) -> Iterator[Start]:
    """Starts a worker process with scripts for tasks."""
    workers: list[subprocess.Popen[str]] = []

    def start(*scripts: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-B", str(WORKER), str(tmp_path / "w"), *scripts]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        worker = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        workers.append(worker)
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
        return worker

    yield start
    for worker in workers:
        worker.kill()
        worker.communicate()
    assert (
        leftovers.end_earlier((tmp_path / "w" / "host").read_text().strip(), [], tmp_path / "w")
        == 0
    )


def line(worker: subprocess.Popen[str]) -> str:
    assert worker.stdout is not None
    return worker.stdout.readline()


WRITTEN = " while ! test -s {child}; do :; done"
DAEMON = 'sh -c "echo \\$\\$ > {child}; exec /bin/sleep 1000" &'
ESCAPES = {
    "background": "sleep 1000 & echo $! > {child}",
    "session": "setsid sh -c 'echo $$ > {child}; exec sleep 1000' &" + WRITTEN,
    "daemon": f"setsid sh -c '{DAEMON}' &" + WRITTEN,
    "nameless daemon": f"setsid env -i sh -c '{DAEMON}' &" + WRITTEN,
    "deaf": "(trap '' TERM; echo $$ > {child}; while :; do sleep 1; done) &" + WRITTEN,
}


@pytest.mark.parametrize("way", ESCAPES)
def test_no_descendant_outlives_its_task(a_worker: Start, tmp_path: Path, way: str) -> None:
    child = tmp_path / "child"
    worker = a_worker(ESCAPES[way].format(child=child))
    assert line(worker) == "finished w.1\n"
    pid = pid_in(child)
    until(lambda: not alive(pid), 5)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0


def test_a_daemon_of_a_task_that_runs_is_let_live(a_worker: Start, tmp_path: Path) -> None:
    first, second, done = tmp_path / "first", tmp_path / "second", tmp_path / "done"
    daemon = f"setsid sh -c '{DAEMON}' & while ! test -e {{until}}; do sleep 0.02; done"
    worker = a_worker(
        daemon.format(child=first, until=done),
        f"while ! test -s {first}; do sleep 0.02; done;" + ESCAPES["daemon"].format(child=second),
    )
    words = {line(worker), line(worker)}
    if "finished w.2\n" not in words:
        assert line(worker) == "finished w.2\n"
    until(lambda: not alive(pid_in(second)), 5)
    assert alive(pid_in(first)), "its task still runs"
    done.touch()
    until(lambda: not alive(pid_in(first)), 10)


@pytest.mark.parametrize("way", ESCAPES)
def test_a_killed_workers_tasks_are_ended_by_the_next(
    a_worker: Start, tmp_path: Path, way: str
) -> None:
    child, leader = tmp_path / "child", tmp_path / "leader"
    script = f"echo $$ > {leader}; " + ESCAPES[way].format(child=child) + "; sleep 1000"
    worker = a_worker(script)
    pids = [pid_in(leader), pid_in(child)]
    assert line(worker) == "started w.1\n"
    worker.kill()
    worker.wait()
    assert [alive(pid) for pid in pids] == [True, True]
    a_worker()
    assert [alive(pid) for pid in pids] == [False, False]
    assert os.listdir(tmp_path / "w" / "slots") == ["0"]


def test_a_foreign_process_with_a_recorded_number_is_not_hit() -> None:
    foreign = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    one = processes.process(foreign.pid)
    assert one is not None
    earlier = Running("w.1", foreign.pid, one.started - 500, one.started - 400)
    assert leftovers.end_earlier("no-such-host", [earlier], NOWHERE) == 0
    assert foreign.poll() is None
    same = Running("w.1", foreign.pid, one.started, one.started + 1)
    assert leftovers.end_earlier("no-such-host", [same], NOWHERE) == 1
    assert foreign.wait(20) == -signal.SIGKILL


def test_another_workers_processes_are_not_hit() -> None:
    environment = {**os.environ, HOST_VARIABLE: "another"}
    foreign = subprocess.Popen(["sleep", "1000"], env=environment)
    until(lambda: processes.environment_of(foreign.pid))
    assert leftovers.end_earlier("mine", [], NOWHERE) == 0
    assert foreign.poll() is None
    assert leftovers.end_earlier("another", [], NOWHERE) == 1
    foreign.wait(20)
