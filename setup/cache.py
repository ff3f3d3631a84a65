"""The cache: the one directory of the host in which set-up leaves anything.

By default ``/var/tmp/glidebridge-<uid>``; GLIDEBRIDGE_CACHE names another. It holds what is slow to
fetch (a virtual environment, unpacked Debian packages) and may be deleted at any time.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


class SetupError(Exception):
    """Set-up cannot go on; the text says why and what the user can do."""


class Unavailable(SetupError):
    """A part cannot be had on this machine now; what needs that part may be left out."""


def place() -> Path:
    """Where the cache is, or is to be."""
    named = os.environ.get("GLIDEBRIDGE_CACHE") or f"/var/tmp/glidebridge-{os.getuid()}"  # noqa: S108
    return Path(named).absolute()


def directory() -> Path:
    """The cache directory, made if it is missing; raises SetupError if it is somebody else's."""
    path = place()
    path.mkdir(mode=0o755, parents=True, exist_ok=True)
    found = path.lstat()
    # The name is easy to guess and /var/tmp open to all: who made it first could plant programs.
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise SetupError(
            f"{path} is not a directory that only you (uid {os.getuid()}) can write to; "
            "remove it, or set GLIDEBRIDGE_CACHE to another place"
        )
    return path


@contextmanager
def locked(target: Path) -> Iterator[None]:
    """Hold the lock of ``target``, so that two makes at once build it once."""
    with unless_locked(target) as lock:
        if lock is not None:
            yield
            return
    say(f"another make is setting up {target.name}; waiting for it")
    with open(f"{target}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def unless_locked(target: Path) -> Iterator[TextIO | None]:
    """Hold the lock of ``target``, or None if somebody does. Who inherits the file holds it too."""
    with open(f"{target}.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield lock


def say(sentence: str) -> None:
    """Tell the user what set-up does; on stderr, as stdout belongs to the command that follows."""
    print(f"set-up: {sentence}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    if sys.argv[1:] != ["--remove"]:
        sys.exit("usage: cache.py --remove")
    shutil.rmtree(directory())
