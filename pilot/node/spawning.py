"""Starts programs, as cheaply as Python can.

posix_spawn is the cheapest way, and from Python 3.9, whose subprocess forks, the only cheap one;
but it cannot set the directory. So a slot's thread gets a directory of its own, and goes there
before it spawns. Where the kernel does not allow that, subprocess serves.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path

CLONE_FS = 0x200
BUSY_TRIES = 100
BUSY_PAUSE = 0.01
# Python itself ignores these; programs expect that nobody does.
RESTORED = (signal.SIGPIPE, signal.SIGXFSZ)

_own = threading.local()


def have_own_directory() -> bool:
    """Give the calling thread a working directory of its own. Whether it has one."""
    if not hasattr(_own, "directory"):
        _own.directory = b"" if _unshare() else None
    return _own.directory is not None


def spawn(
    executable: Path,
    arguments: tuple[str, ...],
    environment: Mapping[str, str],
    directory: Path,
    files: tuple[int, int, int],
) -> int:
    """Start ``executable`` in ``directory`` and in a session of its own; gives back its number.

    ``files`` become its standard input, output and error. The caller reaps it. Raises OSError or
    ValueError.
    """
    way = _spawn if have_own_directory() else _open
    for attempt in range(BUSY_TRIES):
        try:
            return way(executable, arguments, environment, directory, files)
        except OSError as error:
            # Another thread, spawning while this file was written, lent its child the descriptor
            # for a moment.
            if error.errno != errno.ETXTBSY or attempt == BUSY_TRIES - 1:
                raise
        time.sleep(BUSY_PAUSE)
    raise AssertionError("the last attempt returns or raises")


def _spawn(
    executable: Path,
    arguments: tuple[str, ...],
    environment: Mapping[str, str],
    directory: Path,
    files: tuple[int, int, int],
) -> int:
    os.chdir(directory)
    return os.posix_spawn(
        executable,
        arguments,
        environment,
        # All other descriptors are closed by exec itself.
        file_actions=[(os.POSIX_SPAWN_DUP2, mine, its) for its, mine in enumerate(files)],
        setsid=True,
        setsigmask=(),
        setsigdef=RESTORED,
    )


def _open(
    executable: Path,
    arguments: tuple[str, ...],
    environment: Mapping[str, str],
    directory: Path,
    files: tuple[int, int, int],
) -> int:
    process = subprocess.Popen(
        arguments,
        executable=executable,
        cwd=directory,
        env=environment,
        stdin=files[0],
        stdout=files[1],
        stderr=files[2],
        close_fds=False,
        start_new_session=True,
    )
    # Whoever called us reaps it.
    process.returncode = 0
    return process.pid


@functools.lru_cache(maxsize=1)
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _unshare() -> bool:
    if threading.current_thread() is threading.main_thread():
        return False  # its directory is the process's
    with contextlib.suppress(OSError, AttributeError):
        return bool(_libc().unshare(CLONE_FS) == 0)
    return False
