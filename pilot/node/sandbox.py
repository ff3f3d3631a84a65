"""The directory that one task has to itself: what is placed there, what is new, its removal.

A slot's area holds ``work``, the task's directory, and ``tmp``, its TMPDIR, and has two files
without a name for its standard output and error. Tasks of a slot follow each other, and what one of
them left as it was serves the next one: making and removing it all would cost more than a small
task does. Each system call counts here, since each lets the slots' threads fight for the
interpreter.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import os
import shutil
import stat
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, NamedTuple

from pilot.node.errors import UnusableInput

FICLONE = 0x40049409  # linux/fs.h
LONGEST_NAME = 1024
"""Of a file in an env. Without it, one name of a thousand directories names a thousand paths."""
MAX_ENTRIES = 100_000
"""Files and directories that an env may unpack to."""
MAX_DIRECTORY = 16 << 20
"""Bytes of a zip's directory, all of which is in memory at once."""
SMALLEST = 4096
"""Bytes that a file or a directory takes at least."""
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""What every zip is made with; others may want any amount of memory."""
NAMELESS = (errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.EINVAL)
"""Errors that a name causes, on any host."""
CHUNK = 1 << 20
CLOCK_GRAIN = 20_000_000
"""Nanoseconds: more than a tick of any file system's clock."""


class NewFile(NamedTuple):
    """A file that a task left behind: its name as the grid knows it, and where it lies."""

    name: str
    path: Path
    size: int


class Sandbox:
    """The directories of one slot. All methods but ``used_mib`` belong to the slot's own thread."""

    def __init__(self, area: Path) -> None:
        self.area = area
        self.work = area / "work"
        self.tmp = area / "tmp"
        self.stdout = self.stderr = -1
        """Descriptors of the task's standard output and error."""
        self._seen: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
        self._begun_at = 0
        self._placed: dict[str, tuple[int, int, int]] = {}
        self.renew()

    def renew(self) -> None:
        """Make empty directories and files, whatever is there."""
        self.close()
        remove_tree(self.area)
        self.area.mkdir(mode=0o700, parents=True)
        self.work.mkdir(mode=0o700)
        self.tmp.mkdir(mode=0o700)
        self.stdout, self.stderr = self._file(), self._file()
        self._seen = (_look_of(self.work), _look_of(self.tmp))
        self._placed = {}

    def begin(self) -> None:
        """A task begins: what lies in the directory now was placed there, and is not its doing."""
        self._begun_at = time.time_ns()
        if self._placed:
            self._placed = {name: _version(entry) for name, entry in self._files()}

    def is_untouched(self) -> bool:
        """Whether the directories are as they were made: empty."""
        if self._seen != (_look_of(self.work), _look_of(self.tmp)):
            return False
        if max(look[-1] for look in self._seen) < self._begun_at - CLOCK_GRAIN:
            return True
        # Made in the same tick of the file system's clock in which the task began: a change may not
        # show.
        return not os.listdir(self.work) and not os.listdir(self.tmp)

    def clean(self, is_untouched: bool, is_silent: bool) -> None:
        """Leave all empty for the next task, after one that left some of it as it was."""
        if not is_untouched:
            self.renew()
        elif not is_silent:
            self.close()
            self.stdout, self.stderr = self._file(), self._file()

    def close(self) -> None:
        """Forget standard output and error."""
        for descriptor in (self.stdout, self.stderr):
            if descriptor >= 0:
                os.close(descriptor)
        self.stdout = self.stderr = -1

    def _file(self) -> int:
        """A descriptor of a new file without a name, which is gone when it is closed."""
        try:
            return os.open(self.area, os.O_TMPFILE | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError:  # a file system that cannot
            descriptor, name = tempfile.mkstemp(dir=self.area)
            os.unlink(name)
            return descriptor

    def place(self, source: Path, name: str) -> None:
        """Copy ``source`` to ``name``; the task may do with its copy what it likes."""
        target = self.target(name)
        with open(source, "rb") as original, open(target, "wb") as copy:
            try:
                fcntl.ioctl(copy, FICLONE, original.fileno())
            except OSError:
                shutil.copyfileobj(original, copy, CHUNK)
        os.chmod(target, 0o644)

    def unpack(self, source: Path, limit: int) -> None:
        """Unpack the zip ``source``, at most ``limit`` bytes; raises UnusableInput.

        Nothing of it is written anywhere else.
        """
        try:
            with _Wary(source) as file, zipfile.ZipFile(file) as archive:
                _unpack(archive, self, limit)
        except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError) as error:
            raise UnusableInput(f"the env is no zip that can be read: {error}") from error
        except (RuntimeError, EOFError, zlib.error) as error:  # encrypted, cut off, damaged
            raise UnusableInput(f"the env cannot be unpacked: {error}") from error

    def new_files(self, patterns: tuple[str, ...]) -> list[NewFile]:
        """The files that the task made or changed and that match one of ``patterns``, by name."""
        if _look_of(self.work)[:2] != self._seen[0][:2]:
            return []  # the task put something else in the place of the directory that we made
        found = []
        for name, entry in self._files():
            is_new = self._placed.get(name) != _version(entry)
            if is_new and any(fnmatchcase(name, pattern) for pattern in patterns):
                size = entry.stat(follow_symlinks=False).st_size
                found.append(NewFile(name, Path(entry.path), size))
        return sorted(found, key=lambda file: file.name)

    def used_mib(self) -> int:
        """What the directories and the two files take on the disk."""
        used = 0
        for descriptor in (self.stdout, self.stderr):
            with contextlib.suppress(OSError):
                used += os.fstat(descriptor).st_blocks
        for top in (self.work, self.tmp):
            for directory, _, names in os.walk(top):
                for name in names:
                    with contextlib.suppress(OSError):
                        used += os.lstat(os.path.join(directory, name)).st_blocks
        return used * 512 >> 20

    def _files(self) -> list[tuple[str, os.DirEntry[str]]]:
        """The plain files in the directory and below it, and their names for the grid."""
        found = []
        todo = [""]
        while todo:
            prefix = todo.pop()
            directory = self.work / prefix if prefix else self.work
            with contextlib.suppress(OSError):
                if prefix:
                    os.chmod(directory, 0o700)
            for entry in os.scandir(directory):
                if entry.is_dir(follow_symlinks=False):
                    todo.append(f"{prefix}{entry.name}/")
                elif entry.is_file(follow_symlinks=False):
                    found.append((prefix + entry.name, entry))
        return found

    def target(self, name: str) -> Path:
        """Where the file ``name`` is to be written; the directories around it are made."""
        self._placed[name] = (0, 0, 0)  # begin() will look
        target = self.work / safe_name(name)
        with _named(name):
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if target.is_dir():
                raise UnusableInput(f"{name!r} cannot be placed: a directory has that name")
        return target

    def make_directory(self, name: str) -> None:
        """Make the directory ``name``, and those around it."""
        with _named(name):
            (self.work / safe_name(name)).mkdir(mode=0o700, parents=True, exist_ok=True)


def safe_name(name: str) -> str:
    """``name``, a path below a task's directory; raises UnusableInput if it leads out."""
    parts = name.split("/")
    if not name or name.startswith("/") or "\0" in name or ".." in parts:
        raise UnusableInput(f"{name!r} does not name a file in the task's directory")
    return name


def remove_tree(path: Path) -> None:
    """Remove ``path`` and all below it, also what is write-protected; never follow a link."""

    def open_up(_function: object, name: str, _error: object) -> None:
        with contextlib.suppress(OSError):
            parent = os.path.dirname(name)
            os.chmod(parent, 0o700)
            if stat.S_ISDIR(os.lstat(name).st_mode):
                os.chmod(name, 0o700)
                shutil.rmtree(name, ignore_errors=True)
            else:
                os.unlink(name)

    if path.is_symlink() or path.is_file():
        path.unlink()
    else:
        shutil.rmtree(path, onerror=open_up)


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """Raise UnusableInput where ``name`` cannot be that of a file."""
    try:
        yield
    except OSError as error:
        if error.errno not in NAMELESS:
            raise
        raise UnusableInput(f"{name[:200]!r} cannot be placed: {error.strerror}") from error


class _Wary(io.FileIO):
    """A zip that does not make us read a directory of any length into memory."""

    def read(self, size: int | None = -1) -> bytes:
        """See io; raises UnusableInput."""
        if size is not None and size > MAX_DIRECTORY:
            raise UnusableInput(f"the env's own directory has {size} bytes: too many entries")
        return super().read(size)


def _unpack(archive: zipfile.ZipFile, sandbox: Sandbox, limit: int) -> None:
    entries = archive.infolist()
    _check_entries(entries)
    room = limit - SMALLEST * len(entries)
    if room < 0:
        raise UnusableInput(f"the env unpacks to more than {limit >> 20} MiB")
    for entry in entries:
        name = entry.filename
        if entry.is_dir():
            sandbox.make_directory(name)
            continue
        target = sandbox.target(name)
        with _named(name), open(target, "wb") as file, archive.open(entry) as source:
            room -= _copy_at_most(source, file, room, limit)
        os.chmod(target, 0o600 | ((entry.external_attr >> 16) & 0o755))


def _check_entries(entries: list[zipfile.ZipInfo]) -> None:
    """Raise UnusableInput for what cannot be meant well, before anything of it is written."""
    made: set[str] = set()
    for entry in entries:
        name = safe_name(entry.filename)
        if len(name) > LONGEST_NAME:
            raise UnusableInput(f"the env has a name of {len(name)} characters: {name[:40]!r}...")
        if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise UnusableInput(f"the env's {name!r} is neither a file nor a directory")
        if entry.compress_type not in METHODS:
            raise UnusableInput(f"the env's {name!r} is neither stored nor deflated")
        # One long name makes as many directories as it has parts.
        while name and name not in made:
            made.add(name)
            name = name.rpartition("/")[0]
            if len(made) > MAX_ENTRIES:
                raise UnusableInput(f"the env unpacks to more than {MAX_ENTRIES} files")


def _copy_at_most(source: IO[bytes], target: IO[bytes], room: int, limit: int) -> int:
    # What an entry says about its size may be a lie, so what comes out is counted.
    copied = 0
    while chunk := source.read(CHUNK):
        copied += len(chunk)
        if copied > room:
            raise UnusableInput(f"the env unpacks to more than {limit >> 20} MiB")
        target.write(chunk)
    return copied


def _look_of(directory: Path) -> tuple[int, ...]:
    try:
        found = os.lstat(directory)
    except OSError:
        return (0, 0, 0)
    return (found.st_ino, found.st_mode, found.st_mtime_ns)


def _version(entry: os.DirEntry[str]) -> tuple[int, int, int]:
    found = entry.stat(follow_symlinks=False)
    return (found.st_ino, found.st_size, found.st_mtime_ns)
