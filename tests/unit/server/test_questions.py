"""What only the database knows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from desktopgrid.model.errors import UnknownObject
from desktopgrid.model.rights import UserLevel, Who
from desktopgrid.server import changes as c
from desktopgrid.server import questions
from desktopgrid.server.database import engine as database
from desktopgrid.server.database.upgrading import upgrade
from desktopgrid.server.requests import Reading
from desktopgrid.wire import messages as m
from tests.rows import HOST, NOON, PEOPLE, Grid, row

ALICE = Who("alice", UserLevel.STANDARD)
CAROL = Who("carol", UserLevel.STANDARD)


@pytest.fixture
def grid(tmp_path: Path) -> Iterator[Grid]:
    engine = database.open(f"sqlite:///{tmp_path / 'grid.db'}")
    upgrade(engine)
    grid = Grid(engine)
    grid.record(*PEOPLE, *HOST)
    yield grid
    engine.dispose()


def why(grid: Grid, uid: str, who: Who = ALICE) -> list[str]:
    asked = Reading(who, m.Why(uid), {})
    sentences: list[str] = grid.read(questions.answer, asked)["sentences"]
    return sentences


def test_a_pilot_that_memory_forgot_is_explained_to_its_owner(grid: Grid) -> None:
    ended = {"status": "Failed", "reason": "exit code 4", "ended_at": NOON + 9, "tasks_done": 3}
    grid.record(row(c.PilotInserted), row(c.PilotUpdated, **ended))
    assert why(grid, "pilot") == [
        "Pilot pilot at site lal is Failed as 7.0.",
        "exit code 4.",
        "It did 3 tasks.",
    ]
    with pytest.raises(UnknownObject, match="no work or pilot 'pilot'"):
        why(grid, "pilot", CAROL)


def test_what_was_never_there_is_not_explained(grid: Grid) -> None:
    with pytest.raises(UnknownObject, match="no work or pilot 'nobody'"):
        why(grid, "nobody")
