"""From a site's configuration to its door, and to what its pilots ask for."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from desktopgrid.model.errors import BadRequest
from desktopgrid.model.sites import (
    ArcSite,
    BatchSite,
    CondorSite,
    FakeSite,
    GramSite,
    LocalSite,
    PbsSite,
    SiteConfig,
    SlurmSite,
    read_sites,
)
from pilot.ce.arc import ArcCE
from pilot.ce.base import Credential, CredentialKind
from pilot.ce.condor import CondorCE
from pilot.ce.doors import build_computing_element, describe_pilot
from pilot.ce.fake import FakeCE
from pilot.ce.gram import GramCE
from pilot.ce.local import LocalCE


def test_a_local_site_keeps_its_pilots_in_a_directory_of_its_own(tmp_path: Path) -> None:
    ce = build_computing_element(LocalSite("lal"), tmp_path)
    assert isinstance(ce, LocalCE)
    assert ce.directory == tmp_path / "lal"


def test_a_condor_site_is_a_schedd_that_nobody_has_asked_yet(tmp_path: Path) -> None:
    site = CondorSite("lal", schedd="s.example", pool="cm.example")
    ce = build_computing_element(site, tmp_path)
    assert isinstance(ce, CondorCE)
    assert repr(ce) == "<CondorCE on <schedd s.example of pool cm.example>>"


@pytest.mark.parametrize("kind, said", [(SlurmSite, "slurm"), (PbsSite, "pbs")])
def test_a_batch_system_is_reached_here_or_over_ssh(
    tmp_path: Path, kind: type[BatchSite], said: str
) -> None:
    ce = build_computing_element(kind("lal"), tmp_path)
    assert repr(ce) == f"<{said} by <LocalShell>>"
    ce = build_computing_element(kind("lal", ssh="pilots@[::1]:2222"), tmp_path)
    assert repr(ce) == f"<{said} by <SshShell pilots@::1:2222>>"


def test_a_token_that_is_not_there_is_named_with_its_site(tmp_path: Path) -> None:
    site = CondorSite("lal", token=tmp_path / "token")
    with pytest.raises(BadRequest, match=r"site lal: token .*/token cannot be used"):
        build_computing_element(site, tmp_path)


def test_an_arc_site_is_an_a_rex_that_nobody_has_asked_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = ArcSite("lal", url="https://ce.example.org:443/arex", token=tmp_path / "token")
    ce = build_computing_element(site, tmp_path)
    assert isinstance(ce, ArcCE)
    assert repr(ce) == "<ArcCE on <A-REX https://ce.example.org:443/arex>>"
    assert ce._arex.https.credential == Credential(CredentialKind.TOKEN, tmp_path / "token")
    own = Credential(CredentialKind.PROXY, tmp_path / "user.proxy")
    ce = build_computing_element(site, tmp_path, own)
    assert isinstance(ce, ArcCE) and ce._arex.https.credential == own
    # Where nothing is said, it is the proxy that grid commands take.
    monkeypatch.setenv("X509_USER_PROXY", "/proxy")
    ce = build_computing_element(replace(site, token=None), tmp_path)
    assert isinstance(ce, ArcCE) and ce._arex.https.credential.file == Path("/proxy")


def test_a_gram_site_is_a_gatekeeper_that_nobody_has_asked_yet(tmp_path: Path) -> None:
    site = GramSite("lal", contact="ce/jobmanager-pbs", callback_ports="20000-20010")
    ce = build_computing_element(site, tmp_path)
    assert isinstance(ce, GramCE)
    assert repr(ce) == "<GramCE on ce/jobmanager-pbs>"
    assert ce._globus.ports == "20000,20010"
    token = Credential(CredentialKind.TOKEN, tmp_path / "token")
    with pytest.raises(BadRequest, match=r"GRAM takes X\.509 proxies"):
        build_computing_element(site, tmp_path, token)
    for ports in ("20000", "2-1", "a-b", "0-1", "1-70000", "٣-٤"):
        with pytest.raises(ValueError, match="callback_ports must be"):
            replace(site, callback_ports=ports)


def test_a_door_that_there_is_no_module_for_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pilot.ce.doors._DOORS", {})
    with pytest.raises(BadRequest, match="site lal: there is no computing element 'gram'"):
        build_computing_element(GramSite("lal", contact="ce.example"), tmp_path)


def test_a_pilot_asks_for_what_its_site_says() -> None:
    site = CondorSite(
        "lal",
        cores=8,
        memory_mib=9000,
        wall_time=timedelta(hours=3),
        python="/opt/python3",
    )
    pilot = describe_pilot(site, "p-1", Path("pilot.pyz"), (Path("ca"),), ("--server", "s"))
    assert (pilot.cores, pilot.memory_mib, pilot.wall_time) == (8, 9000, timedelta(hours=3))
    assert pilot.python == "/opt/python3"
    assert pilot.attributes == {"GlidebridgeSite": "lal"}
    assert describe_pilot(LocalSite("x"), "p-1", Path("p"), (), ()).python is None


def test_a_token_is_found_in_one_s_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "token").touch(0o600)
    (tmp_path / "lal.conf").write_text("[site lal]\ncomputing_element = condor\ntoken = ~/token\n")
    assert build_computing_element(read_sites(tmp_path)["lal"], tmp_path)


@pytest.mark.parametrize(
    "site, kind, said",
    [
        (CondorSite("lal"), CredentialKind.PROXY, "cannot use a user's proxy: HTCondor takes"),
        (LocalSite("lal"), CredentialKind.TOKEN, "cannot use a user's token: jobs are processes"),
        (SlurmSite("lal"), CredentialKind.PROXY, "cannot use a user's proxy: its jobs are those"),
        (PbsSite("lal"), CredentialKind.TOKEN, "cannot use a user's token: its jobs are those"),
    ],
)
def test_a_door_that_cannot_use_a_user_s_credential_says_so(
    tmp_path: Path, site: SiteConfig, kind: CredentialKind, said: str
) -> None:
    with pytest.raises(BadRequest, match=f"site lal {said}"):
        build_computing_element(site, tmp_path, Credential(kind, tmp_path / "x"))


def test_a_user_s_token_takes_the_place_of_the_site_s(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.touch(0o600)
    site = CondorSite("lal", token=tmp_path / "no such")
    assert build_computing_element(site, tmp_path, Credential(CredentialKind.TOKEN, mine))
    door = build_computing_element(FakeSite("x"), tmp_path, Credential(CredentialKind.PROXY, mine))
    assert isinstance(door, FakeCE)
    assert door.credential == Credential(CredentialKind.PROXY, mine)
