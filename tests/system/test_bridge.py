"""Jobs of a real HTCondor pool on a desktop grid, and home again."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from condor.personal import LoopbackPool
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
