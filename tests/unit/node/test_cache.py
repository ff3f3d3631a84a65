"""The cache: fetched once, checked always, never larger than it may be."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from desktopgrid.model.errors import Unavailable
from desktopgrid.wire import messages as m
from pilot.node.cache import Cache, Fetch
from pilot.node.errors import CouldNotRun
from tests.unit.node.fakes import FakeTransfers, until

MIB = 1 << 20


@pytest.fixture
def transfers() -> FakeTransfers:
    return FakeTransfers()


def fetched_by(transfers: FakeTransfers) -> Fetch:
    def fetch(file: m.File, target: Path) -> None:
        transfers.get(f"/v1/datas/{file.data}", target, file.sha256, file.size)

    return fetch


def a_cache(tmp_path: Path, transfers: FakeTransfers, limit: int = 10 * MIB) -> Cache:
    return Cache(tmp_path / "cache", limit, fetched_by(transfers))


def test_a_data_is_fetched_once(tmp_path: Path, transfers: FakeTransfers) -> None:
    cache, file = a_cache(tmp_path, transfers), transfers.add("content")
    for _ in range(3):
        with cache.hold(file) as path:
            assert path.read_text() == "content"
            assert os.access(path, os.X_OK)
    assert transfers.fetches == 1
    assert repr(cache) == "<Cache 1 files, 0 of 10 MiB>"


def test_a_data_wanted_by_many_at_once_is_fetched_once(
    tmp_path: Path, transfers: FakeTransfers
) -> None:
    gate = threading.Event()

    def slowly(file: m.File, target: Path) -> None:
        gate.wait(20)
        fetched_by(transfers)(file, target)

    cache, file = Cache(tmp_path / "cache", MIB, slowly), transfers.add("content")
    paths: list[Path] = []
    threads = [threading.Thread(target=lambda: paths.append(cache.take(file))) for _ in range(4)]
    for thread in threads:
        thread.start()
    until(lambda: cache._files and next(iter(cache._files.values())).pins == 4)
    gate.set()
    for thread in threads:
        thread.join()
    assert len(paths) == 4
    assert transfers.fetches == 1


def damage_content(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(b"CONTENT")


def damage_secretly(path: Path) -> None:
    before = path.stat()
    path.chmod(0o644)
    path.write_bytes(b"CONTENT")
    path.chmod(0o555)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"CONTENT")
    other.chmod(0o555)
    os.replace(other, path)


@pytest.mark.parametrize("damage", [damage_content, damage_secretly, replace, os.unlink])
def test_a_damaged_data_is_fetched_again(
    tmp_path: Path, transfers: FakeTransfers, damage: object
) -> None:
    cache, file = a_cache(tmp_path, transfers), transfers.add("content")
    with cache.hold(file) as path:
        pass
    damage(path)  # type: ignore[operator]
    with cache.hold(file) as path:
        assert path.read_text() == "content"
        assert os.access(path, os.X_OK)
    assert transfers.fetches == 2


def test_a_data_that_was_only_touched_is_not_fetched_again(
    tmp_path: Path, transfers: FakeTransfers
) -> None:
    cache, file = a_cache(tmp_path, transfers), transfers.add("content")
    with cache.hold(file) as path:
        path.chmod(0o700)
    with cache.hold(file) as path:
        assert path.stat().st_mode & 0o777 == 0o555
    assert transfers.fetches == 1


def test_after_a_restart_datas_are_checked_by_digest(
    tmp_path: Path, transfers: FakeTransfers
) -> None:
    good, bad = transfers.add("good"), transfers.add("bad")
    cache = a_cache(tmp_path, transfers)
    for file in (good, bad):
        with cache.hold(file) as path:
            if file is bad:
                damage_secretly(path)
    cache = a_cache(tmp_path, transfers)
    for file in (good, bad):
        with cache.hold(file):
            pass
    assert transfers.fetches == 3


def test_what_was_used_longest_ago_goes_first(tmp_path: Path, transfers: FakeTransfers) -> None:
    cache = a_cache(tmp_path, transfers, limit=3 * MIB)
    files = [transfers.add(bytes([number]) * MIB) for number in range(4)]
    for file in (*files[:3], files[0], files[3]):
        with cache.hold(file):
            pass
    assert sorted(entry.name for entry in cache.directory.iterdir()) == sorted(
        files[number].sha256 for number in (0, 2, 3)
    )


def test_what_is_in_use_stays(tmp_path: Path, transfers: FakeTransfers) -> None:
    cache = a_cache(tmp_path, transfers, limit=2 * MIB)
    first, second, third = (transfers.add(bytes([number]) * MIB) for number in range(3))
    with cache.hold(first) as path:
        for file in (second, third):
            with cache.hold(file):
                pass
        assert path.exists()
    assert len(list(cache.directory.iterdir())) == 2


def test_a_data_larger_than_the_cache_is_refused(tmp_path: Path, transfers: FakeTransfers) -> None:
    cache = a_cache(tmp_path, transfers, limit=MIB)
    with pytest.raises(CouldNotRun, match="has 2 MiB, the cache of this host 1"):
        cache.take(transfers.add(b"x" * 2 * MIB))


def test_a_data_that_cannot_be_had_is_asked_for_again(
    tmp_path: Path, transfers: FakeTransfers
) -> None:
    cache, file = a_cache(tmp_path, transfers), transfers.add("content")
    transfers.trouble = [Unavailable("no network")]
    with pytest.raises(Unavailable):
        cache.take(file)
    with cache.hold(file) as path:
        assert path.read_text() == "content"


def test_a_digest_that_is_none_is_refused(tmp_path: Path, transfers: FakeTransfers) -> None:
    cache = a_cache(tmp_path, transfers)
    with pytest.raises(CouldNotRun, match="is no SHA-256"):
        cache.take(m.File("f", "d", "../../" + "a" * 58, 1))


def test_what_is_no_data_is_not_taken_for_one(tmp_path: Path, transfers: FakeTransfers) -> None:
    directory = tmp_path / "cache"
    directory.mkdir()
    (directory / "README").write_text("hello")
    (directory / ("a" * 64)).mkdir()
    assert repr(a_cache(tmp_path, transfers)).startswith("<Cache 0 files")
