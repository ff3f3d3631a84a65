"""Garbage: what goes, what stays, and that being killed anywhere does no harm."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from desktopgrid.model.errors import Unavailable
from desktopgrid.server import changes as c
from desktopgrid.server import collecting
from desktopgrid.server.collecting import collect
from desktopgrid.server.database import engine as database
from desktopgrid.server.database.upgrading import upgrade
from desktopgrid.server.outputs import Outputs
from desktopgrid.server.storage import Store, undisturbed
from tests.rows import HOST, NOON, PEOPLE, PROGRAM, Grid, completed, pending, row

OLD, BEFORE = 1000.0, 2000.0


class Place:
    """A database, contents and marks, as a server leaves them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "data"
        self.engine = database.open(f"sqlite:///{directory}/grid.db")
        upgrade(self.engine)
        self.grid = Grid(self.engine)
        self.grid.record(*PEOPLE, *PROGRAM, *HOST)
        self.store = Store(self.directory)
        self.outputs = Outputs(self.directory / "outputs")

    def put(self, content: bytes, at: float = OLD) -> str:
        """A content that was uploaded then; its digest."""
        sha256 = hashlib.sha256(content).hexdigest()
        with self.store.begin("part", sha256, len(content)) as upload:
            upload.append(content)
            upload.finish()
        os.utime(self.store.path(sha256), (at, at))
        return sha256

    def mark(self, task: str, sha256: str, at: float = OLD) -> None:
        """The mark of an output that was uploaded then."""
        self.outputs.mark(task, sha256)
        os.utime(self.outputs.directory / task, (at, at))

    def collect(self, is_dry: bool = False) -> set[str]:
        """What is thrown away."""
        return set(collect(self.engine, self.directory, BEFORE, is_dry=is_dry).contents)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.engine.dispose()


def test_what_nothing_refers_to_goes_and_the_rest_stays(place: Place) -> None:
    kept, gone = place.put(b"kept"), place.put(b"gone")
    place.grid.record(row(c.DataSaved, uid="d", sha256=kept))
    assert place.collect(is_dry=True) == {gone}
    assert place.store.has(gone)
    assert place.collect() == {gone}
    assert not place.store.has(gone)
    assert place.store.has(kept)
    assert place.collect() == set()


def test_what_was_uploaded_lately_stays(place: Place) -> None:
    fresh = place.put(b"fresh", at=BEFORE)
    assert place.collect() == set()
    assert place.store.has(fresh)


def test_what_is_uploaded_again_while_we_look_stays(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its row is not there yet, and nobody who uploads equal content is told to wait."""
    sha256 = place.put(b"again")
    real = collecting.garbage.unreferenced

    def meanwhile(connection, digests):  # type: ignore[no-untyped-def]
        left = real(connection, digests)
        with place.store.begin("part", sha256, 5) as upload:
            upload.append(b"again")
            upload.finish()
        return left

    monkeypatch.setattr(collecting.garbage, "unreferenced", meanwhile)
    assert place.collect() == set()
    assert place.store.has(sha256)


@pytest.mark.feature("XW-RS-2")
def test_what_a_task_uploads_stays_until_its_work_is_removed(place: Place) -> None:
    sha256 = place.put(b"output")
    place.mark("sweep-0.1", sha256)
    place.grid.record(row(c.SubmissionInserted), row(c.WorkInserted), *pending())
    assert place.collect() == set(), "it has not said so yet"
    outputs = f'[{{"name":"out","sha256":"{sha256}","size":6}}]'
    place.grid.record(*completed(outputs=outputs, ended_at=OLD))
    assert place.collect() == set()
    assert place.outputs.tasks() == [], "the database says it now"
    place.grid.record(row(c.WorkRemoved))
    assert place.collect() == {sha256}


def test_what_a_lost_task_uploaded_goes(place: Place) -> None:
    sha256 = place.put(b"output")
    place.mark("sweep-0.1", sha256)
    place.grid.record(row(c.SubmissionInserted), row(c.WorkInserted), *pending())
    place.grid.record(
        row(c.WorkUpdated), row(c.TaskUpdated, status="LOST", ended_at=OLD, started_at=None)
    )
    assert place.collect() == {sha256}
    assert place.outputs.tasks() == []


def test_marks_of_a_task_that_was_over_lately_stay(place: Place) -> None:
    place.mark("sweep-0.1", "a" * 64)
    place.grid.record(row(c.SubmissionInserted), row(c.WorkInserted), *pending(), *completed())
    assert NOON > BEFORE
    place.collect()
    assert place.outputs.tasks() == ["sweep-0.1"]


def test_a_collection_that_was_killed_goes_on_with_the_next(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = {place.put(bytes([number])) for number in range(20)}
    kept = place.put(b"kept")
    place.grid.record(row(c.DataSaved, uid="d", sha256=kept))
    real, done = Store.remove, []

    class Killed(BaseException):
        pass

    def remove(store: Store, sha256: str, before: float) -> bool:
        if len(done) % 7 == 6:
            done.append("")
            raise Killed
        done.append(sha256)
        return real(store, sha256, before)

    monkeypatch.setattr(Store, "remove", remove)
    while True:
        try:
            place.collect()
            break
        except Killed:
            assert place.store.has(kept)
    assert set(done) == gone | {""}
    assert [sha256 for sha256, _ in place.store.contents(BEFORE)] == [kept]


def test_many_contents_are_looked_for_a_portion_at_a_time(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collecting, "PORTION", 3)
    gone = {place.put(bytes([number])) for number in range(10)}
    assert place.collect() == gone


def test_one_collects_at_a_time_and_not_during_a_backup(place: Place) -> None:
    for how in (fcntl.LOCK_EX, fcntl.LOCK_SH):
        with (
            undisturbed(place.directory, how),
            pytest.raises(Unavailable, match="under way"),
        ):
            place.collect()


def test_what_else_lies_there_is_let_alone(place: Place) -> None:
    stranger = place.directory / "ab" / "README"
    stranger.write_text("not ours")
    os.utime(stranger, (OLD, OLD))
    place.collect()
    assert stranger.exists()
