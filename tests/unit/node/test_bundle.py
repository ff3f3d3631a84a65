"""The worker as one file that a Python 3.9 runs with nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pilot import bundle


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "pilot.pyz"
    size = bundle.write(path)
    assert size == path.stat().st_size
    return path


def python39() -> str:
    prefix = os.environ.get("GLIDEBRIDGE_PYTHON39", "")
    if prefix:
        return prefix
    if os.environ.get("GLIDEBRIDGE_REQUIRE_REAL"):
        pytest.fail("GLIDEBRIDGE_PYTHON39 names no Python 3.9")
    pytest.skip("no Python 3.9 here")


def test_it_is_small_and_always_the_same(packed: Path) -> None:
    assert packed.stat().st_size < 300_000
    assert bundle.build() == packed.read_bytes()


def test_it_holds_what_a_worker_needs_and_nothing_else(packed: Path) -> None:
    names = set(zipfile.ZipFile(packed).namelist())
    assert {"__main__.py", "pilot/node/agent.py", "desktopgrid/link/session.py"} <= names
    packages = {name.rpartition("/")[0] for name in names}
    assert packages == {
        "",
        "desktopgrid",
        "desktopgrid/link",
        "desktopgrid/model",
        "desktopgrid/wire",
        "pilot",
        "pilot/node",
    }


def test_an_import_of_a_name_is_no_module(tmp_path: Path) -> None:
    package = tmp_path / "pilot" / "node"
    package.mkdir(parents=True)
    for directory in (tmp_path / "pilot", package):
        (directory / "__init__.py").write_text("")
    (package / "cli.py").write_text("import os\nfrom pilot.node.a import B\nfrom . import c\n")
    (package / "a.py").write_text("import pilot.node\nB = 1\n")
    found = [path.relative_to(tmp_path).as_posix() for path in bundle.closure(tmp_path)]
    assert found == [
        "pilot/__init__.py",
        "pilot/node/__init__.py",
        "pilot/node/a.py",
        "pilot/node/cli.py",
    ]


def test_it_runs_isolated(packed: Path) -> None:
    command = [sys.executable, "-S", "-I", str(packed), "--help"]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "--lifetime" in found.stdout


def test_it_runs_on_a_real_python_39_in_a_slot_without_a_path(packed: Path) -> None:
    command = [python39(), "-S", "-I", str(packed), "--help"]
    found = subprocess.run(command, capture_output=True, text=True, check=True, env={})
    assert "--lifetime" in found.stdout


def test_without_an_identity_it_says_so(packed: Path) -> None:
    found = subprocess.run([str(packed)], capture_output=True, text=True)
    assert found.returncode == 2
    assert found.stderr == "pilot: --identity FILE is missing: who is this worker to the grid?\n"


def test_a_python_that_is_too_old_is_named() -> None:
    older = f"import sys; sys.version_info = (3, 6); exec({bundle.MAIN.decode()!r})"
    done = subprocess.run([sys.executable, "-c", older], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f"pilot.pyz needs Python 3.9 or later; {sys.executable} is 3.")
