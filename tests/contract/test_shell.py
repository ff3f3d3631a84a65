"""What every shell promises, asked of this machine's and of an SSH server that may misbehave."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import paramiko
import pytest

from desktopgrid.model.sites import Login
from pilot.ce.shell import Answer, CannotWrite, LocalShell, Shell, ShellUnavailable, Upload
from pilot.ce.ssh import SshShell, fingerprint
from tests.ssh_server import SshServer

PATIENCE = timedelta(seconds=10)
SHORT = timedelta(seconds=0.5)


class Remote:
    """A server, an account's key and a file that knows the server."""

    def __init__(self, directory: Path) -> None:
        self.home = directory / "home"
        self.home.mkdir()
        self.key = directory / "key"
        key = paramiko.RSAKey.generate(2048)
        key.write_private_key_file(str(self.key))
        self.server = SshServer(self.home, key)
        self.known_hosts = directory / "known_hosts"
        self.known_hosts.write_text(self.server.known_hosts_line)

    @property
    def login(self) -> Login:
        return Login("pilots", "127.0.0.1", self.server.port)

    def shell(self, patience: timedelta = PATIENCE) -> SshShell:
        return SshShell(self.login, self.key, self.known_hosts, patience)


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[Remote]:
    made = Remote(tmp_path)
    yield made
    made.server.close()


@pytest.fixture(params=["local", "ssh"])
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shell]:
    if request.param == "local":
        (tmp_path / "home").mkdir()
        yield LocalShell(tmp_path / "home")
        return
    ssh = request.getfixturevalue("remote").shell()
    yield ssh
    ssh.close()


def test_a_script_says_what_it_says_and_how_it_ended(shell: Shell) -> None:
    assert shell.run("echo one; echo two >&2; exit 3", PATIENCE) == Answer(3, "one\n", "two\n")


def test_long_scripts_and_long_answers_pass_whole(shell: Shell) -> None:
    script = "\n".join(f"echo {number:0100}" for number in range(20_000))
    answer = shell.run(script, PATIENCE)
    assert answer.code == 0
    assert [int(line) for line in answer.output.splitlines()] == list(range(20_000))
    answer = shell.run("head -c 300000 /dev/zero | tr '\\0' e >&2; echo end", PATIENCE)
    assert (len(answer.errors), answer.output) == (300_000, "end\n")


def test_a_command_that_hangs_is_given_up(shell: Shell) -> None:
    started = time.monotonic()
    with pytest.raises(ShellUnavailable, match=r"did not answer within 0\.5 s"):
        shell.run("sleep 5", SHORT)
    assert time.monotonic() - started < 4
    assert shell.run("echo again", PATIENCE).output == "again\n"


def test_files_have_their_modes_and_directories_are_ours_alone(
    shell: Shell, tmp_path: Path
) -> None:
    (tmp_path / "program").write_bytes(os.urandom(200_000))
    files = [
        Upload("a job/secret", b"s", 0o600),
        Upload("a job/program", tmp_path / "program", 0o755),
    ]
    shell.put(["a job"], files)
    own = tmp_path / "home" / "a job"
    assert own.stat().st_mode & 0o777 == 0o700
    assert (own / "secret").stat().st_mode & 0o777 == 0o600
    assert (own / "program").stat().st_mode & 0o777 == 0o755
    assert (own / "program").read_bytes() == (tmp_path / "program").read_bytes()


@pytest.mark.parametrize("directories, name", [(["there"], "x"), ([], "there/x"), ([], "no/x")])
def test_what_is_there_is_not_written_over_and_what_is_not_is_named(
    shell: Shell, tmp_path: Path, directories: list[str], name: str
) -> None:
    (tmp_path / "home" / "there").mkdir()
    (tmp_path / "home" / "there" / "x").write_text("mine")
    with pytest.raises(CannotWrite, match="cannot be made"):
        shell.put(directories, [Upload(name, b"yours")])
    assert (tmp_path / "home" / "there" / "x").read_text() == "mine"
    assert shell.run("echo still there", PATIENCE).output == "still there\n"


def test_only_files_are_read_whole_or_their_end(shell: Shell, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "file").write_bytes(b"x" * 100_000 + b"end")
    (home / "link").symlink_to("file")
    (home / "folder").mkdir()
    os.mkfifo(home / "pipe")
    assert len(b"".join(shell.read("file") or ())) == 100_003
    assert b"".join(shell.read("file", 3) or ()) == b"end"
    for name in ("link", "folder", "pipe", "nothing"):
        assert shell.read(name) is None


# SSH's own


def test_a_key_that_is_not_known_is_not_trusted_and_its_line_is_told(remote: Remote) -> None:
    remote.known_hosts.write_text("")
    with pytest.raises(ShellUnavailable) as raised:
        remote.shell().run("echo secret", PATIENCE)
    said = str(raised.value)
    assert f"it shows {fingerprint(remote.server.host_key)}" in said
    assert f"put into {remote.known_hosts} the line" in said
    # What it says to write down is what makes it known.
    remote.known_hosts.write_text(said.split("`")[1] + "\n")
    assert remote.shell().run("echo in", PATIENCE).output == "in\n"


def test_another_key_than_the_known_one_ends_the_connection(remote: Remote) -> None:
    expected = remote.server.host_key
    remote.server.host_key = paramiko.ECDSAKey.generate()
    with pytest.raises(ShellUnavailable) as raised:
        remote.shell().run("echo secret", PATIENCE)
    for said in (fingerprint(expected), fingerprint(remote.server.host_key), "ask its admini"):
        assert said in str(raised.value)


def test_a_file_of_known_hosts_must_be_there(remote: Remote) -> None:
    remote.known_hosts.unlink()
    with pytest.raises(ShellUnavailable, match=r"there is no file .*known_hosts"):
        remote.shell().run("echo", PATIENCE)


def test_an_account_that_does_not_let_us_in_is_said(remote: Remote) -> None:
    remote.server.is_locked = True
    with pytest.raises(ShellUnavailable, match=r"does not let us in with .*key.*locked"):
        remote.shell().run("echo", PATIENCE)


def test_a_key_that_others_can_read_or_nobody_has_is_not_used(remote: Remote) -> None:
    remote.key.chmod(0o644)
    with pytest.raises(ShellUnavailable, match=r"others can read .*chmod 600"):
        remote.shell().run("echo", PATIENCE)
    remote.key.unlink()
    with pytest.raises(ShellUnavailable, match="cannot be read: No such file"):
        remote.shell().run("echo", PATIENCE)
    assert remote.server.connections <= 2


def test_a_key_with_a_passphrase_is_said(remote: Remote) -> None:
    key = paramiko.RSAKey.generate(2048)
    key.write_private_key_file(str(remote.key), password="word")
    with pytest.raises(ShellUnavailable, match="needs a passphrase"):
        remote.shell().run("echo", PATIENCE)
    remote.key.write_text("no key")
    with pytest.raises(ShellUnavailable, match="is no private key"):
        remote.shell().run("echo", PATIENCE)


def test_one_connection_is_kept_and_made_again_when_it_broke(remote: Remote) -> None:
    shell = remote.shell()
    for _ in range(3):
        shell.run("echo", PATIENCE)
        assert shell.read("nothing") is None
    assert remote.server.connections == 1
    remote.server.hang_up()
    deadline = time.monotonic() + 10
    while True:
        try:
            assert shell.run("echo back", PATIENCE).output == "back\n"
            break
        except ShellUnavailable:  # it may take the first question to notice
            assert time.monotonic() < deadline
    assert remote.server.connections == 2
    shell.close()


def test_half_an_answer_is_none(remote: Remote) -> None:
    remote.server.breaks_after = 10
    with pytest.raises(ShellUnavailable, match=r"broke off|closed"):
        remote.shell().run("echo 0123456789abcdef", PATIENCE)


def test_a_machine_that_says_nothing_is_given_up(remote: Remote) -> None:
    shell = remote.shell()
    shell.run("echo", PATIENCE)
    remote.server.lets_wait.clear()
    with pytest.raises(ShellUnavailable, match=r"did not answer within 0\.5 s"):
        shell.run("echo", SHORT)


def test_a_machine_that_is_not_there_is_said(remote: Remote) -> None:
    remote.server.close()
    with pytest.raises(ShellUnavailable, match=r"SSH to pilots@127\.0\.0\.1:\d+ broke"):
        remote.shell().run("echo", PATIENCE)


def test_a_full_disk_is_told_from_a_broken_connection(remote: Remote) -> None:
    shell = remote.shell()
    remote.server.has_room = False
    with pytest.raises(CannotWrite, match="x cannot be made there"):
        shell.put([], [Upload("x", b"content")])
    remote.server.hang_up()
    with pytest.raises((ShellUnavailable, CannotWrite)):
        shell.put([], [Upload("y", b"content")])
    shell.close()
