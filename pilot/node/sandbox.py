"""The directory that one task has to itself: what is placed there, what is new afterwards, and its removal.

A slot's area holds ``work``, the task's directory, and ``tmp``, its TMPDIR. Tasks of a slot follow each other; one that
left both as they were leaves them to the next, since making and removing directories is what a small task would spend its time on.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
import zipfile
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO

from pilot.node.errors import UnusableInput

FICLONE = 0x40049409  # linux/fs.h
MAX_ENTRIES = 100_000
CHUNK = 1 << 20


@dataclass(frozen=True)
class NewFile:
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
        self._identities: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))
        self._is_clean = False
        self._placed: dict[str, tuple[int, int, int]] = {}
        self.renew()

    def renew(self) -> None:
        """Make empty directories, whatever is there."""
        remove_tree(self.area)
        self.area.mkdir(mode=0o700, parents=True)
        self.work.mkdir(mode=0o700)
        self.tmp.mkdir(mode=0o700)
        self._identities = (_identity(self.work), _identity(self.tmp))
        self._placed = {}
        self._is_clean = True

    def clean(self) -> None:
        """Leave the directories empty for the next task."""
        is_same = self._identities == (_identity(self.work), _identity(self.tmp))
        if not self._is_clean or not is_same or os.listdir(self.tmp):
            self.renew()

    def file(self) -> int:
        """A descriptor of a new file without a name: it is gone when it is closed, whatever happens to us."""
        try:
            return os.open(self.area, os.O_TMPFILE | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError:  # a file system that cannot
            descriptor, name = tempfile.mkstemp(dir=self.area)
            os.unlink(name)
            return descriptor

    def place(self, source: Path, name: str) -> None:
        """Copy ``source`` to ``name``; the task may do with its copy what it likes."""
        self._is_clean = False
        target = self._target(name)
        with open(source, "rb") as original, open(target, "wb") as copy:
            try:
                fcntl.ioctl(copy, FICLONE, original.fileno())
            except OSError:
                shutil.copyfileobj(original, copy, CHUNK)
        os.chmod(target, 0o644)

    def unpack(self, source: Path, limit: int) -> None:
        """Unpack the zip ``source``; at most ``limit`` bytes. Raises UnusableInput and leaves no file outside of the directory."""
        self._is_clean = False
        try:
            with zipfile.ZipFile(source) as archive:
                _unpack(archive, self, limit)
        except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError) as error:
            raise UnusableInput(f"the env is no zip that can be read: {error}") from error
        except (RuntimeError, EOFError) as error:  # zipfile's words for encrypted and cut off
            raise UnusableInput(f"the env cannot be unpacked: {error}") from error

    def settle(self) -> None:
        """What lies in the directory now was placed there, and is not the task's doing."""
        if not self._is_clean:
            self._placed = {name: _version(entry) for name, entry in self._files()}

    def new_files(self, patterns: tuple[str, ...]) -> list[NewFile]:
        """The files that the task made or changed and that match one of ``patterns``, by name."""
        if self._identities[0] != _identity(self.work):
            return []
        found = []
        is_empty = True
        for name, entry in self._files():
            is_empty = False
            if self._placed.get(name) == _version(entry):
                continue
            if any(fnmatchcase(name, pattern) for pattern in patterns):
                size = entry.stat(follow_symlinks=False).st_size
                found.append(NewFile(name, Path(entry.path), size))
        self._is_clean = self._is_clean and is_empty
        return sorted(found, key=lambda file: file.name)

    def used_mib(self, *descriptors: int) -> int:
        """What the directories and the files behind ``descriptors`` take on the disk."""
        used = sum(os.fstat(descriptor).st_blocks for descriptor in descriptors)
        for top in (self.work, self.tmp):
            for directory, _, names in os.walk(top):
                for name in names:
                    with contextlib.suppress(OSError):
                        used += os.lstat(os.path.join(directory, name)).st_blocks
        return used * 512 >> 20

    def _files(self) -> list[tuple[str, os.DirEntry[str]]]:
        """Everything in the directory that is no directory; only plain files are told apart from nothing else."""
        found = []
        todo = [""]
        while todo:
            prefix = todo.pop()
            try:
                entries = list(os.scandir(self.work / prefix if prefix else self.work))
            except OSError:
                continue
            for entry in entries:
                self._is_clean = False
                if entry.is_dir(follow_symlinks=False):
                    todo.append(f"{prefix}{entry.name}/")
                elif entry.is_file(follow_symlinks=False):
                    found.append((prefix + entry.name, entry))
        return found

    def _target(self, name: str) -> Path:
        target = self.work / safe_name(name)
        try:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise UnusableInput(f"{name!r} cannot be placed: {error.strerror}") from error
        if target.is_dir():
            raise UnusableInput(f"{name!r} cannot be placed: a directory has that name")
        return target


def safe_name(name: str) -> str:
    """``name``, a path below a task's directory; raises UnusableInput if it would lead out of it."""
    parts = name.split("/")
    if not name or name.startswith("/") or "\0" in name or ".." in parts:
        raise UnusableInput(f"{name!r} does not name a file in the task's directory")
    return name


def remove_tree(path: Path) -> None:
    """Remove ``path`` and all below it, also what its owner may not write; nothing outside, wherever links lead."""

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


def _unpack(archive: zipfile.ZipFile, sandbox: Sandbox, limit: int) -> None:
    entries = archive.infolist()
    if len(entries) > MAX_ENTRIES:
        raise UnusableInput(f"the env has {len(entries)} entries; at most {MAX_ENTRIES}")
    room = limit
    for entry in entries:
        mode = entry.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise UnusableInput(f"the env's {entry.filename!r} is neither a file nor a directory")
        if entry.is_dir():
            safe_name(entry.filename)
            (sandbox.work / entry.filename).mkdir(mode=0o700, parents=True, exist_ok=True)
            continue
        target = sandbox._target(entry.filename)
        with archive.open(entry) as source, open(target, "wb") as file:
            room -= _copy_at_most(source, file, room, limit)
        os.chmod(target, 0o600 | (mode & 0o755))


def _copy_at_most(source: IO[bytes], target: IO[bytes], room: int, limit: int) -> int:
    # What an entry says about its size may be a lie, so what comes out is counted.
    copied = 0
    while chunk := source.read(CHUNK):
        copied += len(chunk)
        if copied > room:
            raise UnusableInput(f"the env unpacks to more than {limit >> 20} MiB")
        target.write(chunk)
    return copied


def _identity(directory: Path) -> tuple[int, int]:
    try:
        found = os.lstat(directory)
    except OSError:
        return (0, 0)
    return (found.st_ino, found.st_mode)


def _version(entry: os.DirEntry[str]) -> tuple[int, int, int]:
    found = entry.stat(follow_symlinks=False)
    return (found.st_ino, found.st_size, found.st_mtime_ns)
