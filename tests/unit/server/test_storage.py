"""The content store: what is acknowledged is whole and durable, what fails leaves nothing."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from desktopgrid.model.errors import (
    BadRequest,
    LimitExceeded,
    NoRoom,
    Unavailable,
    UnknownObject,
)
from desktopgrid.server.storage import Files, Store, WrongDigest

CONTENT = bytes(range(256)) * 40
LATER = 1e12


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def put(store: Store, content: bytes, name: str = "upload") -> str:
    with store.begin(name, digest(content), len(content)) as upload:
        upload.append(content[upload.offset :])
        upload.finish()
    return digest(content)


class Recorded(Files):
    """Does as told, remembers the order, and fails where it is told to."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.failing: dict[str, int] = {}
        self.room = 1 << 40
        self._names: dict[int, str] = {}

    def open(self, path: Path, flags: int, mode: int = 0o600) -> int:
        descriptor = super().open(path, flags, mode)
        self._names[descriptor] = path.name
        return descriptor

    def write(self, descriptor: int, content: memoryview) -> int:
        self._do("write")
        return super().write(descriptor, content[:1000])

    def sync(self, descriptor: int) -> None:
        self._do(f"sync {self._names[descriptor]}")
        super().sync(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        self._do(f"rename {source.name}")
        super().rename(source, target)

    def free(self, directory: Path) -> int:
        return self.room

    def _do(self, what: str) -> None:
        self.done.append(what)
        if what in self.failing:
            number = self.failing[what]
            raise OSError(number, os.strerror(number))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "data")


@pytest.fixture
def files() -> Recorded:
    return Recorded()


@pytest.fixture
def watched(tmp_path: Path, files: Recorded) -> Store:
    made = Store(tmp_path / "data", min_free=1000, files=files)
    files.done.clear()
    return made


def test_what_was_stored_is_read_by_its_digest(store):
    sha256 = put(store, CONTENT)
    assert store.has(sha256)
    with store.open(sha256) as file:
        assert file.read() == CONTENT


def test_an_upload_goes_on_where_it_broke_off(store):
    with store.begin("part", digest(CONTENT), len(CONTENT)) as upload:
        assert upload.append(CONTENT[:700]) == 700
    assert store.offset("part") == 700
    assert not store.has(digest(CONTENT))
    with store.begin("part", digest(CONTENT), len(CONTENT)) as upload:
        assert upload.offset == 700
        upload.append(CONTENT[700:])
        upload.finish()
    assert store.has(digest(CONTENT))
    assert store.offset("part") == 0


def test_an_upload_goes_on_in_another_process(tmp_path):
    with Store(tmp_path).begin("part", digest(CONTENT), len(CONTENT)) as upload:
        upload.append(CONTENT[:700])
    put(Store(tmp_path), CONTENT, "part")
    assert Store(tmp_path).has(digest(CONTENT))


def test_the_file_is_synced_before_its_name_and_the_directory_after(watched, files):
    sha256 = put(watched, CONTENT, "upload")
    steps = [step for step in files.done if step != "write"]
    assert steps == ["sync upload", "rename upload", f"sync {sha256[:2]}"]


def test_content_that_is_there_already_stays_and_its_name_is_synced(watched, files):
    sha256 = put(watched, CONTENT, "first")
    before = watched.path(sha256).stat().st_ino
    files.done.clear()
    put(watched, CONTENT, "second")
    assert watched.path(sha256).stat().st_ino == before
    assert f"sync {sha256[:2]}" in files.done
    assert watched.offset("second") == 0


def test_a_wrong_digest_is_refused_and_thrown_away(store):
    with store.begin("part", digest(b"other"), len(CONTENT)) as upload:
        upload.append(CONTENT)
        with pytest.raises(WrongDigest, match=digest(CONTENT)):
            upload.finish()
    assert store.offset("part") == 0
    assert not store.has(digest(b"other"))


def test_more_than_announced_is_refused(store):
    with store.begin("part", digest(CONTENT), 10) as upload, pytest.raises(LimitExceeded):
        upload.append(CONTENT)


def test_less_than_announced_is_not_finished(store):
    with store.begin("part", digest(CONTENT), len(CONTENT)) as upload:
        upload.append(CONTENT[:-1])
        with pytest.raises(BadRequest, match="were uploaded so far"):
            upload.finish()
    assert store.offset("part") == len(CONTENT) - 1


def test_an_upload_longer_than_it_may_be_starts_anew(store):
    with store.begin("part", digest(CONTENT), len(CONTENT)) as upload:
        upload.append(CONTENT)
    with store.begin("part", digest(b"x"), 1) as upload:
        assert upload.offset == 0


def test_an_upload_has_one_writer_at_a_time(store):
    with (
        store.begin("part", digest(CONTENT), len(CONTENT)),
        pytest.raises(Unavailable, match="another connection"),
    ):
        store.begin("part", digest(CONTENT), len(CONTENT))


def test_an_upload_that_goes_on_cannot_be_discarded(store):
    with store.begin("part", digest(CONTENT), len(CONTENT)) as upload:
        with pytest.raises(Unavailable, match="another connection"):
            store.discard("part")
        upload.append(CONTENT)
        upload.finish()
    assert store.has(digest(CONTENT))


def test_who_opens_an_upload_that_is_being_finished_does_not_get_the_content(tmp_path):
    class FinishedMeanwhile(Files):
        other = None

        def open(self, path, flags, mode=0o600):
            descriptor = super().open(path, flags, mode)
            if self.other is not None and path.name == "part":
                upload, self.other = self.other, None
                upload.finish()
            return descriptor

    files = FinishedMeanwhile()
    store = Store(tmp_path, files=files)
    upload = store.begin("part", digest(CONTENT), len(CONTENT))
    upload.append(CONTENT)
    files.other = upload
    with store.begin("part", digest(b"other"), 5) as second:
        second.append(b"other")
        second.finish()
    assert store.path(digest(CONTENT)).read_bytes() == CONTENT
    assert store.path(digest(b"other")).read_bytes() == b"other"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_refuses_with_a_reason_and_frees_what_was_written(watched, files, number):
    files.failing["write"] = number
    with (
        watched.begin("part", digest(CONTENT), len(CONTENT)) as upload,
        pytest.raises(NoRoom, match="no room"),
    ):
        upload.append(CONTENT)
    assert not list((watched.directory / "partial").iterdir())
    files.failing.clear()
    put(watched, CONTENT, "part")
    assert watched.has(digest(CONTENT))


@pytest.mark.parametrize("step", ["write", "sync part", "rename part", "sync TARGET"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_whatever_step_fails_nothing_is_acknowledged_and_nothing_left(watched, files, step, number):
    sha256 = digest(CONTENT)
    files.failing[step.replace("TARGET", sha256[:2])] = number
    with pytest.raises(Unavailable):
        put(watched, CONTENT, "part")
    assert not watched.has(sha256)
    assert not list((watched.directory / "partial").iterdir())
    files.failing.clear()
    put(watched, CONTENT, "part")
    assert watched.has(sha256)


def test_a_sync_that_fails_does_not_take_content_that_was_there_before(watched, files):
    sha256 = put(watched, CONTENT, "first")
    files.failing[f"sync {sha256[:2]}"] = errno.EIO
    with pytest.raises(Unavailable):
        put(watched, CONTENT, "second")
    assert watched.has(sha256)


def test_an_upload_is_refused_before_it_starts_where_the_disk_must_keep_some_room(watched, files):
    files.room = 1000 + len(CONTENT) - 1
    with pytest.raises(NoRoom, match="must stay so"):
        watched.begin("part", digest(CONTENT), len(CONTENT))
    files.room += 1
    put(watched, CONTENT, "part")


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "x" * 201, "a\0b"])
def test_an_upload_cannot_be_named_out_of_its_directory(store, name):
    with pytest.raises(BadRequest):
        store.begin(name, digest(CONTENT), 1)


@pytest.mark.parametrize("sha256", ["", "../../etc/passwd", "A" * 64, "0" * 63])
def test_only_a_digest_names_a_content(store, sha256):
    with pytest.raises(BadRequest):
        store.open(sha256)


def test_content_that_is_not_there_is_an_unknown_object(store):
    with pytest.raises(UnknownObject):
        store.open("0" * 64)


def test_uploads_that_nobody_goes_on_with_are_found(store):
    with store.begin("part", digest(CONTENT), len(CONTENT)) as upload:
        upload.append(b"x")
    modified = (store.directory / "partial" / "part").stat().st_mtime
    assert list(store.stale(modified)) == []
    assert list(store.stale(modified + 1)) == ["part"]
    assert store.sweep(modified) == 0
    assert store.sweep(modified + 1) == 1
    assert list(store.stale(modified + 1)) == []


def test_an_empty_content_is_a_content(store):
    assert store.has(put(store, b""))


def test_content_can_be_removed(store):
    sha256 = put(store, CONTENT)
    assert store.remove(sha256, LATER)
    assert not store.has(sha256)
    assert not store.remove(sha256, LATER)


def test_content_that_was_uploaded_again_is_not_removed(store):
    sha256 = put(store, CONTENT)
    os.utime(store.path(sha256), (1000, 1000))
    assert list(store.contents(before=2000)) == [(sha256, len(CONTENT))]
    put(store, CONTENT)
    assert list(store.contents(before=2000)) == []
    assert not store.remove(sha256, before=2000)
    assert store.has(sha256)


def test_what_is_taken_up_again_and_again_is_read_once(store, monkeypatch):
    """Resuming costs nothing; the whole is looked at when it is there."""
    read, content = [], os.urandom(1000)
    really = os.read
    monkeypatch.setattr(os, "read", lambda *a: read.append(len(r := really(*a))) or r)
    for start in range(0, 1000, 100):
        with store.begin("part", digest(content), 1000) as upload:
            assert upload.offset == start
            upload.append(content[start : start + 100])
            assert read == []
            if upload.offset == 1000:
                upload.finish()
    assert sum(read) == 1000
    assert store.path(digest(content)).read_bytes() == content


def test_a_wrong_part_is_found_out_in_the_end(store):
    with store.begin("part", digest(CONTENT), len(CONTENT)) as upload:
        upload.append(b"X")
    with store.begin("part", digest(CONTENT), len(CONTENT)) as upload:
        upload.append(CONTENT[1:])
        with pytest.raises(WrongDigest):
            upload.finish()
    assert store.unfinished() == frozenset()
