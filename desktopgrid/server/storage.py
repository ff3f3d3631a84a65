"""The contents of datas and outputs: files named by their SHA-256, whole and durable or not there.

An upload goes to a file of its own under ``partial/`` and is taken up again where it broke off: the
length of that file is how much there is. What is finished is synced, put in its place under its
digest, and the directory synced, before anybody is told. Contents are never changed. All of this
waits for the disk: call it from a thread.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from desktopgrid.model.errors import (
    BadRequest,
    LimitExceeded,
    NoRoom,
    Unavailable,
    UnknownObject,
)

MIB = 1 << 20
CHUNK = 4 * MIB
"""Bytes hashed at a time, and written between two looks at the free space."""
DIGEST = re.compile(r"[0-9a-f]{64}")
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
COLLECTOR = "collector"
"""The file that is locked while contents are thrown away, or while none may be."""
UPLOAD_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,199}")


class WrongDigest(BadRequest):
    """The content is not what it was said to be; what was uploaded is thrown away."""

    code = "wrong-digest"


class Files:
    """What a store asks of the file system; tests put a broken one in its place."""

    def open(self, path: Path, flags: int, mode: int = 0o600) -> int:
        """A descriptor of the file ``path``."""
        return os.open(path, flags, mode)

    def write(self, descriptor: int, content: memoryview) -> int:
        """Write some of ``content``; how much."""
        return os.write(descriptor, content)

    def sync(self, descriptor: int) -> None:
        """Make the file, or the directory, durable."""
        os.fsync(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Put ``source`` in the place of ``target``."""
        os.replace(source, target)

    def free(self, directory: Path) -> int:
        """Bytes that we may still write there."""
        found = os.statvfs(directory)
        return found.f_bavail * found.f_frsize


class Store:
    """The contents in a directory. ``min_free`` bytes of the disk are left to others."""

    def __init__(self, directory: Path, min_free: int = 0, files: Files | None = None) -> None:
        self.directory, self.min_free = directory, min_free
        self.files = files if files is not None else Files()
        self._partial = directory / "partial"
        self._partial.mkdir(mode=0o700, parents=True, exist_ok=True)
        for prefix in range(256):
            (directory / f"{prefix:02x}").mkdir(mode=0o700, exist_ok=True)
        self._sync(directory)

    def path(self, sha256: str) -> Path:
        """Where the content with this digest is, if it is there; raises BadRequest."""
        if not DIGEST.fullmatch(sha256):
            raise BadRequest(f"{sha256[:80]!r} is no SHA-256: 64 hexadecimal digits")
        return self.directory / sha256[:2] / sha256

    def has(self, sha256: str) -> bool:
        """Whether the content with this digest is there, whole and durable."""
        return self.path(sha256).is_file()

    def open(self, sha256: str) -> BinaryIO:
        """The content with this digest, to be read; raises UnknownObject."""
        try:
            return self.path(sha256).open("rb")
        except FileNotFoundError:
            raise UnknownObject(f"the server has no content {sha256}") from None
        except OSError as error:
            raise Unavailable(f"cannot read {sha256}: {error.strerror}") from error

    def begin(self, name: str, sha256: str, size: int) -> Upload:
        """The upload ``name`` of a content, taken up where it broke off; to be used in a `with`.

        One at a time may write to an upload: raises Unavailable if another does, NoRoom if the disk
        has no room for the rest of it.
        """
        self.path(sha256)
        part, descriptor = self._locked(name)
        try:
            upload = Upload(self, part, descriptor, sha256, size)
            self.check_room(size - upload.offset)
        except BaseException:
            if not os.fstat(descriptor).st_size:
                part.unlink(missing_ok=True)
            os.close(descriptor)
            raise
        return upload

    def offset(self, name: str) -> int:
        """How much of the upload ``name`` there is."""
        try:
            return self._part(name).stat().st_size
        except FileNotFoundError:
            return 0

    def discard(self, name: str) -> None:
        """Throw away what there is of the upload ``name``; raises Unavailable if it goes on."""
        part, descriptor = self._locked(name)
        part.unlink()
        os.close(descriptor)

    def contents(self, before: float) -> Iterator[tuple[str, int]]:
        """Digest and size of each content that nobody has uploaded since ``before`` (seconds since
        the epoch).
        """
        for prefix in range(256):
            for entry in os.scandir(self.directory / f"{prefix:02x}"):
                with suppress(FileNotFoundError):
                    found = entry.stat(follow_symlinks=False)
                    if DIGEST.fullmatch(entry.name) and found.st_mtime < before:
                        yield entry.name, found.st_size

    def remove(self, sha256: str, before: float) -> bool:
        """Delete the content with this digest, to which nobody refers any more, unless somebody has
        uploaded it since ``before``; whether it is gone.
        """
        path = self.path(sha256)
        with self._alone_in(path.parent):
            try:
                if path.stat().st_mtime >= before:
                    return False
            except FileNotFoundError:
                return False
            path.unlink()
        return True

    def stale(self, before: float) -> Iterator[str]:
        """The uploads that nobody has written to since ``before`` (seconds since the epoch)."""
        for path in self._partial.iterdir():
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < before:
                    yield path.name

    def unfinished(self) -> frozenset[str]:
        """The uploads that there are parts of."""
        return frozenset(path.name for path in self._partial.iterdir())

    def sweep(self, before: float) -> int:
        """Throw away the uploads that nobody has gone on with since ``before``; how many."""
        count = 0
        for name in self.stale(before):
            with suppress(Unavailable, FileNotFoundError):
                self.discard(name)
                count += 1
        return count

    def check_room(self, wanted: int) -> None:
        """Raise NoRoom if ``wanted`` more bytes would leave the disk less than it must have."""
        free = self.files.free(self.directory)
        if wanted > 0 and free - wanted < self.min_free:
            raise NoRoom(
                f"no room for {wanted} bytes: the server's disk has {free // MIB} MiB free,"
                f" of which {self.min_free // MIB} MiB must stay so"
            )

    def _locked(self, name: str) -> tuple[Path, int]:
        """The file of the upload ``name``, ours alone until its descriptor is closed."""
        part = self._part(name)
        while True:
            with translated(f"store {name}"):
                descriptor = self.files.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(descriptor)
                raise Unavailable(f"another connection is uploading {name}") from None
            # It may have been finished in between: a content then, and not ours to write.
            if _is_same(part, descriptor):
                return part, descriptor
            os.close(descriptor)

    def place(self, part: Path, sha256: str) -> None:
        """Put the synced file ``part`` where the content with this digest belongs, durably."""
        target = self.path(sha256)
        # An upload of the same content must not count on a name that another may take back.
        with self._alone_in(target.parent):
            if target.exists():
                # Who looks for contents that nobody needs sees that this one is wanted again.
                os.utime(target)
                self._sync(target.parent)
                part.unlink()
                return
            os.utime(part)
            self.files.rename(part, target)
            try:
                self._sync(target.parent)
            except OSError:
                target.unlink(missing_ok=True)
                raise

    @contextmanager
    def _alone_in(self, directory: Path) -> Iterator[None]:
        """No other thread, of whatever process, places or removes a content there meanwhile."""
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _sync(self, directory: Path) -> None:
        descriptor = self.files.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.files.sync(descriptor)
        finally:
            os.close(descriptor)

    def _part(self, name: str) -> Path:
        if not UPLOAD_NAME.fullmatch(name):
            raise BadRequest(f"{name[:80]!r} cannot name an upload")
        return self._partial / name


class Upload:
    """Writing one content. Leaving the `with` keeps what there is, unless it failed."""

    def __init__(self, store: Store, part: Path, descriptor: int, sha256: str, size: int) -> None:
        self._store, self._part, self._descriptor = store, part, descriptor
        self.sha256, self.size = sha256, size
        self.offset = self._take_up()
        self._digest = hashlib.sha256() if not self.offset else None
        """Of what was written; of an upload that was taken up it is made when all is there."""
        self._checked = self.offset

    def __enter__(self) -> Upload:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def append(self, content: bytes) -> int:
        """Write ``content`` behind what there is; gives the offset after it.

        Raises LimitExceeded for more bytes than were announced, and NoRoom or Unavailable when the
        disk does not take them; the upload is thrown away then, and its room is free again.
        """
        if self.offset + len(content) > self.size:
            raise LimitExceeded(f"more than the {self.size} bytes that were announced")
        if self.offset - self._checked >= CHUNK:
            self._store.check_room(len(content))
            self._checked = self.offset
        with self._failing("store"):
            rest = memoryview(content)
            while rest:
                rest = rest[self._store.files.write(self._descriptor, rest) :]
        if self._digest is not None:
            self._digest.update(content)
        self.offset += len(content)
        return self.offset

    def finish(self) -> None:
        """Make the content durable under its digest; the upload is over when this returns.

        Raises WrongDigest, and throws the upload away, if it is not what it was said to be.
        """
        if self.offset != self.size:
            raise BadRequest(f"{self.offset} bytes of {self.size} were uploaded so far")
        found = self._digest.hexdigest() if self._digest is not None else self._read_again()
        if found != self.sha256:
            self.throw_away()
            raise WrongDigest(f"the content's SHA-256 is {found}")
        with self._failing("store"):
            self._store.files.sync(self._descriptor)
            self._store.place(self._part, self.sha256)
        self.close()

    def throw_away(self) -> None:
        """End the upload and forget what there is of it."""
        self._part.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Stop writing; what there is stays."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _take_up(self) -> int:
        """Go to the end of what there is already; what is too long is thrown away."""
        length = os.fstat(self._descriptor).st_size
        if length > self.size:
            os.ftruncate(self._descriptor, 0)
            return 0
        return os.lseek(self._descriptor, 0, os.SEEK_END)

    def _read_again(self) -> str:
        """The digest of all that there is."""
        digest = hashlib.sha256()
        with translated("read what was uploaded"):
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            while content := os.read(self._descriptor, CHUNK):
                digest.update(content)
        return digest.hexdigest()

    @contextmanager
    def _failing(self, verb: str) -> Iterator[None]:
        with translated(f"{verb} {self._part.name}"):
            try:
                yield
            except OSError:
                # After a failed sync nobody knows what the file holds.
                self.throw_away()
                raise


def _is_same(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


@contextmanager
def translated(attempt: str) -> Iterator[None]:
    """Raise NoRoom or Unavailable where the disk cannot."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            raise NoRoom(f"no room on the server's disk to {attempt}") from error
        raise Unavailable(f"cannot {attempt}: {error.strerror}") from error


@contextmanager
def undisturbed(directory: Path, how: int = fcntl.LOCK_SH) -> Iterator[None]:
    """Nothing is collected in ``directory`` meanwhile; raises Unavailable."""
    descriptor = os.open(directory / COLLECTOR, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, how)
        except BlockingIOError:
            raise Unavailable(
                f"another collection, or a backup, is under way in {directory}"
            ) from None
        yield
    finally:
        os.close(descriptor)
