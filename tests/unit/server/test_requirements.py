"""What a machine has to have before a grid is made on it."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import make_url

from desktopgrid.model.account import Account
from desktopgrid.server import requirements
from desktopgrid.server.config import ServerConfig, parse
from desktopgrid.server.database.suitability import too_old
from desktopgrid.server.database.trial import missing_of, unreachable
from desktopgrid.server.requirements import file_system_of, missing, shut_to

pytestmark = pytest.mark.feature("XW-PKG-13")


def config(text: str = "") -> ServerConfig:
    return parse(f"[server]\naddress = 127.0.0.1\nport = 0\n{text}", "server.conf")


def whats(directory: Path, found: ServerConfig, owner: Account | None = None) -> list[str]:
    return [each.what for each in missing(directory, found, owner)]


def test_a_usual_machine_lacks_nothing(tmp_path: Path) -> None:
    assert missing(tmp_path / "grid", config(), None) == []
    assert list(tmp_path.iterdir()) == []


def test_every_port_that_is_configured_is_tried(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as stream,
        socket.socket(type=socket.SOCK_DGRAM) as datagrams,
    ):
        datagrams.bind(("127.0.0.1", 0))
        tcp, udp = stream.getsockname()[1], datagrams.getsockname()[1]
        found = config(
            f"[doors]\nudp_port = {udp}\ntcp_port = {tcp}\n[watching]\nganglia_port = {tcp}"
        )
        said = missing(tmp_path / "grid", found, None)
    assert [each.what for each in said] == [
        f"port {port} cannot be opened at 127.0.0.1: another program has it"
        for port in (tcp, udp, tcp)
    ]
    keys = ("[doors] tcp_port", "[doors] udp_port", "[watching] ganglia_port")
    assert [key in each.remedy for key, each in zip(keys, said, strict=True)] == [True] * 3


def test_a_full_disk_says_how_much_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = SimpleNamespace(free=100 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage)
    (said,) = missing(tmp_path / "grid", config("[limits]\nmin_free_mib = 256"), None)
    assert "100 MiB are free" in said.what
    assert "make room for 221 MiB more" in said.remedy


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_place_that_is_not_ours_is_named(tmp_path: Path) -> None:
    (tmp_path / "shut").mkdir(mode=0o500)
    (what,) = whats(tmp_path / "shut" / "deep" / "grid", config())
    assert what.endswith(f"{tmp_path}/shut is not yours to write")


def test_what_the_configuration_wants_has_to_be_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requirements, "find_spec", lambda name: None)
    found = config("[store]\nendpoint = https://s3.example.org\nbucket = grid\ncredentials = /c")
    assert whats(tmp_path / "grid", found) == ["boto3 is not installed, and [store] needs it"]


def test_an_old_python_and_an_old_sqlite_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requirements, "OLDEST_PYTHON", (99, 0))
    monkeypatch.setattr(requirements, "OLDEST_SQLITE", (99, 0, 0))
    said = missing(tmp_path / "grid", config(), None)
    assert [each.what.split()[0] for each in said] == ["Python", "SQLite"]
    assert ["99.0 or later" in said[0].remedy, "99.0.0 is" in said[1].remedy] == [True, True]


MOUNTS = r"""
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 21 0:40 / /home rw,relatime shared:9 - nfs4 server:/home rw,vers=4.2
31 30 0:41 / /home/all\040of\040us rw - tmpfs none rw
""".strip()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/srv/grid", "ext4"),
        ("/home/ann/grid", "nfs4"),
        ("/homes", "ext4"),
        ("/home/all of us/x", "tmpfs"),
    ],
)
def test_the_file_system_is_the_one_mounted_nearest(tmp_path: Path, path: str, kind: str) -> None:
    (tmp_path / "mountinfo").write_text(MOUNTS)
    assert file_system_of(Path(path), tmp_path / "mountinfo") == kind


def test_sqlite_is_not_kept_on_other_machines_disks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requirements, "file_system_of", lambda place, mounts: "nfs4")
    (what,) = whats(tmp_path / "grid", config())
    assert "(nfs4), where SQLite may break" in what


def test_the_user_who_serves_it_has_to_come_there(tmp_path: Path) -> None:
    shut = tmp_path / "shut"
    shut.mkdir(mode=0o700)
    me = Account.of(pwd.getpwuid(os.geteuid()))
    stranger = Account("nobody", 65533, 65533, "/")
    assert shut_to(me, shut) is None
    place = shut_to(stranger, shut)
    assert place is not None and not place.stat().st_mode & 0o001
    assert all(path.stat().st_mode & 0o001 for path in place.parents)
    tmp_path.chmod(0o755)
    shut.chmod(0o755)
    place.chmod(0o755)
    assert shut_to(stranger, shut) != place


@pytest.mark.parametrize(
    ("said", "good"),
    [
        ("PostgreSQL 15.8 (Debian 15.8-0+deb12u1) on x86_64", True),
        ("PostgreSQL 13.20 on x86_64", False),
        ("10.11.6-MariaDB-0+deb12u1", True),
        ("10.5.23-MariaDB", False),
        ("MySQL 8.0.36", True),
        ("MySQL 8.0.16", False),
        ("MySQL 5.7.44-log", False),
    ],
)
def test_a_database_that_is_too_old_is_named(said: str, good: bool) -> None:
    assert ([f"the database is {said}"], [])[good] == [each.what for each in too_old(said)]


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("nonsense", "the database's URL is none"),
        ("oracle://u@h/d", "a grid cannot be kept in oracle"),
        ("mysql://u@h/d", "No module named 'MySQLdb'"),
        ("postgresql+nobody://u:secret@h/d", "postgresql.nobody"),
    ],
)
def test_a_database_of_an_unknown_kind_is_named_with_those_known(url: str, what: str) -> None:
    (found,) = missing_of(url)
    assert what in found.what
    assert "secret" not in found.what


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        (
            '(2003, "Can\'t connect to MySQL server ([Errno 111] Connection refused)")',
            "star",
        ),
        (
            '(2003, "Can\'t connect to MySQL server ([Errno -2] Name or service not known)")',
            "spe",
        ),
        ("(1045, \"Access denied for user 'u'@'h' (using password: YES)\")", "~/.pgpass"),
        (
            "(1044, \"Access denied for user 'u'@'h' to database 'd'\")",
            "GRANT ALL PRIVILEGES ON d.*",
        ),
        ("(1130, \"Host 'h' is not allowed to connect to this MariaDB server\")", "CREATE USER"),
        ('connection failed: FATAL:  database "d" does not exist', "CREATE DATABASE d"),
        ('connection failed: FATAL:  no pg_hba.conf entry for host "h", user "u"', "pg_hba.conf"),
        ('connection failed: FATAL:  password authentication failed for user "u"', "~/.pgpass"),
        ("something new", "see the database's log"),
    ],
)
def test_what_a_driver_says_has_its_remedy(said: str, remedy: str) -> None:
    found = unreachable(make_url("postgresql+psycopg://u:secret@h/d"), said)
    assert said in found.what and "secret" not in found.what
    assert remedy in found.remedy
