"""Logging in by certificates and proxies: `xw`, a real server, a site's directory of CAs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from desktopgrid.client.grid import Grid
from desktopgrid.credentials.proof import Proof
from desktopgrid.link.address import ServerName
from desktopgrid.link.https import HTTPS
from desktopgrid.link.identity import Identity
from desktopgrid.link.transfer import login_by_certificate
from desktopgrid.model.errors import AccessDenied, GridError, NotAuthenticated
from desktopgrid.model.objects import ANY_PLATFORM, Description
from desktopgrid.wire.proof import certificate_message
from tests.grid_ca import (
    LIMITED,
    NOW,
    Holder,
    a_ca,
    a_crl,
    a_person,
    a_proxy,
    name,
    proxy_info,
    write_directory,
    write_proxy,
)
from tests.system.processes import ServerUnderTest, a_grid, environment, until

pytestmark = pytest.mark.feature("XW-SEC-6", "XW-LIM-1")

CA = a_ca()
SUBJECT = "CN=Ann Example,OU=people,DC=grid,DC=org"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site's CAs."""
    directory = tmp_path_factory.mktemp("certificates")
    write_directory(directory, [CA], [a_crl(CA)])
    return directory


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, directory: Path) -> Iterator[ServerUnderTest]:
    place = tmp_path_factory.mktemp("grid")
    with a_grid(place, identity__certificates=str(directory)) as server:
        yield server


@pytest.fixture(scope="module")
def admin(server: ServerUnderTest) -> Grid:
    admin = server.client()
    admin.send_application("say", b"#!/bin/sh\necho hello\n", ANY_PLATFORM)
    server.identity().write(server.directory / "admin.identity")
    return admin


@pytest.fixture(scope="module")
def ann(server: ServerUnderTest, admin: Grid) -> Holder:
    """A user whom the CA has certified; `xw senduser --cert` inserted her."""
    ann = a_person(CA)
    path = server.directory / "usercert.pem"
    path.write_text(ann.pem)
    done = xw(server, "--identity", "admin.identity", "senduser", "ann", "--cert", str(path))
    assert done.returncode == 0, done.stderr
    return ann


def xw(server: ServerUnderTest, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `xw`."""
    return subprocess.run(
        [sys.executable, "-m", "desktopgrid.client.cli", *words],
        cwd=server.directory,
        env={**environment(), "XDG_CONFIG_HOME": str(server.directory / "config"), **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def log_in(
    server: ServerUnderTest, *words: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run `xw login`."""
    place = ("--server", server.address, "--ca", str(server.home.ca_certificate))
    return xw(server, "login", *place, *words, **variables)


def by_proof(server: ServerUnderTest, leaf: Holder, *others: Holder) -> Identity:
    """The identity that a chain logs in to."""
    path = write_proxy(server.directory / f"proxy-{os.urandom(4).hex()}", leaf, *others)
    proof = Proof.read(path, None)
    ca = server.identity().ca
    reply = login_by_certificate((server.address,), ca, proof.chain, proof.sign)
    return Identity((server.address,), "client", str(reply["token"]), str(reply["secret"]), ca)


@pytest.mark.feature("XW-UM-2")
def test_a_user_with_a_certificate_is_listed_with_its_name(admin: Grid, ann: Holder) -> None:
    [row] = admin.objects("users", login="ann")
    assert row["subjects"] == SUBJECT


def test_a_certificate_and_its_key_log_in(server: ServerUnderTest, ann: Holder) -> None:
    cert, key = server.directory / "usercert.pem", server.directory / "userkey.pem"
    key.touch(0o600)
    key.write_text(ann.key_pem)
    done = log_in(server, "--cert", str(cert), "--key", str(key), "--label", "by cert")
    assert done.returncode == 0, done.stderr
    assert "Logged in as ann until" in done.stderr
    listed = json.loads(xw(server, "tokens", "--format", "json").stdout)
    assert [(row["label"], row["source"], row["scope"]) for row in listed] == [
        ("by cert", "certificate", "")
    ]
    assert xw(server, "submit", "say").returncode == 0
    assert "PRIVATE" not in (server.directory / "config/glidebridge/identity.json").read_text()


def test_a_proxy_is_found_where_grids_keep_it_and_the_token_ends_with_it(
    server: ServerUnderTest, ann: Holder, tmp_path: Path
) -> None:
    ends = NOW + timedelta(hours=2)
    proxy = a_proxy(ann, ends=ends)
    path = write_proxy(tmp_path / "x509up", proxy, ann)
    done = log_in(server, "--proxy", X509_USER_PROXY=str(path))
    assert done.returncode == 0, done.stderr
    assert ends.isoformat(timespec="seconds") in done.stderr
    path.chmod(0o644)
    done = log_in(server, "--proxy", str(path))
    assert done.returncode == 1 and "chmod 600" in done.stderr
    done = log_in(server, "--proxy", str(tmp_path / "none"))
    assert done.returncode == 1 and "cannot be read" in done.stderr
    assert log_in(server, "ann", "--proxy", str(path)).returncode == 2


def test_a_limited_proxy_looks_and_submits_nothing(server: ServerUnderTest, ann: Holder) -> None:
    identity = by_proof(server, a_proxy(ann, proxy_info(LIMITED)), ann)
    with Grid.open(identity) as grid:
        assert list(grid.objects("apps"))
        assert [row["scope"] for row in grid.objects("tokens", [identity.identity])] == ["read"]
        for change in (
            lambda: grid.submit(Description("say")),
            lambda: grid.send_data(b"data", "data"),
            lambda: grid.new_identity("client"),
            lambda: grid.send_bag("session", "s"),
        ):
            with pytest.raises(AccessDenied, match="your token is good for read only"):
                change()
        grid.revoke(identity.identity)


def test_a_revoked_certificate_is_refused_and_its_tokens_end(
    server: ServerUnderTest, admin: Grid, directory: Path
) -> None:
    bob = a_person(CA, name("DC=org", "DC=grid", "CN=Bob"))
    admin.send_user("bob", subjects=[bob.pem])
    identity = by_proof(server, a_proxy(bob), bob)
    carol = a_person(CA, name("DC=org", "DC=grid", "CN=Carol"))
    admin.send_user("carol", subjects=[carol.pem])
    other = by_proof(server, carol)
    write_directory(directory, [CA], [a_crl(CA, bob)])
    with pytest.raises(NotAuthenticated, match="revoked"):
        by_proof(server, a_proxy(bob), bob)

    def is_revoked() -> bool:
        [row] = admin.objects("tokens", [identity.identity])
        return bool(row["revoked"])

    until(is_revoked, "the token is taken back")
    with pytest.raises(NotAuthenticated):
        Grid.open(identity)
    Grid.open(other).close()
    assert "its certificate was revoked" in server.log


def test_who_is_nobody_here_is_told_by_which_name(server: ServerUnderTest) -> None:
    eve = a_person(CA, name("DC=org", "DC=grid", "CN=Eve"))
    with pytest.raises(NotAuthenticated, match="nobody is known here by 'CN=Eve,DC=grid,DC=org'"):
        by_proof(server, eve)


def test_another_ca_is_not_believed(server: ServerUnderTest, ann: Holder) -> None:
    with pytest.raises(NotAuthenticated, match="certificate"):
        by_proof(server, a_person(a_ca()))


def test_a_certificate_without_its_key_is_nobodys(server: ServerUnderTest, ann: Holder) -> None:
    """Certificates are public: whoever has one of hers must not be her."""
    thief = a_person(CA, name("CN=Thief"))
    with pytest.raises(NotAuthenticated, match="has not signed by its key"):
        by_proof(server, Holder(ann.certificate, thief.key))


def test_a_signature_is_good_once_and_for_one_server(
    server: ServerUnderTest, ann: Holder, tmp_path: Path
) -> None:
    proof = Proof.read(write_proxy(tmp_path / "proxy", ann), None)
    ca = server.identity().ca
    signed: list[str] = []

    def remember(message: bytes) -> str:
        signed.append(proof.sign(message))
        return signed[-1]

    login_by_certificate((server.address,), ca, proof.chain, remember)
    with pytest.raises(NotAuthenticated):  # another nonce, an old signature
        login_by_certificate((server.address,), ca, proof.chain, lambda _: signed[0])
    with pytest.raises(NotAuthenticated):  # what another server would have been told
        login_by_certificate(
            (server.address,),
            ca,
            proof.chain,
            lambda message: proof.sign(
                certificate_message(message.split(b"\n")[1].decode(), b"other", proof.chain)
            ),
        )
    with pytest.raises(GridError):
        login_by_certificate((server.address,), ca, proof.chain + ann.key_pem, proof.sign)


def test_a_login_may_come_in_pieces(server: ServerUnderTest, ann: Holder, tmp_path: Path) -> None:
    """A chain is longer than what a network passes on at once."""
    proof = Proof.read(write_proxy(tmp_path / "proxy", ann), None)
    ca = server.identity().ca
    connection = HTTPS(ServerName.parse(server.address), ca, None, 30)
    connection.request("POST", "/v1/login/nonce", body=b"{}")
    nonce = json.loads(connection.getresponse().read())["nonce"]
    assert connection.sock is not None
    message = certificate_message(nonce, connection.sock.getpeercert(True) or b"", proof.chain)
    asked = {"chain": proof.chain, "nonce": nonce, "signature": proof.sign(message)}
    body = json.dumps(asked).encode()
    connection.putrequest("POST", "/v1/login/certificate")
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders()
    for start in range(0, len(body), 100):
        connection.send(body[start : start + 100])
    response = connection.getresponse()
    assert (response.status, json.loads(response.read())["user"]) == (200, "ann")
    connection.close()


def test_a_private_key_that_was_sent_is_not_written_down(
    server: ServerUnderTest, ann: Holder
) -> None:
    for path in server.place.rglob("*"):
        if path.is_file():
            assert ann.key_pem.splitlines()[1].encode() not in path.read_bytes(), path
    assert "PRIVATE KEY" not in server.log


def test_a_password_does_still(server: ServerUnderTest, admin: Grid) -> None:
    admin.send_user("dave", password="correct horse")
    secret = server.directory / "secret"
    secret.write_text("correct horse\n")
    done = log_in(server, "dave", "--password", f"@{secret}")
    assert done.returncode == 0, done.stderr


def test_a_grid_that_names_no_cas_says_so(tmp_path: Path) -> None:
    with a_grid(tmp_path) as plain:
        done = log_in(plain, "--proxy", str(write_proxy(tmp_path / "proxy", a_person(CA))))
        assert done.returncode == 1
        assert "looks at no certificates" in done.stderr


def test_the_names_are_there_after_a_restart(server: ServerUnderTest, ann: Holder) -> None:
    identity = by_proof(server, ann)
    server.stop()
    server.start()
    with Grid.open(identity) as grid:
        assert grid.session.welcome.user == "ann"
    again = by_proof(server, a_proxy(ann), ann)
    assert replace(again, identity="", secret="") == replace(identity, identity="", secret="")
