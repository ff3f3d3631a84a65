"""The box of the grid is what others count on: real doors that take their users' jobs, and no
stranger's.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.grid_box import GridBox, GridClients
from tests.system.processes import until

XRSL = """&(executable="/bin/sh")(arguments="-c" "id -un; printenv A; exit 7")
(environment=("A" "b  c"))(stdout="out")(stderr="err")"""


def submit(
    clients: GridClients, directory: Path, user: str, credential: str = "proxy"
) -> subprocess.CompletedProcess[str]:
    """What arcsub does about a job of ``user``."""
    clients.box.start("arc")
    (directory / "job.xrsl").write_text(XRSL)
    arc = ("arcsub", "-C", clients.box.arc, "-T", "org.nordugrid.arcrest", "-Q", "NONE", "job.xrsl")
    return clients.run(user, *arc, directory=directory, credential=credential)


@pytest.mark.parametrize("credential, account", [("proxy", "alice"), ("voms", "pilots")])
def test_arc_runs_a_job_under_slurm(
    grid_clients: GridClients, tmp_path: Path, credential: str, account: str
) -> None:
    done = submit(grid_clients, tmp_path, "alice", credential)
    assert "Job submitted with jobid" in done.stdout, done.stderr

    def fetch() -> bool:
        ask = ("arcget", "--all")
        done = grid_clients.run("alice", *ask, directory=tmp_path, credential=credential)
        return "successfully retrieved: 1" in done.stdout

    until(fetch, "the job is over", 90)
    (out,) = tmp_path.glob("*/out")
    assert out.read_text() == f"{account}\nb  c\n"


@pytest.mark.parametrize(
    "user, credential",
    [
        pytest.param("carol", "proxy", id="without an account"),
        pytest.param("mallory", "proxy", id="of another CA"),
        pytest.param("alice", "expired", id="too late"),
    ],
)
def test_strangers_are_refused(
    grid_box: GridBox, grid_clients: GridClients, tmp_path: Path, user: str, credential: str
) -> None:
    assert submit(grid_clients, tmp_path, user, credential).returncode != 0
    grid_box.start("gram")
    ask = ("globusrun", "-a", "-r", grid_box.gram["fork"])
    done = grid_clients.run(user, *ask, directory=tmp_path, credential=credential)
    assert done.returncode != 0


@pytest.mark.parametrize("service", ["fork", "slurm"])
def test_gram_runs_a_job(
    grid_box: GridBox, grid_clients: GridClients, tmp_path: Path, service: str
) -> None:
    grid_box.start("gram")
    ask = ("globus-job-run", grid_box.gram[service], "/usr/bin/id", "-un")
    done = grid_clients.run("bob", *ask, directory=tmp_path)
    assert (done.stdout, done.stderr) == ("bob\n", "")


def test_ssh_leads_to_the_commands_of_slurm_and_pbs(grid_box: GridBox) -> None:
    grid_box.start("slurm")
    grid_box.start("ssh")
    door = grid_box.ssh
    done = subprocess.run(
        [
            *("ssh", "-F", "none", "-o", f"UserKnownHostsFile={door.known_hosts}"),
            *("-o", "BatchMode=yes", "-i", door.key, "-p", str(door.port)),
            f"{door.user}@{door.host}",
            "id -un; echo '#!/bin/sh' >job; qsub job; qstat >/dev/null && sinfo",
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    account, job, *nodes = done.stdout.splitlines()
    assert account == "alice", done.stderr
    assert job.partition(".")[0].isdigit()
    assert "grid" in nodes[-1]


def test_what_it_tells_is_its_owners_alone(grid_box: GridBox) -> None:
    assert grid_box.directory.stat().st_mode & 0o777 == 0o700
    described = json.loads((grid_box.directory / "grid.json").read_text())
    assert set(described["services"]) >= {"slurm", "ssh", "gram", "arc"}


def test_an_order_that_it_does_not_know_is_refused(grid_box: GridBox) -> None:
    with pytest.raises(RuntimeError, match="one of munge, slurm, ssh, gram, arc, desktop"):
        grid_box.start("cream")
