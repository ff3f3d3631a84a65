"""The time, as the listeners tell it to what decides."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_now() -> datetime:
    """The time, aware and in UTC."""
    return datetime.now(UTC)
