"""Server, workers and a pilot killed with -9 under load: what was acknowledged is there, once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.churn import VICTIMS, Churn
from tests.system.processes import a_grid

SEED, ROUNDS = 20261120, 4


@pytest.mark.feature("XW-ARC-4")
@pytest.mark.feature("XW-ARC-9")
def test_nothing_acknowledged_is_lost_or_done_twice_when_anybody_is_killed(tmp_path: Path) -> None:
    with a_grid(tmp_path) as server:
        churn = Churn(server, SEED)
        for number in range(ROUNDS):
            print(f"seed {SEED}, round {number}")
            churn.round(number)
        assert set(churn.deaths) == set(VICTIMS)
        churn.leave()
        assert "Traceback" not in server.log
