"""`pilot` as it is typed, with a server and a site in memory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from desktopgrid.client.grid import Grid
from desktopgrid.model.sites import FakeSite
from pilot.ce.fake import FakeCE
from pilot.cli import PilotShell, pilot
from tests.unit.factory.asked import AskedGrid
from tests.unit.factory.test_watch import FakeSites


class ShellInMemory(PilotShell):
    """A shell whose grid and sites are given."""

    def __init__(self, grid: AskedGrid, door: FakeCE) -> None:
        super().__init__(lambda path, patience: grid.client)
        self._sites = FakeSites({"lal": FakeSite("lal")}, {"lal": door})

    def close(self) -> None:
        """The grid is needed for the next command."""


class World:
    """What a user types."""

    def __init__(self) -> None:
        self.grid, self.door = AskedGrid(), FakeCE(slots=1)

    def types(self, *arguments: str, code: int = 0) -> Result:
        """`pilot` and these arguments; ends with ``code``."""
        shell = ShellInMemory(self.grid, self.door)
        result = CliRunner().invoke(pilot, arguments, obj=shell, prog_name="pilot")
        assert result.exit_code == code, result.output
        return result


@pytest.fixture
def world() -> World:
    return World()


def test_submit_prints_a_stamp_a_line(world: World) -> None:
    result = world.types("submit", "--site", "lal", "-n", "2")
    assert result.stdout.split() == list(world.grid.server.grid.pilots)
    assert result.stderr == "2 pilots submitted to lal. Next: pilot status\n"
    shown = json.loads(world.types("submit", "--site", "lal", "--format", "json").stdout)
    assert [set(row) for row in shown] == [{"stamp"}]


def test_status_shows_what_the_site_says(world: World) -> None:
    first, _ = world.types("submit", "--site", "lal", "-n", "2").stdout.split()
    world.door.step()
    rows = json.loads(world.types("status", "--format", "json").stdout)
    assert sorted(row["status"] for row in rows) == ["Running", "Waiting"]
    (row,) = json.loads(world.types("--format", "json", "status", first).stdout)
    assert (row["stamp"], row["reference"], row["status"]) == (first, "fake:1", "Running")


def test_status_of_a_silent_site_is_the_record_and_exit_code_1(world: World) -> None:
    world.types("submit", "--site", "lal")
    world.door.step()
    world.door.unavailable_because = "its network is down"
    result = world.types("status", code=1)
    assert "Waiting" in result.stdout
    assert result.stderr == (
        "Site lal could not be asked, its pilots stay as they are: its network is down\n"
    )


def test_a_site_that_refuses_is_one_sentence_and_exit_code_1(world: World) -> None:
    world.door.refused_because = "it is closed"
    result = world.types("submit", "--site", "lal", code=1)
    assert result.stderr.startswith("pilot: <FakeCE: ")
    assert result.stderr.endswith(" refused the jobs: it is closed\n")
    assert not result.stdout


def test_remove_takes_back_and_says_what_had_ended(world: World) -> None:
    stamps = world.types("submit", "--site", "lal", "-n", "2").stdout.split()
    assert world.types("remove", stamps[0]).stdout.split() == [stamps[0]]
    result = world.types("remove", *stamps)
    assert result.stdout.split() == [stamps[1]]
    assert result.stderr.splitlines() == ["1 pilot taken back.", "1 pilot had ended already."]
    assert world.types("remove", "--site", "lal").stderr == "0 pilots taken back.\n"


def test_stamps_come_from_standard_input_too(world: World) -> None:
    stamps = world.types("submit", "--site", "lal", "-n", "2").stdout
    result = CliRunner().invoke(
        pilot,
        ["drain", "-", "--format", "json"],
        input=stamps,
        obj=ShellInMemory(world.grid, world.door),
    )
    assert [row["worker"] for row in json.loads(result.stdout)] == ["unseen", "unseen"]


def test_why_is_sentences(world: World) -> None:
    (stamp,) = world.types("submit", "--site", "lal").stdout.split()
    first, *_, last = world.types("why", stamp).stdout.splitlines()
    assert first == f"Pilot {stamp} at site lal is Waiting as fake:1."
    assert last == "Site lal says that it is Waiting."


def test_status_tells_programs_all_that_is_on_record(world: World) -> None:
    world.types("submit", "--site", "lal")
    (row,) = json.loads(world.types("status", "--format", "json").stdout)
    assert row.keys() >= {"stamp", "owner", "is_connected", "tasks_done", "host", "submitted_at"}


def test_the_factory_s_rounds_are_shown_and_explained_later(world: World) -> None:
    world.grid.server.submit(2)
    dry = world.types("factory", "--dry-run")
    assert "2 pilots are sent; each goes after 60 s without a work." in dry.stdout
    assert not world.door.jobs
    once = world.types("factory", "--once", "--format", "json")
    assert {row["because"] for row in json.loads(once.stdout)} == {"sent-for", "sent"}
    assert "Sent 2 pilots to lal." in once.stderr
    assert len(world.door.jobs) == 2
    why = world.types("why", "lal").stdout
    assert "2 of 4 (max_pilots)" in why
    assert "2 pilots are sent" in why


def test_a_trace_is_simulated_without_any_grid(world: World, tmp_path: Path) -> None:
    trace = tmp_path / "trace.conf"
    trace.write_text("[trace]\nseed = 1\n[crowd c]\nworks_an_hour = 60\n[site s]\n")
    result = world.types("simulate", str(trace), "--days", "0.1", "--format", "json")
    (row,) = json.loads(result.stdout)
    assert (row["site"], row["submitted"] > 0) == ("s", True)
    assert "Caps were broken 0 times." in result.stderr
    mine = world.types("simulate", str(trace), "--days", "0.1", "--own-sites", "--format", "json")
    assert [row["site"] for row in json.loads(mine.stdout)] == ["lal"]


def test_sites_are_those_of_the_grid(world: World) -> None:
    rows = json.loads(world.types("sites", "--format", "json").stdout)
    assert {row["site"]: row["described"] for row in rows} == {"lal": True, "cern": False}


def test_bundle_writes_a_program(world: World, tmp_path: Path) -> None:
    result = world.types("bundle", str(tmp_path / "pilot.pyz"))
    assert result.stdout == f"{tmp_path / 'pilot.pyz'}\n"
    assert (tmp_path / "pilot.pyz").stat().st_mode & 0o777 == 0o755
    world.types("bundle", str(tmp_path / "nowhere" / "pilot.pyz"), code=2)


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["remove"], "name pilots by their stamps, or a site by --site"),
        (["drain"], "name pilots by their stamps, or a site by --site"),
        (["submit"], "Missing option '--site'"),
        (["submit", "--site", "lal", "-n", "0"], "0 is not in the range x>=1"),
        (["dance"], "No such command 'dance'"),
    ],
)
def test_a_wrong_command_line_is_exit_code_2(world: World, arguments: list[str], said: str) -> None:
    result = world.types(*arguments, code=2)
    assert said in result.stderr
    assert "Usage: pilot" in result.stderr


def test_without_an_identity_it_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "sites.d").mkdir()
    identity = str(tmp_path / "identity")
    shell = PilotShell(Grid.open)
    result = CliRunner().invoke(
        pilot, ["--identity", identity, "status"], obj=shell, prog_name="pilot"
    )
    assert result.exit_code == 1
    assert result.stderr.startswith(f"pilot: there is no identity file {identity}; make one by")


def test_sites_check_says_what_is_wrong_and_what_to_do(world: World) -> None:
    result = world.types("sites", "check")
    assert result.stdout.split()[:4] == ["site", "verdict", "about", "finding"]
    assert "lal   fine     door   it takes jobs, and runs none of them" in result.stdout
    assert result.stderr == "Pilots can go in. Next: pilot submit --site NAME\n"
    world.door.unavailable_because = "its network is down"
    result = world.types("sites", "check", "lal", code=1)
    assert "its network is down; wait until the test is over" in result.stdout
    assert result.stderr == "No pilot can go into lal.\n"
    shown = json.loads(world.types("sites", "check", "--format", "json", code=1).stdout)
    assert shown == [
        {
            "site": "lal",
            "verdict": "wrong",
            "about": "door",
            "finding": "its network is down",
            "advice": "wait until the test is over",
        }
    ]


def test_sites_check_knows_the_sites_that_there_are(world: World) -> None:
    assert "no site 'moon'" in world.types("sites", "check", "lal", "moon", code=1).stderr
    assert "Examples: pilot sites check" in world.types("sites", "check", "--help").stdout


def test_sites_alone_lists_them(world: World) -> None:
    assert "lal" in world.types("sites").stdout
    assert json.loads(world.types("sites", "--format", "json").stdout)
