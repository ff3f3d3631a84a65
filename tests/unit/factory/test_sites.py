"""Which directory describes the sites."""

from __future__ import annotations

from pathlib import Path

import pytest

from desktopgrid.model.errors import ConfigurationError, UnknownObject
from pilot.ce.local import LocalCE
from pilot.factory.sites import Sites, sites_directory, state_directory


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sites.d in each of the places that are looked at."""
    for name in ("named", "variable", "home/sites.d", "grid/sites.d", "here/sites.d"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def test_the_first_place_that_is_named_or_exists_counts(places: Path) -> None:
    identity = places / "grid" / "admin.identity"
    home = {"GLIDEBRIDGE_HOME": str(places / "home")}
    variable = {"GLIDEBRIDGE_SITES": str(places / "variable"), **home}
    assert sites_directory(places / "named", identity, variable) == places / "named"
    assert sites_directory(None, identity, variable) == places / "variable"
    assert sites_directory(None, identity, home) == places / "home" / "sites.d"
    assert sites_directory(None, identity, {}) == places / "grid" / "sites.d"
    assert sites_directory(None, places / "elsewhere" / "id", {}) == Path("sites.d")


def test_a_place_that_was_named_must_be_there(places: Path) -> None:
    for named, variable in ((places / "no", ""), (None, str(places / "no"))):
        with pytest.raises(UnknownObject, match="/no that would describe the sites"):
            sites_directory(named, places / "id", {"GLIDEBRIDGE_SITES": variable})


def test_where_nothing_describes_sites_it_says_where_it_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownObject) as raised:
        sites_directory(None, tmp_path / "grid" / "id", {"GLIDEBRIDGE_HOME": "/no/home"})
    for place in ("/no/home/sites.d", f"{tmp_path}/grid/sites.d", f"{tmp_path}/sites.d"):
        assert place in str(raised.value)
    assert "name one by --sites or $GLIDEBRIDGE_SITES" in str(raised.value)


def test_sites_are_what_their_files_say(tmp_path: Path) -> None:
    (tmp_path / "a.conf").write_text("[site lal]\ncomputing_element = local\nmax_pilots = 3\n")
    sites = Sites.read(tmp_path, {"XDG_STATE_HOME": "/state"})
    assert sites.names == ["lal"]
    assert sites["lal"].max_pilots == 3
    door = sites.door("lal")
    assert isinstance(door, LocalCE)
    assert door.directory == Path("/state/glidebridge/pilots/lal")
    assert sites.door("lal") is door
    with pytest.raises(UnknownObject, match=f"no site 'cern' in {tmp_path}; sites there are: lal"):
        sites["cern"]


def test_a_wrong_key_is_named_with_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "a.conf").write_text("[site lal]\ncomputing_element = local\nmax_idel = 3\n")
    with pytest.raises(ConfigurationError, match=r"a\.conf:3: .*max_idel"):
        Sites.read(tmp_path)


def test_pilots_of_this_machine_are_kept_at_home(tmp_path: Path) -> None:
    assert state_directory({"HOME": "/h"}) == Path("/h/.local/state/glidebridge/pilots")
    state = {"HOME": "/h", "XDG_STATE_HOME": "/s"}
    assert state_directory(state) == Path("/s/glidebridge/pilots")


@pytest.mark.parametrize(
    "line, said",
    [
        ("drain = perhaps", "drain must be one of none, drain, forced"),
        ("cost = 0", "cost must be more than 0"),
        ("ramp_up = 0", "ramp_up must be at least 1"),
        ("weight = -1", "weight must not be negative"),
        ("max_of_vo = -1", "max_of_vo must not be negative"),
    ],
)
def test_a_key_that_makes_no_sense_is_named_with_its_file(
    tmp_path: Path, line: str, said: str
) -> None:
    file = tmp_path / "a.conf"
    file.write_text(f"[site lal]\ncomputing_element = local\n{line}\n")
    with pytest.raises(ConfigurationError, match=f"^{file}:.*{said}"):
        Sites.read(tmp_path)


def test_a_pilot_lives_as_long_as_the_batch_system_lets_it_or_shorter(tmp_path: Path) -> None:
    file = tmp_path / "a.conf"
    lines = "computing_element = local\nwall_time = 2 h\n"
    for lifetime, hours in (("", 2), ("1 h", 1), ("9 h", 2)):
        file.write_text(f"[site lal]\n{lines}lifetime = {lifetime}\n")
        assert Sites.read(tmp_path)["lal"].life.total_seconds() == hours * 3600


LAL = "[site lal]\ncomputing_element = local\n"
CERN = "[site cern]\ncomputing_element = fake\n"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "lal.conf").write_text(LAL)
    (tmp_path / "cern.conf").write_text(CERN)
    return tmp_path


def test_changed_files_are_read_again_and_other_doors_stay_open(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    sites = Sites.read(directory)
    lal, cern = sites.door("lal"), sites.door("cern")
    assert not sites.refresh()
    (directory / "lal.conf").write_text(LAL + "max_pilots = 3\n")
    (directory / "new.conf").write_text("[site new]\ncomputing_element = fake\n")
    assert sites.refresh()
    assert sites["lal"].max_pilots == 3
    assert sites.names == ["cern", "lal", "new"]
    assert (sites.door("lal") is lal, sites.door("cern") is cern) == (False, True)
    assert "Read the sites again; changed are lal, new" in caplog.text
    (directory / "cern.conf").unlink()
    assert sites.refresh()
    assert sites.names == ["lal", "new"]


def test_files_with_a_mistake_change_nothing_and_are_told_once_with_file_and_line(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sites = Sites.read(directory)
    (directory / "lal.conf").write_text(LAL + "schedd = s\n")
    (directory / "cern.conf").write_text(CERN + "max_pilots = 7\n")
    for _ in range(3):
        assert not sites.refresh()
    assert sites["cern"].max_pilots == 10
    assert sites.problem is not None
    assert "lal.conf:3: [site lal] key 'schedd' is for condor" in sites.problem
    assert caplog.text.count("Kept the sites as they were: ") == 1
    (directory / "lal.conf").write_text(LAL)
    assert sites.refresh()
    assert (sites["cern"].max_pilots, sites.problem) == (7, None)


def test_a_directory_that_is_gone_is_not_the_end_of_all_sites(
    directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    sites = Sites.read(directory)
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "sites.d"
    directory.rename(elsewhere)
    assert not sites.refresh()
    assert sites.names == ["cern", "lal"]
    assert f"there is no directory {directory}" in str(sites.problem)
    elsewhere.rename(directory)
    sites.refresh()
    assert sites.problem is None


def test_sites_that_no_directory_describes_do_not_change() -> None:
    assert not Sites({}, Path("/nowhere")).refresh()
