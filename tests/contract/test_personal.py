"""A loopback pool comes up anywhere, beside others, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from condor.errors import CondorError, PoolNotStarted
from condor.jobs import JobStatus
from condor.personal import LoopbackPool
from condor.pool import Schedd, ScheddLocation
from condor.submit import JobDescription
from tests.pools import a_pool

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory that every account can reach, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="glidebridge-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def processes_of(pool: LoopbackPool) -> set[int]:
    """Whatever runs with the pool's configuration, except for its jobs."""
    mark = os.fsencode(f"CONDOR_CONFIG={pool.configuration}")
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                found.add(int(entry.name))
        except OSError:
            continue
    return found


def test_two_pools_run_side_by_side_and_know_nothing_of_each_other(htcondor_prefix: Path) -> None:
    with ExitStack() as stack:
        first = stack.enter_context(a_pool(htcondor_prefix))
        second = stack.enter_context(a_pool(htcondor_prefix))
        assert first.schedd_address != second.schedd_address
        schedds = [
            Schedd(ScheddLocation(address=pool.schedd_address, token=pool.token_directory("alice")))
            for pool in (first, second)
        ]
        job = JobDescription(Path("/bin/true"), on_hold=True)
        (in_first,) = schedds[0].submit([job])
        assert schedds[0].jobs([in_first])[in_first].status == JobStatus.HELD
        assert schedds[1].jobs([in_first]) == {}
        with pytest.raises(PoolNotStarted, match="running already"):
            first.start()


def test_a_pool_that_is_stopped_leaves_no_process(htcondor_prefix: Path) -> None:
    with a_pool(htcondor_prefix) as pool:
        location = ScheddLocation(address=pool.schedd_address, token=pool.token_directory("alice"))
        schedd = Schedd(location)
        (job,) = schedd.submit([JobDescription(Path("/bin/sleep"), ("600",), memory_mib=64)])
        deadline = time.monotonic() + 60
        while schedd.jobs([job])[job].status != JobStatus.RUNNING:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert processes_of(pool)
        pool.stop()
        assert not pool.is_running()
        assert processes_of(pool) == set()
        pool.stop()


def test_a_pool_whose_master_hangs_is_stopped_all_the_same(
    htcondor_prefix: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("condor.personal.STOP_SECONDS", 0.5)
    with a_pool(htcondor_prefix) as pool:
        master = int((pool.directory / "master.pid").read_text().split()[0])
        os.kill(master, signal.SIGSTOP)
        pool.stop()
        assert not pool.is_running()
        assert processes_of(pool) == set()


def test_a_long_path_and_a_setting_of_ones_own(htcondor_prefix: Path, directory: Path) -> None:
    deep = directory / ("long" * 20) / "pool"
    with LoopbackPool(
        htcondor_prefix, deep, cores=1, STARTD_ATTRS="Colour", Colour='"red"'
    ) as pool:
        assert pool.tool("condor_status", "-af", "Colour", "Cpus").split() == ["red", "1"]
        assert (deep / "sockets").is_symlink()
    assert not (deep / "sockets").exists()


def test_a_token_is_somebody_without_an_account(htcondor_prefix: Path) -> None:
    with a_pool(htcondor_prefix) as pool:
        ping = ("condor_ping", "-type", "schedd", "-table", "WRITE")
        assert "alice@glidebridge.pool" in pool.tool(*ping, identity="alice")
        token = pool.token_directory("alice") / "token"
        assert token.stat().st_mode & 0o777 == 0o600
        token.chmod(0o644)
        assert pool.token_directory("alice") == token.parent
        assert token.stat().st_mode & 0o777 == 0o600


def test_a_prefix_without_htcondor_is_named(directory: Path) -> None:
    pool = LoopbackPool(directory / "nothing", directory / "pool")
    with pytest.raises(PoolNotStarted, match=r"there is no .*/nothing/usr/sbin/condor_master"):
        pool.start()
    with pytest.raises(CondorError, match=r"has no log/\.schedd_address"):
        _ = pool.schedd_address


def test_a_setting_that_htcondor_refuses_is_shown(htcondor_prefix: Path, directory: Path) -> None:
    pool = LoopbackPool(htcondor_prefix, directory / "pool", DAEMON_LIST="MASTER, NOSUCH")
    with pytest.raises(PoolNotStarted):
        pool.start()
    assert not pool.is_running()


def test_the_command_starts_shows_and_stops_a_pool(htcondor_prefix: Path, directory: Path) -> None:
    def command(what: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                *(sys.executable, "-m", "condor.personal", what, str(directory / "pool")),
                *("--prefix", str(htcondor_prefix), "--cores", "3", "--set", "STARTD_ATTRS=Cpus"),
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    assert command("status").returncode == 1
    started = command("start")
    try:
        assert started.returncode == 0, started.stderr
        assert "export CONDOR_CONFIG=" in started.stdout
        assert command("start").returncode == 0
        shell = "; ".join([*started.stdout.splitlines()[1:], "condor_status -af Cpus"])
        shown = subprocess.run(
            ["/bin/sh", "-c", shell], capture_output=True, text=True, timeout=60, check=True
        )
        assert shown.stdout.split() == ["3"]
    finally:
        stopped = command("stop")
    assert stopped.returncode == 0
    assert "is down" in command("status").stdout
