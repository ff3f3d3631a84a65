"""When to try again what failed. Pure: time and chance are arguments."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

FIRST, LONGEST = timedelta(seconds=2), timedelta(minutes=5)
OPENS_AFTER = 3
"""Failures in a row after which a route is said to be broken, and not to have had bad luck."""


@dataclass(frozen=True)
class Breaker:
    """How often in a row something failed, why, and when it may be tried again."""

    failures: int = 0
    reason: str = ""
    again_at: datetime | None = None

    @property
    def is_open(self) -> bool:
        """Whether it is broken."""
        return self.failures >= OPENS_AFTER

    def may_try(self, now: datetime) -> bool:
        """Whether it is time."""
        return self.again_at is None or now >= self.again_at

    def failed(self, reason: str, now: datetime, chance: float) -> Breaker:
        """After a failure; ``chance`` in [0, 1) spreads those who failed together."""
        span = min(LONGEST, FIRST * 2.0 ** min(self.failures, 20))
        return Breaker(self.failures + 1, reason, now + span * (0.5 + chance / 2))

    def worked(self) -> Breaker:
        """After a success."""
        return replace(self, failures=0, reason="", again_at=None)
