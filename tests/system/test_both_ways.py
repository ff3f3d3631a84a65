"""One bridge, both ways: demand of a grid becomes pilots at a site, and jobs come in beside it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bridge import carrier
from desktopgrid.model.objects import ANY_PLATFORM, Description
from tests.system.bridges import BridgeUnderTest, a_place, grid_section
from tests.system.processes import DEADLINE, a_grid

ROUTES = """
[route out]
kind = pilots
from = desktop
to = local
[route in]
kind = batch
from = batch
to = desktop
"""
SITE = "[site local]\ncomputing_element = local\nmemory_mib = 200\ndisk_mib = 100\n"


@pytest.mark.feature("XW-PIL-9")
def test_works_go_out_as_pilots_and_jobs_come_in_by_one_daemon() -> None:
    with a_place() as place, a_grid(place / "server") as server:
        bridge = BridgeUnderTest(place / "bridge", grid_section(server, place / "me.json") + ROUTES)
        (place / "bridge/sites.d").mkdir()
        (place / "bridge/sites.d/local.conf").write_text(SITE)
        grid = server.client()
        grid.send_application("hello", b"#!/bin/sh\necho hello\n", ANY_PLATFORM)
        bridge.run("start")
        try:
            # There is no worker but a pilot that the bridge sends.
            result = grid.run(Description("hello"), timeout=180)
            assert result.stdout == b"hello\n"
            (pilot, *_) = grid.objects("pilots")
            assert pilot["site"] == "local"
            _carry(place, place / "bridge/routes/in/counter")
            assert (place / "out").read_text() == "inbound\n"
        finally:
            bridge.close()


def _carry(place: Path, counter: Path) -> None:
    spec = {
        "directory": str(place),
        "job": {"job": "one", "user": "ann", "command": ["/bin/echo", "inbound"]},
        **{"inputs": {}, "outputs": {}, "stdin": "", "streams": {"stdout": "out"}},
        "state": str(place / "state"),
    }
    (place / "spec").write_text(json.dumps(spec))
    command = [sys.executable, "-IS", carrier.__file__, str(counter), "spec", str(place / "spec")]
    assert subprocess.run(command, timeout=2 * DEADLINE, check=False).returncode == 0
