"""What changes of a user holds for a session that he has open already."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from desktopgrid.client.grid import Grid
from desktopgrid.model.errors import AccessDenied
from tests.system.processes import a_grid


@pytest.mark.feature("XW-USR-2")
def test_a_level_holds_at_once_for_a_session_that_is_open(tmp_path: Path) -> None:
    with a_grid(tmp_path) as server:
        admin = server.client()
        ann = admin.send_user("ann", level="standard")
        hers = replace(admin.new_identity("client", ann), servers=(server.address,))
        with Grid.open(hers) as grid:
            bag = grid.send_bag("session", "tuesday")
            admin.change_user("ann", level="worker")
            with pytest.raises(AccessDenied):
                grid.chmod(bag, "755")
            admin.change_user("ann", level="standard")
            assert grid.chmod(bag, "755") == 0o755
