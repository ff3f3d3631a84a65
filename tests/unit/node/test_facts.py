"""What a host is said to be, and a slot's share of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from desktopgrid.model.objects import Facts
from pilot.node import facts
from pilot.node.facts import Share

# from 23.9.6, shortened
MACHINE_AD = r"""
Cpus = 2
Disk = 1048576
Memory = 512
GPUs = 0
Name = "slot1_1@c02"
OpSysAndVer = "Debian12"
Start = (KeyboardIdle > 900) && "a = b" != ""
HasFileTransfer = true
LoadAvg = 0.25
Quoted = "say \"hello\""
"""


@pytest.fixture
def ad(tmp_path: Path) -> dict[str, object]:
    (tmp_path / ".machine.ad").write_text(MACHINE_AD)
    return facts.machine_ad({"_CONDOR_MACHINE_AD": str(tmp_path / ".machine.ad")})


@pytest.mark.feature("XW-WRK-1")
def test_the_host_record_has_exactly_these_fields(tmp_path: Path) -> None:
    share = facts.share_of_host(tmp_path)
    found = facts.facts_of_host(share, "desktop", "1.0", {"Group": "physics"})
    assert set(found) == {field.name for field in dataclasses.fields(Facts)}
    record = Facts(**found)
    assert record.cpu in ("x86_64", "aarch64")
    assert record.os == "linux"
    assert record.cores >= 1
    assert record.memory_mib > 100
    assert record.attributes["Group"] == "physics"
    assert set(record.attributes) == {"Group", "CpuModel", "KernelVersion", "OpSysLongName"}


def test_a_machine_ad_is_read(ad: dict[str, object]) -> None:
    assert ad["Cpus"] == 2
    assert ad["Name"] == "slot1_1@c02"
    assert ad["HasFileTransfer"] is True
    assert ad["LoadAvg"] == 0.25
    assert ad["Quoted"] == 'say "hello"'
    assert ad["Start"] == '(KeyboardIdle > 900) && "a = b" != ""'


def test_a_slot_has_its_share_of_the_host(ad: dict[str, object]) -> None:
    assert facts.share_of_slot(ad, Share(64, 256_000, 500)) == Share(2, 512, 500)
    assert facts.share_of_slot(ad, Share(64, 256_000, 5000)) == Share(2, 512, 1024)


@pytest.mark.parametrize("ad", [{}, {"Cpus": "2 + 2", "Memory": 0, "Disk": "undefined"}])
def test_what_an_ad_does_not_say_is_the_hosts(ad: dict[str, object]) -> None:
    assert facts.share_of_slot(ad, Share(4, 1000, 500)) == Share(4, 1000, 500)


def test_outside_of_a_slot_there_is_no_ad() -> None:
    assert facts.machine_ad({}) == {}
    assert facts.machine_ad({"_CONDOR_MACHINE_AD": "/no/such/file"}) == {}


@pytest.mark.parametrize(
    "ad, told, lifetime",
    [
        pytest.param({}, 600.0, 600.0, id="the slot says nothing"),
        pytest.param({"TimeToLive": 2147483647}, 600.0, 600.0, id="the slot has no end"),
        pytest.param({"TimeToLive": 100}, 600.0, 100.0, id="the slot goes before"),
        pytest.param({"TimeToLive": 1000}, 600.0, 600.0, id="the slot goes later"),
        pytest.param({"TimeToLive": 1000}, None, 1000.0, id="only the slot says"),
        pytest.param({"TimeToLive": "later"}, None, None, id="nobody knows"),
    ],
)
def test_a_pilot_lives_no_longer_than_its_slot(
    ad: dict[str, object], told: float | None, lifetime: float | None
) -> None:
    assert facts.lifetime_of_slot(ad, told) == lifetime


@pytest.mark.parametrize(
    "environment, is_pilot, kind",
    [
        ({}, False, "desktop"),
        ({"_CONDOR_SCRATCH_DIR": "/x"}, False, "desktop"),
        ({"_CONDOR_MACHINE_AD": "/x"}, True, "htcondor"),
        ({"_CONDOR_SCRATCH_DIR": "/x"}, True, "htcondor"),
        ({"SLURM_JOB_ID": "7"}, True, "slurm"),
        ({"SLURM_JOB_ID": "7", "GRID_GLOBAL_JOBID": "x"}, True, "arc"),
        ({"SLURM_JOB_ID": "7", "GLOBUS_GRAM_JOB_CONTACT": "https://x:1/2/3/"}, True, "gram"),
        ({}, True, "local"),
    ],
)
def test_a_pilot_knows_what_kind_of_place_it_is_in(
    environment: dict[str, str], is_pilot: bool, kind: str
) -> None:
    assert facts.kind_of_host(environment, is_pilot) == kind
