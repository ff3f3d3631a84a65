"""The box of the grid for tests, as a fixture: computing elements that we did not write."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from setup.grid.described import GridBox
from tests.real import real_part


@dataclass(frozen=True)
class GridClients:
    """The tools of the grid's users: arcsub, globusrun and their like."""

    usr: Path
    box: GridBox

    def run(
        self,
        user: str,
        *command: str | Path,
        directory: Path,
        credential: str = "proxy",
        timeout: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        """Run ``command`` as ``user`` does, in ``directory``, where ARC's list of jobs is too."""
        return subprocess.run(
            command,
            cwd=directory,
            env={
                "PATH": f"{self.usr}/bin:{os.defpath}",
                "HOME": str(directory),
                "LC_ALL": "C.UTF-8",
                "ARC_LOCATION": str(self.usr),
                "GLOBUS_LOCATION": str(self.usr),
                **self.box.environment(user, credential),
            },
            capture_output=True,
            text=True,
            timeout=timeout,
        )


@pytest.fixture(scope="session")
def grid_box() -> GridBox:
    """The box, with no service started yet."""
    return GridBox.read(real_part("GLIDEBRIDGE_GRID", "the grid in its box"))


@pytest.fixture(scope="session")
def grid_clients(grid_box: GridBox) -> GridClients:
    """Client tools that we did not write, for that box."""
    return GridClients(real_part("GLIDEBRIDGE_GRID_CLIENTS", "the clients of grids"), grid_box)
