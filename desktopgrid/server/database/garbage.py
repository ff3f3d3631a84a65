"""Which contents the database speaks of: what is asked before one is thrown away.

The order of the questions counts where each sees what was committed by then: what was removed is
asked for before what may still need it, so that whoever is seen as removed had all its users
before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set

import msgspec
from sqlalchemy import Connection, select

from desktopgrid.model.objects import Description, Output
from desktopgrid.model.uris import is_elsewhere
from desktopgrid.server.database.portions import parts, streamed
from desktopgrid.server.database.schema import (
    applications,
    datas,
    executables,
    submissions,
    tasks,
    works,
)

_description: Callable[[str], Description] = msgspec.json.Decoder(Description).decode
_outputs: Callable[[str], tuple[Output, ...]] = msgspec.json.Decoder(tuple[Output, ...]).decode


def unreferenced(connection: Connection, digests: Set[str]) -> set[str]:
    """Those of ``digests`` whose content nobody can ask for any more.

    A content is kept for the sake of each data that was not removed, of removed ones that an
    application or an open work needs, and of what works left behind that were not removed.
    """
    left = set(digests)
    removed = _forget_datas(connection, left)
    if removed and left:
        _forget_needed(connection, left, removed)
    if left:
        _forget_outputs(connection, left)
    return left


def _forget_datas(connection: Connection, left: set[str]) -> dict[str, str]:
    """Take what datas hold from ``left``; the removed datas that held some of the rest."""
    wanted = select(datas.c.uid, datas.c.sha256, datas.c.uri, datas.c.is_deleted).where(
        datas.c.is_available.is_(True)
    )
    removed = {}
    for row in streamed(connection, wanted):
        if row.sha256 in left and not is_elsewhere(row.uri):
            if row.is_deleted:
                removed[row.uid] = row.sha256
            else:
                left.discard(row.sha256)
    return {uid: sha256 for uid, sha256 in removed.items() if sha256 in left}


def _forget_needed(connection: Connection, left: set[str], removed: dict[str, str]) -> None:
    """Take what is still needed of ``removed`` datas from ``left``."""
    described = (
        select(submissions.c.description, submissions.c.application)
        .join(works, works.c.submission == submissions.c.uid)
        .where(works.c.ended_at.is_(None))
        .distinct()
    )
    running = set()
    for row in streamed(connection, described):
        running.add(row.application)
        for uid in _description(row.description).datas:
            left.discard(removed.get(uid, ""))
    programs = select(
        executables.c.application, executables.c.data, applications.c.is_deleted
    ).join(applications, applications.c.uid == executables.c.application)
    for row in streamed(connection, programs):
        if not row.is_deleted or row.application in running:
            left.discard(removed.get(row.data, ""))


def _forget_outputs(connection: Connection, left: set[str]) -> None:
    wanted = (
        select(tasks.c.outputs)
        .join(works, works.c.uid == tasks.c.work)
        .where(works.c.removed_at.is_(None), tasks.c.outputs.is_not(None))
    )
    for row in streamed(connection, wanted):
        for output in _outputs(row.outputs):
            left.discard(output.sha256)
        if not left:
            return


def ends_of_tasks(connection: Connection, names: Iterable[str]) -> dict[str, float | None]:
    """When each of the tasks ``names`` ended, None if it goes on; unknown ones are absent."""
    found: dict[str, float | None] = {}
    for some in parts(names):
        wanted = select(tasks.c.uid, tasks.c.ended_at).where(tasks.c.uid.in_(some))
        found.update((row.uid, row.ended_at) for row in connection.execute(wanted))
    return found
