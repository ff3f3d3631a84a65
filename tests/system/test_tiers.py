"""Server, workers and clients are processes of their own; only the server is ever connected to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from desktopgrid.model.objects import ANY_PLATFORM
from tests.system.bystander import SQUARE
from tests.system.processes import DEADLINE, a_grid, environment, until

LISTENS = "0A"


def doors(pid: int) -> set[str]:
    """The sockets at which this process, or a child of it, listens for connections."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    open_files = [
        os.readlink(file) for one in (pid, *children) for file in Path(f"/proc/{one}/fd").iterdir()
    ]
    listening = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENS:
                listening.add(f"socket:[{fields[9]}]")
    return listening.intersection(open_files)


@pytest.mark.feature("XW-ARC-1", "XW-ARC-3")
def test_workers_and_clients_accept_no_connection_and_meet_at_the_server(tmp_path: Path) -> None:
    with a_grid(tmp_path) as server:
        server.client().send_application("square", SQUARE, ANY_PLATFORM)
        workers = [server.worker(name) for name in ("worker-1", "worker-2")]
        admin = tmp_path / "admin.identity"
        server.identity().write(admin)
        xw = [sys.executable, "-m", "desktopgrid.client.cli", "--identity", str(admin)]
        words = [
            "submit",
            "square",
            "--wait",
            "--range",
            "N=1..20",
            "--format",
            "json",
            "--",
            "{N}",
        ]
        client = subprocess.Popen([*xw, *words], stdout=subprocess.PIPE, env=environment())
        try:
            until(lambda: "Connected" in (tmp_path / "worker-1.log").read_text(), "it connects")
            assert len(doors(server.process.pid)) == 1
            assert [doors(each.pid) for each in (*workers, client)] == [set()] * 3
            said, _ = client.communicate(timeout=DEADLINE)
        finally:
            client.kill()
        assert client.returncode == 0
        assert len(json.loads(said)) >= 1
        done = server.rows("SELECT count(*) FROM works WHERE status = 'COMPLETED'")
        assert done == [(20,)]
        assert len({server.process.pid, client.pid, *(each.pid for each in workers)}) == 4
