"""A grid that root starts, and that another user serves."""

from __future__ import annotations

import json
import os
import pwd
import random
import shutil
import socket
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from desktopgrid.link.identity import Identity
from desktopgrid.server import pki
from desktopgrid.server.home import Home
from pilot.node.storage import owner_of
from tests.system.processes import run
from tests.system.test_xwserver import xwserver

NOBODY = pwd.getpwnam("nobody")
OF_THE_HOST = "passwd group shadow gshadow sudoers.d crontab init.d systemd/system"
"""What root could change in /etc on behalf of a system user and a service."""


@pytest.fixture(autouse=True)
def host_as_before() -> Iterator[None]:
    """Whoever runs these tests, the machine is as it was: its accounts, its services, and whose
    directories are whose.
    """
    before = state_of_host()
    yield
    assert state_of_host() == before


def state_of_host() -> dict[str, tuple[int, int, int]]:
    """Mode, owner and time of each file that ``OF_THE_HOST`` names, and of usual directories."""
    files = [Path("/etc", name) for name in OF_THE_HOST.split()]
    files += [below for path in files if path.is_dir() for below in path.rglob("*")]
    found = {
        str(path): (status.st_mode, status.st_uid, status.st_mtime_ns)
        for path in files
        if path.exists()
        for status in [path.stat()]
    }
    # others make files there all the time
    for place in map(Path, ("/tmp", "/var/tmp", "/run", "/var/lib", "/home", NOBODY.pw_dir)):
        if place.exists():
            found[str(place)] = (place.stat().st_mode, place.stat().st_uid, 0)
    return found


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that other users reach, too."""
    place = Path(tempfile.mkdtemp(prefix="grid-"))
    place.chmod(0o755)
    yield place / "grid"
    if (place / "grid").exists():
        xwserver("stop", directory=place / "grid")
    shutil.rmtree(place)


def users_of(pid: int) -> set[str]:
    """The real, effective and other user numbers of a process."""
    text = Path(f"/proc/{pid}/status").read_text()
    return set(next(line for line in text.splitlines() if line.startswith("Uid:")).split()[1:])


@pytest.mark.as_root
@pytest.mark.feature("XW-CFG-15", "XW-CFG-16")
@pytest.mark.parametrize("port", ["0", "privileged"])
def test_the_user_named_is_the_one_the_daemon_runs_as(place: Path, port: str) -> None:
    """On any port, also one that only root may open."""
    if port == "privileged":
        port = str(a_port_of_roots())
    settings = ("--port", port, "--address", "127.0.0.1", "--user", "nobody")
    code, _, talk = xwserver("init", str(place), *settings)
    assert code == 0, talk
    assert {path.stat().st_uid for path in [place, *place.rglob("*")]} == {NOBODY.pw_uid}
    code, out, talk = xwserver("start", directory=place)
    assert code == 0, talk
    home = Home.open(place)
    assert users_of(int(home.pid_file.read_text())) == {str(NOBODY.pw_uid)}
    if port != "0":
        assert out.endswith(f":{port}.\n")
    code, out, _ = xwserver("status", "--format", "json", directory=place)
    assert (code, json.loads(out)["state"]) == (0, "serving")
    code, _, talk = xwserver("restart", directory=place)
    assert code == 0, talk
    assert xwserver("stop", directory=place)[0] == 0
    assert {path.stat().st_uid for path in place.rglob("*")} == {NOBODY.pw_uid}, "root left nothing"


def a_port_of_roots() -> int:
    """A port below 1024 that nobody has."""
    while True:
        port = random.randrange(600, 1024)  # noqa: S311 - no secret
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)):
                return port


@pytest.mark.as_root
def test_root_serves_only_where_it_is_told_to(place: Path) -> None:
    code, _, talk = xwserver("init", str(place), "--port", "0", "--address", "127.0.0.1")
    assert code == 0
    assert "root made this grid, so root serves it; --user NAME makes it his" in talk
    configuration = place / "server.conf"
    text = configuration.read_text()
    assert "\nuser = root\n" in text
    configuration.write_text(text.replace("\nuser = root\n", "\n"))
    for verb in ("start", "console", "passwd"):
        words = (verb, "admin") if verb == "passwd" else (verb,)
        code, _, talk = xwserver(*words, directory=place)
        assert code == 1
        assert "[server] user is missing: root starts a server for a system user" in talk


@pytest.mark.as_root
def test_the_manuals_file_names_the_user_too(place: Path) -> None:
    written = place.parent / "xtremweb.server.conf"
    written.write_text("port.https = 0\n[server]\naddress = 127.0.0.1\n")
    code, _, talk = xwserver("init", str(place), "--xwconfig", str(written), "--user", "nobody")
    assert code == 0, talk
    assert Home.open(place).config.server.user == "nobody"
    assert xwserver("start", directory=place)[0] == 0
    assert users_of(int(Home.open(place).pid_file.read_text())) == {str(NOBODY.pw_uid)}


def test_a_user_that_there_is_not_makes_no_grid(place: Path) -> None:
    code, _, talk = xwserver("init", str(place), "--user", "no-such-user")
    assert code == 2
    assert "'no-such-user' is no user of this machine" in talk
    assert not place.exists()


@pytest.mark.feature("XW-CFG-15")
@pytest.mark.skipif(os.geteuid() == 0, reason="root may be anybody")
def test_who_is_not_root_cannot_start_it_for_another(place: Path) -> None:
    code, _, talk = xwserver("init", str(place), "--user", "root")
    assert (code, "only root makes a grid for another user" in talk) == (2, True)
    assert xwserver("init", str(place), "--port", "0")[0] == 0
    configuration = place / "server.conf"
    configuration.write_text(configuration.read_text().replace("#user =", "user = root"))
    code, _, talk = xwserver("start", directory=place)
    assert (code, "server.conf is root: only that user may do this" in talk) == (1, True)


def xwworker(*words: str | Path) -> tuple[int, str, str]:
    """Exit code, output and talk of one command of a worker."""
    source = "import sys; from pilot.node.cli import main; sys.exit(main())"
    done = run(source, *words)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


def a_worker(directory: Path, user: str) -> Path:
    """The configuration of a worker that ``user`` is to be, and that finds no server."""
    ca = pki.ca_certificate(pki.new_key(), "a grid", datetime.now(UTC)).decode()
    identity = directory / "worker.identity"
    Identity(("https://127.0.0.1:9",), "worker", "me", "a" * 64, ca).write(identity)
    file = directory / "worker.conf"
    file.write_text(
        f"[worker]\nuser = {user}\nidentity = {identity}\ndirectory = {directory}/worker\n"
    )
    return file


@pytest.mark.as_root
@pytest.mark.feature("XW-CFG-16", "XW-SVC-4")
def test_a_worker_is_the_user_that_its_file_names(place: Path) -> None:
    file = a_worker(place.parent, "nobody")
    for path in (place.parent, *place.parent.iterdir()):
        os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)
    code, _, talk = xwworker("start", "--config", file)
    assert code == 0, talk
    pid = owner_of(place.parent / "worker")
    assert pid is not None
    try:
        assert users_of(pid) == {str(NOBODY.pw_uid)}
        files = [place.parent / "worker", *(place.parent / "worker").rglob("*")]
        assert {path.stat().st_uid for path in files} == {NOBODY.pw_uid}
        code, out, _ = xwworker("status", "--config", file)
        assert (code, str(pid) in out) == (0, True)
    finally:
        assert xwworker("stop", "--config", file)[0] == 0


@pytest.mark.feature("XW-SVC-4")
@pytest.mark.skipif(os.geteuid() == 0, reason="root may be anybody")
def test_a_worker_without_the_right_to_be_another_user_is_none(place: Path) -> None:
    code, _, talk = xwworker("start", "--config", a_worker(place.parent, "root"))
    assert (code, "worker.conf is root: only that user may do this" in talk) == (1, True)
    assert not (place.parent / "worker").exists()
