"""What pilots are sent off with: the program, and for each a file with its enrolment secret.

The secrets lie in a directory of their own, for our eyes only, as long as it takes a door to copy
them. One that was left there by a process that was killed is removed by the next that packs.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from desktopgrid.client.pilots import PilotIdentity
from pilot import bundle

BUNDLE = "pilot.pyz"
IDENTITY = "pilot.identity"
PREFIX = "glidebridge-enrolment-"


@contextlib.contextmanager
def packed(identities: Sequence[PilotIdentity]) -> Iterator[tuple[Path, dict[str, Path]]]:
    """The bundle, and the identity file of each pilot by its stamp; gone when this is left."""
    _clear_deserted()
    directory, descriptor = _locked_directory()
    try:
        program = directory / BUNDLE
        bundle.write(program)
        files = {}
        for identity in identities:
            file = directory / identity.identity / IDENTITY
            file.parent.mkdir(mode=0o700)
            identity.write(file)
            files[identity.identity] = file
        yield program, files
    finally:
        _clear(directory)
        os.close(descriptor)


def _locked_directory() -> tuple[Path, int]:
    """A new directory, and what holds its lock: before that, somebody may take it for deserted."""
    while True:
        directory = Path(tempfile.mkdtemp(prefix=PREFIX))
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if directory.exists():
                return directory, descriptor
            os.close(descriptor)


def _clear(directory: Path) -> None:
    """Remove what we put into ``directory``, by name, and it if that was all."""
    with contextlib.suppress(OSError):
        for file in directory.glob(f"*/{IDENTITY}"):
            file.unlink()
            file.parent.rmdir()
        (directory / BUNDLE).unlink(missing_ok=True)
        directory.rmdir()


def _clear_deserted() -> None:
    for directory in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        try:
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue  # somebody else's, or gone
        try:
            # Whoever packs holds the lock; a process that is gone holds none.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_uid == os.geteuid():
                _clear(directory)
        except BlockingIOError:
            continue
        finally:
            os.close(descriptor)
