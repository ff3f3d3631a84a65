"""Server, workers and a pilot killed with -9 under load: what was acknowledged is there, once."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from desktopgrid.model.objects import ANY_PLATFORM, Description
from tests.system.churn import PROGRAM, VICTIMS, Churn
from tests.system.processes import ServerUnderTest, a_grid, until

SEED, ROUNDS = 20261120, 4


@pytest.mark.feature("XW-ARC-4")
@pytest.mark.feature("XW-ARC-9")
@pytest.mark.feature("XW-LIM-4")
def test_nothing_acknowledged_is_lost_or_done_twice_when_anybody_is_killed(tmp_path: Path) -> None:
    with a_grid(tmp_path) as server:
        churn = Churn(server, SEED)
        for number in range(ROUNDS):
            print(f"seed {SEED}, round {number}")
            churn.round(number)
        assert set(churn.deaths) == set(VICTIMS)
        churn.leave()
        assert "Traceback" not in server.log


@pytest.mark.feature("XW-WRK-6")
def test_a_worker_that_was_frozen_comes_back_too_late_and_does_no_harm(tmp_path: Path) -> None:
    with a_grid(tmp_path, alive_period="0.3 s") as server:
        client = server.client()
        client.send_application("square", PROGRAM, ANY_PLATFORM)
        client.send_application("slow", b"#!/bin/sh\nsleep 0.5\necho slow\n", ANY_PLATFORM)
        frozen = server.worker("frozen")
        works = client.sweep(Description("slow"), [[]] * 4).works
        until(lambda: _running(server), "the tasks run")
        frozen.send(signal.SIGSTOP)
        server.worker("other")
        results = {result.work: result for result in client.wait(works, 60)}
        frozen.send(signal.SIGCONT)
        more = client.sweep(Description("square"), [["7"]] * 20).works
        assert {result.stdout for result in client.wait(more, 60)} == {b"49\n"}
        until(lambda: _is_back(tmp_path / "frozen.log"), "the frozen worker is back")
        assert {result.stdout for result in results.values()} == {b"slow\n"}
        for work in works:
            ends = server.rows("SELECT status FROM tasks WHERE work = ? ORDER BY uid", work)
            assert ends.count(("COMPLETED",)) == 1
            assert {status for (status,) in ends} <= {"COMPLETED", "LOST", "ABORTED"}
        assert server.rows("SELECT 1 FROM tasks WHERE status = 'LOST'")
        assert "Traceback" not in server.log


def _running(server: ServerUnderTest) -> bool:
    return len(server.rows("SELECT 1 FROM tasks WHERE status = 'RUNNING'")) == 2


def _is_back(log: Path) -> bool:
    _, _, later = log.read_text().partition("Lost the connection")
    return "Connected as worker" in later
