"""A grid is made whole or not at all."""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from desktopgrid.link.identity import Identity
from desktopgrid.model.errors import AlreadyThere, BadRequest, Unavailable, UnknownObject
from desktopgrid.model.rights import UserLevel
from desktopgrid.model.sites import SITE_OF_KIND
from desktopgrid.server import founding, pki
from desktopgrid.server.backup import back_up
from desktopgrid.server.database import engine as database
from desktopgrid.server.database import reading, records
from desktopgrid.server.database.engine import transaction
from desktopgrid.server.database.upgrading import newest, revision
from desktopgrid.server.home import Home, write_private
from desktopgrid.server.lock import DirectoryLock
from desktopgrid.server.people import set_password
from desktopgrid.server.storage import Store
from desktopgrid.wire.proof import verifier_of

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
LOCAL = {"port": "0", "address": "127.0.0.1"}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return founding.found(tmp_path / "grid", LOCAL, NOW)


def load(home: Home) -> reading.Snapshot:
    engine = database.open(home)
    try:
        with engine.connect() as connection, transaction(connection):
            return reading.load(connection, records.take(connection, 0, "test"))
    finally:
        engine.dispose()


def modes(directory: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()}


@pytest.mark.feature("XW-USR-12")
def test_a_new_grid_has_an_administrator_and_a_worker_and_nobody_else(home):
    found = load(home)
    assert {(user.login, user.level, user.group) for user in found.users} == {
        ("admin", UserLevel.SUPER, None),
        ("worker", UserLevel.WORKER, None),
    }
    assert len(found.credentials) == 2
    assert found.works == found.applications == found.datas == found.hosts == []


def test_their_identity_files_prove_who_they_are(home):
    tokens = {token.uid: token for token in load(home).credentials}
    users = {user.uid: user.login for user in load(home).users}
    for path, kind, login in (
        (home.admin_identity, "client", "admin"),
        (home.worker_identity, "worker", "worker"),
    ):
        identity = Identity.read(path)
        token = tokens[identity.identity]
        assert (identity.kind, users[token.user]) == (kind, login)
        assert token.verifier == verifier_of(identity.secret)
        assert identity.ca == home.ca_certificate.read_text()


def test_a_grid_is_reached_by_the_names_that_it_was_given(tmp_path):
    settings = {"names": "grid.example.org, 192.0.2.7", "port": "443"}
    home = founding.found(tmp_path / "grid", settings, NOW)
    servers = json.loads(home.worker_identity.read_text())["servers"]
    names = ("grid.example.org", "192.0.2.7", "localhost")
    assert servers == [f"https://{name}:443" for name in names]
    assert json.loads(home.admin_identity.read_text())["servers"] == servers[::-1]
    assert pki.names_of(home.certificate.read_bytes())[0] == "grid.example.org"


def test_secrets_are_for_the_owners_eyes(home):
    found = modes(home.directory)
    for name in (
        "server.conf",
        "ca.key",
        "server.key",
        "grid.db",
        "admin.identity",
        "worker.identity",
    ):
        assert found[name] == 0o600, name
    assert found["data"] == 0o700
    assert found["ca.pem"] == found["server.pem"] == 0o644


def test_nobodys_secret_is_in_the_database(home):
    content = home.database.read_bytes()
    for path in (home.admin_identity, home.worker_identity):
        assert Identity.read(path).secret.encode() not in content


def test_the_database_of_a_new_grid_is_up_to_date(home):
    engine = database.open(home)
    assert revision(engine) == newest()
    engine.dispose()


def test_a_new_grid_has_samples_of_sites_and_no_site(home):
    samples = {f"{kind}.conf.sample" for kind in SITE_OF_KIND}
    assert set(modes(home.sites_directory)) == samples
    assert home.sites == {}


def test_two_grids_do_not_trust_each_other(tmp_path):
    one = founding.found(tmp_path / "one", LOCAL, NOW)
    other = founding.found(tmp_path / "other", LOCAL, NOW)
    assert one.ca_certificate.read_bytes() != other.ca_certificate.read_bytes()


def test_an_empty_directory_becomes_a_grid(tmp_path):
    (tmp_path / "grid").mkdir()
    assert founding.found(tmp_path / "grid", LOCAL, NOW).database.exists()


def test_a_directory_with_something_in_it_is_refused(tmp_path):
    (tmp_path / "precious").write_text("mine")
    with pytest.raises(AlreadyThere, match="not empty"):
        founding.found(tmp_path, LOCAL, NOW)
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_a_file_is_refused(tmp_path):
    (tmp_path / "grid").write_text("mine")
    with pytest.raises(AlreadyThere, match="no directory"):
        founding.found(tmp_path / "grid", LOCAL, NOW)


@pytest.mark.parametrize(
    ("broken", "error"),
    [
        ("desktopgrid.server.founding.upgrade", OSError(28, "No space left on device")),
        ("desktopgrid.server.founding.pki.server_certificate", BadRequest("no host name")),
        ("desktopgrid.server.founding.records.record", KeyboardInterrupt()),
    ],
)
def test_what_fails_half_way_leaves_nothing(tmp_path, monkeypatch, broken, error):
    def fail(*args: object) -> None:
        raise error

    monkeypatch.setattr(broken, fail)
    expected = Unavailable if isinstance(error, OSError) else type(error)
    with pytest.raises(expected):
        founding.found(tmp_path / "grid", LOCAL, NOW)
    assert list(tmp_path.iterdir()) == []


def test_a_place_where_nothing_can_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="cannot make"):
        founding.found(tmp_path / "file" / "grid", LOCAL, NOW)


def test_renewing_changes_the_servers_certificate_and_nothing_else(home):
    def contents() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in home.directory.glob("*.*[!d]")}

    before = contents()
    founding.renew(home, NOW)
    assert [name for name, found in contents().items() if found != before[name]] == ["server.pem"]


def test_identities_can_be_pointed_to_where_the_server_is(home):
    founding.point_identities(home, "https://localhost:12345")
    for path in (home.admin_identity, home.worker_identity):
        assert Identity.read(path).servers == ("https://localhost:12345",)


def test_a_private_file_is_whole_or_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "secret"
    write_private(path, "old")

    def fail(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        write_private(path, "new")
    assert path.read_text() == "old"
    assert list(modes(tmp_path).items()) == [("secret", 0o600)]


# --- passwords ----------------------------------------------------------------------------------


def test_a_password_is_kept_as_its_hash(home):
    set_password(home, "admin", "correct horse", NOW)
    set_password(home, "admin", "battery staple", NOW)
    (found,) = [token for token in load(home).credentials if token.kind == "password"]
    assert found.verifier.startswith("$argon2id$")
    assert b"staple" not in home.database.read_bytes()


def test_nobody_has_no_password(home):
    with pytest.raises(UnknownObject, match="'nobody'"):
        set_password(home, "nobody", "correct horse", NOW)


def test_a_short_password_is_refused(home):
    with pytest.raises(BadRequest, match="at least 8"):
        set_password(home, "admin", "1234567", NOW)


def test_a_password_is_not_set_behind_a_servers_back(home):
    lock = DirectoryLock(home.directory)
    with pytest.raises(Unavailable, match="being served"):
        set_password(home, "admin", "correct horse", NOW)
    lock.release()


# --- backup -------------------------------------------------------------------------------------


def test_a_backup_of_a_grid_that_is_in_use_is_a_grid(home, tmp_path):
    store = Store(home.datas)
    sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    with store.begin("upload", sha256, 0) as upload:
        upload.finish()
    store.begin("half", sha256, 9).close()
    engine = database.open(home)
    with engine.connect() as writer, transaction(writer):
        records.take(writer, 0, "in the middle of something")
        back_up(home, tmp_path / "copy")
    engine.dispose()
    copy = Home.open(tmp_path / "copy")
    assert [user.login for user in load(copy).users] == ["admin", "worker"]
    assert Store(copy.datas).has(sha256)
    assert Store(copy.datas).offset("half") == 0
    assert modes(copy.directory)["ca.key"] == modes(copy.directory)["grid.db"] == 0o600


@pytest.mark.parametrize("place", ["there", "grid/inside"])
def test_a_backup_goes_to_a_place_of_its_own(home, tmp_path, place):
    (tmp_path / "there").mkdir()
    with pytest.raises((AlreadyThere, BadRequest)):
        back_up(home, tmp_path / place)


def test_a_backup_that_fails_leaves_nothing(home, tmp_path):
    home.ca_key.unlink()
    home.ca_key.mkdir()
    with pytest.raises(Unavailable, match="cannot back up"):
        back_up(home, tmp_path / "copy")
    assert sorted(modes(tmp_path)) == ["grid"]


def test_a_database_elsewhere_is_not_ours_to_copy(tmp_path):
    (tmp_path / "server.conf").write_text("[database]\nurl = postgresql://h/d\n")
    with pytest.raises(BadRequest, match="pg_dump"):
        back_up(Home.open(tmp_path), tmp_path / "copy")


def test_identity_files_follow_the_configuration(tmp_path):
    home = founding.found(tmp_path / "grid", {"names": "grid.example"}, NOW)
    text = home.configuration.read_text()
    home.configuration.write_text(re.sub(r"(?m)^#port = .*$", "port = 4999", text))
    founding.point_identities(Home.open(home.directory), "https://localhost:4999")
    servers = json.loads(home.worker_identity.read_text())["servers"]
    assert servers == ["https://grid.example:4999", "https://localhost:4999"]
