"""Where a bridge may be killed in a test: each step of a job's way over has a name.

The test names one in the environment, and the process ends there as by `kill -9`, once: a file
says that it has.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

VARIABLE = "GLIDEBRIDGE_BRIDGE_DIES_AT"
"""``STEP FILE``: die at STEP unless FILE is there, and make it."""

STEPS = (
    "handed in",
    "looked",
    "staged",
    "submitted",
    "ended",
    "fetched",
    "half delivered",
    "delivered",
    "told",
    "cancelled here",
    "cancelled there",
)
"""In the order of a job's way."""


def reached(step: str) -> None:
    """A job has come so far."""
    wanted, _, file = os.environ.get(VARIABLE, "").rpartition(" ")
    if wanted == step:
        path = Path(file)
        if not path.exists():
            path.touch()
            os.kill(os.getpid(), signal.SIGKILL)
