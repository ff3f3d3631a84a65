"""`xwserver` as an administrator types it: each verb as a process, on a grid of its own."""

from __future__ import annotations

import getpass
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from desktopgrid.server.database.upgrading import revisions
from desktopgrid.server.home import Home

DEADLINE = 60.0


def xwserver(*args: str, directory: Path | None = None, **options: str) -> tuple[int, str, str]:
    """Exit code, output and talk of one command; there is never a trace."""
    environment = {
        name: value for name, value in os.environ.items() if name != "GLIDEBRIDGE_HOME"
    } | {"PYTHONPATH": os.pathsep.join(sys.path), **options}
    done = subprocess.run(
        [sys.executable, "-m", "desktopgrid.server.cli", *args],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        stdin=subprocess.DEVNULL,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def grid(tmp_path: Path) -> Iterator[Home]:
    """A new grid on this machine alone; whatever serves it in the end is stopped."""
    place = tmp_path / "grid"
    code, _, talk = xwserver("init", str(place), "--port", "0", "--address", "127.0.0.1")
    assert code == 0, talk
    yield Home.open(place)
    xwserver("stop", directory=place)


def pid(grid: Home) -> int:
    return int(grid.pid_file.read_text())


def until(is_so, what: str) -> None:
    """Wait for a condition, not for a time."""
    deadline = time.monotonic() + DEADLINE
    while not is_so():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def test_init_says_what_to_type_next_and_that_works(tmp_path):
    code, out, _ = xwserver(
        "init", "grid", "--port", "0", "--address", "127.0.0.1", directory=tmp_path
    )
    assert code == 0
    commands = out.splitlines()
    assert [command.split()[0] for command in commands] == ["xwserver", "xw", "xwworker"]
    started = commands[0].split()[1:]
    assert xwserver(*started)[0] == 0
    assert xwserver("--directory", str(tmp_path / "grid"), "stop")[0] == 0


@pytest.mark.feature("XW-CFG-15", "XW-PKG-14")
def test_a_grid_is_started_seen_and_stopped(grid):
    place = grid.directory
    code, out, _ = xwserver("status", "--format", "json", directory=place)
    assert (code, json.loads(out)["state"]) == (1, "stopped")

    code, out, talk = xwserver("start", directory=place)
    assert code == 0, talk
    address = grid.address_file.read_text().strip()
    assert out == f"Serving at {address}.\n"

    code, out, _ = xwserver("status", "--format", "json", directory=place)
    found = json.loads(out)
    assert (code, found["state"], found["address"]) == (0, "serving", address)
    assert found["pid"] == pid(grid)

    code, _, talk = xwserver("start", directory=place)
    assert (code, "served already, by process" in talk) == (1, True)
    code, _, talk = xwserver("console", directory=place)
    assert (code, "another process keeps the grid" in talk) == (1, True)

    code, out, _ = xwserver("stop", directory=place)
    assert (code, out) == (0, "Stopped.\n")
    assert not grid.pid_file.exists()
    assert not grid.address_file.exists()
    code, out, _ = xwserver("stop", directory=place)
    assert (code, out) == (0, "No server was running.\n")


def test_a_grid_on_any_port_is_named_in_its_identity_files(grid):
    assert xwserver("start", directory=grid.directory)[0] == 0
    address = grid.address_file.read_text().strip()
    for path in (grid.admin_identity, grid.worker_identity):
        assert json.loads(path.read_text())["servers"] == [address]


def test_a_log_that_is_full_is_put_aside(grid):
    with grid.log.open("w") as log:
        log.truncate(16 << 20)
    assert xwserver("start", directory=grid.directory)[0] == 0
    assert grid.log.with_name("server.log.1").stat().st_size == 16 << 20
    assert "Serving the grid" in grid.log.read_text()
    assert grid.log.stat().st_mode & 0o777 == 0o600


def test_restarting_is_stopping_and_starting(grid):
    assert xwserver("restart", directory=grid.directory)[0] == 0
    first = pid(grid)
    assert xwserver("restart", directory=grid.directory)[0] == 0
    assert pid(grid) != first


def test_a_server_killed_hard_can_be_started_again(grid):
    xwserver("start", directory=grid.directory)
    killed = pid(grid)
    os.kill(killed, signal.SIGKILL)
    code, _, talk = xwserver("start", directory=grid.directory)
    assert code == 0, talk
    assert pid(grid) != killed


def test_a_server_in_the_foreground_ends_at_a_signal(grid):
    console = subprocess.Popen(
        [sys.executable, "-m", "desktopgrid.server.cli", "console"],
        cwd=grid.directory,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until(grid.address_file.exists, "it serves")
        console.send_signal(signal.SIGINT)
        _, log = console.communicate(timeout=DEADLINE)
    finally:
        console.kill()
    assert console.returncode == 0
    assert "Serving the grid in" in log
    assert "Traceback" not in log


def test_a_stop_that_takes_too_long_says_so(grid):
    xwserver("start", directory=grid.directory)
    os.kill(pid(grid), signal.SIGSTOP)
    try:
        code, _, talk = xwserver("stop", "--timeout", "0.2", directory=grid.directory)
        assert code == 1
        assert f"process {pid(grid)} still runs 0 s after it was told to stop" in talk
        code, out, _ = xwserver("status", directory=grid.directory)
        assert code == 1
        assert "does not answer" in out
    finally:
        os.kill(pid(grid), signal.SIGCONT)
    until(lambda: not grid.pid_file.exists(), "it stops")


def test_a_port_that_is_taken_is_named_in_one_sentence(grid):
    place = grid.directory
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        text = grid.configuration.read_text()
        grid.configuration.write_text(text.replace("\nport = 0\n", f"\nport = {port}\n"))
        code, _, talk = xwserver("start", directory=place)
        assert code == 1
        assert len(talk.splitlines()) == 1
        assert f"cannot listen at 127.0.0.1 port {port}" in talk
        assert xwserver("status", directory=place)[0] == 1


def test_a_wrong_configuration_is_named_with_its_line(grid):
    with grid.configuration.open("a") as file:
        file.write("max_wroks = 1\n")
    for verb in ("start", "console", "status"):
        code, _, talk = xwserver(verb, directory=grid.directory)
        assert code == 1
        assert "unknown key 'max_wroks'" in talk
        assert "server.conf:" in talk


def test_a_backup_of_a_serving_grid_can_be_served(grid, tmp_path):
    xwserver("start", directory=grid.directory)
    code, _, talk = xwserver("backup", str(tmp_path / "copy"), directory=grid.directory)
    assert code == 0, talk
    assert xwserver("stop", directory=grid.directory)[0] == 0
    code, _, talk = xwserver("start", directory=tmp_path / "copy")
    assert code == 0, talk
    assert xwserver("stop", directory=tmp_path / "copy")[0] == 0
    code, _, talk = xwserver("backup", str(tmp_path / "copy"), directory=grid.directory)
    assert (code, "is there already" in talk) == (1, True)


def test_a_renewed_certificate_is_in_use_after_a_restart(grid):
    xwserver("start", directory=grid.directory)
    code, out, talk = xwserver("renew", directory=grid.directory)
    assert code == 0
    assert "localhost" in out
    assert "xwserver restart" in talk
    assert xwserver("restart", directory=grid.directory)[0] == 0
    # It asks the server over TLS, and trusts the CA of `init` alone.
    assert xwserver("status", directory=grid.directory)[0] == 0


def test_a_password_comes_from_standard_input(grid):
    done = subprocess.run(
        [sys.executable, "-m", "desktopgrid.server.cli", "passwd", "admin"],
        cwd=grid.directory,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        input="correct horse\n",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    with sqlite3.connect(grid.database) as connection:
        (found,) = connection.execute("SELECT verifier FROM credentials WHERE kind = 'password'")
    connection.close()
    assert found[0].startswith("$argon2id$")
    _, out, _ = xwserver("audit", "--object", "admin", directory=grid.directory)
    assert " passwd " in out
    assert "horse" not in out
    code, _, talk = xwserver("passwd", "nobody", directory=grid.directory)
    assert (code, len(talk.splitlines())) == (1, 1)


def test_a_database_goes_back_to_an_earlier_revision_and_forth_again(grid):
    """For who goes back to an older version, and thinks better of it."""
    newest = revisions()[-1]
    code, _, talk = xwserver("migrate", "0001", directory=grid.directory)
    assert (code, "is lost" in talk) == (1, True)
    for target, was in (("0001", newest), (newest, "0001")):
        code, out, _ = xwserver("migrate", target, "--yes", directory=grid.directory)
        assert (code, out) == (0, f"The database is at revision {target}; it was {was}.\n")
    code, _, talk = xwserver("migrate", "9999", directory=grid.directory)
    assert (code, "there is no revision '9999'" in talk) == (1, True)
    xwserver("start", directory=grid.directory)
    code, _, talk = xwserver("migrate", directory=grid.directory)
    assert (code, "`xwserver stop` first" in talk) == (1, True)


def test_a_database_of_a_newer_server_is_not_served(grid):
    with sqlite3.connect(grid.database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    for verb in ("start", "migrate"):
        code, _, talk = xwserver(verb, directory=grid.directory)
        assert (code, "a newer server's, of revision 9999" in talk) == (1, True)


def test_a_directory_is_found_by_option_environment_or_being_there(grid, tmp_path):
    for args, options, directory in (
        (("--directory", str(grid.directory)), {}, tmp_path),
        ((), {"GLIDEBRIDGE_HOME": str(grid.directory)}, tmp_path),
        ((), {}, grid.directory),
    ):
        _, out, _ = xwserver(*args, "status", directory=directory, **options)
        assert str(grid.directory) in out
    code, _, talk = xwserver("status", directory=tmp_path)
    assert (code, "there is no grid in" in talk) == (1, True)


@pytest.mark.feature("XW-CFG-1")
def test_a_grid_may_be_configured_by_the_manuals_file(tmp_path):
    """From the file of an old installation to a server that serves, and a log of what is moot."""
    written = tmp_path / "xtremweb.server.conf"
    written.write_text(
        "# our grid\nport.https=0\nport.sunrpc=9327\njava.nio : true\nModulesLogged=Task\n"
        f"xtremweb.user={getpass.getuser()}\n[server]\naddress = 127.0.0.1\n"
    )
    place = tmp_path / "grid"
    code, _, talk = xwserver("init", str(place), "--xwconfig", str(written))
    assert code == 0, talk
    assert not (place / "server.conf").exists()
    assert (place / "conf" / "xtremweb.server.conf").read_text() == written.read_text()
    code, _, talk = xwserver("start", directory=place)
    assert code == 0, talk
    assert xwserver("backup", str(tmp_path / "copy"), directory=place)[0] == 0
    assert xwserver("stop", directory=place)[0] == 0
    log = (place / "server.log").read_text()
    assert log.count("conf/xtremweb.server.conf:3: port.sunrpc has no effect") == 1
    assert log.count("conf/xtremweb.server.conf:4: java.nio has no effect") == 1
    assert "Stopping on SIGTERM" not in log, "what the listeners say was not asked for"
    assert Home.open(tmp_path / "copy").config.server.port == 0


@pytest.mark.feature("XW-CFG-13")
def test_a_server_does_not_start_with_the_pass_phrase_of_the_manual(grid):
    text = grid.configuration.read_text()
    grid.configuration.write_text(f"XWpassPhrase = XWCertPass\n{text}")
    for verb in ("start", "console"):
        code, _, talk = xwserver(verb, directory=grid.directory)
        assert code == 1
        assert "server.conf:1: XWpassPhrase is the pass phrase that the manual prints" in talk
    code, _, talk = xwserver(
        "init", str(grid.directory / "other"), "--xwconfig", str(grid.configuration)
    )
    assert code == 1
    assert not (grid.directory / "other").exists()


@pytest.mark.feature("XW-CFG-17")
@pytest.mark.parametrize("args", [("dance",), ("init",), ("start", "stop"), ("--colour", "start")])
def test_a_wrong_command_line_gets_usage_and_exit_code_2(tmp_path, args):
    code, _, talk = xwserver(*args, directory=tmp_path)
    assert code == 2
    assert "Usage:" in talk


def test_a_password_in_a_command_line_is_refused(tmp_path):
    code, _, talk = xwserver(
        "init", str(tmp_path / "grid"), "--database", "postgresql+psycopg://u:secret@h/d"
    )
    assert (code, "secret" in talk) == (2, False)
    assert not (tmp_path / "grid").exists()


@pytest.mark.feature("XW-PKG-11")
@pytest.mark.parametrize(
    ("words", "fields"),
    [
        (("backup", "copy"), {"copy"}),
        (("collect", "--dry-run"), {"contents", "marks", "is_dry"}),
        (("renew",), {"names", "ends_at"}),
        (("bundle", "client"), {"packages"}),
    ],
)
def test_programs_read_what_a_command_did(grid, words, fields, tmp_path):
    words = (words[0], str(tmp_path / "copy")) if words[0] == "backup" else words
    code, out, talk = xwserver(*words, "--format", "json", directory=grid.directory)
    assert code == 0, talk
    assert json.loads(out).keys() == fields
