"""When a server says that it cannot store anything, and who may read what it tells."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import create_engine

from desktopgrid.model.errors import Unavailable
from desktopgrid.server.changes import UserGroupSaved
from desktopgrid.server.config import WatchingSection
from desktopgrid.server.journal import Journal
from desktopgrid.server.listeners.clock import utc_now
from desktopgrid.server.listeners.service import Service
from desktopgrid.server.outputs import Outputs
from desktopgrid.server.state import Policy
from desktopgrid.server.watching import Watcher


def a_service(tmp_path: Path) -> Service:
    """A server that has not opened its grid yet."""
    engine = create_engine("sqlite://")
    return Service("a server", engine, Policy(), {}, Outputs(tmp_path), Watcher(utc_now))


@pytest.mark.asyncio
async def test_a_server_that_starts_is_not_ready(tmp_path: Path) -> None:
    service = a_service(tmp_path)
    with pytest.raises(Unavailable, match="the server is starting"):
        service.check_ready()


@pytest.mark.asyncio
async def test_a_server_that_stops_is_not_ready(tmp_path: Path) -> None:
    service = a_service(tmp_path)
    await service.land(0)
    with pytest.raises(Unavailable, match="the server is stopping"):
        service.check_ready()


@pytest.mark.asyncio
async def test_a_server_whose_database_hangs_is_not_ready(tmp_path: Path) -> None:
    service = a_service(tmp_path)
    journal = SimpleNamespace(writing_for=1.0)
    service._core = SimpleNamespace(journal=journal)  # type: ignore[assignment]
    service.check_ready()
    journal.writing_for = 11.0
    with pytest.raises(Unavailable, match="the database has been at a commit for 11 s"):
        service.check_ready()


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Opened in the end."""
    gate = threading.Event()
    yield gate
    gate.set()


def test_a_journal_knows_for_how_long_it_has_been_writing(gate: threading.Event) -> None:
    begun, done = threading.Event(), threading.Event()

    def write(changes: object) -> None:
        begun.set()
        gate.wait(30)

    journal = Journal(write, lambda position: done.set(), lambda error: None)
    assert journal.writing_for == 0
    journal.put([UserGroupSaved("g", "group", False)])
    assert begun.wait(30)
    assert journal.writing_for > 0
    gate.set()
    assert done.wait(30)
    assert journal.writing_for == 0
    journal.close()


@pytest.mark.parametrize(
    ("networks", "address", "may"),
    [
        (("127.0.0.1", "::1"), "127.0.0.1", True),
        (("127.0.0.1", "::1"), "::1", True),
        (("127.0.0.1",), "::ffff:127.0.0.1", True),
        (("127.0.0.1", "::1"), "192.0.2.7", False),
        (("192.0.2.0/24",), "192.0.2.7", True),
        (("192.0.2.0/24",), "2001:db8::1", False),
        (("127.0.0.1",), None, False),
        ((), "127.0.0.1", False),
    ],
)
def test_who_may_watch_is_told_by_addresses_and_networks(
    networks: tuple[str, ...], address: str | None, may: bool
) -> None:
    assert WatchingSection(watch_from=networks).may_watch(address) is may
