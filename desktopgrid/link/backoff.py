"""How long to wait before trying again. Pure: the chance is an argument."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """Exponential with full jitter: anything between 0 and ``first`` seconds, then twice that, up
    to ``longest``.

    Full jitter, since what makes ten thousand peers reconnect (the server's restart) does so at the
    same moment.
    """

    first: float = 1.0
    longest: float = 60.0

    def pause(self, failures: int, chance: float, least: float = 0.0) -> float:
        """Seconds to wait after ``failures`` attempts in a row; ``chance`` in [0, 1) chooses,
        ``least`` is what the server asked for.

        Those whom the server asked to wait come back spread over as long again as it would have
        been without.
        """
        # The exponent is bounded before it is used: 2.0 ** 2000 is no float.
        span = min(self.longest, self.first * 2.0 ** min(failures, 40))
        return least + chance * span
