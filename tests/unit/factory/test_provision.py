"""Pilots get on record and into a site, or neither, or it is said."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from desktopgrid.client.trustee import Held
from desktopgrid.model.errors import BadRequest, LimitExceeded, UnknownObject
from desktopgrid.model.sites import SITE_OF_KIND, FakeSite
from desktopgrid.wire import messages as m
from desktopgrid.wire.proof import verifier_of
from pilot.ce.base import (
    ComputingElementUnavailable,
    Credential,
    CredentialKind,
    JobDescription,
    Reference,
    SubmissionRefused,
)
from pilot.ce.fake import FakeCE
from pilot.factory import provision
from pilot.factory.provision import (
    ReferencesNotRecorded,
    SubmissionUncertain,
    pilot_arguments,
    submit_pilots,
)
from tests.unit.factory.asked import AskedGrid

LAL = FakeSite("lal", wall_time=timedelta(hours=2), idle_time=timedelta(minutes=3))


@pytest.fixture
def grid() -> AskedGrid:
    return AskedGrid()


def recorded(grid: AskedGrid) -> list[tuple[str, str, str]]:
    return [
        (pilot.status.value, pilot.reference, pilot.reason)
        for pilot in grid.server.grid.pilots.values()
    ]


def test_pilots_are_on_record_with_the_site_s_references(grid: AskedGrid) -> None:
    door = FakeCE()
    stamps = submit_pilots(grid.client, LAL, 2, door)
    assert [pilot.stamp for pilot in door.jobs.values()] == stamps
    assert recorded(grid) == [("Waiting", "fake:1", ""), ("Waiting", "fake:2", "")]
    assert {grid.server.grid.pilots[stamp].owner for stamp in stamps} == {"ada"}


@pytest.mark.feature("XW-PIL-3")
def test_a_users_credential_takes_the_place_of_the_site_s(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its door shows it, and the pilots are on record as the user's own."""
    grid = AskedGrid()
    later = datetime.now(UTC) + timedelta(hours=1)
    held = Held("d1", "proxy", tmp_path / "d1.pem", 1, "alice", "CN=Alice", "", (), later)
    asked: list[Any] = []

    def build(*arguments: Any) -> FakeCE:
        asked.append(arguments)
        return FakeCE()

    monkeypatch.setattr(provision, "build_computing_element", build)
    with pytest.raises(UnknownObject, match="no delegation 'd1' that was given to you"):
        submit_pilots(grid.client, LAL, 1, held=held)
    [(site, _, credential)] = asked
    assert (site, credential) == (LAL, Credential(CredentialKind.PROXY, tmp_path / "d1.pem"))
    submit_pilots(grid.client, LAL, 1)
    assert asked[1][2] is None


def test_each_pilot_gets_its_own_secret_in_a_private_file_that_is_gone_afterwards(
    grid: AskedGrid,
) -> None:
    seen: dict[str, dict[str, Any]] = {}

    class LookingCE(FakeCE):
        def submit(self, pilots: Sequence[JobDescription]) -> list[Reference]:
            for pilot in pilots:
                (file,) = pilot.files
                assert file.stat().st_mode & 0o777 == 0o600
                assert file.parent.parent.stat().st_mode & 0o777 == 0o700
                assert pilot.program.stat().st_size > 10_000
                seen[pilot.stamp] = json.loads(file.read_text())
            return super().submit(pilots)

    door = LookingCE()
    stamps = submit_pilots(grid.client, LAL, 2, door)
    assert set(seen) == set(stamps)
    assert len({identity["secret"] for identity in seen.values()}) == 2
    for stamp, identity in seen.items():
        assert (identity["identity"], identity["kind"]) == (stamp, "pilot")
        assert (identity["servers"], identity["ca"]) == (["https://grid:1"], "the CA")
        verifier = grid.server.grid.pilots[stamp].verifier
        assert verifier_of(identity["secret"]) == verifier
    for pilot in door.jobs.values():
        assert not any(secret_in(pilot, identity["secret"]) for identity in seen.values())
        assert not pilot.program.parent.exists()


def secret_in(pilot: JobDescription, secret: str) -> bool:
    """Whether something that others can see holds it."""
    return secret in f"{pilot.arguments} {pilot.attributes} {pilot.files} {pilot.stamp}"


@pytest.mark.parametrize(
    "door, said",
    [
        ("condor", "--identity pilot.identity --idle 180 --lifetime 7200"),
        (
            "local",
            "--identity pilot.identity --idle 180 --lifetime 7200"
            " --slots 4 --memory 512 --disk 2048",
        ),
    ],
)
def test_a_pilot_is_told_what_its_batch_system_does_not_tell(door: str, said: str) -> None:
    site = SITE_OF_KIND[door](
        "lal",
        door,
        cores=4,
        memory_mib=512,
        wall_time=timedelta(hours=2),
        idle_time=timedelta(minutes=3),
    )
    assert " ".join(pilot_arguments(site)) == said


def test_a_cap_is_held_before_the_site_hears_of_anything(grid: AskedGrid) -> None:
    door = FakeCE()
    with pytest.raises(LimitExceeded, match="max_idle = 3"):
        submit_pilots(grid.client, LAL, 4, door)
    assert not door.jobs
    assert not grid.server.grid.pilots


def test_a_site_that_cannot_be_asked_gets_nothing_on_record(grid: AskedGrid) -> None:
    door = FakeCE()
    door.unavailable_because = "its network is down"
    with pytest.raises(ComputingElementUnavailable, match="network is down"):
        submit_pilots(grid.client, LAL, 1, door)
    assert not grid.server.grid.pilots


def test_none_is_no_number_of_pilots(grid: AskedGrid) -> None:
    with pytest.raises(BadRequest, match="0 pilots"):
        submit_pilots(grid.client, LAL, 0, FakeCE())


def test_a_site_that_refuses_leaves_failed_pilots_with_its_reason(grid: AskedGrid) -> None:
    door = FakeCE()
    door.refused_because = "it is closed"
    with pytest.raises(SubmissionRefused, match="it is closed"):
        submit_pilots(grid.client, LAL, 2, door)
    assert recorded(grid) == [("Failed", "", "site lal refused it: it is closed")] * 2


def test_a_submission_that_broke_off_after_the_site_took_it_is_found_again(
    grid: AskedGrid,
) -> None:
    door = FakeCE()
    door.breaks_off_because = "connection reset"
    assert len(submit_pilots(grid.client, LAL, 2, door)) == 2
    assert [reference for _, reference, _ in recorded(grid)] == ["fake:1", "fake:2"]


class DyingCE(FakeCE):
    """Takes some of the pilots and is not to be asked again."""

    taken = 0

    def submit(self, pilots: Sequence[JobDescription]) -> list[Reference]:
        super().submit(pilots[: self.taken])
        if not self.taken:
            self.unavailable_because = "gone"
        raise ComputingElementUnavailable("lal", "connection reset")


@pytest.mark.parametrize("taken", [0, 1])
def test_what_nobody_knows_is_not_taken_for_nothing(grid: AskedGrid, taken: int) -> None:
    door = DyingCE()
    door.taken = taken
    with pytest.raises(SubmissionUncertain, match="may have 2 pilots or not: connection reset"):
        submit_pilots(grid.client, LAL, 2, door)
    statuses = [status for status, _, _ in recorded(grid)]
    assert sorted(statuses) == ["Submitted"] * (2 - taken) + ["Waiting"] * taken


def test_references_that_the_server_did_not_hear_are_told_to_the_user(grid: AskedGrid) -> None:
    grid.fails_at = m.PilotReport
    with pytest.raises(ReferencesNotRecorded, match=r"site lal has the pilots \(fake:1\)"):
        submit_pilots(grid.client, LAL, 1, FakeCE())
    assert recorded(grid) == [("Submitted", "", "")]


def test_what_a_killed_submission_left_is_removed_by_the_next(
    grid: AskedGrid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    deserted = tmp_path / "glidebridge-enrolment-old"
    (deserted / "stamp").mkdir(parents=True)
    (deserted / "stamp" / "pilot.identity").write_text("a secret")
    (deserted / "pilot.pyz").touch()
    others = tmp_path / "glidebridge-enrolment-other"
    others.mkdir()
    (others / "thesis.tex").write_text("not ours to remove")
    submit_pilots(grid.client, LAL, 1, FakeCE())
    assert [path.name for path in tmp_path.rglob("*")] == [others.name, "thesis.tex"]
