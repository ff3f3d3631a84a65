from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from desktopgrid.link.backoff import Backoff

BACKOFF = Backoff(first=1.0, longest=60.0)


@pytest.mark.parametrize(
    "failures, longest",
    [(0, 1.0), (1, 2.0), (2, 4.0), (5, 32.0), (6, 60.0), (7, 60.0), (10**9, 60.0)],
)
def test_a_pause_is_anything_up_to_a_bound_that_doubles(failures: int, longest: float) -> None:
    assert BACKOFF.pause(failures, chance=0.0) == 0.0
    assert BACKOFF.pause(failures, chance=0.5) == longest / 2
    assert BACKOFF.pause(failures, chance=1.0) == longest


@given(
    failures=st.integers(0, 5000),
    chance=st.floats(0.0, 1.0, exclude_max=True),
    least=st.floats(0.0, 3600.0),
)
def test_a_pause_is_never_shorter_than_the_server_asked(
    failures: int, chance: float, least: float
) -> None:
    assert least <= BACKOFF.pause(failures, chance, least) <= least + 60.0
