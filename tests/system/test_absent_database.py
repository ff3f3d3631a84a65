"""A database that goes away: what is asked waits, or is refused with a reason; nothing acknowledged
is lost; and the server goes on by itself when the database is there again.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from desktopgrid.client.grid import Grid
from desktopgrid.link.errors import RefusedByServer
from desktopgrid.model.errors import Unavailable
from tests.databases import DatabaseServer, a_mariadb, a_postgresql, running
from tests.relay import Relay
from tests.system.disks import check, cubes, cubist, submit_until
from tests.system.peers import RawPeer
from tests.system.processes import SERVER, ServerUnderTest, a_grid, run, until


@pytest.fixture(scope="module", params=[a_postgresql, a_mariadb])
def database(request: pytest.FixtureRequest) -> Iterator[DatabaseServer]:
    with running(request.param()) as server:
        yield server


@pytest.fixture(scope="module")
def relay(database: DatabaseServer) -> Iterator[Relay]:
    """What stands between the server and its database."""
    with Relay(database.door) as relay:
        yield relay


@pytest.fixture(scope="module")
def server(
    database: DatabaseServer, relay: Relay, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerUnderTest]:
    """A grid in it with two workers, which has little patience with it."""
    with a_grid(
        tmp_path_factory.mktemp("grid"),
        database=database.url_by(relay.port),
        database__patience="2 s",
    ) as server:
        for name in ("worker-1", "worker-2"):
            server.worker(name)
        yield server
        assert "Traceback" not in server.log, server.log.partition("Traceback")[2][:3000]


@pytest.fixture(scope="module")
def grid(server: ServerUnderTest) -> Grid:
    return cubist(server)


def kill_and_start(database: DatabaseServer, relay: Relay) -> tuple[Callable[[], None], ...]:
    return database.kill, database.start


def stop_and_start(database: DatabaseServer, relay: Relay) -> tuple[Callable[[], None], ...]:
    return database.stop, database.start


def freeze_and_thaw(database: DatabaseServer, relay: Relay) -> tuple[Callable[[], None], ...]:
    """Whatever is said arrives nowhere, and nobody is told so."""
    return relay.freeze, relay.thaw


@pytest.mark.parametrize("how", [kill_and_start, stop_and_start, freeze_and_thaw])
def test_nothing_is_lost_when_the_database_goes_away_under_load(
    server: ServerUnderTest,
    grid: Grid,
    database: DatabaseServer,
    relay: Relay,
    how: Callable[[DatabaseServer, Relay], tuple[Callable[[], None], ...]],
) -> None:
    go_away, come_back = how(database, relay)
    pid = server.process.pid
    acknowledged: dict[str, int] = {}
    over = threading.Event()
    load = threading.Thread(target=submit_until, args=(grid, acknowledged, over))
    load.start()
    try:
        until(lambda: len(acknowledged) > 20, "works are submitted")
        go_away()
        until(lambda: not server.status(), "the server has noticed")
        come_back()
        until(server.status, "the server serves again")
        known = len(acknowledged)
        until(lambda: len(acknowledged) > known + 10, "works are submitted again")
    finally:
        over.set()
        load.join()
    check(grid, acknowledged)
    assert server.process.pid == pid
    done = server.rows("SELECT work FROM tasks WHERE status = 'COMPLETED'")
    assert len(done) == len(set(done))


def test_who_asks_meanwhile_is_told_why(
    server: ServerUnderTest, grid: Grid, database: DatabaseServer
) -> None:
    database.stop()
    try:
        until(lambda: not server.status(), "the server has noticed though nobody asked it anything")
        with pytest.raises(Unavailable, match="the database cannot"):
            list(grid.objects("works"))
        with pytest.raises(Unavailable, match="cannot store anything at present"):
            grid.send_bag("group", "winter")
        with pytest.raises(RefusedByServer, match="cannot store anything at present"):
            RawPeer(server.identity())
        said = run(SERVER, "--directory", server.place, "status")
        assert said.returncode == 1
        assert "troubled" in said.stdout
        assert "the database cannot" in said.stdout
    finally:
        database.start()
    until(server.status, "the server serves again")
    check(grid, cubes(grid, range(3)))


def test_a_database_that_came_back_unnoticed_is_used_again(
    server: ServerUnderTest, grid: Grid, database: DatabaseServer
) -> None:
    """The writer's connection is dead, and nobody has told it so: some may be refused, not many."""
    for _ in range(2):
        database.stop()
        database.start()
        acknowledged = until(lambda: _if_taken(grid), "works are taken again")
        check(grid, acknowledged)
    database.stop()
    database.start()
    server.stop()
    server.start()


def _if_taken(grid: Grid) -> dict[str, int] | None:
    with contextlib.suppress(Unavailable):
        return cubes(grid, range(3))
    return None


def test_a_server_is_not_started_without_its_database(
    server: ServerUnderTest, database: DatabaseServer, tmp_path: Path
) -> None:
    server.stop()
    database.stop()
    try:
        said = run(SERVER, "--directory", server.place, "start")
        assert said.returncode == 1
        assert "the server did not start: the database cannot" in said.stderr
    finally:
        database.start()
    server.start()
