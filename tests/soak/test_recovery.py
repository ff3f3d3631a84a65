"""A hundred rounds of what tests/system/test_recovery.py does a few of."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.system.churn import VICTIMS, Churn
from tests.system.processes import a_grid

pytestmark = pytest.mark.soak

ROUNDS = 100


def test_nothing_acknowledged_is_lost_or_done_twice_in_a_hundred_rounds(tmp_path: Path) -> None:
    seed = int(os.environ.get("GLIDEBRIDGE_SEED") or random.randrange(1 << 32))  # noqa: S311
    with a_grid(tmp_path) as server:
        churn = Churn(server, seed)
        for number in range(ROUNDS):
            print(f"GLIDEBRIDGE_SEED={seed}, round {number}, deaths so far {dict(churn.deaths)}")
            churn.round(number)
        assert set(churn.deaths) == set(VICTIMS)
        churn.leave()
        assert "Traceback" not in server.log
