"""Which outputs a task has uploaded: an empty file each, so that only who sent a content can name
it as his.

Contents are stored by digest. To know a digest is not to have the content: without these marks a
worker could name the digest of another user's data as its output, and its user would be given that.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from desktopgrid.model.errors import BadRequest
from desktopgrid.server.home import sync_directory
from desktopgrid.server.storage import translated

NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z.-]{0,99}")


class Outputs:
    """The marks under a directory; all of this waits for the disk."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        sync_directory(directory.parent)

    def mark(self, task: str, sha256: str) -> None:
        """``task`` has uploaded this content: durable when this returns; raises NoRoom."""
        place = self._place(task)
        with translated(f"note what {task} has uploaded"):
            place.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(place / sha256, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.close(descriptor)
            sync_directory(place)
            # Each time: who made the directory may have been killed before it was synced.
            sync_directory(self.directory)

    def has(self, task: str, sha256: str) -> bool:
        """Whether ``task`` has uploaded this content."""
        return (self._place(task) / sha256).is_file()

    def tasks(self) -> list[str]:
        """The tasks that have uploaded something."""
        return sorted(os.listdir(self.directory))

    def of(self, task: str) -> set[str]:
        """What ``task`` has uploaded."""
        try:
            return set(os.listdir(self._place(task)))
        except FileNotFoundError:
            return set()

    def is_newer(self, task: str, than: float) -> bool:
        """Whether ``task`` has uploaded something new since ``than`` (seconds since the epoch)."""
        try:
            return self._place(task).stat().st_mtime >= than
        except FileNotFoundError:
            return False

    def forget(self, task: str) -> None:
        """``task`` is over, and what came of it is on record."""
        shutil.rmtree(self._place(task), ignore_errors=True)

    def _place(self, task: str) -> Path:
        if not NAME.fullmatch(task):
            raise BadRequest(f"{task[:80]!r} is no task")
        return self.directory / task
