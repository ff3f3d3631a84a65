"""Bringing files home from where others wrote: names that we chose, regular files, so many bytes.

What a node left may be a symbolic link to a file of ours, a pipe that nobody writes to, or a file
without an end. None of that is followed, waited for or believed.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from desktopgrid.model.errors import BadRequest
from pilot.ce.base import check_outputs

logger = logging.getLogger(__name__)

CHUNK = 1 << 16
LONGEST_LIST = 1 << 16
"""Bytes of the names of a job's outputs."""
_REGULAR = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC


class TooMuch(Exception):
    """What was left is larger than was allowed."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"it left more than {limit} bytes")


class Landing:
    """A directory of ours that files come to; what has arrived is gone again if it fails."""

    def __init__(self, directory: Path, limit: int) -> None:
        self._directory, self._limit = directory, limit
        self._left = limit
        self.names: list[str] = []
        """What has arrived."""

    def __enter__(self) -> Landing:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            for name in self.names:
                (self._directory / name).unlink(missing_ok=True)

    def receive(self, name: str, chunks: Iterable[bytes]) -> None:
        """Write the file ``name``; raises TooMuch."""
        target = self._directory / name
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.names.append(name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(target, flags, 0o600), "wb") as file:
            for chunk in chunks:
                self._left -= len(chunk)
                if self._left < 0:
                    raise TooMuch(self._limit)
                file.write(chunk)

    def take(self, name: str, root: Path, path: str) -> None:
        """Copy ``path`` below ``root``, if that is a regular file, to ``name``."""
        file = open_regular(root, path)
        if file is None:
            return
        with file:
            self.receive(name, chunks_of(file))


def listed(chunks: Iterable[bytes]) -> list[str]:
    """The names of a job's outputs, as its directory lists them; raises BadRequest.

    We wrote the list, and a job may have written over it: names that we would not have taken would
    lead out of the directory that they are brought to.
    """
    text = b""
    for chunk in chunks:
        text += chunk
        if len(text) > LONGEST_LIST:
            raise BadRequest("its list of outputs is not the one that it was sent with")
    names = text.decode(errors="replace").splitlines()
    check_outputs(names)
    return names


def chunks_of(file: BinaryIO) -> Iterator[bytes]:
    """The content of ``file``."""
    while chunk := file.read(CHUNK):
        yield chunk


def open_regular(root: Path, path: str) -> BinaryIO | None:
    """The file ``path`` below ``root``, reached through no symbolic link; None if there is none."""
    *parents, name = path.split("/")
    try:
        at = os.open(root, _DIRECTORY)
    except OSError:
        return None
    try:
        for parent in parents:
            below = os.open(parent, _DIRECTORY, dir_fd=at)
            os.close(at)
            at = below
        descriptor = os.open(name, _REGULAR, dir_fd=at)
    except FileNotFoundError:
        return None
    except OSError as error:
        logger.warning("Left %s in %s where it is: %s", path, root, error.strerror)
        return None
    finally:
        os.close(at)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        logger.warning("Left %s in %s where it is: it is no regular file", path, root)
        return None
    return os.fdopen(descriptor, "rb")
