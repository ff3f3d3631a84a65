"""Starts programs, as cheaply as a process with several threads can.

The C library's posix_spawn is the cheapest way there is. Python's own (os.posix_spawn, and
subprocess where it uses vfork) holds the interpreter's lock until the new program has been loaded:
measured with two slots, 60 % of the time, in which no other thread of the worker ran. So it is
called here directly, without that lock; and its file actions can set the directory, which Python's
cannot. Where the C library is too old for that, or another one, subprocess serves.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

BUSY_TRIES = 100
BUSY_PAUSE = 0.01
# Python itself ignores these; programs expect that nobody does.
RESTORED = (signal.SIGPIPE, signal.SIGXFSZ)

# <spawn.h> of the GNU C library. Its types are opaque: of 80, 336 and 128 bytes where we looked.
SET_SIGNAL_DEFAULTS, SET_SIGNAL_MASK, SET_SESSION = 0x04, 0x08, 0x80
ROOM = 1024


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
    way = _open if library() is None else _spawn
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


class Library:
    """The C library's posix_spawn, with attributes that are the same for all that we start."""

    def __init__(self) -> None:
        # PyDLL keeps the interpreter's lock: right for calls that take a moment, and only for them.
        quick = ctypes.PyDLL(None)
        self.spawn = ctypes.CDLL(None).posix_spawn
        self.begin = quick.posix_spawn_file_actions_init
        self.duplicate = quick.posix_spawn_file_actions_adddup2
        self.go_to = quick.posix_spawn_file_actions_addchdir_np
        self.end = quick.posix_spawn_file_actions_destroy
        self.attributes = ctypes.create_string_buffer(ROOM)
        none, restored = ctypes.create_string_buffer(ROOM), ctypes.create_string_buffer(ROOM)
        quick.sigemptyset(none)
        quick.sigemptyset(restored)
        for number in RESTORED:
            quick.sigaddset(restored, int(number))
        quick.posix_spawnattr_init(self.attributes)
        quick.posix_spawnattr_setsigmask(self.attributes, none)
        quick.posix_spawnattr_setsigdefault(self.attributes, restored)
        flags = ctypes.c_short(SET_SIGNAL_DEFAULTS | SET_SIGNAL_MASK | SET_SESSION)
        quick.posix_spawnattr_setflags(self.attributes, flags)


@functools.lru_cache(maxsize=1)
def library() -> Library | None:
    """The C library, if it has all that we need of it."""
    try:
        os.confstr("CS_GNU_LIBC_VERSION")
        return Library()
    except (AttributeError, OSError, ValueError):
        return None


def _spawn(
    executable: Path,
    arguments: tuple[str, ...],
    environment: Mapping[str, str],
    directory: Path,
    files: tuple[int, int, int],
) -> int:
    c = library()
    assert c is not None  # noqa: S101  whoever calls has looked
    actions, number = ctypes.create_string_buffer(ROOM), ctypes.c_int()
    argv = _strings(arguments)
    envp = _strings([_setting(name, value) for name, value in environment.items()])
    path = _encoded(os.fspath(executable))
    _check(c.begin(actions), path)
    try:
        for its, mine in enumerate(files):
            _check(c.duplicate(actions, mine, its), path)
        _check(c.go_to(actions, _encoded(os.fspath(directory))), path)
        # All other descriptors are closed by exec itself.
        wrong = c.spawn(ctypes.byref(number), path, actions, c.attributes, argv, envp)
        _check(wrong, path)
    finally:
        c.end(actions)
    return number.value


def _setting(name: str, value: str) -> str:
    if not name or "=" in name:
        raise ValueError(f"illegal environment variable name {name!r}")
    return f"{name}={value}"


def _strings(values: Any) -> Any:
    encoded = [_encoded(value) for value in values]
    return (ctypes.c_char_p * (len(encoded) + 1))(*encoded, None)


def _encoded(text: str) -> bytes:
    data = os.fsencode(text)
    if b"\0" in data:
        raise ValueError("embedded null byte")
    return data


def _check(number: int, path: bytes) -> None:
    if number:
        raise OSError(number, os.strerror(number), os.fsdecode(path))


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
