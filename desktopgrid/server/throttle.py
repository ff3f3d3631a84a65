"""How often somebody may try: a few times at once, then so many times a second.

Decides; whose try it is, and the time, are arguments. It keeps nothing of who has not tried lately.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Hashable

from desktopgrid.model.errors import LimitExceeded

MOST_KEYS = 10_000


def origin_of(address: str) -> str:
    """What stands for who comes from ``address``: itself, or its network where it is IPv6, of which
    everybody has 2^64 addresses.
    """
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(found) >> 64 << 64, 64)))


class Throttled(LimitExceeded):
    """It was tried too often; ``seconds`` later it may be tried again."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"too many attempts; try again in {max(1, round(seconds))} s")
        self.seconds = seconds


class Throttle:
    """Allows ``burst`` tries at once, and ``rate`` a second from then on, for each key."""

    def __init__(self, burst: int, rate: float) -> None:
        self._spacing, self._slack = 1 / rate, (burst - 1) / rate
        self._due: dict[Hashable, float] = {}
        """When the tries of a key would be over, had they come at the rate."""

    def count(self, key: Hashable, now: float) -> None:
        """``key`` tries now, in seconds; raises Throttled, and then the try does not count."""
        due = max(self._due.get(key, now), now)
        if due - now > self._slack:
            raise Throttled(due - now - self._slack)
        if len(self._due) >= MOST_KEYS:
            self._due = {other: at for other, at in self._due.items() if at > now}
        self._due[key] = due + self._spacing

    def forgive(self, key: Hashable) -> None:
        """The try of ``key`` was a good one: it is as if it had not been."""
        if key in self._due:
            self._due[key] -= self._spacing
