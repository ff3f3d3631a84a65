"""Packages that `xwserver bundle` makes: unpacked in a home with nothing else in it, installed and
started by one command each.
"""

from __future__ import annotations

import os
import plistlib
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from desktopgrid.client.grid import Grid
from desktopgrid.model.objects import ANY_PLATFORM, Description
from pilot import bundle
from tests.real import leave_out
from tests.system.bystander import SQUARE
from tests.system.processes import SERVER, ServerUnderTest, a_grid, run, until

DEADLINE = 60


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerUnderTest]:
    """A grid whose packages lie in `packages`."""
    with a_grid(tmp_path_factory.mktemp("grid")) as server:
        out = server.directory / "packages"
        for kind in ("worker", "client"):
            made = run(SERVER, "--directory", server.place, "bundle", kind, "--out", out)
            assert made.returncode == 0, made.stderr
        yield server


@pytest.fixture
def grid(server: ServerUnderTest) -> Grid:
    grid = server.client()
    grid.send_application("square", SQUARE, ANY_PLATFORM)
    return grid


@pytest.fixture
def home(server: ServerUnderTest, tmp_path: Path) -> Path:
    """The home of a user who has nothing but what the packages hold."""
    if os.geteuid() == 0:
        leave_out("root installs a service of the whole machine")
    home = tmp_path / "home"
    home.mkdir()
    for kind in ("worker", "client"):
        packed = server.directory / "packages" / f"glidebridge-{kind}.tar.gz"
        subprocess.run(["tar", "xzf", packed], cwd=tmp_path, check=True)
    return home


def sh(home: Path, script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script as the user of ``home``, who has no session of his own."""
    return subprocess.run(
        ["sh", script, *arguments],
        env={"HOME": str(home), "PATH": "/usr/bin:/bin", "PYTHON": sys.executable},
        cwd=home,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        stdin=subprocess.DEVNULL,
    )


def everything_in(place: Path) -> set[str]:
    return {str(path.relative_to(place)) for path in place.rglob("*") if not path.is_dir()}


@pytest.mark.feature("XW-PKG-11", "XW-PKG-12", "XW-SVC-1")
def test_a_worker_is_installed_and_started_by_one_command(
    server: ServerUnderTest, grid: Grid, home: Path
) -> None:
    done = sh(home, home.parent / "glidebridge-worker/install")
    prefix = home / ".local/lib/glidebridge-worker"
    try:
        assert done.returncode == 0, done.stderr
        assert (prefix / "worker.identity").stat().st_mode & 0o777 == 0o600
        result = grid.run(Description("square"), ["7"], DEADLINE)
        assert result.stdout == b"49\n"
        script = prefix / "xwworker"
        assert "A worker runs in" in sh(home, script, "status").stdout
        assert sh(home, script, "stop").returncode == 0
        assert sh(home, script, "status").returncode == 1
        assert sh(home, script, "restart").returncode == 0
        assert grid.run(Description("square"), ["8"], DEADLINE).stdout == b"64\n"
        again = sh(home, home.parent / "glidebridge-worker/install")
        assert (again.returncode, "is there already" in again.stderr) == (1, True)
    finally:
        gone = sh(home, prefix / "uninstall")
    assert gone.returncode == 0, gone.stderr
    assert everything_in(home) == set()
    until(lambda: not grid.stats()["hosts"], "the worker has left")


@pytest.mark.feature("XW-PKG-12")
def test_a_client_is_installed_logs_in_and_is_removed(
    server: ServerUnderTest, grid: Grid, home: Path
) -> None:
    grid.send_user("wendy", password="correct horse")
    done = sh(home, home.parent / "glidebridge-client/install")
    assert done.returncode == 0, done.stderr
    xw = home / ".local/bin/xw"
    _, _, next_step = done.stdout.partition("Next: ")
    assert next_step.split()[:3] == [str(xw), "login", "LOGIN"]
    words = next_step.replace("LOGIN", "wendy").split()
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin"}
    login = subprocess.run(
        [*words, "--password", "-"],
        env=environment,
        input="correct horse\n",
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert login.returncode == 0, login.stderr
    for command in ([xw, "works"], [home / ".local/bin/xwworks"]):
        said = subprocess.run(command, env=environment, capture_output=True, timeout=DEADLINE)
        assert said.returncode == 0, said.stderr
    subprocess.run([xw, "logout"], env=environment, check=True, timeout=DEADLINE)
    gone = sh(home, home / ".local/lib/glidebridge-client/uninstall")
    assert gone.returncode == 0, gone.stderr
    assert everything_in(home) == set()


@pytest.mark.feature("XW-PKG-11")
def test_a_package_with_an_identity_is_that_users(
    server: ServerUnderTest, grid: Grid, home: Path
) -> None:
    user = grid.send_user("viola")
    hers = home.parent / "viola.json"
    replace(grid.new_identity("client", user), servers=(server.address,)).write(hers)
    out = home.parent / "hers"
    options = ("--out", out, "--identity", hers)
    made = run(SERVER, "--directory", server.place, "bundle", "client", *options)
    assert made.returncode == 0, made.stderr
    assert "hold the secret of" in made.stderr
    shutil.unpack_archive(out / "glidebridge-client.zip", out)
    done = sh(home, out / "glidebridge-client/install")
    assert done.returncode == 0, done.stderr
    place = home / ".config/glidebridge/identity.json"
    assert place.stat().st_mode & 0o777 == 0o600
    said = subprocess.run(
        [home / ".local/bin/xw", "users", "--format", "json"],
        env={"HOME": str(home), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert "viola" in said.stdout, said.stderr
    wrong = run(SERVER, "--directory", server.place, "bundle", "worker", *options)
    assert wrong.returncode == 1
    assert "is the identity of a client, not of a worker" in wrong.stderr


# --- what is in them ------------------------------------------------------------------------------


def content(server: ServerUnderTest, name: str, kind: str = "worker") -> bytes:
    """A file of a package, the same in both archives."""
    place = server.directory / "packages"
    path = f"glidebridge-{kind}/{name}"
    with zipfile.ZipFile(place / f"glidebridge-{kind}.zip") as packed:
        found = packed.read(path)
    with tarfile.open(place / f"glidebridge-{kind}.tar.gz") as packed_too:
        member = packed_too.extractfile(path)
        assert member is not None
        assert member.read() == found
    return found


def test_packages_are_for_their_owners_eyes(server: ServerUnderTest) -> None:
    packages = sorted((server.directory / "packages").iterdir())
    assert len(packages) == 4
    assert {path.stat().st_mode & 0o777 for path in packages} == {0o600}
    ca = server.home.ca_certificate.read_bytes()
    assert content(server, "ca.pem", "client") == ca
    assert ca.decode().splitlines()[1] in content(server, "worker.identity").decode()
    made = run(SERVER, "--directory", server.place, "bundle", "worker", "--out", packages[0].parent)
    assert (made.returncode, "is there already" in made.stderr) == (1, True)


def test_a_client_has_all_the_code_that_it_imports(server: ServerUnderTest) -> None:
    with zipfile.ZipFile(server.directory / "packages/glidebridge-client.zip") as packed:
        there = {name.partition("/lib/")[2] for name in packed.namelist()}
    for entry in ("cli", "legacy_cli"):
        needed = bundle.closure(entry=f"desktopgrid.client.{entry}")
        assert {path.relative_to(bundle.ROOT).as_posix() for path in needed} <= there


@pytest.mark.feature("XW-SVC-1")
@pytest.mark.parametrize("scope", ["system", "user"])
def test_the_systemd_unit_is_one(server: ServerUnderTest, scope: str, tmp_path: Path) -> None:
    unit = content(server, f"systemd/{scope}.service").decode()
    assert "SERVER" not in unit
    assert ("User=xwworker" in unit) == (scope == "system")
    assert "xwworker.pyz console --config" in unit
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze here")
    filled = unit.replace("@PYTHON@", sys.executable).replace("@PREFIX@", str(tmp_path))
    path = tmp_path / "xwworker.service"
    path.write_text(filled.replace("User=xwworker", "User=root"))
    checked = subprocess.run(
        ["systemd-analyze", "verify", f"--{scope}", "--man=no", path],
        capture_output=True,
        text=True,
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
    )
    assert "xwworker.service" not in checked.stderr, checked.stderr


@pytest.mark.feature("XW-SVC-2")
def test_the_launchd_job_starts_the_worker_at_log_in(server: ServerUnderTest) -> None:
    found = plistlib.loads(content(server, "launchd/org.glidebridge.worker.plist"))
    assert found["Label"] == "org.glidebridge.worker"
    assert found["ProgramArguments"][:3] == ["@PYTHON@", "@PREFIX@/xwworker.pyz", "console"]
    assert found["RunAtLoad"] is True
    assert found["KeepAlive"] == {"SuccessfulExit": False}


@pytest.mark.feature("XW-SVC-3", "XW-SVC-5")
def test_the_windows_service_starts_the_worker_at_boot(server: ServerUnderTest) -> None:
    service = ElementTree.fromstring(content(server, "windows/XWWorker-NT.xml"))  # noqa: S314 - ours
    assert service.findtext("id") == "XWWorker"
    assert service.findtext("startmode") == "Automatic"
    assert service.findtext("executable") == r"%BASE%\xwworker.bat"
    for name, verbs in (
        ("xwworker.bat", ["xwworker.pyz console"]),
        ("InstallXWWorker-NT.bat", ["net session", "install", "start", "status"]),
        ("UninstallXWWorker-NT.bat", ["net session", "stop", "uninstall"]),
    ):
        script = content(server, f"windows/{name}").decode()
        assert all(verb in script for verb in verbs)
        assert script.count("\r\n") == script.count("\n")
