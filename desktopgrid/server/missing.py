"""What a grid needs and this machine, or its database, has not."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Missing:
    """Something that is not there, or is not as it has to be, and what to do about it."""

    what: str
    remedy: str
