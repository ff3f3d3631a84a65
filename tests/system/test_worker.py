"""Workers and pilots as processes, with a real server: their tasks, and their bad luck."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from desktopgrid.client.grid import Grid
from desktopgrid.link.identity import Identity
from desktopgrid.model.lifecycle import WorkStatus
from desktopgrid.model.objects import UID, Description, Result, new_uid
from desktopgrid.wire import messages as m
from desktopgrid.wire.proof import new_secret, verifier_of
from pilot import bundle
from pilot.node import processes
from tests.system.processes import Process, ServerUnderTest, a_grid, until

SHELL = "shell"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerUnderTest]:
    with a_grid(tmp_path_factory.mktemp("grid")) as grid:
        yield grid


@pytest.fixture(scope="module")
def grid(server: ServerUnderTest) -> Grid:
    """The administrator's session; the application `shell` runs its argument."""
    client = server.client()
    client.send_application(SHELL, Path("/bin/sh"))
    return client


@pytest.fixture
def worker(server: ServerUnderTest) -> Iterator[Process]:
    """A worker with two slots; it is gone after the test, and so is its host's work."""
    process = server.worker(f"worker-{new_uid()[-6:]}")
    yield process
    process.kill()


def run(grid: Grid, script: str, **more: object) -> Result:
    """Run ``script`` as a work to its end."""
    return grid.run(Description(SHELL, **more), ["-c", script])  # type: ignore[arg-type]


def submit(grid: Grid, script: str, **more: object) -> UID:
    return grid.submit(Description(SHELL, **more), ["-c", script]).works[0]  # type: ignore[arg-type]


def end_of(grid: Grid, work: UID) -> Result:
    [result] = grid.wait([work], timeout=60)
    return result


def status_of(grid: Grid, work: UID) -> str:
    [row] = grid.objects("works", [work])
    return str(row["status"])


def alive(pid: int) -> bool:
    one = processes.process(pid)
    return one is not None and not one.is_zombie


def pid_in(path: Path) -> int:
    return int(until(lambda: path.exists() and path.read_text().strip(), f"{path} is written"))


def test_files_go_there_and_back(grid: Grid, worker: Process, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("input ")
    (tmp_path / "big").write_bytes(os.urandom(3 << 20))
    small = grid.send_data(tmp_path / "in")
    big = grid.send_data(tmp_path / "big")
    result = run(
        grid,
        "cat; cat a/in; echo $GREETING; cat big > copy; sha256sum big >&2",
        stdin=small.uid,
        inputs=(("a/in", small.uid), ("big", big.uid)),
        variables=(("GREETING", "hello"),),
    )
    assert (result.status, result.exit_code) == (WorkStatus.COMPLETED, 0)
    assert result.stdout == b"input input hello\n"
    assert result.stderr.split()[0].decode() == big.sha256
    [copy] = grid.fetch(result, tmp_path / "result")[-1:]
    found = {path.name: path for path in (tmp_path / "result").rglob("*")}
    assert hashlib.sha256(found["copy"].read_bytes()).hexdigest() == big.sha256
    assert copy.exists()


def test_a_work_that_fails_says_how(grid: Grid, worker: Process) -> None:
    result = run(grid, "echo no >&2; exit 7")
    assert (result.status, result.exit_code, result.stderr) == (WorkStatus.COMPLETED, 7, b"no\n")


def test_a_work_that_breaks_its_limit_is_told_so(grid: Grid, worker: Process) -> None:
    result = run(grid, "sleep 100", wall_time=1)
    assert result.status is WorkStatus.ERROR
    assert "it ran longer than 1 s" in result.reason


def test_a_cancelled_work_is_ended_on_its_host(grid: Grid, worker: Process, tmp_path: Path) -> None:
    work = submit(grid, f"echo $$ > {tmp_path}/pid; sleep 1000")
    pid = pid_in(tmp_path / "pid")
    grid.cancel([work])
    assert end_of(grid, work).status is WorkStatus.ABORTED
    until(lambda: not alive(pid), "the process is gone")


def test_a_damaged_input_is_fetched_again(
    grid: Grid, server: ServerUnderTest, tmp_path: Path
) -> None:
    (tmp_path / "in").write_text("the right input")
    data = grid.send_data(tmp_path / "in")
    worker = server.worker("damaged")
    assert run(grid, "cat in", inputs=(("in", data.uid),)).stdout == b"the right input"
    cached = server.directory / "damaged" / "cache" / data.sha256
    cached.chmod(0o644)
    cached.write_text("the WRONG input")
    assert run(grid, "cat in", inputs=(("in", data.uid),)).stdout == b"the right input"
    worker.kill()


def test_a_worker_killed_hard_leaves_no_process_and_no_work_behind(
    grid: Grid, server: ServerUnderTest, tmp_path: Path
) -> None:
    name = "killed"
    worker = server.worker(name)
    work = submit(
        grid,
        f"test -e {tmp_path}/pid && echo again && exit; echo $$ > {tmp_path}/pid; sleep 1000",
    )
    pid = pid_in(tmp_path / "pid")
    host = (server.directory / name / "host").read_text()
    worker.kill()
    assert alive(pid)
    worker = server.worker(name)
    assert end_of(grid, work).stdout == b"again\n"
    assert not alive(pid)
    assert (server.directory / name / "host").read_text() == host
    worker.kill()


def test_a_worker_that_is_told_to_go_gives_its_work_to_another(
    grid: Grid, server: ServerUnderTest, tmp_path: Path
) -> None:
    first = server.worker("leaving")
    work = submit(
        grid,
        f"test -e {tmp_path}/pid && echo again && exit; echo $$ > {tmp_path}/pid; sleep 1000",
    )
    pid = pid_in(tmp_path / "pid")
    second = server.worker("staying")
    assert first.stop() == 0
    assert not alive(pid)
    assert end_of(grid, work).stdout == b"again\n"
    second.kill()


def test_a_result_outlasts_an_absence_of_the_server(tmp_path: Path) -> None:
    with a_grid(tmp_path) as server:
        grid = server.client()
        grid.send_application(SHELL, Path("/bin/sh"))
        server.worker("worker")
        work = submit(
            grid,
            f"touch {tmp_path}/runs; while ! test -e {tmp_path}/go; do sleep 0.05; done;"
            " echo result; echo file > file",
        )
        until((tmp_path / "runs").exists, "the work runs")
        server.kill()
        (tmp_path / "go").touch()
        until(lambda: "Lost the connection" in (tmp_path / "worker.log").read_text(), "it knows")
        server.start()
        result = end_of(grid, work)
        assert result.stdout == b"result\n"
        assert [output.name for output in result.outputs] == ["file"]
        [row] = grid.objects("tasks")
        assert row["work"] == work


# Pilots.


def enrolled(server: ServerUnderTest, grid: Grid, directory: Path) -> tuple[str, Path]:
    """A new pilot of the site `local`: its stamp and its identity file."""
    stamp, secret = new_uid(), new_secret()
    grid.session.ask(m.SubmitPilots("local", {stamp: verifier_of(secret)}))
    path = directory / f"{stamp}.identity"
    replace(server.identity(), kind="pilot", identity=stamp, secret=secret).write(path)
    return stamp, path


def pilot(
    server: ServerUnderTest, identity: Path, *options: str, before: Sequence[str] = ()
) -> Process:
    """The bundle, run as a batch job would; ends with the grid."""
    packed = identity.parent / "pilot.pyz"
    if not packed.exists():
        bundle.write(packed)
    directory = ("--dir", str(identity.with_suffix(".dir")), "--slots", "1")
    start = [*(before or isolated()), str(packed), "--identity", str(identity)]
    command = [*start, *(() if "-i" in before else directory), *options]
    return server._start(command, identity.with_suffix(".log"))


def isolated(python: str = sys.executable) -> Sequence[str]:
    return (python, "-S", "-I")


def pilot_status(grid: Grid, stamp: str) -> str:
    [row] = grid.objects("pilots", [stamp])
    return str(row["status"])


def test_a_pilot_removes_its_secret_works_and_leaves_when_idle(
    grid: Grid, server: ServerUnderTest, tmp_path: Path
) -> None:
    stamp, identity = enrolled(server, grid, tmp_path)
    secret = Identity.read(identity).secret
    process = pilot(server, identity, "--idle", "1")
    result = run(grid, f"test -e {identity} && echo there || echo gone; env; cat /proc/*/cmdline")
    assert result.stdout.startswith(b"gone\n")
    assert secret.encode() not in result.stdout
    assert process.wait() == 0
    assert pilot_status(grid, stamp) == "Done"


def test_a_pilots_secret_is_good_once(grid: Grid, server: ServerUnderTest, tmp_path: Path) -> None:
    _, identity = enrolled(server, grid, tmp_path)
    kept = tmp_path / "kept.identity"
    Identity.read(identity).write(kept)
    process = pilot(server, identity, "--idle", "600")
    until(lambda: not identity.exists(), "the pilot has enrolled")
    thief = pilot(server, kept, "--idle", "600")
    assert thief.wait() == 3
    assert kept.exists()
    assert process.is_running
    assert process.stop() == 0


def test_a_pilot_that_its_site_ends_gives_its_work_back_at_once(
    grid: Grid, server: ServerUnderTest, tmp_path: Path
) -> None:
    _, identity = enrolled(server, grid, tmp_path)
    process = pilot(server, identity, "--grace", "5")
    work = submit(grid, f"echo $$ > {tmp_path}/pid; sleep 1000", retries=0)
    pid = pid_in(tmp_path / "pid")
    assert process.stop(10) == 0
    assert not alive(pid)
    until(lambda: status_of(grid, work) == "WAITING", "it waits for another host", 5)
    grid.cancel([work])


def test_a_pilot_whose_time_is_over_leaves_before_that(
    grid: Grid, server: ServerUnderTest, tmp_path: Path
) -> None:
    stamp, identity = enrolled(server, grid, tmp_path)
    process = pilot(server, identity, "--lifetime", "30")
    assert process.wait(30) == 0, "thirty seconds are less than it keeps for leaving"
    assert pilot_status(grid, stamp) == "Done"


def test_a_pilot_that_is_drained_leaves(
    grid: Grid, server: ServerUnderTest, tmp_path: Path
) -> None:
    stamp, identity = enrolled(server, grid, tmp_path)
    process = pilot(server, identity, "--idle", "600")
    until(lambda: pilot_status(grid, stamp) == "Running", "it has come")
    assert grid.session.ask(m.DrainPilots((stamp,)))["pilots"] == {stamp: "idle"}
    assert process.wait() == 0


def test_a_pilot_serves_on_a_real_python_39(
    grid: Grid, server: ServerUnderTest, tmp_path: Path
) -> None:
    python = os.environ.get("GLIDEBRIDGE_PYTHON39")
    if not python:
        if os.environ.get("GLIDEBRIDGE_REQUIRE_REAL"):
            pytest.fail("GLIDEBRIDGE_PYTHON39 names no Python 3.9")
        pytest.skip("no Python 3.9 here")
    _, identity = enrolled(server, grid, tmp_path)
    process = pilot(server, identity, "--idle", "1", before=isolated(python))
    works = grid.sweep(
        Description(SHELL), [["-c", f"echo {number}; echo x > f"] for number in range(20)]
    ).works
    results = list(grid.wait(works, timeout=60))
    assert {result.stdout for result in results} == {b"%d\n" % number for number in range(20)}
    [host] = [row for row in grid.objects("hosts") if row["uid"] == results[0].host]
    assert host["kind"] == "local"
    assert process.wait() == 0


def test_a_pilot_without_a_path_finds_its_way(
    grid: Grid, server: ServerUnderTest, tmp_path: Path
) -> None:
    """As in a slot of HTCondor: no PATH, so that Python does not know where it is itself."""
    _, identity = enrolled(server, grid, tmp_path)
    ad = tmp_path / ".machine.ad"
    ad.write_text('Name = "slot1@here"\nCpus = 1\nMemory = 512\nDisk = 1048576\n')
    slot = (f"_CONDOR_MACHINE_AD={ad}", f"_CONDOR_SCRATCH_DIR={tmp_path}")
    process = pilot(server, identity, "--idle", "3", before=("/usr/bin/env", "-i", *slot))
    result = run(grid, "echo $PATH")
    [host] = [row for row in grid.objects("hosts") if row["uid"] == result.host]
    assert (host["cores"], host["memory_mib"]) == (1, 512)
    assert result.stdout == b"/usr/local/bin:/usr/bin:/bin\n"
    assert process.wait() == 0
