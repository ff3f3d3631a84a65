"""What is missing on a machine is named before `make install` begins."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import requirements

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.feature("XW-PKG-13")


@pytest.fixture(autouse=True)
def usual_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has all that is needed."""
    monkeypatch.setenv("GLIDEBRIDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("GLIDEBRIDGE_PYTHON", sys.executable)
    usage = SimpleNamespace(free=1 << 40)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage)


def test_a_usual_machine_lacks_nothing(tmp_path: Path) -> None:
    assert list(requirements.missing(tmp_path / "opt")) == []
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_installation_is_replaced(tmp_path: Path) -> None:
    (tmp_path / requirements.MARK).touch()
    assert list(requirements.missing(tmp_path)) == []


def test_all_is_named_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "OLDEST_PYTHON", (99, 0))
    monkeypatch.setattr(requirements.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(requirements, "WHEELS", tmp_path / "none")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PIP_WHEEL", "")
    monkeypatch.setenv("GLIDEBRIDGE_PYTHON", "")
    usage = SimpleNamespace(free=3 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage)
    found = list(requirements.missing(tmp_path / "opt"))
    assert [line.partition(",")[0].split(" of ")[0] for line in found] == [
        "Python 99.0 or newer",
        "the module ssl",
        "the module sqlite3",
        "the module zlib",
        "the module ctypes",
        f"a way to pip for {sys.executable}: install python3-venv (Debian: apt-get install"
        " python3-venv)",
        f"python{sys.version_info[0]}.{sys.version_info[1]} on PATH",
        "1024 MiB",
        "256 MiB",
    ]


def test_a_place_of_somebody_elses_is_none_to_install_in(tmp_path: Path) -> None:
    (tmp_path / "thesis").write_text("")
    for prefix in (tmp_path, tmp_path / "thesis", tmp_path / "thesis" / "opt"):
        (line,) = requirements.missing(prefix)
        assert "is no installation of ours; choose another PREFIX" in line


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_place_that_is_not_ours_to_write_is_named(tmp_path: Path) -> None:
    (tmp_path / "shut").mkdir(mode=0o500)
    (line,) = requirements.missing(tmp_path / "shut" / "opt")
    assert line.startswith(f"the right to write {tmp_path}/shut/opt")


def test_make_stops_before_anything_is_fetched_or_built(tmp_path: Path) -> None:
    """The real target, with a place that is somebody else's."""
    (tmp_path / "thesis").write_text("")
    build = ROOT / "build"
    before = build.stat().st_mtime_ns if build.exists() else None
    done = subprocess.run(
        ["make", f"PYTHON={sys.executable}", f"PREFIX={tmp_path}", "install"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "nothing was installed, since something is missing:\n  1. room at" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis"]
    assert (build.stat().st_mtime_ns if build.exists() else None) == before


def test_a_python_of_before_says_so_and_leaves_nothing(tmp_path: Path, python39: Path) -> None:
    done = subprocess.run(
        [python39, "-B", ROOT / "setup/requirements.py", tmp_path / "opt"],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert f"1. Python 3.11 or newer, and {python39} is 3.9" in done.stderr
    assert list(tmp_path.iterdir()) == []
