"""The cache directory belongs to its user alone, or is refused."""

import stat
from pathlib import Path

import cache
import pytest


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "cache"
    monkeypatch.setenv("GLIDEBRIDGE_CACHE", str(path))
    return path


def test_it_is_made_where_the_variable_says(elsewhere: Path) -> None:
    assert cache.directory() == elsewhere
    assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o755


def test_it_is_found_again_with_what_it_holds(elsewhere: Path) -> None:
    (cache.directory() / "kept").touch()
    assert (cache.directory() / "kept").exists()


def test_one_that_others_may_write_to_is_refused(elsewhere: Path) -> None:
    elsewhere.mkdir()
    elsewhere.chmod(0o777)
    with pytest.raises(cache.SetupError, match="GLIDEBRIDGE_CACHE"):
        cache.directory()


def test_a_link_in_its_place_is_refused(elsewhere: Path, tmp_path: Path) -> None:
    elsewhere.symlink_to(tmp_path)
    with pytest.raises(cache.SetupError, match="is not a directory that only you"):
        cache.directory()
