"""What all transfers have in common: how long they are tried, and how a file becomes whole."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Any, BinaryIO, Callable

from desktopgrid.model.errors import GridError

BLOCK = 256 << 10
TIMEOUT = 60.0
"""Seconds without a byte after which a transfer is broken."""

ATTEMPTS = 6
"""Times in a row that a transfer may get nowhere."""

PAUSE = 0.1
"""Seconds to wait between two attempts, doubled for each that got nowhere."""

Progress = Callable[[int], None]


def complete(target: Path, sha256: str, fill: Callable[[Path], None]) -> str:
    """Make ``target`` of what ``fill`` brings into ``target.part``, where an earlier attempt may
    have left a beginning; the digest of what came. If it is not ``sha256``, nothing is left.
    """
    part = target.with_name(f"{target.name}.part")
    was_resumed = size_of(part) > 0
    fill(part)
    found = _digest(part)
    if found != sha256 and was_resumed:
        # The beginning may be that of something else: once more from the start.
        part.unlink()
        fill(part)
        found = _digest(part)
    if found == sha256:
        os.replace(part, target)
    else:
        part.unlink()
    return found


class Persistence:
    """Decides whether a transfer that failed is tried once more: as long as it gets further now and
    then.
    """

    def __init__(self) -> None:
        self.failures = 0
        self._best = 0

    def fail(self, error: GridError, done: int) -> None:
        """Wait a little if one more attempt is worth it, else raise ``error``."""
        self.failures = 1 if done > self._best else self.failures + 1
        self._best = max(self._best, done)
        if self.failures >= ATTEMPTS:
            raise error
        if (
            self.failures > 1
        ):  # the first time it may be nothing but a connection that was kept alive too long
            time.sleep(PAUSE * 2**self.failures)


def size_of(path: Path) -> int:
    """Bytes in the file ``path``; 0 if there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        _update(digest, file)
    return digest.hexdigest()


def _update(digest: Any, file: BinaryIO) -> None:
    while True:
        block = file.read(BLOCK)
        if not block:
            return
        digest.update(block)
