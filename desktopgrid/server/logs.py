"""Files that grow by lines: written whole or not at all, put aside when they are full, and never in
the way of who has something to say.

A line that is given away is written by a thread of the file's own, with all that came meanwhile.
While the disk takes nothing lines wait, up to :data:`MOST_WAITING`; what comes then is counted and
dropped.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

GATHER = 0.1
"""Seconds for which lines are gathered before they are written."""
RETRY = 1.0
MOST_WAITING = 100_000


class LineFile:
    """A log of which ``most_bytes`` are kept in ``path`` and as many in each of ``kept`` older
    files, ``path``.1 the newest of them. ``encode`` makes whole lines of what was put.
    """

    def __init__(
        self, path: Path, encode: Callable[[Sequence[Any]], bytes], most_bytes: int, kept: int
    ) -> None:
        self.path, self._encode, self._most, self._kept = path, encode, most_bytes, kept
        self.dropped = 0
        """Lines that found no room."""
        self._items: deque[Any] = deque()
        self._news, self._closing = threading.Event(), threading.Event()
        self._is_well = True
        self._thread = threading.Thread(target=self._run, name=path.name, daemon=True)
        self._thread.start()

    def put(self, item: Any) -> None:
        """Have ``item`` written soon. Never waits and never fails."""
        if len(self._items) >= MOST_WAITING:
            self.dropped += 1
            return
        self._items.append(item)
        if not self._news.is_set():
            self._news.set()

    def close(self, timeout: float = 5.0) -> None:
        """Write what waits, and end."""
        self._closing.set()
        self._news.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        while not self._closing.is_set():
            self._news.wait()
            self._closing.wait(GATHER if self._is_well else RETRY)
            self._news.clear()
            self._write()

    def _write(self) -> None:
        batch = [self._items.popleft() for _ in range(len(self._items))]
        try:
            data = self._encode(batch)
            if data:
                append(self.path, data, self._most, self._kept)
        except OSError as error:
            self._items.extendleft(reversed(batch))
            self._news.set()
            if self._is_well:
                logger.warning("%s takes no lines: %s; they wait", self.path, error)
            self._is_well = False
        # Whatever a line is made of, it does not end the log: the top of a daemon's loop.
        except Exception:
            self.dropped += len(batch)
            logger.exception("%d lines for %s could not be written", len(batch), self.path)
        else:
            if not self._is_well:
                logger.warning("%s takes lines again; %d were dropped", self.path, self.dropped)
            self._is_well = True


def append(path: Path, data: bytes, most_bytes: int | None = None, kept: int = 0) -> None:
    """Append the lines ``data`` to the file ``path``, which nobody else may read, and which is put
    aside before if it would grow beyond ``most_bytes``; raises OSError, and then nothing was
    written.
    """
    _make_directory(path.parent)
    descriptor = _open(path)
    try:
        size = os.fstat(descriptor).st_size
        if most_bytes is not None and size and size + len(data) > most_bytes:
            put_aside(path, kept)
            os.close(descriptor)
            descriptor, size = -1, 0
            descriptor = _open(path)
        size = _mend(descriptor, size)
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(descriptor, left) :]
        except OSError:
            os.ftruncate(descriptor, size)
            raise
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def put_aside(path: Path, kept: int) -> None:
    """Give the file ``path`` the name ``path``.1, what had it ``path``.2, and so on; ``kept`` of
    them stay.
    """
    names = [path, *(numbered(path, number) for number in range(1, kept + 1))]
    names.pop().unlink(missing_ok=True)
    for number in range(len(names), 0, -1):
        if names[number - 1].exists():
            names[number - 1].replace(numbered(path, number))


def numbered(path: Path, number: int) -> Path:
    """What the file ``path`` is called once ``number`` newer ones have come."""
    return path.with_name(f"{path.name}.{number}")


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(path, flags, 0o600)


def _make_directory(directory: Path) -> None:
    """Raises PermissionError if it is another user's, who could put what he likes there."""
    # Not looked at first: another log may make it just then.
    try:
        directory.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        found = directory.stat()
    else:
        return
    if found.st_uid not in (os.geteuid(), 0):
        raise PermissionError(f"{directory} belongs to another user")


def _mend(descriptor: int, size: int) -> int:
    """Cut off a line that a power cut left half written; gives the size that is left."""
    if not size or os.pread(descriptor, 1, size - 1) == b"\n":
        return size
    start = max(0, size - (1 << 20))
    whole = start + os.pread(descriptor, size - start, start).rfind(b"\n") + 1
    os.ftruncate(descriptor, whole)
    return whole
