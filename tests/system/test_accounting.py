"""The use of a real grid: works on a desktop and in a pilot, what reports say of them, and what is
published for EGI.
"""

from __future__ import annotations

import csv
import io
import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from dirq.QueueSimple import QueueSimple  # type: ignore[import-untyped]

from desktopgrid.client.grid import Grid
from desktopgrid.link.identity import Identity
from desktopgrid.model.objects import ANY_PLATFORM, Description, new_uid
from desktopgrid.wire.messages import SendToken
from desktopgrid.wire.proof import new_secret, verifier_of
from tests.apel import records_in
from tests.system.peers import RawPeer
from tests.system.processes import ServerUnderTest, a_grid, run, until

BURN = b"#!/bin/sh\ni=0; while [ $i -lt 150000 ]; do i=$((i + 1)); done; exit $1\n"
SLEEP = b"#!/bin/sh\nsleep 1000\n"
XW = "from desktopgrid.client.cli import main; main()"
REPORT = "import sys; from bridge.cli import main; sys.argv.insert(1, 'report'); main()"
ACCOUNTING = """[accounting]
site_name = EXAMPLE
submit_host = 127.0.0.1:4325/desktopgrid
benchmark_type = HEPSPEC
benchmark_value = 10
identities = subject
form = {form}
"""
Row = dict[str, Any]


class Stage:
    """A grid with a desktop, and whoever asks about its use."""

    def __init__(self, server: ServerUnderTest) -> None:
        self.server = server
        self.admin = server.client()
        self.admin.send_application("burn", BURN, ANY_PLATFORM)
        self.admin.send_application("sleep", SLEEP, ANY_PLATFORM)
        server.worker("desk", slots=1)
        self.desk = self.host(lambda row: not row["pilot"])
        self.alice_identity = server.directory / "alice.identity"
        self.alice = self._alice()

    def _alice(self) -> Grid:
        self.admin.send_user("alice", subjects=["/DC=org/DC=example/CN=Alice"])
        secret, token, admin = new_secret(), new_uid(), self.server.identity()
        self.admin.session.ask(SendToken(token, verifier_of(secret), user="alice"))
        identity = Identity(admin.servers, "client", token, secret, admin.ca)
        identity.write(self.alice_identity)
        return self.server.client(identity)

    def host(self, is_meant: Any) -> str:
        """The host that is meant, once it is there."""
        found: list[str] = []

        def is_there() -> bool:
            found[:] = [row["uid"] for row in self.admin.objects("hosts") if is_meant(row)]
            return bool(found)

        until(is_there, "the host has made contact")
        return found[0]

    def ask(self, source: str, identity: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command as it is typed."""
        done = run(source, "--identity", identity, *arguments)
        assert done.returncode == 0, done.stderr
        return done

    def report(self, *arguments: str) -> list[Row]:
        """What `xwbridge report` tells the administrator."""
        identity = self.server.home.admin_identity
        done = self.ask(REPORT, identity, *arguments, "--format", "json")
        return list(json.loads(done.stdout))

    def publish(self, form: str) -> list[Row]:
        """The records that `xwbridge report --apel` puts where a sender finds them."""
        place = self.server.directory / f"outgoing-{form}"
        configuration = self.server.directory / f"{form}.conf"
        configuration.write_text(ACCOUNTING.format(form=form))
        self.report("--apel", str(place), "--accounting", str(configuration))
        queue, found = QueueSimple(str(place)), []
        for name in queue:
            assert queue.lock(name)
            found += records_in(queue.get(name).decode())[1]
            queue.remove(name)
        return found


@pytest.fixture(scope="module")
def stage(any_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    directory = tmp_path_factory.mktemp("grid")
    with a_grid(directory, database=any_database, alive_period="5 s") as server:
        yield Stage(server)


def test_a_grid_tells_who_used_what_where(stage: Stage, tmp_path: Path) -> None:
    # A desktop and a pilot each do some of it; one work is cancelled while it runs.
    pilot = stage.server.pilot(stage.admin)
    node = stage.host(lambda row: bool(row["pilot"]))
    for host, count in ((stage.desk, 2), (node, 3)):
        sweep = stage.alice.sweep(Description("burn", expected_host=host), [["3"]] * count)
        assert len(list(stage.alice.wait(sweep.works, timeout=120))) == count
    (work,) = stage.alice.submit(Description("sleep", expected_host=stage.desk)).works
    until(lambda: row_of(stage.alice, work)["status"] == "RUNNING", "it runs")
    stage.alice.cancel([work])
    pilot.stop()
    until(lambda: list(stage.admin.objects("pilots", status="Aborted")), "the pilot is over")

    by_site = {row["site"]: row for row in stage.report("--by", "site")}
    assert (by_site[""]["works"], by_site["local"]["works"]) == (2, 3)
    assert (by_site[""]["tasks"], by_site["local"]["pilots"]) == (3, 1)
    assert by_site[""]["cancelled_core_hours"] > 0
    assert by_site["local"]["idle_core_hours"] > 0
    for row in by_site.values():
        assert 0 < row["cpu_hours"] <= row["core_hours"] * 1.2 + 0.001
        assert row["waited_p50_s"] is not None

    # Alice sees her own in CSV, whose sums are those of the administrator's view of her.
    done = stage.ask(XW, stage.alice_identity, "report", "--by", "application", "--format", "csv")
    (burnt, slept) = csv.DictReader(io.StringIO(done.stdout))
    assert (burnt["application"], burnt["works"], slept["works"]) == ("burn", "5", "0")
    (hers,) = [row for row in stage.report("--by", "user") if row["user"] == "alice"]
    assert float(burnt["core_hours"]) == pytest.approx(hers["core_hours"], abs=0.001)

    # The desktop's are published, each once; the pilot's are for its site to publish.
    records = stage.publish("individual")
    assert len(records) == 2
    for record in records:
        assert record["GlobalUserName"] == "/DC=org/DC=example/CN=Alice"
        assert 0 <= record["WallDuration"] <= record["EndTime"] - record["StartTime"] + 2
    assert stage.publish("individual") == []
    (summary,) = stage.publish("summaries")
    assert (summary["NumberOfJobs"], summary["Processors"]) == (2, 1)
    assert summary["Month"] == datetime.now(UTC).month


def row_of(grid: Grid, work: str) -> Row:
    (row,) = grid.objects("works", [work])
    return row


def test_books_agree_with_the_tasks_after_the_server_was_killed(stage: Stage) -> None:
    before = booked(stage)
    sweep = stage.alice.sweep(Description("burn", expected_host=stage.desk), [["0"]] * 12)
    until(lambda: booked(stage)["works"] > before["works"] + 2, "some are through")
    stage.server.kill()
    stage.server.start()
    assert len(list(stage.alice.wait(sweep.works, timeout=120))) == 12
    after = booked(stage)
    assert after["works"] == before["works"] + 12
    counted = "SELECT COUNT(*), SUM(wall) FROM tasks WHERE account IS NOT NULL"
    summed = "SELECT SUM(tasks), SUM(core_time) FROM usages"
    ((tasks, wall),) = stage.server.rows(counted)
    ((booked_tasks, core_time),) = stage.server.rows(summed)
    assert (int(booked_tasks), float(core_time)) == (tasks, pytest.approx(wall))


def booked(stage: Stage) -> Row:
    """What a user's report says of all her works."""
    return dict(stage.alice.report().total)


def test_what_a_lying_worker_says_is_bounded_and_marked(stage: Stage) -> None:
    liar = RawPeer(stage.server.identity(stage.server.home.worker_identity))
    before, said = booked(stage), 0
    for usage in ([1e18, 1e18, 0.0, 10**18], [-5.0, 0.0, -1.0, -7], [1e308, 1e308, 1e308, 0]):
        (work,) = stage.alice.submit(Description("burn", expected_host=liar.host)).works
        assign = liar.hear("assign", work=work)
        task = {"task": assign["task"], "epoch": assign["epoch"]}
        liar.say("finished", said := said + 1, {**task, "exit_code": 0, "usage": usage})
        assert len(list(stage.alice.wait([work], timeout=60))) == 1
        (stored,) = stage.alice.results([work])
        assert 0 <= stored.usage.wall < 3600
    liar.close()
    after = booked(stage)
    assert after["doubtful"] == before["doubtful"] + 3
    assert after["core_hours"] < before["core_hours"] + 1
    (row,) = stage.alice.objects("tasks", [f"{work}.1"])
    assert row["is_doubtful"] is True
