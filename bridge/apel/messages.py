"""APEL's messages: individual job records (v0.3) and monthly summaries (v0.3, v0.4).

    APEL-individual-job-message: v0.3
    Site: EXAMPLE
    ...
    %%

Written from EGI's published description of the formats ("Grid Accounting", 2024). Decides: the
server's records and sums in, text out. What a field cannot hold (a line's end, the mark of a
record's end) is made harmless, so that no name of a user or a host can make a record of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from bridge.apel.config import AccountingConfig, Benchmark, Identities
from desktopgrid.model.accounting import Cause

INDIVIDUAL = "APEL-individual-job-message: v0.3"
NORMALISED_SUMMARIES = "APEL-summary-job-message: v0.3"
SUMMARIES = "APEL-summary-job-message: v0.4"
END_OF_RECORD = "%%"
Fields = Mapping[str, Any]


def message(header: str, records: Iterable[Fields]) -> str:
    """The text of a message: its header, and the fields of each record that have a value."""
    lines = [header]
    for record in records:
        lines += [
            f"{key}: {_line(value)}" for key, value in record.items() if value not in ("", None)
        ]
        lines.append(END_OF_RECORD)
    return "\n".join(lines) + "\n"


def _line(value: Any) -> str:
    text = "".join(char if char.isprintable() else "_" for char in str(value))
    return text.replace(END_OF_RECORD, "%25%25").strip() or "None"


# --- records --------------------------------------------------------------------------------------


def is_published(record: Fields, config: AccountingConfig) -> bool:
    """Whether what a task used is published: it led to a result, on a host of a kind that counts
    here. Pilots' hosts are counted by the site where they run.
    """
    return record["cause"] == Cause.NONE.value and record["kind"] in config.kinds


def is_due(record: Fields, now: datetime) -> bool:
    """Whether a record can be sent: of one that ends in the future the whole message is refused."""
    return float(record["ended_at"]) <= now.timestamp()


def job_record(record: Fields, config: AccountingConfig) -> dict[str, Any]:
    """The fields of one task's record."""
    wall = round(record["wall"])
    end = int(record["ended_at"])
    named = config.identities is Identities.SUBJECT
    return {
        "Site": config.site_name,
        "SubmitHost": config.submit_host,
        "MachineName": record["host"] if named else "",
        "LocalJobId": record["task"],
        "LocalUserId": record["user"] if named else "",
        "GlobalUserName": global_name(record["subject"]) if named else "",
        "FQAN": fqan(record["vo"]),
        "WallDuration": wall,
        "CpuDuration": round(record["cpu"]),
        "Processors": record["cores"],
        "NodeCount": 1,
        "StartTime": start_of(record, wall, end),
        "EndTime": end,
        "InfrastructureDescription": f"Glidebridge-Glidebridge-{record['kind']}",
        "InfrastructureType": config.infrastructure.value,
        "MemoryReal": record["memory_kib"] or "",
        "ServiceLevelType": config.benchmark_type.value,
        "ServiceLevel": config.benchmark_value,
    }


def start_of(record: Fields, wall: int, end: int) -> int:
    """When the task began; counted back from its end if a clock that was set says something later,
    since a record that ends before it starts is refused.
    """
    started_at = record["started_at"]
    if started_at is None or int(started_at) > end:
        return max(1, end - wall)
    return int(started_at)


def fqan(vo: str) -> str:
    """The VOMS attribute that says no more than the VO."""
    return f"/{vo}/Role=NULL/Capability=NULL" if vo else ""


def global_name(subject: str) -> str:
    """A name in certificates in the form in which the accounting portal has it: with slashes, the
    widest part first. Ours are RFC 4514's, with commas, and the narrowest first.
    """
    if not subject or subject.startswith("/"):
        return subject
    return "".join(f"/{part}" for part in reversed(_parts(subject)))


def _parts(subject: str) -> list[str]:
    """The parts of a name in RFC 4514's form, where a comma with a backslash is no separator."""
    parts, escaped = [""], False
    for char in subject:
        if escaped:
            parts[-1] += char
            escaped = False
        elif char == "\\":
            escaped = True
        elif char == ",":
            parts.append("")
        else:
            parts[-1] += char
    return [part.strip() for part in parts]


# --- summaries ------------------------------------------------------------------------------------

GROUPED_BY = ("month", "kind", "vo", "cores")


def grouped_by(config: AccountingConfig) -> tuple[str, ...]:
    """What the sums of a summary are divided by."""
    return (*GROUPED_BY, "subject") if config.identities is Identities.SUBJECT else GROUPED_BY


def summaries(rows: Iterable[Fields], config: AccountingConfig) -> Iterator[dict[str, Any]]:
    """The fields of each summary of the sums ``rows``: one for each month, VO, number of cores and
    user, whatever kinds of hosts it was.
    """
    sums: dict[tuple[Any, ...], list[float]] = {}
    for row in rows:
        if row["kind"] not in config.kinds or not row["works"]:
            continue
        key = tuple(row.get(name, "") for name in ("month", "subject", "vo", "cores"))
        total = sums.setdefault(key, [0.0, 0.0, 0.0])
        for index, name in enumerate(("core_hours", "cpu_hours", "works")):
            total[index] += row[name]
    for (month, subject, vo, cores), (core_hours, cpu_hours, works) in sorted(sums.items()):
        year, _, number = str(month).partition("-")
        wall, cpu = core_hours * 3600 / cores, cpu_hours * 3600
        yield {
            "Site": config.site_name,
            "Month": int(number),
            "Year": int(year),
            "GlobalUserName": global_name(subject),
            "VO": vo,
            "VOGroup": f"/{vo}" if vo else "",
            "SubmitHost": config.submit_host,
            **_worth(wall, cpu, config),
            "Processors": cores,
            "NodeCount": 1,
            "WallDuration": round(wall),
            "CpuDuration": round(cpu),
            "NumberOfJobs": int(works),
        }


def _worth(wall: float, cpu: float, config: AccountingConfig) -> dict[str, Any]:
    if config.benchmark_type is Benchmark.HEPSCORE:
        return {
            "InfrastructureType": config.infrastructure.value,
            "ServiceLevel": f"{{{config.benchmark_type.value}: {config.benchmark_value:g}}}",
        }
    return {
        "Infrastructure": config.infrastructure.value,
        "NormalisedWallDuration": round(wall * config.benchmark_value),
        "NormalisedCpuDuration": round(cpu * config.benchmark_value),
    }


def summary_header(config: AccountingConfig) -> str:
    """The header of messages of summaries: the newer one for the newer benchmark."""
    return SUMMARIES if config.benchmark_type is Benchmark.HEPSCORE else NORMALISED_SUMMARIES
