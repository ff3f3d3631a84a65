"""The client against a real server and real workers: Python, functions, and `xw` as it is typed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from desktopgrid.client import GridExecutor, NamedData, PrivateWorks, RemoteError, WorkFailed
from desktopgrid.client import runner as runner_module
from desktopgrid.client.futures import RUNNER
from desktopgrid.client.grid import Grid
from desktopgrid.model.errors import AccessDenied, NotAuthenticated, UnknownObject
from desktopgrid.model.lifecycle import WorkStatus
from desktopgrid.model.objects import ANY_PLATFORM, Description, new_uid
from desktopgrid.wire import messages as m
from tests.system.processes import ServerUnderTest, a_grid, environment, until

SAY = b"""#!/bin/sh
echo "$@"
[ -f in.txt ] && cat in.txt
[ -f lib.txt ] && cat lib.txt
cat
head -c ${SIZE:-0} /dev/zero > big
exit ${CODE:-0}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerUnderTest]:
    """A grid with one public worker."""
    with a_grid(tmp_path_factory.mktemp("client")) as server:
        server.worker("public")
        yield server


@pytest.fixture(scope="module")
def grid(server: ServerUnderTest) -> Grid:
    """Its administrator, with the applications `say` and `python`."""
    grid = server.client()
    grid.send_application("say", SAY, ANY_PLATFORM)
    grid.send_application("python", RUNNER.read_bytes(), ANY_PLATFORM)
    until(lambda: list(grid.objects("hosts")), "the worker is there")
    return grid


@pytest.fixture(scope="module")
def alice(server: ServerUnderTest, grid: Grid) -> Grid:
    """A standard user."""
    uid = new_uid()
    grid.session.ask(m.SendUser(uid, "alice", password="correct horse"))
    return server.client(grid.new_identity("client", user=uid))


def test_everything_that_goes_along_is_there_and_all_that_is_left_comes_back(
    grid: Grid, tmp_path: Path
) -> None:
    (tmp_path / "lib.txt").write_text("from the environment\n")
    from desktopgrid.client.files import environment_of

    env = grid.send_data(environment_of(tmp_path / "lib.txt"), "env.zip")
    stdin = grid.send_data(b"from standard input\n", "stdin")
    data = grid.send_data(b"from a file\n", "in")
    what = Description(
        "say",
        stdin=stdin.uid,
        env=env.uid,
        inputs=(("in.txt", data.uid),),
        variables=(("SIZE", "200000"), ("CODE", "3")),
        outputs=("big",),
    )
    result = grid.run(what, ["hello", "a b"], timeout=60)
    assert (result.status, result.exit_code) == (WorkStatus.COMPLETED, 3)
    assert result.stdout.decode().splitlines() == [
        "hello a b",
        "from a file",
        "from the environment",
        "from standard input",
    ]
    grid.fetch(result, tmp_path / "out")
    assert (tmp_path / "out/big").stat().st_size == 200_000
    (stored,) = grid.results([result.work])
    assert (stored.stdout, stored.outputs, stored.host) == (
        result.stdout,
        result.outputs,
        result.host,
    )
    assert stored.usage.wall > 0


def test_a_sweep_is_waited_for_listed_and_explained(grid: Grid) -> None:
    sweep = grid.sweep(Description("say", label="sweep"), [[str(n)] for n in range(50)])
    results = {result.work: result.stdout for result in grid.wait(sweep.works, timeout=60)}
    assert results == {work: b"%d\n" % n for n, work in enumerate(sweep.works)}
    assert [row["uid"] for row in grid.objects("works", label="sweep")] == list(
        reversed(sweep.works)
    )
    assert list(grid.works_of([sweep.uid])) == list(sweep.works)
    assert len(list(grid.results(sweep.works))) == 50
    assert list(grid.wait(sweep.works, timeout=60)), "works that have ended are told at once"
    assert "50 COMPLETED" in " ".join(grid.why(sweep.uid))


def test_works_are_cancelled(grid: Grid) -> None:
    nowhere = Description("say", requirements='Name == "no such host"')
    sweep = grid.sweep(nowhere, [["a"], ["b"]])
    assert any("waits" in sentence or "host" in sentence for sentence in grid.why(sweep.works[0]))
    assert sorted(grid.cancel([sweep.uid])) == sorted(sweep.works)
    assert {result.status for result in grid.wait(sweep.works, timeout=60)} == {WorkStatus.ABORTED}


def test_refusals_have_their_own_errors(grid: Grid, alice: Grid) -> None:
    with pytest.raises(UnknownObject, match="no-such-application"):
        grid.run(Description("no-such-application"), timeout=60)
    with pytest.raises(AccessDenied):
        alice.send_application("public", SAY, ANY_PLATFORM, rights=0o755)


def cube(number: int) -> int:
    return number**3


def lines_in(path: str) -> int:
    with open(path) as file:
        return len(file.readlines())


def divide(number: int) -> float:
    return number / 0


def test_functions_run_on_the_grid(grid: Grid) -> None:
    data = grid.send_data(b"one\ntwo\n", "lines.txt")
    with GridExecutor(grid) as executor:
        assert list(executor.map(cube, range(30), timeout=60)) == [n**3 for n in range(30)]
        assert list(executor.map(lambda n: n * "x", [70_000], timeout=60)) == ["x" * 70_000]
        promise = executor.submit(lines_in, NamedData(data.uid, "lines.txt"))
        assert promise.result(60) == 2
        with pytest.raises(RemoteError, match="ZeroDivisionError") as raised:
            executor.submit(divide, 1).result(60)
        assert "return number / 0" in raised.value.traceback


def test_pickles_come_from_a_worker_of_ones_own_only(
    server: ServerUnderTest, alice: Grid, tmp_path: Path
) -> None:
    own = tmp_path / "own.identity"
    alice.new_identity("worker").write(own)
    server.worker("alices", identity=own)
    with GridExecutor(alice, results="pickle") as executor:
        with pytest.warns(PrivateWorks, match="under your own identity"):
            promise = executor.submit(complex, 1, 2)
        assert promise.result(60) == 1 + 2j
        assert promise.ended is not None
        (row,) = alice.objects("hosts", (promise.ended.host,))
        assert row["owner"] == "alice"


def test_a_call_that_kills_its_worker_process_says_so(grid: Grid) -> None:
    with GridExecutor(grid) as executor, pytest.raises(WorkFailed, match="no answer"):
        executor.submit(os.abort).result(60)


def test_work_is_awaited_over_a_restart_of_the_server(server: ServerUnderTest, grid: Grid) -> None:
    arrivals = grid.arrivals()
    pinned = Description("say", requirements='Name == "nowhere"')
    waiting = grid.submit(pinned, on_ended=arrivals.tell)
    with GridExecutor(grid) as executor:
        promises = [executor.submit(cube, n) for n in range(20)]
        server.kill()
        server.start()
        assert [promise.result(60) for promise in promises] == [n**3 for n in range(20)]
    grid.cancel([waiting.uid])
    assert next(arrivals.take(1, 60)).status is WorkStatus.ABORTED


def test_xw_from_log_in_to_result(server: ServerUnderTest, alice: Grid, tmp_path: Path) -> None:
    identity = tmp_path / "config/glidebridge/identity.json"

    def xw(*arguments: str | Path, input: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "desktopgrid.client.cli", *map(str, arguments)],
            cwd=tmp_path,
            env={**environment(), "XDG_CONFIG_HOME": str(tmp_path / "config")},
            input=input,
            capture_output=True,
            text=True,
            timeout=60,
        )

    login = ("login", "alice", "--server", server.address, "--ca", server.home.ca_certificate)
    refused = xw(*login, "--password", "-", input="wrong\n")
    assert refused.returncode == 1
    assert "does not know 'alice'" in refused.stderr
    assert xw(*login, "--password", "-", input="correct horse\n").returncode == 0
    assert identity.stat().st_mode & 0o777 == 0o600
    done = xw("submit", "say", "--stdin", "-", "--wait", "--", "hello", input="world\n")
    assert (done.returncode, done.stdout) == (0, "hello\nworld\n"), done.stderr
    submitted = xw("submit", "say", "--range", "N=1..5", "--format", "json", "--", "{N}")
    uid = json.loads(submitted.stdout)[0]["uid"]
    assert xw("wait", uid).returncode == 0
    assert xw("result", uid, "-d", "out").returncode == 0
    assert (tmp_path / f"out/{uid}-4/stdout").read_text() == "5\n"
    tasks = json.loads(xw("tasks", uid, "--format", "json").stdout)
    assert {task["work"] for task in tasks} == {f"{uid}-{n}" for n in range(5)}
    assert "COMPLETED" in xw("works", uid).stdout
    assert "completed" in xw("stats").stdout
    assert xw("logout").returncode == 0
    assert not identity.exists()


def test_a_revoked_client_is_told_at_once(server: ServerUnderTest, grid: Grid) -> None:
    token = grid.new_identity("client")
    other = server.client(token)
    grid.revoke(token.identity)
    with pytest.raises(NotAuthenticated):
        until(lambda: other.stats() is None, "the session ends")


def test_the_runner_that_is_sent_is_the_one_that_is_here() -> None:
    assert Path(runner_module.__file__) == RUNNER
