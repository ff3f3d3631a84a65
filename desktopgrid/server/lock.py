"""The right to keep a grid: a lock on its directory."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from desktopgrid.model.errors import Unavailable

LOCK_ATTEMPTS = 10
LOCK_PAUSE = 0.02


class DirectoryLock:
    """The right to keep the grid in a directory; the system takes it back when the process ends."""

    def __init__(self, directory: Path) -> None:
        self._descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        # Who only asks whether it is held has it for a moment.
        for _ in range(LOCK_ATTEMPTS):
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except OSError:
                time.sleep(LOCK_PAUSE)
        os.close(self._descriptor)
        raise Unavailable(f"another process keeps the grid in {directory}")

    @staticmethod
    def is_held(directory: Path) -> bool:
        """Whether somebody keeps the grid in ``directory`` now."""
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
        except OSError:
            return True
        finally:
            os.close(descriptor)

    def release(self) -> None:
        """Let another process have it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
