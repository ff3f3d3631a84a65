"""A reader of APEL's messages, as strict as the description of the formats that EGI publishes.

EGI's own loader is in no package registry, so this is ours: which fields there are, which must be
there, what they hold, and what of it makes the accounting server refuse a whole message.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

Record = dict[str, Any]


class Malformed(Exception):
    """The accounting server would refuse the message."""


@dataclass(frozen=True)
class Format:
    """The fields of one kind of record."""

    required: frozenset[str]
    texts: frozenset[str]
    integers: frozenset[str]
    numbers: frozenset[str] = frozenset()


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SUMMED = """Month Year Processors NodeCount EarliestEndTime LatestEndTime WallDuration CpuDuration
    NumberOfJobs"""
FORMATS = {
    "APEL-individual-job-message: v0.3": Format(
        _words("""Site SubmitHost LocalJobId WallDuration CpuDuration StartTime EndTime
            ServiceLevelType ServiceLevel"""),
        _words("""Site SubmitHost MachineName Queue LocalJobId LocalUserId GlobalUserName FQAN
            InfrastructureDescription InfrastructureType ServiceLevelType"""),
        _words("""WallDuration CpuDuration Processors NodeCount StartTime EndTime MemoryReal
            MemoryVirtual"""),
        _words("ServiceLevel"),
    ),
    "APEL-summary-job-message: v0.3": Format(
        _words("""Site Month Year WallDuration CpuDuration NormalisedWallDuration
            NormalisedCpuDuration NumberOfJobs"""),
        _words("Site GlobalUserName VO VOGroup VORole SubmitHost Infrastructure"),
        _words(f"{_SUMMED} NormalisedWallDuration NormalisedCpuDuration"),
    ),
    "APEL-summary-job-message: v0.4": Format(
        _words("Site Month Year WallDuration CpuDuration NumberOfJobs ServiceLevel"),
        _words("""Site GlobalUserName VO VOGroup VORole SubmitHost InfrastructureType
            ServiceLevel"""),
        _words(_SUMMED),
    ),
}


def records_in(text: str, now: datetime | None = None) -> tuple[str, list[Record]]:
    """The header of a message, and its records; raises Malformed."""
    header, _, body = text.partition("\n")
    if header not in FORMATS:
        raise Malformed(f"there is no message {header!r}")
    if not body.endswith("%%\n"):
        raise Malformed("the last record has no end")
    parts = [part for part in body.split("%%") if part.strip()]
    known = FORMATS[header]
    return header, [_record(part, known, now or datetime.now(UTC)) for part in parts]


def _record(text: str, known: Format, now: datetime) -> Record:
    found: Record = {}
    for line in text.strip().splitlines():
        key, separator, value = (part.strip() for part in line.partition(":"))
        if not separator or key in found:
            raise Malformed(f"a line that is no field, or one twice: {line!r}")
        found[key] = _value(key, value, known)
    missing = {key for key in known.required if found.get(key) in (None, "")}
    if missing:
        raise Malformed(f"a record lacks {sorted(missing)}")
    _check_times(found, now)
    return found


def _value(key: str, value: str, known: Format) -> Any:
    if value.lower() in ("none", "null", ""):
        return None
    if key in known.integers:
        if not re.fullmatch(r"\d+", value):
            raise Malformed(f"{key} is no whole number that is not negative: {value!r}")
        return int(value)
    if key in known.numbers:
        return float(value)
    if key in known.texts:
        return value
    raise Malformed(f"there is no field {key!r}")


def _check_times(found: Record, now: datetime) -> None:
    if "EndTime" in found:
        if found["EndTime"] < found["StartTime"] or not found["StartTime"]:
            raise Malformed("a job ends before it starts")
        if found["EndTime"] > (now + timedelta(days=1)).timestamp():
            raise Malformed("a job ends in the future")
    if "Month" in found and datetime(found["Year"], found["Month"], 1, tzinfo=UTC) > now:
        raise Malformed("a month of the future")
