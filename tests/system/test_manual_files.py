"""A grid whose worker and client are configured as the XWHEP manual has it: no identity file is
copied anywhere.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from desktopgrid.client.grid import Grid
from desktopgrid.model.objects import ANY_PLATFORM, Description
from desktopgrid.server import pki
from tests.system.processes import HASTY, Process, ServerUnderTest, environment, until

PASSWORDS = {"worker": "a worker's", "admin": "an administrator's"}
CLIENT = "import sys; sys.argv[0] = {!r}; from desktopgrid.client.legacy_cli import main; main()"


@dataclass
class Configured:
    """A grid whose users have passwords, and files that log in by them."""

    server: ServerUnderTest
    grid: Grid

    def file(self, name: str, login: str, servers: str = "", **more: str) -> Path:
        """A configuration in the manual's form, in a directory of its own."""
        path = self.server.directory / name / f"xtremweb.{name}.conf"
        path.parent.mkdir(exist_ok=True)
        certificate = more.pop("certificate", str(self.server.home.ca_certificate))
        lines = [
            f"dispatcher.servers : {servers or f'127.0.0.1:{self.server.port}'}",
            f"path.certfile : {certificate}",
            f"login : {login}\npassword : {PASSWORDS[login]}",
            *(f"{key} : {value}" for key, value in more.items()),
        ]
        path.write_text("\n".join(lines) + "\n")
        path.chmod(0o600)
        return path

    def worker(self, path: Path) -> Process:
        """A worker as the manual starts one without its script (7.2.2)."""
        command = [sys.executable, "-c", HASTY.format(main="main"), "--xwconfig", str(path)]
        return self.server._start(command, path.with_suffix(".log"))

    def client(self, script: str, *words: str) -> subprocess.CompletedProcess[str]:
        """One of the manual's scripts, run to its end."""
        return subprocess.run(
            [sys.executable, "-c", CLIENT.format(script), *words],
            cwd=self.server.directory,
            env={**environment(), "HOME": str(self.server.directory)},
            capture_output=True,
            text=True,
            timeout=60,
        )


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Configured]:
    server = ServerUnderTest(tmp_path_factory.mktemp("manual"))
    try:
        for login, password in PASSWORDS.items():
            subprocess.run(
                [
                    *(sys.executable, "-m", "desktopgrid.server.cli"),
                    *("--directory", str(server.place), "passwd", login),
                ],
                input=f"{password}\n",
                text=True,
                env=environment(),
                check=True,
                capture_output=True,
            )
        server.start()
        grid = server.client()
        grid.send_application("say", b'#!/bin/sh\necho "$@"\n', ANY_PLATFORM)
        yield Configured(server, grid)
    finally:
        server.close()


def tokens(grid: Configured) -> int:
    ((count,),) = grid.server.rows("SELECT count(*) FROM credentials WHERE kind = 'token'")
    return int(count)


@pytest.mark.feature("XW-WCF-13", "XW-WCF-6", "XW-WCF-3", "XW-WCF-7")
def test_a_worker_that_logs_in_works_below_its_tmpdir(grid: Configured) -> None:
    """The first server of its list does not answer; the second one is ours."""
    tmpdir = grid.server.directory / "scratch"
    servers = f"127.0.0.1:1 127.0.0.1:{grid.server.port}"
    settings = {"path.tmpdir": str(tmpdir), "workpool.size": "2", "alive.period": "9"}
    path = grid.file("worker", "worker", servers, **settings)
    worker = grid.worker(path)
    (host,) = until(lambda: list(grid.grid.objects("hosts")), "the worker has come")
    assert host["cores"] == 2
    result = grid.grid.run(Description("say"), ["hello"], timeout=60)
    assert result.stdout == b"hello\n"
    place = tmpdir / "glidebridge-worker"
    assert {"cache", "host", "slots", "token"} <= {each.name for each in place.iterdir()}
    assert (place / "token").stat().st_mode & 0o777 == 0o600
    log = path.with_suffix(".log").read_text()
    assert f"{path}:7: alive.period has no effect: the server tells its workers" in log
    assert PASSWORDS["worker"] not in log
    before = tokens(grid)
    assert worker.stop() == 0
    again = grid.worker(path)
    assert grid.grid.run(Description("say"), ["again"], timeout=60).stdout == b"again\n"
    assert tokens(grid) == before, "a token that is kept is used again"
    assert again.stop() == 0


@pytest.mark.feature("XW-WCF-11")
def test_a_worker_talks_to_no_server_whose_certificate_it_does_not_know(grid: Configured) -> None:
    other = grid.server.directory / "other.pem"
    other.write_bytes(pki.ca_certificate(pki.new_key(), "another grid", datetime.now(UTC)))
    before = tokens(grid)
    path = grid.file("stranger", "worker", certificate=str(other), **{"path.tmpdir": "stranger"})
    worker = grid.worker(path)
    assert worker.wait() == 1
    assert "the server showed no certificate of this grid" in path.with_suffix(".log").read_text()
    assert tokens(grid) == before


@pytest.mark.feature("XW-WCF-11")
def test_the_servers_own_certificate_is_as_good_as_the_grids(grid: Configured) -> None:
    path = grid.file("pinned", "admin", certificate=str(grid.server.home.certificate))
    done = grid.client("xwapps", "--xwconfig", str(path), "--xwformat", "csv")
    assert done.returncode == 0, done.stderr
    assert "say" in done.stdout


@pytest.mark.feature("XW-CLI-3", "XW-CLI-7", "XW-CLI-8", "XW-WCF-12")
def test_a_client_acts_by_its_xwrc_and_says_as_much_as_is_wanted(grid: Configured) -> None:
    default = grid.server.directory / ".xtremweb" / "xwrc"
    default.parent.mkdir()
    grid.file("client", "admin").rename(default)
    plain = grid.client("xwsendwork", "say", "a")
    loud = grid.client("xwsendwork", "--xwverbose", "say", "b")
    quiet = grid.client("xwsendwork", "--xwnoverbose", "say", "c")
    for done in (plain, loud, quiet):
        assert done.returncode == 0, done.stderr
        assert "<uid>" in done.stdout, "what was asked for is printed at any level"
    lines = [len(done.stderr.splitlines()) for done in (quiet, plain, loud)]
    assert lines == sorted(set(lines))
    assert quiet.stderr == ""
    wrong = grid.client("xwsendwork", "--xwnoverbose", "nothing")
    assert (wrong.returncode, "no application 'nothing'" in wrong.stderr) == (1, True)


@pytest.mark.feature("XW-CLI-9")
def test_a_silent_server_is_given_up(grid: Configured) -> None:
    """It takes the connection, and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        identity = grid.server.directory / "silent.identity"
        text = grid.server.home.admin_identity.read_text()
        identity.write_text(text.replace(f":{grid.server.port}", f":{port}"))
        os.chmod(identity, 0o600)
        words = ["--xwconfig", str(identity), "--xwclientloopdelay", "300", "--xwgetapps"]
        done = grid.client("xtremweb.client", *words)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
