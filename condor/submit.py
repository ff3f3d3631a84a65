"""Descriptions of jobs, and how they are said in HTCondor's submit language.

The submit language is a text of ``key = value`` lines with macros, so what a value may hold is a
matter of quoting (quoting.py), and what cannot be said is refused before HTCondor sees it.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import htcondor2

from condor import ads
from condor.errors import DescriptionRefused
from condor.quoting import one_line, quote_list

STANDARD_PATH = "/usr/local/bin:/usr/bin:/bin"
"""A slot gives its job no PATH, and without one Python does not know its own ``sys.executable``."""

REMOVED_WHEN_IDLE_FOR = timedelta(days=1)
REMOVED_WHEN_HELD_FOR = timedelta(hours=1)

_PIECE = "glidebridge_{key}"


@dataclass(frozen=True)
class JobDescription:
    """A job of the vanilla universe, as a value. Jobs submitted together share ``executable``."""

    executable: Path
    arguments: tuple[str, ...] = ()
    transfer_executable: bool = True
    """False for a program that the slot's machine has, such as its own python3."""
    environment: Mapping[str, str] = field(default_factory=lambda: {"PATH": STANDARD_PATH})
    input_files: tuple[Path, ...] = ()
    """Files that go with the job. They keep their modes: a secret of 0600 stays one."""
    output_files: tuple[str, ...] = ()
    """Files that come back. The job must create them: HTCondor holds a job that did not."""
    directory: Path | None = None
    """Where the files below and ``output_files`` are written."""
    output: str | None = None
    error: str | None = None
    log: str | None = None
    cores: int = 1
    memory_mib: int = 512
    disk_mib: int = 128
    requirements: str | None = None
    """A ClassAd expression over the slot's attributes."""
    attributes: Mapping[str, ads.Scalar] = field(default_factory=dict)
    """Our own attributes of the job (``+Name = value``)."""
    vacate_time: timedelta = timedelta(seconds=60)
    """Grace between SIGTERM and SIGKILL; the slot's own limit, often 10 minutes, narrows it."""
    lease: timedelta = timedelta(minutes=5)
    """How long the queue believes in a slot that it no longer hears of."""
    idle_limit: timedelta = REMOVED_WHEN_IDLE_FOR
    """The schedd itself removes a job that was queued this long."""
    held_limit: timedelta = REMOVED_WHEN_HELD_FOR
    """The schedd itself removes a job that was held this long."""
    run_limit: timedelta | None = None
    """The schedd itself removes a job that has run this long."""
    keep_for: timedelta = timedelta(0)
    """How long a job that has ended stays in the queue, so that nobody misses how it ended: its
    history may be seconds late. What was spooled stays as long."""
    starts_once: bool = False
    """A job that has started and lost its slot is not started again: the schedd removes it."""
    on_hold: bool = False
    """Submit it, but start it only when it is released. Not for spooled jobs."""


def require_files(jobs: Iterable[JobDescription]) -> None:
    """Raises DescriptionRefused for a file that cannot be read; HTCondor would find out later."""
    for job in jobs:
        directory = job.directory or Path()
        for file in [*([job.executable] if job.transfer_executable else []), *job.input_files]:
            if not os.access(directory / file, os.R_OK):
                raise DescriptionRefused("file", str(file), "it cannot be read")


def submit_lines(job: JobDescription) -> dict[str, str]:
    """The submit description as keys and values; raises DescriptionRefused."""
    lines = {
        "universe": "vanilla",
        "executable": one_line("executable", str(job.executable)),
        "arguments": quote_list("arguments", job.arguments),
        "environment": quote_list("environment", _assignments(job.environment)),
        "should_transfer_files": "YES",
        "when_to_transfer_output": "ON_EXIT",
        "transfer_input_files": _file_list("input_files", map(str, job.input_files)),
        "request_cpus": str(job.cores),
        "request_memory": f"{job.memory_mib}MB",
        "request_disk": f"{job.disk_mib}MB",
        "job_max_vacate_time": _seconds(job.vacate_time),
        "job_lease_duration": _seconds(job.lease),
        "periodic_remove": _removal_rule(job),
        # Said in any case: a spooled job would stay for ten days, for its output to be fetched.
        "leave_in_queue": _keeping_rule(job.keep_for),
    }
    if job.output_files:
        lines["transfer_output_files"] = _file_list("output_files", job.output_files)
    if job.directory is not None:
        lines["initialdir"] = one_line("directory", str(job.directory))
    for key, value in (("output", job.output), ("error", job.error), ("log", job.log)):
        if value is not None:
            lines[key] = one_line(key, value)
    requirements = [job.requirements] if job.requirements is not None else []
    if job.starts_once:
        # The removal rule below is looked at now and then only; this one before every match.
        requirements.append(f"{_STARTS} == 0")
    if requirements:
        lines["requirements"] = one_line("requirements", ads.all_of(requirements))
    if not job.transfer_executable:
        lines["transfer_executable"] = "False"
    if job.on_hold:
        lines["hold"] = "True"
    for name, attribute in job.attributes.items():
        lines[f"+{ads.attribute(name)}"] = one_line(f"+{name}", ads.literal(attribute))
    return lines


def as_cluster(
    jobs: Sequence[JobDescription],
) -> tuple[htcondor2.Submit, list[dict[str, str]]]:
    """One submission for all of ``jobs``, and one item of data for each of them, in their order.

    What the jobs share is said once; where they differ the description names a macro and the item
    holds the value, so the items of equal jobs are empty. One submission is one cluster: the schedd
    takes all of it or nothing. Raises DescriptionRefused.
    """
    described = [submit_lines(job) for job in jobs]
    keys = list(dict.fromkeys(key for lines in described for key in lines))
    differing = [key for key in keys if len({lines.get(key) for lines in described}) > 1]
    if "executable" in differing:
        executables = sorted({str(job.executable) for job in jobs})
        raise DescriptionRefused("executable", executables, "jobs submitted together share it")
    shared = {key: described[0][key] for key in keys if key not in differing}
    macros = {key: _PIECE.format(key=key.replace("+", "my_")) for key in differing}
    template = shared | {key: f"$({macro})" for key, macro in macros.items()}
    items = [{macro: lines.get(key, "") for key, macro in macros.items()} for lines in described]
    return htcondor2.Submit(template), items


def _assignments(environment: Mapping[str, str]) -> list[str]:
    for name in environment:
        if not name or "=" in name or any(character.isspace() for character in name):
            raise DescriptionRefused("environment", name, "this is no name of a variable")
    return [f"{name}={value}" for name, value in environment.items()]


def _file_list(field_name: str, paths: Iterable[str]) -> str:
    paths = list(paths)
    for path in paths:
        if "," in path or path != path.strip() or not path:
            raise DescriptionRefused(field_name, path, "file names are separated by commas")
    return one_line(field_name, ", ".join(paths))


_STARTS = "(MY.NumJobStarts ?: 0)"


def _removal_rule(job: JobDescription) -> str:
    rules = [
        f"(JobStatus == 1 && time() - QDate > {_seconds(job.idle_limit)})",
        f"(JobStatus == 5 && time() - EnteredCurrentStatus > {_seconds(job.held_limit)})",
    ]
    if job.run_limit is not None:
        rules.append(
            f"(JobStatus == 2 && time() - JobCurrentStartDate > {_seconds(job.run_limit)})"
        )
    if job.starts_once:
        rules.append(f"(JobStatus == 1 && {_STARTS} > 0)")
    return " || ".join(rules)


def _keeping_rule(keep_for: timedelta) -> str:
    if not keep_for:
        return "False"
    return f"JobStatus == 4 && time() - EnteredCurrentStatus < {_seconds(keep_for)}"


def _seconds(span: timedelta) -> str:
    return str(int(span.total_seconds()))
