"""The copy of the checkout in which root's commands run is what the checkout is, each time."""

import os
from pathlib import Path

import pytest
from account import pack, unpack


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    path = tmp_path / "checkout"
    for name, text in {
        "Makefile": "all:",
        "pilot/node.py": "pass",
        ".git/HEAD": "ref",
        "pilot/__pycache__/node.pyc": "theirs",
    }.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return path


@pytest.fixture
def copy(checkout: Path, tmp_path: Path) -> Path:
    path = tmp_path / "copy"
    unpack(pack(checkout), path)
    return path


def files(tree: Path) -> dict[str, str]:
    return {
        str(path.relative_to(tree)): path.read_text()
        for path in tree.glob("**/*")
        if path.is_file()
    }


def test_it_holds_the_sources_without_history_and_caches(copy: Path) -> None:
    assert files(copy) == {"Makefile": "all:", "pilot/node.py": "pass"}


def test_it_follows_what_is_changed_added_and_removed(checkout: Path, copy: Path) -> None:
    (checkout / "Makefile").write_text("none:")
    (checkout / "pilot/new.py").write_text("new")
    (checkout / "pilot/node.py").unlink()
    unpack(pack(checkout), copy)
    assert files(copy) == {"Makefile": "none:", "pilot/new.py": "new"}


def test_a_folder_becomes_a_file_and_a_file_a_link(checkout: Path, copy: Path) -> None:
    (checkout / "pilot/node.py").unlink()
    (checkout / "pilot/__pycache__/node.pyc").unlink()
    (checkout / "pilot/__pycache__").rmdir()
    (checkout / "pilot").rmdir()
    (checkout / "pilot").write_text("a file now")
    (checkout / "Makefile").unlink()
    (checkout / "Makefile").symlink_to("pilot")
    unpack(pack(checkout), copy)
    assert files(copy) == {"pilot": "a file now", "Makefile": "a file now"}
    assert os.readlink(copy / "Makefile") == "pilot"


def test_its_own_caches_stay(checkout: Path, copy: Path) -> None:
    cached = copy / "pilot/__pycache__/node.pyc"
    cached.parent.mkdir()
    cached.write_text("ours")
    unpack(pack(checkout), copy)
    assert cached.read_text() == "ours"


def test_what_is_up_to_date_is_not_written_again(checkout: Path, copy: Path) -> None:
    before = (copy / "Makefile").stat().st_ino
    unpack(pack(checkout), copy)
    assert (copy / "Makefile").stat().st_ino == before
