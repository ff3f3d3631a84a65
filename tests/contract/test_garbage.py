"""What the database says of contents: who may still ask for them, in every kind of database."""

from __future__ import annotations

import pytest

from desktopgrid.server import changes as c
from desktopgrid.server.database import garbage, reading, schema
from tests.rows import HOST, NOON, PEOPLE, PROGRAM, Grid, completed, pending, row


@pytest.fixture
def grid(bare: Grid) -> Grid:
    """Users, an application and a host."""
    bare.record(*PEOPLE, *PROGRAM, *HOST)
    return bare


@pytest.fixture
def work(grid: Grid) -> Grid:
    """The same with one waiting work."""
    grid.record(row(c.SubmissionInserted), row(c.WorkInserted))
    return grid


MINE = "f" * 64
NEEDS = '{"application":"app","stdin":"mine"}'
REMOVED = row(c.DataSaved, uid="mine", sha256=MINE, is_deleted=True)
OUTPUTS = f'[{{"name":"out","sha256":"{MINE}","size":1}}]'
OPEN_WORK = (row(c.SubmissionInserted), row(c.WorkInserted))


@pytest.mark.parametrize(
    "batch, is_kept",
    [
        pytest.param((), False, id="nothing"),
        pytest.param((row(c.DataSaved, uid="mine", sha256=MINE),), True, id="a data"),
        pytest.param((REMOVED,), False, id="a removed data"),
        pytest.param(
            (row(c.DataSaved, uid="mine", sha256=MINE, is_available=False),),
            False,
            id="a data that has not come",
        ),
        pytest.param(
            (row(c.DataSaved, uid="mine", sha256=MINE, uri="http://w/x"),),
            False,
            id="a data elsewhere",
        ),
        pytest.param(
            (REMOVED, row(c.DataSaved, uid="other", sha256=MINE)), True, id="another's copy of it"
        ),
        pytest.param(
            (REMOVED, row(c.SubmissionInserted, description=NEEDS), row(c.WorkInserted)),
            True,
            id="a removed data that an open work needs",
        ),
        pytest.param(
            (
                REMOVED,
                row(c.SubmissionInserted, description=NEEDS),
                row(c.WorkInserted),
                *pending(),
                *completed(),
            ),
            False,
            id="a removed data that a work needed",
        ),
        pytest.param(
            (REMOVED, row(c.ExecutableSaved, cpu="x86_64", data="mine")),
            True,
            id="an application's removed program",
        ),
        pytest.param(
            (
                REMOVED,
                row(c.ApplicationSaved, is_deleted=True),
                row(c.ExecutableSaved, data="mine"),
            ),
            False,
            id="a removed application's removed program",
        ),
        pytest.param(
            (
                REMOVED,
                row(c.ApplicationSaved, is_deleted=True),
                row(c.ExecutableSaved, data="mine"),
                *OPEN_WORK,
            ),
            True,
            id="a removed application's removed program that an open work runs",
        ),
        pytest.param(
            (*OPEN_WORK, *pending(), *completed(outputs=OUTPUTS)), True, id="what a work left"
        ),
        pytest.param(
            (*OPEN_WORK, *pending(), *completed(outputs=OUTPUTS), row(c.WorkRemoved)),
            False,
            id="what a removed work left",
        ),
    ],
)
@pytest.mark.feature("XW-RS-2", "XW-DM-3")
def test_a_content_is_kept_for_who_may_ask_for_it(grid, batch, is_kept):
    for change in batch:
        grid.record(change)
    left = grid.read(garbage.unreferenced, {MINE, "e" * 64})
    assert left == ({"e" * 64} if is_kept else {MINE, "e" * 64})


def test_a_task_goes_on_until_it_has_an_end(work):
    work.record(*pending())
    names = ["sweep-0.1", "no-such-task"]
    assert work.read(garbage.ends_of_tasks, names) == {"sweep-0.1": None}
    work.record(*completed())
    assert work.read(garbage.ends_of_tasks, names) == {"sweep-0.1": NOON + 9}


def test_what_was_removed_long_ago_is_forgotten_with_all_that_was_its(work):
    work.record(row(c.WorkInserted, uid="sweep-1", number=2), *pending(), *completed())
    assert work.read(reading.removed_works, NOON + 200, 10) == []
    work.record(row(c.WorkRemoved))
    assert work.read(reading.removed_works, NOON + 100, 10) == []
    assert work.read(reading.removed_works, NOON + 101, 10) == [("sweep-0", "sweep")]
    gone = [row(kind) for kind in (c.SubmissionForgotten, c.WorkForgotten, c.TasksForgotten)]
    work.record(*gone)
    assert work.rows(schema.tasks) == []
    assert [each["uid"] for each in work.rows(schema.works)] == ["sweep-1"]
    assert len(work.rows(schema.submissions)) == 1, "it has a work yet"
    work.record(row(c.WorkForgotten, uid="sweep-1"), row(c.SubmissionForgotten))
    assert work.rows(schema.submissions) == []
    work.record(*gone)
