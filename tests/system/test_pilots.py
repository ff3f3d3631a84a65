"""Pilots end to end: `pilot` as it is typed, a real HTCondor pool, processes of this machine."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from condor.personal import LoopbackPool
from desktopgrid.client.grid import Grid
from desktopgrid.client.pilots import PilotRecord
from desktopgrid.model.lifecycle import WorkStatus
from desktopgrid.model.objects import ANY_PLATFORM, Description, Result
from desktopgrid.model.sites import read_sites
from pilot.factory.provision import pilot_arguments, submit_pilots
from tests.pools import a_pool
from tests.system.processes import Process, ServerUnderTest, run, until

ALIVE_PERIOD = 20.0
"""Seconds: a host that goes silent is lost after three of them."""
LEASE = 3 * ALIVE_PERIOD

POOL_SITE = """
[site {name}]
computing_element = condor
address = {address}
token = {token}
max_idle = 10
memory_mib = 200
disk_mib = 100
{more}
"""
LOCAL_SITE = """
[site {name}]
computing_element = local
memory_mib = 200
disk_mib = 100
{more}
"""

WAIT = b"""#!/bin/sh
# Runs until it is told by a file to end.
while [ ! -e "$1" ]; do sleep 0.05; done
echo "$1"
"""


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A directory that the account of the pool's daemons may look into."""
    with tempfile.TemporaryDirectory(prefix="glidebridge-pilots-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def pool(htcondor_prefix: Path) -> Iterator[LoopbackPool]:
    """A pool of our own: its jobs are looked at."""
    with a_pool(htcondor_prefix) as pool:
        yield pool


class Stage:
    """A grid with sites, and the command `pilot` for it."""

    def __init__(self, server: ServerUnderTest, place: Path) -> None:
        self.server, self.place = server, place
        self.grid: Grid = server.client()
        self.grid.send_application("wait", WAIT, ANY_PLATFORM)
        self.record = PilotRecord(self.grid)

    def pilot(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run `pilot` as the administrator on the server's machine; it ends with ``code``."""
        start = "import sys; from pilot.cli import main; sys.argv[0] = 'pilot'; main()"
        identity = str(self.server.home.admin_identity)
        done = run(start, "--identity", identity, *arguments)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done

    def submit(self, site: str, count: int = 1) -> list[str]:
        """New pilots at ``site``."""
        return self.pilot("submit", "--site", site, "-n", str(count)).stdout.split()

    def status(self, stamp: str) -> dict[str, Any]:
        """What `pilot status` shows of one pilot."""
        (row,) = json.loads(self.pilot("status", stamp, "--format", "json").stdout)
        return dict(row)

    def eventually(self, stamp: str, *statuses: str) -> dict[str, Any]:
        """Its row once it has one of these statuses, as `pilot status` finds out."""
        found: list[dict[str, Any]] = []

        def is_there() -> bool:
            found[:] = [self.status(stamp)]
            return found[0]["status"] in statuses

        until(is_there, f"pilot {stamp} is {' or '.join(statuses)}: {found}")
        return found[0]

    def recorded(self, stamp: str) -> str:
        """Its status on record; nobody is asked."""
        return self.record.pilots([stamp])[0].status.value

    def hosts(self, *stamps: str) -> list[dict[str, Any]]:
        """The hosts of these pilots, once all have made contact."""

        def rows() -> list[dict[str, Any]]:
            return [row for row in self.grid.objects("hosts") if row["pilot"] in stamps]

        until(lambda: len(rows()) == len(stamps), "the pilots have made contact")
        return rows()

    def start_waiting(self, name: str) -> tuple[str, Path]:
        """A work that runs until the file is there, and that file."""
        flag = self.place / name
        return self.grid.submit(Description("wait"), [str(flag)]).works[0], flag

    def busy_and_idle(self, site: str, name: str) -> tuple[str, str, str, Path]:
        """Two pilots, one of which runs a work: the busy one, the other, the work and its file."""
        stamps = self.submit(site, 2)
        self.hosts(*stamps)
        work, flag = self.start_waiting(name)
        busy: list[str] = []

        def one_is_busy() -> bool:
            busy[:] = [pilot.stamp for pilot in self.record.pilots(stamps) if pilot.tasks]
            return bool(busy)

        until(one_is_busy, "one of them has the work")
        self.task_on(work, busy[0])
        (idle,) = set(stamps) - set(busy)
        return busy[0], idle, work, flag

    def task_on(self, work: str, stamp: str) -> None:
        """Wait until ``work`` runs on the host of a pilot."""

        def runs() -> bool:
            (row,) = self.grid.objects("works", [work])
            (pilot,) = self.record.pilots([stamp])
            return row["status"] == "RUNNING" and pilot.tasks == 1

        until(runs, f"{work} runs on the host of {stamp}")

    def finish(self, work: str, flag: Path) -> Result:
        """Let it end; its result."""
        flag.touch()
        (result,) = self.grid.wait([work], timeout=30)
        assert (result.status, result.exit_code) == (WorkStatus.COMPLETED, 0)
        return result


@contextlib.contextmanager
def a_stage(place: Path, sites: dict[str, str]) -> Iterator[Stage]:
    server = ServerUnderTest(place, alive_period=f"{ALIVE_PERIOD:g} s")
    for name, text in sites.items():
        (server.place / "sites.d" / f"{name}.conf").write_text(text)
    try:
        server.start()
        yield Stage(server, place)
    finally:
        server.close()


def pool_site(pool: LoopbackPool, name: str, more: str = "") -> str:
    token = pool.token_directory("ada") / "token"
    return POOL_SITE.format(name=name, address=pool.schedd_address, token=token, more=more)


@pytest.fixture(autouse=True, scope="module")
def state(place: Path) -> Iterator[None]:
    """Where the local door keeps its pilots."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(place / "state"))
        yield


@pytest.fixture(scope="module")
def stage(place: Path, pool: LoopbackPool) -> Iterator[Stage]:
    """The grid of most tests."""
    sites = {
        "pool": pool_site(pool, "pool", "wall_time = 2 h"),
        "brief": pool_site(pool, "brief", "idle_time = 2 s"),
        "snakeless": pool_site(pool, "snakeless", "python = /no/such/python3"),
        "bare": LOCAL_SITE.format(name="bare", more="python = /no/such/python3"),
        "here": LOCAL_SITE.format(name="here", more="max_pilots = 3\nmax_idle = 3"),
        "hasty": LOCAL_SITE.format(name="hasty", more="idle_time = 1 s"),
    }
    (place / "main").mkdir(mode=0o755)
    with a_stage(place / "main", sites) as stage:
        yield stage


@pytest.fixture(autouse=True)
def nothing_stays(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test's works and pilots go with it, even where it fails."""
    yield
    if "stage" in request.fixturenames:
        stage = request.getfixturevalue("stage")
        stage.grid.cancel([work["uid"] for work in stage.grid.objects("works")])
        for site in {pilot.site for pilot in stage.record.pilots() if not pilot.is_over}:
            stage.pilot("remove", "--site", site, "--now")


def jobs(pool: LoopbackPool, stamp: str) -> list[list[str]]:
    """JobStatus and NumJobStarts of a pilot's job, if it is in the queue."""
    names = ["JobStatus", "NumJobStarts"]
    constraint = f'GlidebridgeStamp == "{stamp}"'
    told = pool.tool("condor_q", "-all", "-constraint", constraint, "-af", *names)
    return [line.split() for line in told.splitlines()]


def job_of(stage: Stage, stamp: str) -> str:
    (pilot,) = stage.record.pilots([stamp])
    return pilot.reference.partition("#")[2]


def process_of(stamp: str) -> int:
    """The process of a pilot in a pool: the one whose job's ad has its stamp."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if b"pilot.pyz" not in (entry / "cmdline").read_bytes():
                continue
            variables = (entry / "environ").read_bytes().decode().split("\0")
            ad = dict(text.partition("=")[::2] for text in variables).get("_CONDOR_JOB_AD")
            if ad and stamp in Path(ad).read_text():
                return int(entry.name)
    raise AssertionError(f"pilot {stamp} has no process")


@pytest.mark.feature("XW-PIL-1")
def test_pilots_glide_into_a_pool_and_do_works(stage: Stage, pool: LoopbackPool) -> None:
    stamps = stage.submit("pool", 2)
    assert len(set(stamps)) == 2
    hosts = stage.hosts(*stamps)
    for host in hosts:
        assert (host["kind"], host["cores"]) == ("htcondor", 1)
        # The slot's own memory: what was asked for, rounded up by the pool.
        assert 200 <= host["memory_mib"] <= 256
        left = datetime.fromisoformat(host["ends_at"]).timestamp() - time.time()
        assert timedelta(hours=1.9).total_seconds() < left <= timedelta(hours=2).total_seconds()
    # Nothing secret is left where others' jobs run.
    assert not list((pool.directory / "execute").glob("dir_*/pilot.identity"))
    flag = stage.place / "at-once"
    flag.touch()
    sweep = stage.grid.sweep(Description("wait"), [[str(flag)]] * 20)
    results = list(stage.grid.wait(sweep.works, timeout=60))
    assert {result.exit_code for result in results} == {0}
    assert {stage.status(stamp)["status"] for stamp in stamps} == {"Running"}
    assert sum(stage.status(stamp)["tasks_done"] for stamp in stamps) == 20


def test_removal_has_two_phases(stage: Stage, pool: LoopbackPool) -> None:
    busy, idle, work, flag = stage.busy_and_idle("pool", "two-phases")
    refused = stage.pilot("remove", "--site", "pool", "--patience", "1", code=1)
    assert refused.stdout.split() == [idle]
    assert f"1 pilot still busy: {busy}." in refused.stderr
    assert stage.recorded(idle) == "Deleted"
    # The busy one ends what it does, and goes by itself.
    result = stage.finish(work, flag)
    assert result.work == work
    until(lambda: stage.recorded(busy) == "Deleted", "the busy one has gone")
    until(lambda: not running(jobs(pool, busy) + jobs(pool, idle)), "their jobs are gone")


def running(found: list[list[str]]) -> bool:
    """Whether one of these jobs may still run: it is neither removed nor completed."""
    return any(status not in ("3", "4") for status, _ in found)


def test_a_busy_pilot_can_be_taken_at_once_and_its_work_goes_elsewhere(stage: Stage) -> None:
    first, second, work, flag = stage.busy_and_idle("pool", "taken-at-once")
    started = time.monotonic()
    assert stage.pilot("remove", first, "--now").stdout.split() == [first]
    stage.task_on(work, second)
    assert time.monotonic() - started < LEASE / 2
    stage.finish(work, flag)
    assert stage.recorded(first) == "Deleted"


@pytest.mark.parametrize("tool", ["condor_vacate_job", "condor_hold"])
def test_what_a_pool_takes_back_is_returned_at_once(
    stage: Stage, pool: LoopbackPool, tool: str
) -> None:
    first, second, work, flag = stage.busy_and_idle("pool", tool)
    started = time.monotonic()
    pool.tool(tool, job_of(stage, first), identity="ada")
    stage.task_on(work, second)
    assert time.monotonic() - started < LEASE / 2
    stage.finish(work, flag)
    until(lambda: stage.recorded(first) == "Aborted", "the first has taken leave")
    assert "told to go (SIGTERM)" in stage.pilot("why", first).stdout
    # Its secret is used up: the job does not start a second time, and does not stay.
    stage.pilot("status", "--site", "pool")
    until(lambda: not running(jobs(pool, first)), "its job has gone")
    assert {starts for _, starts in jobs(pool, first)} <= {"1"}


@pytest.mark.feature("XW-PIL-7")
def test_the_work_of_a_killed_pilot_is_done_elsewhere(stage: Stage) -> None:
    first, second, work, flag = stage.busy_and_idle("pool", "killed")
    started = time.monotonic()
    os.kill(process_of(first), signal.SIGKILL)
    reason = stage.eventually(first, "Failed")["reason"]
    assert reason.startswith("killed by signal 9 on slot")
    stage.task_on(work, second)
    assert time.monotonic() - started < LEASE / 2
    stage.finish(work, flag)


@pytest.mark.parametrize("site", ["brief", "hasty"])
def test_a_pilot_that_has_nothing_to_do_goes(stage: Stage, site: str) -> None:
    (stamp,) = stage.submit(site)
    until(lambda: stage.recorded(stamp) == "Done", "it has gone")
    assert stage.status(stamp)["reason"].startswith("it had no task for")


def test_a_pool_without_the_site_s_python_is_explained(stage: Stage, pool: LoopbackPool) -> None:
    (stamp,) = stage.submit("snakeless")
    reason = stage.eventually(stamp, "Failed")["reason"]
    assert reason.startswith("on hold: its process could not be started")
    assert "/no/such/python3" in reason
    assert "/no/such/python3" in stage.pilot("why", stamp).stdout
    # What has failed leaves nothing in the queue.
    until(lambda: not jobs(pool, stamp), "the held job was removed")


def test_a_machine_without_the_site_s_python_is_explained(stage: Stage) -> None:
    (stamp,) = stage.submit("bare")
    reason = stage.eventually(stamp, "Failed")["reason"]
    assert reason.startswith("ended with exit code 127; it said: timeout: failed to run command")
    assert "/no/such/python3" in stage.pilot("why", stamp).stdout


@pytest.mark.parametrize("site", ["brief", "hasty"])
def test_a_pilot_without_a_way_to_the_server_is_explained(stage: Stage, site: str) -> None:
    grid = stage.server.client()
    grid.session.identity = replace(grid.session.identity, servers=("https://127.0.0.1:1",))
    sites = read_sites(stage.server.home.sites_directory)
    (stamp,) = submit_pilots(grid, sites[site], 1)
    reason = stage.eventually(stamp, "Failed")["reason"]
    assert reason.startswith("ended with exit code 4")
    assert "No connection to https://127.0.0.1:1" in reason
    assert "No connection to https://127.0.0.1:1" in stage.pilot("why", stamp).stdout


def test_caps_hold_for_all_who_submit_at_a_time(stage: Stage) -> None:
    start = "from pilot.cli import main; main()"
    command = ["--identity", str(stage.server.home.admin_identity), "submit", "--site", "here"]
    with ThreadPoolExecutor(8) as threads:
        done = list(threads.map(lambda _: run(start, *command), range(8)))
    assert sorted(each.returncode for each in done) == [0] * 3 + [1] * 5
    for each in done:
        if each.returncode:
            assert "count against max_" in each.stderr
            assert len(each.stderr.splitlines()) == 1
    pilots = stage.record.pilots(site="here")
    assert len([pilot for pilot in pilots if not pilot.is_over]) == 3
    assert len([pilot for pilot in pilots if pilot.reference]) == 3


def test_a_secret_used_twice_is_refused_and_the_first_goes_on(stage: Stage) -> None:
    site = read_sites(stage.server.home.sites_directory)["here"]
    (identity,) = stage.record.mint(1)
    stage.record.add(site.name, [identity], timedelta(minutes=5), timedelta(minutes=5))
    program = stage.place / "twice.pyz"
    stage.pilot("bundle", str(program))
    started = []
    for name in ("first", "second"):
        directory = stage.place / name
        directory.mkdir()
        identity.write(directory / "pilot.identity")
        command = [str(program), *pilot_arguments(site)]
        started.append(Process(command, stage.place / f"{name}.log", directory))
        if name == "first":
            stage.hosts(identity.identity)
    first, second = started
    try:
        assert second.wait(30) == 3
        assert "refused" in second.log.read_text()
        (host,) = stage.hosts(identity.identity)
        assert (host["status"], first.is_running) == ("active", True)
        assert not (stage.place / "first" / "pilot.identity").exists()
        assert "was used a second time" in stage.server.log
    finally:
        first.stop()


def test_pilots_on_this_machine_leave_nothing(stage: Stage) -> None:
    (stamp,) = stage.submit("here")
    (host,) = stage.hosts(stamp)
    assert (host["kind"], host["cores"], host["memory_mib"]) == ("local", 1, 200)
    work, flag = stage.start_waiting("here")
    stage.finish(work, flag)
    assert stage.pilot("remove", stamp).stdout.split() == [stamp]
    assert stage.recorded(stamp) == "Deleted"
    (own,) = Path(os.environ["XDG_STATE_HOME"]).glob(f"glidebridge/pilots/here/{stamp}")
    assert {path.name for path in own.iterdir() if path.name[0] != "."} == {"out", "err"}
    command = [entry.read_bytes() for entry in Path("/proc").glob("[0-9]*/environ") if owned(entry)]
    assert not [text for text in command if str(own).encode() in text]


def owned(path: Path) -> bool:
    """Whether we may look at it, and it is there."""
    try:
        path.read_bytes()
    except OSError:
        return False
    return True


def test_no_secret_of_a_submission_stays_here(stage: Stage) -> None:
    before = set(Path(tempfile.gettempdir()).glob("glidebridge-enrolment-*"))
    stage.submit("pool")
    left = set(Path(tempfile.gettempdir()).glob("glidebridge-enrolment-*")) - before
    assert not left


def test_sites_are_listed_with_their_caps(stage: Stage) -> None:
    rows = json.loads(stage.pilot("sites", "--format", "json").stdout)
    (here,) = [row for row in rows if row["site"] == "here"]
    assert (here["max_pilots"], here["described"]) == (3, True)


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["submit", "--site", "nowhere"], "there is no site 'nowhere' in "),
        (["why", "nobody"], "there is no work or pilot 'nobody' that you may see"),
        (["remove", "nobody"], "there is no pilot 'nobody' that you may see"),
        (["--sites", "/no/such", "submit", "--site", "pool"], "there is no directory /no/such"),
    ],
)
def test_what_is_not_there_is_said_in_one_sentence(
    stage: Stage, arguments: list[str], sentence: str
) -> None:
    refused = stage.pilot(*arguments, code=1)
    assert refused.stderr.startswith(f"pilot: {sentence}")
    assert len(refused.stderr.splitlines()) == 1


def test_a_stopped_schedd_is_unknown_and_nothing_changes(
    place: Path, htcondor_prefix: Path
) -> None:
    (place / "stopped").mkdir(mode=0o755)
    with a_pool(htcondor_prefix, cores=2) as pool:
        sites = {"lal": pool_site(pool, "lal")}
        with a_stage(place / "stopped", sites) as stage:
            (stamp,) = stage.submit("lal")
            stage.hosts(stamp)
            pool.stop()
            before = stage.record.pilots()
            for arguments in (["submit", "--site", "lal"], ["remove", "--site", "lal"]):
                refused = stage.pilot(*arguments, code=1)
                assert len(refused.stderr.splitlines()) == 1
                assert "cannot be asked" in refused.stderr
            told = stage.pilot("status", code=1)
            assert "Site lal could not be asked, its pilots stay as they are" in told.stderr
            assert "cannot be asked" in stage.pilot("why", stamp).stdout
            after = stage.record.pilots()
            assert [p.stamp for p in after] == [p.stamp for p in before]
    shutil.rmtree(place / "stopped")
