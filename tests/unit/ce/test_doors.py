"""From a site's configuration to its door, and to what its pilots ask for."""

from datetime import timedelta
from pathlib import Path

import pytest

from desktopgrid.model.errors import BadRequest
from desktopgrid.model.sites import SiteConfig
from pilot.ce.condor import CondorCE
from pilot.ce.doors import build_computing_element, describe_pilot
from pilot.ce.local import LocalCE


def test_a_local_site_keeps_its_pilots_in_a_directory_of_its_own(tmp_path: Path) -> None:
    ce = build_computing_element(SiteConfig("lal", "local"), tmp_path)
    assert isinstance(ce, LocalCE)
    assert ce.directory == tmp_path / "lal"


def test_a_condor_site_is_a_schedd_that_nobody_has_asked_yet(tmp_path: Path) -> None:
    site = SiteConfig("lal", "condor", schedd="s.example", pool="cm.example")
    ce = build_computing_element(site, tmp_path)
    assert isinstance(ce, CondorCE)
    assert repr(ce) == "<CondorCE on <schedd s.example of pool cm.example>>"


def test_a_token_that_is_not_there_is_named_with_its_site(tmp_path: Path) -> None:
    site = SiteConfig("lal", "condor", token=str(tmp_path / "token"))
    with pytest.raises(BadRequest, match=r"site lal: token .*/token cannot be used"):
        build_computing_element(site, tmp_path)


def test_a_door_that_there_is_no_module_for_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="site lal: there is no computing element 'gram'"):
        build_computing_element(SiteConfig("lal", "gram"), tmp_path)


def test_a_pilot_asks_for_what_its_site_says() -> None:
    site = SiteConfig(
        "lal",
        "condor",
        cores=8,
        memory_mib=9000,
        wall_time=timedelta(hours=3),
        python="/opt/python3",
    )
    pilot = describe_pilot(site, "p-1", Path("pilot.pyz"), (Path("ca"),), ("--server", "s"))
    assert (pilot.cores, pilot.memory_mib, pilot.wall_time) == (8, 9000, timedelta(hours=3))
    assert pilot.python == "/opt/python3"
    assert pilot.attributes == {"GlidebridgeSite": "lal"}
    assert describe_pilot(SiteConfig("x", "local"), "p-1", Path("p"), (), ()).python is None


def test_a_token_is_found_in_one_s_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "token").touch(0o600)
    assert build_computing_element(SiteConfig("lal", "condor", token="~/token"), tmp_path)
