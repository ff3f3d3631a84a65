"""A hundred rounds of what tests/system/test_recovery.py does a few of, by five rounds a grid.

GLIDEBRIDGE_SEED=N repeats a run.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.system.churn import Churn
from tests.system.processes import a_grid

pytestmark = pytest.mark.soak

GRIDS, ROUNDS = 20, 5


@pytest.fixture(scope="session")
def seed() -> int:
    return int(os.environ.get("GLIDEBRIDGE_SEED") or random.randrange(1 << 32))  # noqa: S311


@pytest.mark.parametrize("grid", range(GRIDS))
def test_nothing_acknowledged_is_lost_or_done_twice(seed: int, grid: int, tmp_path: Path) -> None:
    with a_grid(tmp_path) as server:
        churn = Churn(server, seed)
        for number in range(ROUNDS * grid, ROUNDS * (grid + 1)):
            print(f"GLIDEBRIDGE_SEED={seed}, round {number}, deaths so far {dict(churn.deaths)}")
            churn.round(number)
        churn.leave()
        assert "Traceback" not in server.log
