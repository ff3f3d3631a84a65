"""What `make package`, `install`, `doc` and the others make of the sources, and that it runs with a
Python and nothing else.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.system.processes import ROOT

MINUTES = 300


def distribution(build: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """What make runs."""
    return subprocess.run(
        [sys.executable, "-B", ROOT / "setup/distribution.py", "--build", build, *words],
        capture_output=True,
        text=True,
        timeout=MINUTES,
    )


def bare(home: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command where nothing of ours can be found but what it brings along."""
    python = f"/usr/bin/python{sys.version_info[0]}.{sys.version_info[1]}"
    if not os.access(python, os.X_OK):
        python = os.path.realpath(sys.executable)
    return subprocess.run(
        command,
        env={"HOME": str(home), "PATH": "/usr/bin:/bin", "GLIDEBRIDGE_PYTHON": python},
        cwd=home,
        capture_output=True,
        text=True,
        timeout=MINUTES,
    )


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the archives are."""
    build = tmp_path_factory.mktemp("build")
    for verb in ("distrib", "package"):
        made = distribution(build, verb)
        assert made.returncode == 0, made.stderr
    return build


@pytest.fixture
def installed(build: Path, tmp_path: Path) -> Path:
    prefix = tmp_path / "opt" / "glidebridge"
    prefix.parent.mkdir()
    done = distribution(build, "install", prefix)
    assert done.returncode == 0, done.stderr
    return prefix


@pytest.mark.feature("XW-PKG-1", "XW-PKG-5", "XW-PKG-8", "XW-PKG-12")
def test_what_is_installed_makes_and_serves_a_grid(installed: Path, tmp_path: Path) -> None:
    assert (installed / "conf/server.conf").read_text().startswith("# The server of a grid")
    xwserver, place = installed / "bin/xwserver", tmp_path / "grid"
    options = ("--port", "0", "--address", "127.0.0.1")
    made = bare(tmp_path, xwserver, "init", place, *options)
    assert made.returncode == 0, made.stderr
    try:
        started = bare(tmp_path, xwserver, "--directory", place, "start")
        assert started.returncode == 0, started.stderr
        stats = bare(
            tmp_path, installed / "bin/xw", "--identity", place / "admin.identity", "stats"
        )
        assert (stats.returncode, "completed" in stats.stdout) == (0, True), stats.stderr
        packed = bare(tmp_path, xwserver, "--directory", place, "bundle", "worker")
        assert packed.returncode == 0, packed.stderr
    finally:
        stopped = bare(tmp_path, xwserver, "--directory", place, "stop")
    assert stopped.returncode == 0, stopped.stderr


@pytest.mark.feature("XW-PKG-9")
def test_what_is_installed_is_removed_without_a_trace(build: Path, installed: Path) -> None:
    again = distribution(build, "install", installed)
    assert again.returncode == 0, again.stderr
    gone = distribution(build, "uninstall", installed)
    assert gone.returncode == 0, gone.stderr
    assert list(installed.parent.iterdir()) == []


def test_what_is_somebody_elses_is_neither_replaced_nor_removed(
    build: Path, tmp_path: Path
) -> None:
    (tmp_path / "thesis").write_text("")
    for verb in ("install", "uninstall"):
        done = distribution(build, verb, tmp_path)
        assert (done.returncode, "no installation of ours" in done.stderr) == (1, True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis"]


@pytest.mark.feature("XW-PKG-6", "XW-PKG-17")
def test_the_binary_package_runs_where_it_is_unpacked(build: Path, tmp_path: Path) -> None:
    (archive,) = build.glob("glidebridge-*-bin.tar.gz")
    subprocess.run(["tar", "xzf", archive], cwd=tmp_path, check=True)
    (top,) = tmp_path.iterdir()
    for name in ("xwserver", "xwworker", "xw", "pilot"):
        said = bare(tmp_path, top / "bin" / name, "--help")
        assert (said.returncode, "usage" in said.stdout.lower()) == (0, True), said.stderr


COUNTERPARTS = {
    "benchmark": "bench",
    "build": "setup",
    "classes": "Makefile",
    "doc": "docs",
    "misc": "conf",
    "src": "desktopgrid",
}
"""The parts of the original's sources (manual, 5.1.1), and ours."""


@pytest.mark.feature("XW-PKG-16")
def test_the_sources_have_all_parts(build: Path) -> None:
    (archive,) = build.glob("glidebridge-*.tar.bz2")
    with tarfile.open(archive) as packed:
        parts = {name.split("/")[1] for name in packed.getnames() if "/" in name}
    assert set(COUNTERPARTS.values()) <= parts


@pytest.mark.feature("XW-PKG-10", "XW-PKG-17")
def test_the_sources_clean_up_what_was_built_and_no_more(
    build: Path, installed: Path, tmp_path: Path
) -> None:
    (archive,) = build.glob("glidebridge-*.tar.bz2")
    with tarfile.open(archive) as packed:
        assert not [name for name in packed.getnames() if ".git/" in name]
    subprocess.run(["tar", "xjf", archive], cwd=tmp_path, check=True)
    (sources,) = tmp_path.glob("glidebridge-*")
    (sources / "build" / "glidebridge").mkdir(parents=True)
    done = subprocess.run(
        ["make", "clean"],
        cwd=sources,
        env={**os.environ, "GLIDEBRIDGE_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert not (sources / "build").exists()
    assert (sources / "setup.cfg").exists()
    assert bare(tmp_path, installed / "bin/xwserver", "--help").returncode == 0


@pytest.mark.feature("XW-PKG-7")
def test_the_documentation_of_the_api_is_made(tmp_path: Path) -> None:
    made = distribution(tmp_path, "doc")
    assert made.returncode == 0, made.stderr
    assert "GridExecutor" in (tmp_path / "doc/desktopgrid.client.futures.html").read_text()
    assert "sweep" in (tmp_path / "doc/desktopgrid.client.grid.html").read_text()


@pytest.mark.feature("XW-PKG-4")
def test_no_interface_compiler_is_asked_for() -> None:
    for name in ("Makefile", "setup.cfg", "conf/server.conf", "conf/worker.conf"):
        assert "idl" not in (ROOT / name).read_text().lower().replace("idle", "")
