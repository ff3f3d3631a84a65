"""Pilots in a real Slurm cluster, over real SSH, by its own commands and by those of PBS."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from desktopgrid.model.lifecycle import WorkStatus
from desktopgrid.model.objects import ANY_PLATFORM, Description
from desktopgrid.model.sites import login_of
from pilot.ce.ssh import SshShell
from tests.grid_box import GridBox
from tests.system.processes import until
from tests.system.test_pilots import Stage, a_stage

SITE = """
[site {name}]
computing_element = {kind}
ssh = {user}@{host}:{port}
ssh_key = {key}
known_hosts = {known_hosts}
directory = pilots of {name}
memory_mib = 200
disk_mib = 100
wall_time = 30 min
{more}
"""
DOUBLE = b"#!/bin/sh\necho $(($1 * 2))\n"


@pytest.fixture(scope="module")
def box(grid_box: GridBox) -> GridBox:
    for service in ("ssh", "slurm"):
        grid_box.start(service)
    return grid_box


@pytest.fixture(scope="module")
def stage(box: GridBox) -> Iterator[Stage]:
    def site(name: str, kind: str, more: str = "") -> str:
        ssh = box.ssh
        return SITE.format(
            name=name,
            kind=kind,
            user=ssh.user,
            host=ssh.host,
            port=ssh.port,
            key=ssh.key,
            known_hosts=ssh.known_hosts,
            more=more,
        )

    sites = {
        "slurm": site("slurm", "slurm", "partition = main"),
        "pbs": site("pbs", "pbs", "dialect = torque"),
        "wrong": site("wrong", "slurm", "partition = moon"),
    }
    with (
        tempfile.TemporaryDirectory(prefix="glidebridge-batch-test-") as name,
        a_stage(Path(name), sites) as stage,
    ):
        stage.grid.send_application("double", DOUBLE, ANY_PLATFORM)
        yield stage


def said(box: GridBox, script: str) -> list[str]:
    """What a script says in the account of the site."""
    ssh = box.ssh
    shell = SshShell(login_of(f"{ssh.user}@{ssh.host}:{ssh.port}"), ssh.key, ssh.known_hosts)
    try:
        return shell.run(script, timedelta(seconds=30)).output.split()
    finally:
        shell.close()


@pytest.mark.feature("XW-PIL-2")
@pytest.mark.parametrize("site", ["slurm", "pbs"])
def test_pilots_glide_into_a_cluster_over_ssh_and_do_works(
    stage: Stage, box: GridBox, site: str
) -> None:
    stamps = stage.submit(site, 2)
    for host in stage.hosts(*stamps):
        assert (host["cores"], host["memory_mib"]) == (1, 200)
    sweep = stage.grid.sweep(Description("double"), [[str(number)] for number in range(20)])
    results = list(stage.grid.wait(sweep.works, timeout=60))
    assert {result.status for result in results} == {WorkStatus.COMPLETED}
    assert {stage.status(stamp)["status"] for stamp in stamps} == {"Running"}
    # A pilot's secret is gone with its first contact.
    assert said(box, f"ls 'pilots of {site}'/*/pilot.identity 2> /dev/null") == []
    stage.pilot("remove", *stamps)
    for stamp in stamps:
        stage.eventually(stamp, "Deleted", "Done")

    def has_left_nothing() -> bool:
        left = said(box, f"cd 'pilots of {site}' && ls {' '.join(stamps)} 2> /dev/null")
        return not [name for name in left if name.startswith("pilot.")]

    until(has_left_nothing, "the pilots have left nothing of theirs there")


def test_sites_check_tells_the_site_that_works_from_the_one_that_does_not(stage: Stage) -> None:
    shown = json.loads(stage.pilot("sites", "check", "slurm", "pbs", "--format", "json").stdout)
    assert {row["verdict"] for row in shown} == {"fine"}, shown
    found = stage.pilot("sites", "check", "wrong", code=1)
    assert "there is no partition 'moon'; there are main; set `partition`" in found.stdout
    assert found.stderr == "No pilot can go into wrong.\n"
    refused = stage.pilot("submit", "--site", "wrong", code=1)
    assert "nvalid partition" in refused.stderr
