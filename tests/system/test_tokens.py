"""Tokens as their owners see them, and the end of a user's and of a worker's right to the grid."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from desktopgrid.client.grid import Grid
from desktopgrid.link.identity import Identity
from desktopgrid.model.errors import AccessDenied, NotAuthenticated
from desktopgrid.model.objects import ANY_PLATFORM, Description
from tests.system.processes import Process, ServerUnderTest, a_grid, environment, until

# It says which process it is, and computes until it is told to stop.
LONG = b"""#!/bin/sh
echo $$ > "$1/$(hostname)-$$"
while [ ! -e "$1/enough" ]; do sleep 0.05; done
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerUnderTest]:
    with a_grid(tmp_path_factory.mktemp("tokens")) as server:
        yield server


@pytest.fixture(scope="module")
def admin(server: ServerUnderTest) -> Grid:
    admin = server.client()
    admin.send_application("long", LONG, ANY_PLATFORM)
    return admin


def xw(server: ServerUnderTest, identity: Path, *words: str) -> str:
    """What `xw` says."""
    done = subprocess.run(
        [sys.executable, "-m", "desktopgrid.client.cli", "--identity", str(identity), *words],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def started(directory: Path) -> list[int]:
    """The processes of a long work that have ever been started."""
    return [int(path.read_text() or 0) for path in sorted(directory.iterdir()) if "-" in path.name]


def is_there(pid: int) -> bool:
    """Whether a process lives; one that has ended and was not collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def a_worker_with_a_token_of_its_own(
    server: ServerUnderTest, name: str, user: str = "worker"
) -> tuple[Process, Identity]:
    """A worker that can be revoked without the others; `xw token` made its identity."""
    path = server.directory / f"{name}.identity"
    admin = server.directory / "admin.identity"
    if not admin.exists():
        server.identity().write(admin)
    xw(server, admin, "token", str(path), "--user", user)
    return server.worker(name, 1, path), Identity.read(path)


@pytest.mark.feature("XW-USR-13")
def test_the_work_of_a_revoked_worker_is_run_by_another_and_its_process_is_stopped(
    server: ServerUnderTest, admin: Grid, tmp_path: Path
) -> None:
    place = tmp_path / "started"
    place.mkdir()
    worker, identity = a_worker_with_a_token_of_its_own(server, "one")
    works = admin.submit(Description("long"), [str(place)]).works
    [first] = until(lambda: started(place), "the work runs")
    a_worker_with_a_token_of_its_own(server, "two")
    until(lambda: len(list(admin.objects("hosts"))) == 2, "the second worker is there")
    admin.revoke(identity.identity)
    until(lambda: not is_there(first), "the old process is stopped")
    assert worker.wait() != 0
    second = until(lambda: [pid for pid in started(place) if pid != first], "it runs elsewhere")
    assert is_there(second[0])
    assert "refused this worker" in (server.directory / "one.log").read_text()
    with pytest.raises(NotAuthenticated):
        Grid.open(replace(identity, kind="client"))
    again = server.worker("one", 1, server.directory / "one.identity")
    assert again.wait() != 0
    (place / "enough").touch()
    [result] = admin.wait(works, 60)
    assert result.status.value == "COMPLETED"
    tasks = {row["uid"]: row["status"] for row in admin.objects("tasks", works)}
    assert sorted(tasks.values()) == ["COMPLETED", "LOST"]


@pytest.mark.feature("XW-USR-13")
def test_what_a_revoked_user_runs_stops_at_once(
    server: ServerUnderTest, admin: Grid, tmp_path: Path
) -> None:
    place = tmp_path / "started"
    place.mkdir()
    server.worker("public", 1)
    ann = admin.send_user("ann")
    hers = replace(admin.new_identity("client", ann), servers=(server.address,))
    with Grid.open(hers) as grid:
        [work] = grid.submit(Description("long"), [str(place)]).works
        [pid] = until(lambda: started(place), "the work runs")
        admin.revoke("ann")
        until(lambda: not is_there(pid), "its process is stopped")
        until(lambda: grid.session._ended, "her session is over")
        with pytest.raises(NotAuthenticated):
            grid.stats()
    [row] = admin.objects("works", [work])
    assert (row["status"], row["reason"]) == ("ABORTED", "its user was revoked")
    with pytest.raises(NotAuthenticated):
        Grid.open(hers)


def test_a_workers_token_submits_nothing_and_reads_nothing(
    server: ServerUnderTest, admin: Grid
) -> None:
    """Whoever takes it from the worker's machine has a worker, and no client."""
    identity = admin.new_identity("worker")
    with pytest.raises(NotAuthenticated):
        server.client(replace(identity, kind="client"))


@pytest.mark.feature("XW-SEC-1")
def test_tokens_are_listed_without_their_secrets_and_revoked(
    server: ServerUnderTest, admin: Grid, tmp_path: Path
) -> None:
    bea = admin.send_user("bea")
    hers = replace(admin.new_identity("client", bea, 3600, "laptop"), servers=(server.address,))
    path = tmp_path / "bea.identity"
    hers.write(path)
    with Grid.open(hers) as grid:
        [row] = grid.objects("tokens")
        assert (row["uid"], row["user"], row["label"]) == (hers.identity, "bea", "laptop")
        assert row["last_used_at"] and row["expires_at"] and not row["revoked"]
        assert len(list(admin.objects("tokens"))) >= 3
        desk = xw(server, path, "token", str(tmp_path / "desk.identity"), "--label", "desk")
        assert "desk.identity" in desk
        table = xw(server, path, "tokens")
        assert "laptop" in table and "desk" in table and "run" in table
        secret = Identity.read(tmp_path / "desk.identity").secret
        everything = xw(server, path, "tokens", "--format", "json")
        assert secret not in everything and hers.secret not in everything
        assert "verifier" not in everything
        worker = Identity.read(tmp_path / "desk.identity")
        xw(server, path, "revoke", worker.identity)
        revoked = {row["uid"]: row["revoked"] for row in grid.objects("tokens")}
        assert revoked == {hers.identity: False, worker.identity: True}
        with pytest.raises(AccessDenied):
            grid.revoke(admin.session.identity.identity)
