"""What sites say gets on record; what they do not say does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from desktopgrid.client.pilots import PilotRecord, RecordedPilot, Told
from desktopgrid.model.lifecycle import PilotStatus
from desktopgrid.model.sites import FakeSite, SiteConfig
from pilot.ce.base import JobState, Reference
from pilot.ce.fake import FakeCE
from pilot.factory.explanation import explain
from pilot.factory.provision import submit_pilots
from pilot.factory.sites import Sites
from pilot.factory.watch import FORGOTTEN_AFTER, Sight, is_useless, look_after, news_of
from tests.builders import NOON, replace
from tests.unit.factory.asked import AskedGrid

S = PilotStatus
ONE = Reference("fake:1")


def a_pilot(**fields: Any) -> RecordedPilot:
    default = RecordedPilot(
        stamp="p",
        site="lal",
        status=S.WAITING,
        reference=ONE,
        reason="",
        owner="ada",
        host="",
        tasks=0,
        tasks_done=0,
        submitted_at=NOON,
        is_connected=False,
    )
    return replace(default, **fields)


@pytest.mark.parametrize(
    "pilot, state, told",
    [
        pytest.param(a_pilot(), JobState(S.WAITING), None, id="nothing new"),
        pytest.param(a_pilot(), JobState(S.RUNNING), Told(S.RUNNING, ONE), id="it runs"),
        pytest.param(
            a_pilot(),
            JobState(S.FAILED, "exit code 4"),
            Told(S.FAILED, ONE, "exit code 4"),
            id="it failed",
        ),
        pytest.param(
            a_pilot(reference=""), JobState(S.WAITING), Told(S.WAITING, ONE), id="it was found"
        ),
        pytest.param(
            a_pilot(),
            JobState(S.WAITING, "no match"),
            Told(S.WAITING, ONE, "no match"),
            id="there is a reason now",
        ),
    ],
)
def test_only_news_are_told(pilot: RecordedPilot, state: JobState, told: Told | None) -> None:
    assert news_of(pilot, ONE, state, NOON) == told


LATER = NOON + FORGOTTEN_AFTER


@pytest.mark.parametrize(
    "pilot, now, status",
    [
        pytest.param(a_pilot(), NOON, None, id="histories are late"),
        pytest.param(a_pilot(), LATER, S.ABORTED, id="forgotten"),
        pytest.param(a_pilot(reference=""), NOON, None, id="on its way perhaps"),
        pytest.param(a_pilot(reference=""), LATER, S.FAILED, id="it never came"),
        pytest.param(a_pilot(is_connected=True), LATER, None, id="its worker speaks to the server"),
    ],
)
def test_what_a_site_does_not_know(
    pilot: RecordedPilot, now: datetime, status: PilotStatus | None
) -> None:
    told = news_of(pilot, Reference(pilot.reference) or None, None, now)
    assert (told.status if told is not None else None) is status


@pytest.mark.parametrize(
    "status, at_site, expected",
    [
        (S.WAITING, S.WAITING, False),
        (S.RUNNING, S.RUNNING, False),
        (S.RUNNING, S.FAILED, True),
        (S.DONE, S.WAITING, True),
        # It is about to end; or the server gave it up, and refuses it when it comes back.
        (S.DONE, S.RUNNING, False),
        (S.FAILED, S.DONE, False),
    ],
)
def test_what_is_removed_at_the_site(
    status: PilotStatus, at_site: PilotStatus, expected: bool
) -> None:
    assert is_useless(a_pilot(status=status), JobState(at_site)) is expected


class World:
    """Two sites with fake doors, and three pilots at the first."""

    def __init__(self) -> None:
        self.grid = AskedGrid()
        self.doors = {"lal": FakeCE(slots=2), "cern": FakeCE()}
        configurations = {name: FakeSite(name) for name in self.doors}
        self.sites = FakeSites(configurations, self.doors)
        self.record = PilotRecord(self.grid.client)
        lal = configurations["lal"]
        self.stamps = submit_pilots(self.grid.client, lal, 3, self.doors["lal"])

    def look(self, later: timedelta = timedelta(0)) -> Sight:
        now = self.grid.server.now + later
        return look_after(self.record, self.sites, self.record.pilots(), now)

    @property
    def statuses(self) -> list[str]:
        return [self.grid.status(stamp) for stamp in self.stamps]


class FakeSites(Sites):
    """Sites whose doors are given."""

    def __init__(
        self, configurations: Mapping[str, SiteConfig], doors: Mapping[str, FakeCE]
    ) -> None:
        super().__init__(configurations, Path("/nowhere"))
        self._doors.update(doors)


@pytest.fixture
def world() -> World:
    return World()


def test_what_the_sites_say_is_on_record(world: World) -> None:
    world.doors["lal"].step()
    sight = world.look()
    assert not sight.silent
    assert world.statuses == ["Running", "Running", "Waiting"]
    assert sorted(pilot.status.value for pilot in sight.pilots) == sorted(world.statuses)


def test_a_site_that_cannot_be_asked_is_unknown_not_empty(world: World) -> None:
    submit_pilots(world.grid.client, world.sites["cern"], 1, world.doors["cern"])
    world.doors["cern"].step()
    world.doors["lal"].unavailable_because = "its network is down"
    sight = world.look(FORGOTTEN_AFTER * 2)
    assert sight.silent == {"lal": "its network is down"}
    assert world.statuses == ["Waiting"] * 3
    (other,) = [pilot for pilot in sight.pilots if pilot.site == "cern"]
    assert other.status is S.RUNNING


def test_a_site_that_is_not_described_here_is_unknown(world: World) -> None:
    sites = FakeSites({}, {})
    sight = look_after(world.record, sites, world.record.pilots())
    assert "there is no site 'lal'" in sight.silent["lal"]
    assert world.statuses == ["Waiting"] * 3


def test_a_failed_pilot_s_last_words_are_on_record_and_it_is_removed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = world.doors["lal"]
    door.report(ONE, S.FAILED, "exit code 4")
    door.words[ONE] = "a\nb\nc\nNo connection to https://grid:1\n"
    removed: list[Reference] = []
    monkeypatch.setattr(door, "remove", removed.extend)
    world.look()
    reason = world.grid.server.grid.pilots[world.stamps[0]].reason
    assert reason == "exit code 4; it said: b / c / No connection to https://grid:1"
    assert removed == [ONE]


def test_what_is_over_and_on_record_is_removed_at_the_site_but_what_failed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = world.doors["lal"]
    done, failed, taken = door.find(world.stamps).values()
    door.report(done, S.DONE)
    door.report(failed, S.FAILED, "exit code 4")
    door.report(taken, S.DELETED, "taken back")
    discarded: list[Reference] = []

    def discard(references: Sequence[Reference]) -> None:
        assert world.statuses == ["Done", "Failed", "Deleted"]
        discarded.extend(references)

    monkeypatch.setattr(door, "discard", discard)
    world.look()
    assert sorted(discarded) == sorted([done, taken])


def test_a_pilot_that_waits_though_it_is_over_is_removed(world: World) -> None:
    world.record.tell({world.stamps[0]: Told(S.ABORTED, reason="its slot was taken away")})
    world.look()
    state = world.doors["lal"].statuses([ONE])[ONE]
    assert state.status is S.DELETED
    assert world.statuses[0] == "Aborted"


def test_pilots_that_a_site_forgot_are_aborted_in_the_end(world: World) -> None:
    world.doors["lal"].forget(ONE)
    world.look()
    assert world.statuses[0] == "Waiting"
    world.look(FORGOTTEN_AFTER)
    assert world.statuses == ["Aborted", "Waiting", "Waiting"]


def test_a_pilot_is_explained_by_server_and_site(world: World) -> None:
    door = world.doors["lal"]
    stamp = world.stamps[0]
    assert explain(world.grid.client, world.sites, stamp)[-1] == "Site lal says that it is Waiting."
    door.report(ONE, S.FAILED, "exit code 4")
    door.words[ONE] = "no route\n"
    said = explain(world.grid.client, world.sites, stamp)
    assert said[0].startswith(f"Pilot {stamp} at site lal is Failed")
    assert said[-3:] == [
        "Site lal says that it is Failed: exit code 4.",
        "The end of its standard error:",
        "  no route",
    ]


def test_a_pilot_of_a_silent_site_is_explained_as_far_as_is_known(world: World) -> None:
    world.doors["lal"].unavailable_because = "its network is down"
    said = explain(world.grid.client, world.sites, world.stamps[0])
    assert said[0].startswith(f"Pilot {world.stamps[0]} at site lal is Waiting")
    assert said[-1] == "Site lal cannot be asked: its network is down."
