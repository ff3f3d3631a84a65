"""A user's credential on its way: `xw`, a real server with a site's CAs, a bridge, and pilots that
run as the user's own.
"""

from __future__ import annotations

import dataclasses
import json
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from desktopgrid.client.delegations import Delegations, KnownBridges
from desktopgrid.client.grid import Grid
from desktopgrid.client.trustee import Trustee
from desktopgrid.credentials.proof import Proof
from desktopgrid.link.identity import Identity
from desktopgrid.model.errors import AccessDenied, NotAuthenticated
from desktopgrid.model.objects import ANY_PLATFORM, Description, new_uid
from desktopgrid.server import audit
from desktopgrid.wire import messages as m
from desktopgrid.wire.proof import new_secret, verifier_of
from tests.grid_ca import (
    LIMITED,
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
from tests.system.peers import RawPeer
from tests.system.processes import ServerUnderTest, a_grid, environment, until

pytestmark = pytest.mark.feature("XW-PIL-3", "XW-LIM-1", "XW-SEC-7")

CA = a_ca()
ANN = a_person(CA)
SUBJECT = "CN=Ann Example,OU=people,DC=grid,DC=org"
SITE = """
[site grid]
computing_element = local
submits_as = user
max_pilots = 10
max_idle = 10
validated_applications_only = yes
"""


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site's CAs."""
    directory = tmp_path_factory.mktemp("certificates")
    write_directory(directory, [CA], [a_crl(CA)])
    return directory


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, authorities: Path
) -> Iterator[ServerUnderTest]:
    place = tmp_path_factory.mktemp("grid")
    with a_grid(place, identity__certificates=str(authorities)) as server:
        (server.place / "sites.d/grid.conf").write_text(SITE)
        server.stop()
        server.start()
        yield server


@pytest.fixture(scope="module")
def admin(server: ServerUnderTest) -> Grid:
    admin = server.client()
    admin.send_application("say", b"#!/bin/sh\necho hello\n", ANY_PLATFORM)
    admin.send_application("wait", b"#!/bin/sh\nexec sleep 600\n", ANY_PLATFORM)
    admin.send_user("egi", level="advanced", password="correct horse")
    admin.send_user("ann", password="correct horse", subjects=[ANN.pem])
    return admin


@pytest.fixture(scope="module")
def egi(server: ServerUnderTest, admin: Grid) -> Grid:
    """The grid as the bridge sees it, by the identity that the administrator made."""
    return server.client(admin.new_identity("bridge", "egi", label="the bridge"))


@pytest.fixture(scope="module")
def bridge(server: ServerUnderTest, egi: Grid) -> Iterator[Trustee]:
    """The bridge."""
    with Trustee(egi, server.directory / "bridge") as bridge:
        bridge.publish(4)
        yield bridge


def of(server: ServerUnderTest, admin: Grid, login: str) -> Identity:
    """An identity of a user's, as he has it who logged in."""
    return admin.new_identity("client", login)


@pytest.fixture(scope="module")
def ann(server: ServerUnderTest, admin: Grid, bridge: Trustee) -> Path:
    """Her identity file; she knows the bridge, and has a proxy beside it."""
    path = server.directory / "ann.identity"
    of(server, admin, "ann").write(path)
    KnownBridges.beside(path).trust("egi", bridge.card.fingerprint)
    write_proxy(server.directory / "x509up", a_proxy(ANN), ANN)
    return path


def xw(server: ServerUnderTest, identity: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `xw` as somebody."""
    return subprocess.run(
        [sys.executable, "-m", "desktopgrid.client.cli", "--identity", str(identity), *words],
        cwd=server.directory,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def rows(server: ServerUnderTest, identity: Path, what: str) -> list[dict[str, str]]:
    """What `xw` lists."""
    done = xw(server, identity, what, "--format", "json")
    assert done.returncode == 0, done.stderr
    found: list[dict[str, str]] = json.loads(done.stdout)
    return found


def status(grid: Grid, work: str) -> str:
    """The status of a work."""
    [row] = grid.objects("works", [work])
    return str(row["status"])


@pytest.mark.feature("XW-CLI-13", "XW-PIL-4", "XW-PIL-6", "XW-SEC-5")
def test_her_proxy_brings_a_pilot_that_runs_her_works_and_nobody_elses(
    server: ServerUnderTest, admin: Grid, egi: Grid, bridge: Trustee, ann: Path
) -> None:
    done = xw(server, ann, "submit", "say", "--xwcert", "x509up")
    assert done.returncode == 0, done.stderr
    work = done.stdout.strip()
    [held] = bridge.collect()
    assert (held.user, held.subject) == ("ann", SUBJECT)
    context = ssl.create_default_context()
    context.load_cert_chain(held.path)  # as every client of a computing element does
    pilot = server.pilot(egi, held.uid, "grid")

    def why() -> str:
        return xw(server, ann, "why", work).stdout

    until(lambda: "validated applications only" in why(), "its program is not validated yet")
    others = admin.submit(Description("say")).uid
    admin.validate("say")
    until(lambda: status(admin, work) == "COMPLETED", "her work has ended")
    assert "may not run works of this user" in " ".join(admin.why(others))
    admin.cancel([others])

    log = (server.directory / "pilots").glob("*/err")
    said = "".join(path.read_text() for path in log)
    [stamp] = [row["uid"] for row in admin.objects("pilots") if row["delegation"] == held.uid]
    assert f"Pilot {stamp} on " in said
    assert f"of work {work} for ann ({SUBJECT})" in said

    def of_the_pilot() -> list[audit.Record]:
        records = audit.read(server.home.audit_log)
        return [record for record in records if record.verb == "task" and record.pilot == stamp]

    # The log is written in batches.
    [task] = until(of_the_pilot, "its task is in the audit log")
    assert (task.user, task.subject, task.delegation) == ("ann", SUBJECT, held.uid)
    assert task.worker == "ann" and task.host_name
    pilot.stop()
    # What the pilot had on its disk, and what it wrote, has nothing of her credential.
    secret = held.path.read_text().splitlines()[1:-1]
    for path in (server.directory / "pilots" / stamp).rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert b"CERTIFICATE" not in content or b"PRIVATE" not in content, path
            assert not any(line.encode() in content for line in secret if len(line) == 64), path


def test_the_server_has_nothing_by_which_it_could_be_her(
    server: ServerUnderTest, bridge: Trustee, ann: Path
) -> None:
    [held, *_] = bridge.collect()
    key = held.path.read_text().partition("PRIVATE KEY-----\n")[2].partition("-----END")[0]
    for path in server.place.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert key.splitlines()[1].encode() not in content, path
            assert b"BEGIN RSA PRIVATE KEY" not in content, path


@pytest.mark.feature("XW-PIL-6")
def test_what_she_takes_back_stops_its_pilot_and_task_at_once(
    server: ServerUnderTest, admin: Grid, egi: Grid, bridge: Trustee, ann: Path
) -> None:
    admin.validate("wait")
    bridge.publish(4)
    done = xw(server, ann, "delegate", "--proxy", "x509up", "--lifetime", "1h")
    uid = done.stdout.strip()
    assert done.returncode == 0, done.stderr
    work = xw(server, ann, "submit", "wait", "--xwcert", uid).stdout.strip()
    assert uid in [held.uid for held in bridge.collect()]
    pilot = server.pilot(egi, uid, "grid")

    until(lambda: status(admin, work) == "RUNNING", "it runs")
    assert xw(server, ann, "revoke", uid).returncode == 0
    until(lambda: status(admin, work) == "WAITING", "it waits again")
    until(lambda: not pilot.is_running, "the pilot has gone")
    assert uid not in [held.uid for held in bridge.collect()]
    assert "is Revoked" in xw(server, ann, "why", work).stdout
    with pytest.raises(AccessDenied, match="is Revoked"):
        server.pilot(egi, uid, "grid")
    admin.cancel([work])


def test_a_renewal_goes_on_and_nothing_is_lost_over_a_killed_server(
    server: ServerUnderTest, bridge: Trustee, ann: Path
) -> None:
    bridge.publish(4)
    uid = xw(server, ann, "delegate", "--proxy", "x509up").stdout.strip()
    server.kill()
    server.start()
    assert uid in [held.uid for held in bridge.collect()]
    done = xw(server, ann, "delegate", "--renew", uid, "--proxy", "x509up")
    assert done.returncode == 0, done.stderr
    [held] = [each for each in bridge.collect() if each.uid == uid]
    assert held.generation == 2
    [row] = [row for row in rows(server, ann, "delegations") if row["uid"] == uid]
    assert (row["status"], row["bridge"], row["subject"]) == ("Active", "egi", SUBJECT)


@pytest.mark.parametrize(
    "holders, error, reason",
    [
        pytest.param(
            (a_proxy(ANN, proxy_info(LIMITED)), ANN), AccessDenied, "limited", id="limited"
        ),
        pytest.param(
            (a_person(CA, name("DC=org", "CN=Eve")),), AccessDenied, "not known here", id="stranger"
        ),
        pytest.param((a_person(a_ca()),), NotAuthenticated, "certificate", id="another CA"),
    ],
)
def test_a_proxy_of_a_bad_kind_is_refused_with_the_reason(
    server: ServerUnderTest,
    bridge: Trustee,
    ann: Path,
    tmp_path: Path,
    holders: tuple[Holder, ...],
    error: type[Exception],
    reason: str,
) -> None:
    bridge.publish(4)
    with server.client(Identity.read(ann)) as grid:
        mine = Delegations(grid, KnownBridges.beside(ann))
        proof = Proof.read(write_proxy(tmp_path / "proxy", *holders), None)
        with pytest.raises(error, match=reason):
            mine.give_proxy(proof, mine.bridge())


def test_a_certificate_that_its_ca_revokes_ends_what_was_delegated_by_it(
    server: ServerUnderTest, admin: Grid, bridge: Trustee, authorities: Path, tmp_path: Path
) -> None:
    bob = a_person(CA, name("DC=org", "DC=grid", "CN=Bob"))
    admin.send_user("bob", subjects=[bob.pem])
    bridge.publish(4)
    known = KnownBridges(tmp_path / "known")
    known.trust("egi", bridge.card.fingerprint)
    with server.client(of(server, admin, "bob")) as grid:
        mine = Delegations(grid, known)
        proof = Proof.read(write_proxy(tmp_path / "proxy", a_proxy(bob), bob), None)
        given = mine.give_proxy(proof, mine.bridge())
        write_directory(authorities, [CA], [a_crl(CA, bob)])
        until(lambda: mine.find(given.uid)["status"] == "Revoked", "the CRL was read")
        with pytest.raises(NotAuthenticated, match="revoked"):
            mine.give_proxy(proof, mine.bridge())


@pytest.mark.feature("XW-SEC-5")
def test_no_frame_to_a_worker_has_anything_of_it(
    server: ServerUnderTest, admin: Grid, egi: Grid, bridge: Trustee, ann: Path
) -> None:
    admin.validate("say")
    bridge.publish(4)
    uid = xw(server, ann, "delegate", "--proxy", "x509up").stdout.strip()
    work = xw(server, ann, "submit", "say", "--xwcert", uid).stdout.strip()
    [held] = [each for each in bridge.collect() if each.uid == uid]
    stamp, secret, own = new_uid(), new_secret(), new_secret()
    egi.session.ask(m.SubmitPilots("grid", {stamp: verifier_of(secret)}, delegation=uid))
    identity = replace(egi.session.identity, kind="pilot", identity=stamp, secret=secret)
    peer = RawPeer(identity, proved_by="enrolment", key=verifier_of(own))
    until(lambda: peer.listen() and peer.heard, "it is given something")
    said = json.dumps([peer.heard, dataclasses.asdict(peer.welcome)])
    assert [body["work"] for verb, _, body in peer.heard if verb == "assign"] == [work]
    assert SUBJECT in said and uid not in said and "CERTIFICATE" not in said
    lines = [line for line in held.path.read_text().splitlines() if len(line) == 64]
    assert lines and not any(line in said for line in lines)
    peer.close()
    admin.cancel([work])
