"""Jobs of a real HTCondor pool on a desktop grid, and home again."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge import faults
from condor.errors import CondorError
from condor.personal import UNPRIVILEGED_ACCOUNT, LoopbackPool
from desktopgrid.model.lifecycle import WorkStatus
from tests.pools import a_pool
from tests.system.bridges import BridgeUnderTest, a_place, condor_route, grid_section
from tests.system.processes import ServerUnderTest, a_grid, until

ENDED = "4"
REMOVED = "3"
HELD = "5"

JOB = """
executable = job.sh
arguments = "{arguments}"
output = out.txt
error = err.txt
log = log.txt
should_transfer_files = YES
when_to_transfer_output = ON_EXIT
+WantDesktopGrid = true
requirements = IsGlidebridge
request_memory = 100
job_max_vacate_time = 20
{more}
queue
"""
COUNTED = """#!/bin/sh
# Leaves a line in the file $1 for each time that it ran, and waits for the file $2.
echo ran >> "$1"
while [ -n "$2" ] && [ ! -e "$2" ]; do sleep 0.05; done
echo "stdout"
echo "made" > made.txt
"""


class Stage:
    """A grid with a worker, a pool with a gateway to it, and users who submit jobs to the pool."""

    def __init__(self, place: Path, pool: LoopbackPool, server: ServerUnderTest) -> None:
        self.place, self.pool, self.server = place, pool, server
        self.grid = server.client()
        self.identities = place / "identities"
        self.identities.mkdir(mode=0o700)
        more = f"identities = {self.identities}"
        configuration = grid_section(server, place / "bridge.json", more)
        configuration += condor_route(pool, place)
        self.bridge = BridgeUnderTest(place / "bridge", configuration)

    def directory(self, name: str) -> Path:
        """Where the job called ``name`` is submitted from, and its output goes."""
        directory = self.place / "jobs" / name
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o777)
        return directory

    def submit(
        self,
        name: str,
        script: str,
        arguments: str = "",
        more: str = "",
        user: str = "alice",
        **files: str,
    ) -> str:
        """Submit a job; its number. Of ``files`` ``__`` stands for a dot."""
        directory = self.directory(name)
        for each, content in {"job.sh": script, **files}.items():
            path = directory / each.replace("__", ".")
            path.write_text(content)
            path.chmod(0o755 if content.startswith("#!") else 0o644)
        (directory / "job.sub").write_text(JOB.format(arguments=arguments, more=more))
        go = f"cd {directory} && condor_submit -terse job.sub"
        return self.pool.tool("sh", "-c", go, identity=user).split()[0]

    def ad(self, job: str, *attributes: str) -> list[str]:
        """What the queue or the history says of a job; nothing while it is between them."""
        for command in ("condor_q", "condor_history"):
            if said := self.pool.tool(command, job, "-af:t", *attributes).rstrip("\n"):
                return said.split("\t")
        return []

    def becomes(self, job: str, status: str) -> None:
        """Wait until HTCondor gives a job this status."""
        found: list[list[str]] = []

        def is_there() -> bool:
            found[:] = [self.ad(job, "JobStatus", "HoldReason")]
            return bool(found[0]) and found[0][0] == status

        try:
            until(is_there, f"job {job} is {status}")
        except AssertionError:
            raise AssertionError(f"job {job}: {found}; {self.bridge.log[-3000:]}") from None

    def act(self, verb: str, job: str) -> None:
        """What a user types: rm, hold, release."""
        self.pool.tool(f"condor_{verb}", job, identity="alice")

    def works(self, job: str) -> list[dict[str, Any]]:
        """The works that were made of a job, the oldest first."""
        rows = list(self.grid.objects("works"))
        return [row for row in reversed(rows) if f"#{job}#" in row["origin"]]

    def work(self, job: str, *statuses: WorkStatus) -> dict[str, Any]:
        """Its one work, once that has one of these statuses."""

        def found() -> list[dict[str, Any]]:
            return [row for row in self.works(job) if WorkStatus(row["status"]) in statuses]

        (row,) = until(found, f"job {job} has a work that is {statuses}: {self.works(job)}")
        return dict(row)

    def counted(self, name: str, is_waiting: bool = True) -> tuple[str, Path, Path]:
        """Arguments of COUNTED, the file with its lines, and that which lets it end."""
        count, gate = self.place / f"{name}.count", self.place / f"{name}.gate"
        return f"{count} {gate if is_waiting else ''}", count, gate


@pytest.fixture(scope="module")
def stage(htcondor_prefix: Path) -> Iterator[Stage]:
    with a_place() as place, a_pool(htcondor_prefix) as pool, a_grid(place / "server") as server:
        made = Stage(place, pool, server)
        server.worker("desk", slots=4)
        made.bridge.run("start")
        try:
            yield made
        finally:
            made.bridge.close()


@pytest.mark.feature("XW-PIL-9")
def test_a_job_goes_over_with_all_it_has_and_comes_home_as_an_ordinary_one(stage: Stage) -> None:
    script = """#!/bin/sh
for word in "$@"; do echo "[$word]"; done
echo "$COLOUR|$ANSWER|$(cat input.txt)|$(cat)"
./helper
mkdir -p deep && echo made > deep/made.txt && echo kept > kept.txt && echo no > left.txt
echo complaint >&2
exit 5
"""
    more = """
environment = "'COLOUR=deep  blue' 'ANSWER=4""2'''"
transfer_input_files = input.txt, helper
transfer_output_files = deep, kept.txt
input = stdin.txt
"""
    arguments = """--row 3 'two  words' 'don''t' '' ""$(DOLLAR)HOME"" )("""
    files = {"input__txt": "input", "stdin__txt": "from stdin"}
    helper = "#!/bin/sh\necho helped\n"
    job = stage.submit("whole", script, arguments, more, helper=helper, **files)
    directory = stage.directory("whole")
    stage.pool.tool("condor_wait", "-wait", "60", str(directory / "log.txt"))
    assert (directory / "out.txt").read_text().splitlines() == [
        *("[--row]", "[3]", "[two  words]", "[don't]", "[]", '["$HOME"]', "[)(]"),
        "deep  blue|4\"2'|input|from stdin",
        "helped",
    ]
    assert (directory / "err.txt").read_text() == "complaint\n"
    assert (directory / "deep/made.txt").read_text() == "made\n"
    assert (directory / "kept.txt").read_text() == "kept\n"
    assert not (directory / "left.txt").exists()
    assert stage.ad(job, "JobStatus", "ExitCode", "ExitBySignal") == [ENDED, "5", "false"]
    events = (directory / "log.txt").read_text()
    assert "Job executing on host" in events
    assert "Normal termination (return value 5)" in events
    work = stage.work(job, WorkStatus.COMPLETED)
    assert work["origin"].startswith("pool/")
    name, wall, memory = stage.ad(
        job, "ChirpGlidebridgeWork", "ChirpGlidebridgeWallTime", "ChirpGlidebridgeMemoryKib"
    )
    assert name == work["uid"]
    assert float(wall) > 0
    assert memory.isdigit()


def test_a_signal_comes_home_as_one(stage: Stage) -> None:
    job = stage.submit("signal", "#!/bin/sh\nkill -USR1 $$\n")
    stage.becomes(job, ENDED)
    assert stage.ad(job, "ExitBySignal", "ExitSignal") == ["true", str(int(signal.SIGUSR1))]


@pytest.mark.feature("XW-PIL-9")
def test_what_is_removed_from_the_pool_stops_on_the_grid(stage: Stage) -> None:
    arguments, count, _ = stage.counted("removed")
    job = stage.submit("removed", COUNTED, arguments)
    until(count.exists, "it runs")
    stage.act("rm", job)
    stage.becomes(job, REMOVED)
    assert stage.work(job, WorkStatus.ABORTED)["reason"] == "cancelled by its user"


def test_what_is_held_stops_and_what_is_released_runs_again(stage: Stage) -> None:
    arguments, count, gate = stage.counted("held")
    job = stage.submit("held", COUNTED, arguments)
    until(count.exists, "it runs")
    stage.act("hold", job)
    stage.becomes(job, HELD)
    stage.work(job, WorkStatus.ABORTED)
    stage.act("release", job)
    until(lambda: count.read_text().count("ran") == 2, "it runs again")
    gate.touch()
    stage.becomes(job, ENDED)
    assert [row["status"] for row in stage.works(job)] == ["ABORTED", "COMPLETED"]
    assert [row["origin"][-2:] for row in stage.works(job)] == ["/0", "/1"]


def test_what_is_cancelled_on_the_grid_is_held_in_the_pool_and_may_be_released(
    stage: Stage,
) -> None:
    arguments, count, gate = stage.counted("cancelled")
    job = stage.submit("cancelled", COUNTED, arguments)
    until(count.exists, "it runs")
    stage.grid.cancel([stage.works(job)[0]["uid"]])
    stage.becomes(job, HELD)
    assert "the desktop grid: cancelled by its user" in " ".join(stage.ad(job, "HoldReason"))
    gate.touch()
    stage.act("release", job)
    stage.becomes(job, ENDED)
    assert count.read_text().count("ran") == 2


def test_what_asks_to_be_tried_again_is_run_again_and_not_answered_from_memory(
    stage: Stage,
) -> None:
    arguments, count, _ = stage.counted("retried", is_waiting=False)
    script = '#!/bin/sh\necho ran >> "$1"\ntest $(wc -l < "$1") -ge 3\n'
    job = stage.submit("retried", script, arguments, "max_retries = 5")
    stage.becomes(job, ENDED)
    assert count.read_text().count("ran") == 3
    assert stage.ad(job, "ExitCode", "NumJobCompletions") == ["0", "3"]


@pytest.mark.feature("XW-PIL-9")
def test_a_workflow_of_dagman_runs_on_the_grid(stage: Stage) -> None:
    """Two works at once, and one that needs what both left."""
    directory = stage.directory("dag")
    (directory / "part.sh").write_text('#!/bin/sh\necho "$1" > "$1.txt"\n')
    (directory / "sum.sh").write_text("#!/bin/sh\ncat a.txt b.txt > sum.txt\n")
    common = "\n".join(
        line
        for line in JOB.format(arguments="$(part)", more="").splitlines()
        if not line.startswith(("executable", "output", "error", "log", "queue"))
    )
    for name, more in (
        ("part", "transfer_output_files = $(part).txt"),
        ("sum", "transfer_input_files = a.txt, b.txt\ntransfer_output_files = sum.txt"),
    ):
        (directory / f"{name}.sh").chmod(0o755)
        text = f"executable = {name}.sh\n{common}\n{more}\nlog = nodes.log\nqueue\n"
        (directory / f"{name}.sub").write_text(text)
    # It does not like its log to be in /tmp, where a test's files are.
    (directory / "dagman.config").write_text("DAGMAN_USE_STRICT = 0\n")
    parts = "".join(f'JOB {n.upper()} part.sub\nVARS {n.upper()} part="{n}"\n' for n in "ab")
    flow = f'CONFIG dagman.config\n{parts}JOB S sum.sub\nVARS S part="s"\nPARENT A B CHILD S\n'
    (directory / "flow.dag").write_text(flow)
    # DAGMan submits as the account that it runs as: that of the pool's daemons.
    account = pwd.getpwnam(UNPRIVILEGED_ACCOUNT) if os.geteuid() == 0 else None
    environment = stage.pool.environment()
    done = subprocess.run(
        ["condor_submit_dag", "flow.dag"],
        cwd=directory,
        env={name: environment[name] for name in ("CONDOR_CONFIG", "PATH")},
        user=account.pw_uid if account else None,
        group=account.pw_gid if account else None,
        extra_groups=[] if account else None,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = directory / "flow.dag.dagman.out"

    def is_over() -> bool:
        return said.exists() and "EXITING WITH STATUS" in said.read_text(errors="replace")

    until(is_over, "the workflow ends", 180.0)
    assert "EXITING WITH STATUS 0" in said.read_text(errors="replace"), said.read_text()[-3000:]
    assert (directory / "sum.txt").read_text() == "a\nb\n"
    mine = [row for row in stage.grid.objects("works") if UNPRIVILEGED_ACCOUNT in row["label"]]
    assert len(mine) == 3


def test_jobs_of_two_users_are_the_works_of_two_users(stage: Stage) -> None:
    user = stage.grid.send_user("bob", level="advanced")
    identity = stage.grid.new_identity("client", "bob", label="bridge")
    identity.write(stage.identities / "bob.json")
    bobs = stage.submit("bobs", "#!/bin/sh\necho bob\n", user="bob")
    alices = stage.submit("alices", "#!/bin/sh\necho alice\n")
    for job in (bobs, alices):
        stage.becomes(job, ENDED)
    assert [row["owner"] for row in stage.works(bobs)] == ["bob"]
    assert [row["owner"] for row in stage.works(alices)] == ["admin"]
    assert (stage.directory("bobs") / "out.txt").read_text() == "bob\n"
    assert user


def test_a_schedd_that_is_restarted_finds_its_jobs_where_they_were(stage: Stage) -> None:
    arguments, count, gate = stage.counted("restarted")
    job = stage.submit("restarted", COUNTED, arguments)
    until(count.exists, "it runs")
    stage.pool.tool("condor_restart", "-fast", "-daemon", "schedd")
    gate.touch()

    def is_over() -> bool:
        try:
            return stage.ad(job, "JobStatus")[:1] == [ENDED]
        except CondorError:
            return False  # it is away

    until(is_over, "the job ends", 180.0)
    assert count.read_text().count("ran") == 1
    assert (stage.directory("restarted") / "out.txt").read_text() == "stdout\n"


@pytest.mark.feature("XW-PIL-9")
@pytest.mark.parametrize("step", ["staged", "half delivered", "cancelled here"])
def test_a_bridge_that_is_killed_is_not_noticed_by_the_pool(stage: Stage, step: str) -> None:
    mark = stage.place / f"died-{step}".replace(" ", "-")
    stage.bridge.variables = {faults.VARIABLE: f"{step} {mark}"}
    stage.bridge.run("restart")
    stage.bridge.variables = {}
    name = f"killed-{step}".replace(" ", "-")
    arguments, count, gate = stage.counted(name)
    job = stage.submit(name, COUNTED, arguments)
    if step != "staged":
        until(count.exists, "it runs")
    if step == "cancelled here":
        stage.act("hold", job)
    else:
        gate.touch()
    until(mark.exists, f"the bridge dies: {stage.bridge.log[-2000:]}")
    until(lambda: stage.bridge.status()["state"] == "stopped", "it is gone")
    stage.bridge.run("start")
    stage.becomes(job, HELD if step == "cancelled here" else ENDED)
    assert count.read_text().count("ran") == 1
    assert len(stage.works(job)) == 1
    if step == "cancelled here":
        stage.work(job, WorkStatus.ABORTED)
    else:
        assert (stage.directory(name) / "out.txt").read_text() == "stdout\n"
        assert stage.ad(job, "NumJobStarts") == ["1"]
