"""The worker's cache of datas: fetched once, checked by digest, run or copied from where they lie.

A file that was verified is trusted as long as it is the same inode with the same size and times;
otherwise, and after a restart of the worker, its digest is computed again, and one that is wrong is
fetched anew. All files are 0555, so that executables run from here. The cache has a limit; what was
used longest ago goes first, what is in use stays.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

from desktopgrid.wire.messages import File
from pilot.node.errors import CouldNotRun

logger = logging.getLogger(__name__)

CHUNK = 1 << 20
MODE = 0o555
PART = ".part"

Fetch = Callable[[File, Path], None]
"""Brings a data to a path; raises GridError. What came is right in digest and size."""


class Cached:
    """A file of the cache. ``stamp``: how it looked when its digest was right, None before."""

    __slots__ = ("lock", "path", "pins", "size", "stamp")

    def __init__(self, path: Path, size: int) -> None:
        self.path, self.size = path, size
        self.stamp: tuple[int, ...] | None = None
        self.pins = 0
        self.lock = threading.Lock()


class Cache:
    """Datas by their digest, in one directory. Any thread."""

    def __init__(self, directory: Path, limit: int, fetch: Fetch) -> None:
        self.directory, self.limit, self._fetch = directory, limit, fetch
        self._lock = threading.Lock()
        self._files: OrderedDict[str, Cached] = OrderedDict()
        self._used = 0
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._take_stock()

    def __repr__(self) -> str:
        return f"<Cache {len(self._files)} files, {self._used >> 20} of {self.limit >> 20} MiB>"

    @contextlib.contextmanager
    def hold(self, file: File, fetch: Fetch | None = None) -> Iterator[Path]:
        """The path of the data ``file``, which is right, and stays for as long as the context."""
        path = self.take(file, fetch)
        try:
            yield path
        finally:
            self.release(file)

    def take(self, file: File, fetch: Fetch | None = None) -> Path:
        """The path of the data ``file``, which is right, and stays until ``release``.

        Raises GridError if it cannot be had.
        """
        cached = self._pin(file)
        try:
            if cached.stamp is None or cached.stamp != _stamp(cached.path):
                with cached.lock:
                    self._make_right(file, cached, fetch or self._fetch)
        except BaseException:
            self.release(file)
            raise
        return cached.path

    def release(self, file: File) -> None:
        """A taker of ``file`` needs it no more."""
        with self._lock:
            self._files[file.sha256].pins -= 1

    def _pin(self, file: File) -> Cached:
        with self._lock:
            cached = self._files.get(file.sha256)
            if cached is None:
                self._make_room(file)
                cached = Cached(self.directory / _checked_name(file.sha256), file.size)
                self._files[file.sha256] = cached
                self._used += file.size
            else:
                self._files.move_to_end(file.sha256)
            cached.pins += 1
            return cached

    def _make_room(self, file: File) -> None:
        if file.size > self.limit:
            limit = self.limit >> 20
            raise CouldNotRun(
                f"data {file.data} has {file.size >> 20} MiB, the cache of this host {limit}"
            )
        for sha256 in list(self._files):
            if self._used + file.size <= self.limit:
                return
            cached = self._files[sha256]
            if not cached.pins:
                self._remove(sha256, cached)

    def _remove(self, sha256: str, cached: Cached) -> None:
        del self._files[sha256]
        self._used -= cached.size
        for path in (cached.path, cached.path.with_name(sha256 + PART)):
            with contextlib.suppress(OSError):
                path.unlink()
        logger.debug("Removed %s from the cache", sha256)

    def _make_right(self, file: File, cached: Cached, fetch: Fetch) -> None:
        stamp = _stamp(cached.path)
        if stamp is not None and stamp == cached.stamp:
            return  # another thread was quicker
        if stamp is not None:
            if _digest(cached.path) == file.sha256 and _stamp(cached.path) == stamp:
                os.chmod(cached.path, MODE)
                cached.stamp = _stamp(cached.path)
                return
            logger.warning("Found cached data %s damaged, fetched it again", file.data)
            cached.path.unlink()
        fetch(file, cached.path)
        os.chmod(cached.path, MODE)
        cached.stamp = _stamp(cached.path)

    def _take_stock(self) -> None:
        """Find what an earlier worker left; a download that broke off goes on with its data."""
        found = []
        for entry in os.scandir(self.directory):
            if entry.is_file(follow_symlinks=False) and len(entry.name) == 64:
                status = entry.stat(follow_symlinks=False)
                found.append((status.st_atime_ns, entry.name, status.st_size))
        for _, name, size in sorted(found):
            self._files[name] = Cached(self.directory / name, size)
            self._used += size


def _checked_name(sha256: str) -> str:
    if len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef"):
        raise CouldNotRun(f"{sha256[:80]!r} is no SHA-256")
    return sha256


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return (found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
