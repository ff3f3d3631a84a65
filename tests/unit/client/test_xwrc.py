"""The XWHEP manual's client file: what it says of whom one is, and what is kept of it."""

from __future__ import annotations

import logging
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from desktopgrid.client import legacy_cli, profile
from desktopgrid.client.cli import xw
from desktopgrid.client.commands.shell import Shell
from desktopgrid.client.fake import FakeGrid
from desktopgrid.client.grid import Grid
from desktopgrid.client.legacy import CLIENT
from desktopgrid.client.profile import ClientSection
from desktopgrid.link import settings
from desktopgrid.link.identity import Identity
from desktopgrid.link.settings import GridSection
from desktopgrid.model.errors import ConfigurationError, NotAuthenticated
from desktopgrid.server import pki

CONF = Path(__file__).parents[3] / "conf"
CA = pki.ca_certificate(pki.new_key(), "a grid", datetime.now(UTC)).decode()


class Server:
    """Exchanges passwords for tokens, and remembers by what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []

    def login(
        self, servers: tuple[str, ...], ca: str, login: str, password: str, lifetime: float | None
    ) -> dict[str, object]:
        if password != "s3cret":
            raise NotAuthenticated("no")
        self.asked.append((servers, login))
        return {"token": f"t-{len(self.asked)}", "secret": "s" * 64}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server()
    monkeypatch.setattr(settings, "ask_for_token", server.login)
    return server


def an_xwrc(directory: Path, more: str = "", **changes: str) -> Path:
    """A client's configuration; ``changes`` replace values of the manual's keys."""
    keys = {"dispatcher.servers": "a b:99", "path.certfile": "ca.pem", "login": "ann"}
    keys |= {"password": "s3cret", **changes}
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "ca.pem").write_text(CA)
    path = directory / "xwrc"
    path.write_text("".join(f"{key} : {value}\n" for key, value in keys.items() if value) + more)
    path.chmod(0o600)
    return path


def test_the_sample_is_the_defaults_and_its_keys_are_the_manuals(tmp_path: Path) -> None:
    found = profile.read_configuration(CONF / "xwrc")
    assert (found.grid, found.client, found.notes) == (GridSection(), ClientSection(), ())
    text = re.sub(r"^#([\w.]+ :)", r"\1", (CONF / "xwrc").read_text(), flags=re.M)
    (tmp_path / "xwrc").write_text(text)
    found = profile.read_configuration(tmp_path / "xwrc")
    assert (found.grid.servers[0], found.client) == ("grid.example.org", ClientSection())


@pytest.mark.feature("XW-WCF-12")
def test_a_client_reads_a_workers_file(tmp_path: Path, server: Server) -> None:
    path = an_xwrc(tmp_path, "workpool.size : 2\npath.tmpdir : /tmp\n[worker]\nname = here\n")
    assert profile.load(path).identity == "t-1"
    assert profile.read_configuration(CONF / "xtremweb.worker.conf").client == ClientSection()


@pytest.mark.feature("XW-WCF-3", "XW-WCF-12")
def test_login_and_password_are_exchanged_for_a_token_once(tmp_path: Path, server: Server) -> None:
    path = an_xwrc(tmp_path)
    found = profile.load(path)
    addresses = ("https://a:4325", "https://b:99")
    assert found == Identity(addresses, "client", "t-1", "s" * 64, CA)
    assert server.asked == [(addresses, "ann")]
    kept = tmp_path / "xwrc.token"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert "s3cret" not in kept.read_text()
    assert profile.load(path) == found
    assert len(server.asked) == 1
    os.utime(path, (kept.stat().st_mtime + 1,) * 2)
    assert profile.load(path).identity == "t-2", "who changed the file may have changed the login"


def test_a_token_that_came_to_its_end_is_asked_for_again(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = an_xwrc(tmp_path)
    tried: list[str] = []

    def open_once(identity: Identity, patience: float) -> str:
        tried.append(identity.identity)
        if identity.identity == "t-1":
            raise NotAuthenticated("the token has come to its end")
        return "connected"

    monkeypatch.setattr(Grid, "_opened", open_once)
    assert Grid.open(path) == "connected"
    assert tried == ["t-1", "t-2"]
    an_identity = tmp_path / "identity.json"
    Identity(("https://a:1",), "client", "t-1", "s" * 64, CA).write(an_identity)
    with pytest.raises(NotAuthenticated):
        Grid.open(an_identity)
    assert tried == ["t-1", "t-2", "t-1"], "an identity file has no password to try"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"dispatcher.servers": ""}, "dispatcher.servers is missing, which names the grid's serv"),
        ({"path.certfile": ""}, "path.certfile is missing, the grid's ca.pem"),
        ({"path.certfile": "none.pem"}, "none.pem cannot be read: No such file"),
        ({"path.certfile": "xwrc"}, "xwrc holds no certificate in PEM"),
        ({"login": ""}, "login is missing"),
        ({"password": ""}, "password is missing"),
        ({"dispatcher.servers": "http://a"}, r"tcp\+tls://host:port, not 'http://a'"),
        ({"client.loopdelay": "0"}, "answer_within must be more than nothing"),
        ({"LOGGERLEVEL": "loud"}, "LOGGERLEVEL must be one of debug, info, warn, error"),
        ({"loggin": "ann"}, "unknown key 'loggin' .* did you mean login"),
    ],
)
def test_what_is_missing_or_wrong_is_named(
    tmp_path: Path, server: Server, changes: dict[str, str], sentence: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"xwrc.*: .*{sentence}"):
        profile.load(an_xwrc(tmp_path, **changes))
    assert server.asked == []


def test_a_wrong_password_names_the_file(tmp_path: Path, server: Server) -> None:
    with pytest.raises(NotAuthenticated, match=r"not know 'ann' by the password in .*xwrc$"):
        profile.load(an_xwrc(tmp_path, password="wrong"))


@pytest.mark.feature("XW-CLI-3")
def test_the_file_given_wins_over_the_default_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("GLIDEBRIDGE_IDENTITY", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    default, other = an_xwrc(tmp_path / ".xtremweb"), an_xwrc(tmp_path / "other")
    fake, acted_by = FakeGrid(tmp_path / "grid"), []

    def connect(path: Path, patience: float) -> Grid:
        acted_by.append(path)
        return fake.open()

    for words in (["--xwgetapps"], ["--xwconfig", str(other), "--xwgetapps"]):
        assert legacy_cli.run(CLIENT, words, connect) == 0
    assert acted_by == [default, other]
    assert CliRunner().invoke(xw, ["apps"], obj=Shell(connect)).exit_code == 0
    assert acted_by[2] == default, "`xw` acts by it where nobody has logged in"
    monkeypatch.setenv("GLIDEBRIDGE_IDENTITY", str(other))
    assert legacy_cli.run(CLIENT, ["--xwgetapps"], connect) == 0
    assert acted_by[3] == other


@pytest.mark.feature("XW-CLI-9", "XW-WCF-15")
def test_patience_and_log_level_are_the_command_lines_or_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = an_xwrc(tmp_path, **{"client.loopdelay": "1500", "LOGGERLEVEL": "error"})
    fake, patiences, levels = FakeGrid(tmp_path / "grid"), [], []

    def connect(path: Path, patience: float) -> Grid:
        patiences.append(patience)
        levels.append(logging.getLogger().level)
        return fake.open()

    legacy_cli.run(CLIENT, ["--xwconfig", str(path), "--xwgetapps"], connect)
    words = ["--xwclientloopdelay", "250", "--xwverbose"]
    legacy_cli.run(CLIENT, [*words, "--xwconfig", str(path), "--xwgetapps"], connect)
    legacy_cli.run(CLIENT, ["--xwconfig", str(tmp_path / "none"), "--xwgetapps"], connect)
    assert patiences == [1.5, 0.25, 60.0]
    assert levels[:2] == [logging.ERROR, logging.DEBUG]


@pytest.mark.feature("XW-WCF-15")
@pytest.mark.parametrize(
    ("level", "number"), [("debug", 10), ("info", 20), ("warn", 30), ("error", 40)]
)
def test_a_client_knows_the_four_levels(tmp_path: Path, level: str, number: int) -> None:
    path = an_xwrc(tmp_path, LOGGERLEVEL=level)
    Shell()._heed(path)
    assert logging.getLogger().level == number


@pytest.mark.feature("XW-CLI-6")
def test_cleaning_removes_all_that_is_kept(
    tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    path = an_xwrc(tmp_path)
    before = set(tmp_path.iterdir())
    profile.load(path)
    assert set(tmp_path.iterdir()) - before == {tmp_path / "xwrc.token"}
    assert legacy_cli.run(CLIENT, ["--xwclean", "--xwconfig", str(path)]) == 0
    assert set(tmp_path.iterdir()) == before
    assert "is removed" in capsys.readouterr().err
    assert legacy_cli.run(CLIENT, ["--xwclean", "--xwconfig", str(path)]) == 0
    assert "nothing else is kept" in capsys.readouterr().err


def test_login_does_not_write_over_a_configuration(tmp_path: Path) -> None:
    path = an_xwrc(tmp_path)
    text = path.read_text()
    words = ["login", "ann", "--server", "https://a:1", "--ca", str(tmp_path / "ca.pem")]
    done = CliRunner().invoke(xw, ["--identity", str(path), *words, "--password", "-"], input="x\n")
    assert done.exit_code == 2
    assert "is there and is no identity file, so it is left alone" in done.stderr
    assert path.read_text() == text


@pytest.mark.feature("XW-CLI-2")
def test_the_window_that_is_not_there_yet_is_an_error_and_nothing_else_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = FakeGrid(tmp_path)
    asked = len(fake.requests)
    words = ["--xwgui", "--xwsendusergroup", "lab"]
    assert legacy_cli.run(CLIENT, words, lambda path, patience: fake.open()) == 1
    assert "no graphic interface yet" in capsys.readouterr().err
    assert len(fake.requests) == asked


def test_a_span_for_answers_is_long_enough() -> None:
    assert ClientSection().answer_within == timedelta(seconds=60)
