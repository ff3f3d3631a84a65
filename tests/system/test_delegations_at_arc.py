"""A user's own proxy, with his VO's attributes, submits the pilot for his work to a real ARC CE."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from desktopgrid.client.delegations import Delegations, KnownBridges
from desktopgrid.client.grid import Grid
from desktopgrid.client.trustee import Trustee
from desktopgrid.credentials.proof import Proof, public_part
from desktopgrid.model.errors import AccessDenied
from desktopgrid.model.objects import ANY_PLATFORM, Description
from desktopgrid.model.sites import read_sites
from desktopgrid.server import audit
from pilot.factory.provision import submit_pilots
from tests.grid_box import GridBox
from tests.system.processes import ServerUnderTest, a_grid, environment, until

pytestmark = [pytest.mark.feature("XW-PIL-3", "XW-PIL-4", "XW-SEC-7"), pytest.mark.timeout(400)]

SITE = """
[site arc]
computing_element = arc
url = {url}
ca_directory = {certificates}
submits_as = user
vo = testvo
voms = /testvo/Role=pilot
memory_mib = 100
disk_mib = 10
wall_time = 10 min
idle_time = 5 s
"""


@pytest.fixture
def server(tmp_path: Path, grid_box: GridBox) -> Iterator[ServerUnderTest]:
    """A grid that believes whom the box does, with the box's ARC CE as a site."""
    grid_box.start("arc")
    named = {
        "identity__certificates": str(grid_box.certificates),
        "identity__vomsdir": str(grid_box.vomsdir),
    }
    with a_grid(tmp_path, alive_period="5 s", **named) as server:
        site = SITE.format(url=grid_box.arc, certificates=grid_box.certificates)
        (server.place / "sites.d/arc.conf").write_text(site)
        (server.place / "sites.d/local.conf").unlink()
        server.stop()
        server.start()
        yield server


def a_round_of_the_factory(server: ServerUnderTest, egi: Grid) -> subprocess.CompletedProcess[str]:
    """What the bridge's administrator has running, for a moment."""
    identity = server.directory / "bridge.identity"
    egi.session.identity.write(identity)
    places = ("--identity", str(identity), "--sites", str(server.place / "sites.d"))
    return subprocess.run(
        [
            *(sys.executable, "-m", "pilot.cli", *places),
            *("factory", "--once", "--bridge", str(server.directory / "bridge")),
        ],
        cwd=server.directory,
        env={**environment(), "XDG_STATE_HOME": str(server.directory / "state")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_her_work_runs_at_the_site_by_her_own_proxy(
    server: ServerUnderTest, grid_box: GridBox, tmp_path: Path
) -> None:
    alice = grid_box.users["alice"]
    admin = server.client()
    admin.send_application("say", b"#!/bin/sh\necho hello from $(id -un)\n", ANY_PLATFORM)
    admin.validate("say")
    admin.send_user("egi", level="advanced", password="correct horse")
    admin.send_user("alice", subjects=[public_part(alice.cert)])
    egi = server.client(admin.new_identity("bridge", "egi"))
    site = read_sites(server.place / "sites.d")["arc"]
    assert alice.voms is not None
    with (
        server.client(admin.new_identity("client", "alice")) as hers,
        Trustee(egi, tmp_path / "bridge") as bridge,
    ):
        bridge.publish(2)
        known = KnownBridges(tmp_path / "bridges")
        known.trust("egi", bridge.card.fingerprint)
        mine = Delegations(hers, known)
        plain = mine.give_proxy(Proof.read(alice.proxy, None), mine.bridge())
        given = mine.give_proxy(Proof.read(alice.voms, None), mine.bridge())
        assert (plain.vo, given.vo, given.notes) == ("", "testvo", ())
        assert "/testvo/Role=pilot" in given.attributes
        works = {
            uid: hers.submit(Description("say", delegation=uid)).uid
            for uid in (plain.uid, given.uid)
        }
        held = {each.uid: each for each in bridge.collect()}
        with pytest.raises(AccessDenied, match="VO testvo only"):
            submit_pilots(egi, site, 1, held=held[plain.uid])
        work = works[given.uid]
        bridge.close()
        done = a_round_of_the_factory(server, egi)
        assert done.returncode == 0, done.stderr
        assert f"known by {bridge.card.fingerprint}" in done.stderr

        def has_ended() -> bool:
            [row] = hers.objects("works", [work])
            return bool(row["status"] == "COMPLETED")

        until(has_ended, "the pilot has run her work", timedelta(minutes=3).total_seconds())
        [result] = hers.results([work])
        assert result.stdout.startswith(b"hello from ")
        [row] = hers.objects("works", [works[plain.uid]])
        assert row["status"] == "WAITING"

    def tasks() -> list[audit.Record]:
        return [each for each in audit.read(server.home.audit_log) if each.verb == "task"]

    [task] = until(tasks, "its task is in the audit log")
    assert (task.user, task.subject, task.delegation) == ("alice", given.subject, given.uid)
    [pilot] = admin.objects("pilots")
    assert (pilot["uid"], pilot["delegation"]) == (task.pilot, given.uid)
