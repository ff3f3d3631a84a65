"""Throwing away the contents that nothing refers to any more: of datas and works that were removed,
and of uploads that nobody finished.

Runs beside the server in a process of its own, so that it may take its time; what it may delete is
decided by what the database says, never by what a server has in memory. A content that was
uploaded less than the grace ago is kept whatever is said of it: its row may be on its way. Each
file goes by itself, so that a collection may be killed anywhere, and the next one goes on.
"""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from sqlalchemy import Engine

from desktopgrid.server.database import engine as database
from desktopgrid.server.database import garbage
from desktopgrid.server.objectstore import ObjectStore
from desktopgrid.server.outputs import Outputs
from desktopgrid.server.storage import Store, undisturbed

logger = logging.getLogger(__name__)

PORTION = 200_000
"""Contents that are looked for in the database at a time."""


@dataclass
class Collected:
    """What was thrown away, or would be: digest and size of each content."""

    contents: dict[str, int] = field(default_factory=dict)
    marks: int = 0

    @property
    def size(self) -> int:
        """Bytes of all of them."""
        return sum(self.contents.values())


def collect(
    engine: Engine,
    directory: Path,
    before: float,
    *,
    objects: ObjectStore | None = None,
    is_dry: bool = False,
) -> Collected:
    """Throw away what nothing refers to and nobody uploaded after ``before`` (seconds since the
    epoch), from the contents in ``directory`` and in the S3 store; or say only what that would be.

    Raises Unavailable while another collection, or a backup, is under way.
    """
    store, outputs = Store(directory), Outputs(directory / "outputs")
    found = Collected()
    with undisturbed(directory, fcntl.LOCK_EX | fcntl.LOCK_NB):
        for portion in _portions(store.contents(before)):
            marked = _forget_marks(engine, outputs, before, found, is_dry)
            with engine.connect() as connection, database.transaction(connection):
                left = garbage.unreferenced(connection, portion.keys() - marked)
            for sha256 in sorted(left):
                if is_dry or store.remove(sha256, before):
                    found.contents[sha256] = portion[sha256]
        for some in _batches(objects.contents(before) if objects is not None else ()):
            marked = _forget_marks(engine, outputs, before, found, is_dry)
            digests = {sha256 for sha256, _, _ in some}
            with engine.connect() as connection, database.transaction(connection):
                left = garbage.unreferenced(connection, digests - marked)
            for sha256, holder, size in some:
                if objects is None or sha256 not in left:
                    continue
                if is_dry or objects.remove(sha256, holder, before):
                    found.contents[sha256] = size
    if found.contents and not is_dry:
        logger.info(
            "Threw away %d contents, %d MiB, that nothing referred to",
            len(found.contents),
            found.size >> 20,
        )
    return found


def _forget_marks(
    engine: Engine, outputs: Outputs, before: float, found: Collected, is_dry: bool
) -> set[str]:
    """Throw away the marks of tasks that have been over for a while; what those have uploaded that
    are not over.
    """
    tasks = outputs.tasks()
    with engine.connect() as connection, database.transaction(connection):
        ends = garbage.ends_of_tasks(connection, tasks)
    uploaded: set[str] = set()
    for task in tasks:
        ended_at = ends.get(task)
        if ended_at is None and (task in ends or outputs.is_newer(task, before)):
            uploaded |= outputs.of(task)
        elif ended_at is None or ended_at < before:
            found.marks += 1
            if not is_dry:
                outputs.forget(task)
    return uploaded


def _batches(objects: Iterable[tuple[str, str, int]]) -> Iterator[list[tuple[str, str, int]]]:
    waiting = iter(objects)
    while some := list(islice(waiting, PORTION)):
        yield some


def _portions(contents: Iterator[tuple[str, int]]) -> Iterator[dict[str, int]]:
    portion: dict[str, int] = {}
    for sha256, size in contents:
        portion[sha256] = size
        if len(portion) == PORTION:
            yield portion
            portion = {}
    yield portion
