"""A consistent copy of a grid, taken while it is served.

The database first, as it is at one moment; then the contents. A content is stored before the
database speaks of it and never changed, so all that the copied database speaks of is copied too.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

from desktopgrid.model.errors import AlreadyThere, BadRequest, Unavailable
from desktopgrid.server.home import Home, sync_directory
from desktopgrid.server.storage import COLLECTOR, undisturbed


def back_up(home: Home, target: Path) -> None:
    """Copy the grid to ``target``, which must not be there yet; it can be served from there.

    What fails leaves nothing. Raises AlreadyThere, Unavailable, or BadRequest where the database is
    not a file of the grid.
    """
    if home.config.database.address:
        raise BadRequest(
            "the database is not in the grid's directory: copy it with its own tools first"
            f" (pg_dump), then {home.directory}"
        )
    target = target.absolute()
    if target.exists():
        raise AlreadyThere(f"{target} is there already")
    if target.is_relative_to(home.directory):
        raise BadRequest(f"{target} is inside the grid's own directory")
    part = target.with_name(f".{target.name}.partial")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(mode=0o700, parents=True)
        with undisturbed(home.datas):
            _copy_database(home.database, part / home.database.name)
            _copy_files(home, part)
        _sync(part)
        part.replace(target)
        sync_directory(target.parent)
    except (OSError, sqlite3.Error) as error:
        raise Unavailable(f"cannot back up to {target}: {error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _copy_database(source: Path, target: Path) -> None:
    """The database as it is now, while others write to it."""
    connection = sqlite3.connect(f"{source.as_uri()}?mode=rw", uri=True, timeout=60)
    try:
        connection.execute("VACUUM INTO ?", (str(target),))
    finally:
        connection.close()
    target.chmod(0o600)


def _copy_files(home: Home, target: Path) -> None:
    configuration = target / home.configuration.relative_to(home.directory)
    configuration.parent.mkdir(mode=0o755, exist_ok=True)
    shutil.copy2(home.configuration, configuration)
    for path in (
        home.ca_certificate,
        home.ca_key,
        home.certificate,
        home.key,
        home.admin_identity,
        home.worker_identity,
    ):
        if path.exists():
            shutil.copy2(path, target / path.name)
    shutil.copytree(home.sites_directory, target / home.sites_directory.name)
    # Uploads under way are nobody's yet.
    unwanted = shutil.ignore_patterns("partial", COLLECTOR)
    shutil.copytree(home.datas, target / home.datas.name, ignore=unwanted)


def _sync(directory: Path) -> None:
    """Make the copy durable."""
    for parent, _, names in os.walk(directory):
        for name in names:
            descriptor = os.open(Path(parent, name), os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_directory(Path(parent))
