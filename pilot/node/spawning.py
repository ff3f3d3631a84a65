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
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

BUSY_TRIES = 100
BUSY_PAUSE = 0.01
# Python itself ignores these; programs expect that nobody does.
RESTORED = (signal.SIGPIPE, signal.SIGXFSZ)

# <spawn.h> of the GNU C library. Its types are opaque: of 80, 336 and 128 bytes where we looked.
SET_SIGNAL_DEFAULTS, SET_SIGNAL_MASK, SET_SESSION = 0x04, 0x08, 0x80
ROOM = 1024

FILE_SYSTEM = sys.getfilesystemencoding()


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


class Actions:
    """What a child does before it becomes the program: takes ``files`` as its standard input,
    output and error, goes to a directory. All other descriptors are closed by exec itself.
    """

    def __init__(self, files: tuple[int, int, int], directory: bytes) -> None:
        self._library = c = library()
        assert c is not None  # noqa: S101  whoever calls has looked
        self.value = ctypes.create_string_buffer(ROOM)
        _check(c.begin(self.value), directory)
        for its, mine in enumerate(files):
            _check(c.duplicate(self.value, mine, its), directory)
        _check(c.go_to(self.value, directory), directory)

    def __del__(self) -> None:
        if self._library is not None:
            self._library.end(self.value)


# A slot does the same for each of its tasks.
_actions = functools.lru_cache(maxsize=256)(Actions)


def _spawn(
    executable: Path,
    arguments: tuple[str, ...],
    environment: Mapping[str, str],
    directory: Path,
    files: tuple[int, int, int],
) -> int:
    c = library()
    assert c is not None  # noqa: S101  whoever calls has looked
    number = ctypes.c_int()
    path, place = _strings((str(executable), str(directory)))
    argv = _array(_strings(arguments))
    envp = _array(_strings([_setting(name, value) for name, value in environment.items()]))
    actions = _actions(files, place).value
    _check(c.spawn(ctypes.byref(number), path, actions, c.attributes, argv, envp), path)
    return number.value


def _setting(name: str, value: str) -> str:
    if not name or "=" in name:
        raise ValueError(f"illegal environment variable name {name!r}")
    return f"{name}={value}"


def _strings(texts: Iterable[str]) -> list[bytes]:
    encoded = [text.encode(FILE_SYSTEM, "surrogateescape") for text in texts]
    if b"\0" in b"".join(encoded):
        raise ValueError("embedded null byte")
    return encoded


def _array(strings: list[bytes]) -> Any:
    return (ctypes.c_char_p * (len(strings) + 1))(*strings, None)


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
