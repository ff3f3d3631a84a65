"""A few tries at once, then so many a second."""

from __future__ import annotations

import pytest

from desktopgrid.server.throttle import MOST_KEYS, Throttle, Throttled, origin_of

pytestmark = pytest.mark.feature("XW-USR-1")


def tries(throttle: Throttle, key: str, now: float, count: int) -> int:
    """How many of ``count`` tries at once are allowed."""
    allowed = 0
    for _ in range(count):
        try:
            throttle.count(key, now)
        except Throttled:
            continue
        allowed += 1
    return allowed


def test_a_few_at_once_and_then_at_the_rate() -> None:
    throttle = Throttle(burst=5, rate=2.0)
    assert tries(throttle, "ann", 100.0, 9) == 5
    assert tries(throttle, "bob", 100.0, 9) == 5, "others are not held up"
    assert tries(throttle, "ann", 100.4, 9) == 0
    assert tries(throttle, "ann", 101.0, 9) == 2
    assert tries(throttle, "ann", 200.0, 9) == 5, "all is forgotten"


def test_who_must_wait_is_told_how_long() -> None:
    throttle = Throttle(burst=1, rate=0.1)
    throttle.count("ann", 0.0)
    with pytest.raises(Throttled, match="try again in 7 s") as refused:
        throttle.count("ann", 3.0)
    assert refused.value.seconds == pytest.approx(7.0)


def test_a_good_try_does_not_count() -> None:
    throttle = Throttle(burst=1, rate=1.0)
    for _ in range(9):
        throttle.count("ann", 0.0)
        throttle.forgive("ann")


def test_strangers_without_end_take_no_room_without_end() -> None:
    throttle = Throttle(burst=1, rate=1.0)
    for number in range(3 * MOST_KEYS):
        throttle.count(number, number / 100)
    assert len(throttle._due) <= MOST_KEYS


@pytest.mark.parametrize(
    ("address", "origin"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_whoever_has_a_network_of_addresses_is_one(address: str, origin: str) -> None:
    assert origin_of(address) == origin
