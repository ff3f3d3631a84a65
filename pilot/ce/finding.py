"""What was found when a door was tried: a sentence each, and what to do where it is wrong."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import Path


class Verdict(Enum):
    """Whether pilots can go in."""

    FINE = "fine"
    WORRYING = "worrying"
    """They can, and something may go wrong before long."""
    WRONG = "wrong"
    """They cannot."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    about: str
    sentence: str
    verdict: Verdict = Verdict.FINE
    advice: str = ""


SOON = timedelta(days=1)


def life_of(about: str, what: str, ends_at: datetime, now: datetime, advice: str) -> Finding:
    """Whether something that ends will be good for a while."""
    when = f"{ends_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    if ends_at <= now:
        return Finding(about, f"{what} ended at {when}", Verdict.WRONG, advice)
    if ends_at <= now + SOON:
        return Finding(about, f"{what} ends at {when}", Verdict.WORRYING, advice)
    return Finding(about, f"{what} is good until {when}")


def end_of_token(file: Path) -> datetime | None:
    """When the JSON web token in ``file`` ends; None where it does not say so, or is none."""
    try:
        middle = file.read_text(encoding="ascii").strip().split(".")[1]
        said = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
        return datetime.fromtimestamp(float(said["exp"]), UTC)
    except (OSError, ValueError, LookupError, TypeError, OverflowError, binascii.Error):
        return None
