"""A user changes his password while the server runs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.processes import ServerUnderTest, a_grid, environment
from tests.system.test_xwserver import xwserver

OLD, NEW = "an old password", "quite another one"
pytestmark = pytest.mark.feature("XW-USR-1")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerUnderTest]:
    with a_grid(tmp_path_factory.mktemp("passwords")) as server:
        server.client().send_user("ann", password=OLD)
        yield server


@pytest.fixture
def home(server: ServerUnderTest, tmp_path: Path) -> Path:
    """Ann's, who has logged in by the password that she has."""
    assert login(server, tmp_path, OLD).returncode == 0
    return tmp_path


def xw(home: Path, *words: str | Path, said: str = "") -> subprocess.CompletedProcess[str]:
    identity = home / "ann.identity"
    return subprocess.run(
        [sys.executable, "-m", "desktopgrid.client.cli", "--identity", identity, *words],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        input=said,
    )


def login(server: ServerUnderTest, home: Path, password: str) -> subprocess.CompletedProcess[str]:
    ca = server.home.ca_certificate
    words = ("login", "ann", "--server", server.address, "--ca", ca, "--password", "-")
    return xw(home, *words, said=f"{password}\n")


def test_who_knows_his_password_has_another_one_and_stays_logged_in(
    server: ServerUnderTest, home: Path
) -> None:
    done = xw(home, "passwd", "--password", "-", "--new", "-", said=f"{OLD}\n{NEW}\n")
    assert done.returncode == 0, done.stderr
    assert "ann logs in by the new password from now on" in done.stderr
    assert xw(home, "stats").returncode == 0, "the token is good"
    refused = login(server, home, OLD)
    assert (refused.returncode, "by this password" in refused.stderr) == (1, True)
    server.kill()
    server.start()
    assert login(server, home, NEW).returncode == 0, "it is on disk"
    (home / "old").write_text(f"{NEW}\n")
    (home / "new").write_text(f"{OLD}\n")
    back = xw(home, "passwd", "--password", f"@{home}/old", "--new", f"@{home}/new")
    assert back.returncode == 0, back.stderr
    code, out, _ = xwserver("audit", "--user", "ann", directory=server.place)
    assert code == 0
    assert "passwd" in out
    assert OLD not in out + server.log and NEW not in out + server.log


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (f"not hers at all\n{NEW}\n", "does not know 'ann' by this password"),
        (f"{OLD}\nshort\n", "at least 8 characters"),
    ],
)
def test_a_wrong_password_or_a_bad_new_one_changes_nothing(
    server: ServerUnderTest, home: Path, said: str, reason: str
) -> None:
    """Who has found a token, and knows no password, gets none."""
    done = xw(home, "passwd", "--password", "-", "--new", "-", said=said)
    assert (done.returncode, reason in done.stderr) == (1, True), done.stderr
    assert login(server, home, OLD).returncode == 0
