"""Programs that travel with what is submitted: each becomes an application of its user's, named by
its digest and so registered once.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from desktopgrid.client.connection import OnBytes
from desktopgrid.client.files import measure
from desktopgrid.client.grid import Grid
from desktopgrid.client.replies import rights_of
from desktopgrid.model.objects import UID, Platform

Show = Callable[[str, int], OnBytes]
"""Says what is being sent, and how large it is; gives who is to hear of its progress."""


def application_of(
    grid: Grid,
    name: str,
    source: Path | bytes | str,
    rights: int,
    platform: Platform | None = None,
    show: Show | None = None,
) -> UID:
    """The application that runs ``source``, a file, a program or a URI that is called ``name``.

    What others have under the same name may be something else: only our own counts.
    """
    digest, size = measure(source.encode()) if isinstance(source, str) else measure(source)
    # An application keeps the rights that it was registered with: they are part of its name.
    full = f"{re.sub(r'[^a-zA-Z0-9._-]', '_', name)[:64]}-{digest[:16]}-{rights:o}"
    if found := _own(grid, full, rights):
        return found
    progress = show(full, size) if show is not None else None
    reply = grid.send_application(full, source, platform, rights=rights, progress=progress)
    return str(reply["uid"])


def _own(grid: Grid, name: str, rights: int) -> UID | None:
    for row in grid.objects("apps", name=name, owner=grid.session.welcome.user):
        if rights_of(row) == rights:
            return str(row["uid"])
    return None
