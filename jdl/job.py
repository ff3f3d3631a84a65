"""One description of a job, in our words: what every language here is read into and written from.

Languages differ in what they can say. A reader maps an attribute, or names it in a Notice, or
refuses; it drops none in silence. A writer refuses what its language has no words for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from jdl.errors import BadDescription, Unsayable

MOST_JOBS = 100_000
"""Jobs in one description: a slip of the finger must not fill a grid."""

EVERYTHING = "*"
"""As the name of an output: each file that the job made."""

EVENTS = ("start", "end", "error")
"""What a user may be notified of."""


@dataclass(frozen=True)
class File:
    """A file that travels. ``name`` is what it is called in the job's directory; ``uri`` is where
    it comes from or goes to: a URI, or a path of the submitter's, or nothing where that is the same
    as ``name``.
    """

    name: str
    uri: str = ""

    @property
    def place(self) -> str:
        """Where it comes from or goes to."""
        return self.uri or self.name

    @property
    def is_remote(self) -> bool:
        """Whether its other end is a URI and no path of the submitter's."""
        return "://" in self.uri


def file(name: str, place: str = "") -> File:
    """A file; ``place`` is not said where it is the name again."""
    return File(name, "" if place == name else place)


@dataclass(frozen=True)
class Job:
    """What to run, with what, and where.

    ``executable`` is the name of one of ``inputs``, which then travels with the job, or else a
    program that is there already: a path on the machine, or an application of the grid. ``stdin``
    likewise. ``stdout`` and ``stderr`` are files' names, and both come back; ``outputs`` are the
    other files that do, and those of them that are named nowhere come back if that is how the grid
    does it. ``cores`` are those of all ``nodes`` together, memory and disk are a node's. Times are
    in seconds; a number that is 0 and a text that is empty were not said. ``requirements`` and
    ``rank`` are ClassAd expressions over the attributes of TARGET.
    """

    executable: str
    arguments: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    stdin: str = ""
    stdout: str = ""
    stderr: str = ""
    inputs: tuple[File, ...] = ()
    outputs: tuple[File, ...] = ()
    name: str = ""
    cores: int = 1
    nodes: int = 1
    memory_mib: int = 0
    disk_mib: int = 0
    wall_time: int = 0
    cpu_time: int = 0
    cpu: str = ""
    os: str = ""
    software: tuple[str, ...] = ()
    queue: str = ""
    project: str = ""
    vo: str = ""
    requirements: str = ""
    rank: str = ""
    retries: int | None = None
    notify: str = ""
    notify_on: tuple[str, ...] = ()

    @property
    def sends_executable(self) -> bool:
        """Whether the executable travels with the job."""
        return any(file.name == self.executable for file in self.inputs)


@dataclass(frozen=True)
class Notice:
    """What a reader did not map, and why; or what it understood differently from what was said."""

    attribute: str
    text: str
    line: int | None = None

    def __str__(self) -> str:
        place = f"line {self.line}: " if self.line is not None else ""
        return f"{place}{self.attribute}: {self.text}"


@dataclass(frozen=True)
class Read:
    """What a description says: one or several jobs, and what was not understood of it."""

    jobs: tuple[Job, ...]
    warnings: tuple[Notice, ...] = ()


DEFAULTS: Mapping[str, Any] = {
    each.name: each.default for each in fields(Job) if each.name != "executable"
}


def said(job: Job) -> dict[str, Any]:
    """The fields of ``job`` that say something, by name."""
    pairs = {each.name: getattr(job, each.name) for each in fields(job)}
    return {name: value for name, value in pairs.items() if value != DEFAULTS.get(name)}


def check(job: Job) -> None:
    """Raise BadDescription for a job that no grid can run."""
    if not job.executable:
        raise BadDescription("there is nothing to run", "executable")
    for name, value in said(job).items():
        for text in _texts(value):
            if "\0" in text:
                raise BadDescription("a text holds a NUL character", name)
            try:
                text.encode()
            except UnicodeEncodeError:
                raise BadDescription(f"{text!r} is no Unicode text", name) from None
    for name in ("cores", "nodes"):
        if getattr(job, name) < 1:
            raise BadDescription(f"{getattr(job, name)} is too few; at least 1", name)
    for name in ("memory_mib", "disk_mib", "wall_time", "cpu_time", "retries"):
        if (getattr(job, name) or 0) < 0:
            raise BadDescription(f"{getattr(job, name)} is negative", name)
    for name, _ in job.environment:
        if not name or "=" in name or any(character.isspace() for character in name):
            raise BadDescription(f"{name!r} is no name of a variable", "environment")


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, File):
        return [value.name, value.uri]
    if isinstance(value, tuple):
        return [text for each in value for text in _texts(each)]
    return []


def refuse(language: str, job: Job, unsayable: Mapping[str, str]) -> None:
    """Raise Unsayable for a field that ``job`` says and the language cannot: ``unsayable`` has the
    reasons by field.
    """
    for name in said(job):
        if name in unsayable:
            raise Unsayable(language, name, unsayable[name])


def only_one(language: str, jobs: Sequence[Job]) -> Job:
    """The one of ``jobs``; raises Unsayable where a description holds one job and there are
    several.
    """
    if len(jobs) != 1:
        raise Unsayable(language, "jobs", f"a description is of one job, and there are {len(jobs)}")
    return jobs[0]


@dataclass
class Draft:
    """The fields of a job while it is read, and the notices."""

    fields: dict[str, Any] = field(default_factory=dict)
    notices: list[Notice] = field(default_factory=list)

    def note(self, attribute: str, text: str, line: int | None = None) -> None:
        """Say what was not mapped; the same is said once."""
        notice = Notice(attribute, text, line)
        if notice not in self.notices:
            self.notices.append(notice)

    def job(self) -> Job:
        """The job; what comes back anyhow is not named among the outputs. Raises BadDescription."""
        given = dict(self.fields)
        if not given.get("executable"):
            raise BadDescription("there is nothing to run", "executable")
        streams = {given.get("stdout"), given.get("stderr")} - {None, ""}
        outputs = (
            each for each in given.get("outputs", ()) if each.uri or each.name not in streams
        )
        given["outputs"] = tuple(dict.fromkeys(outputs))
        given["inputs"] = tuple(dict.fromkeys(given.get("inputs", ())))
        job = Job(**given)
        check(job)
        return job


def with_streams(job: Job) -> tuple[File, ...]:
    """The outputs, and the streams among them: for languages in which those come back if named."""
    named = {each.name for each in job.outputs}
    if EVERYTHING in named:
        return job.outputs
    streams = dict.fromkeys(name for name in (job.stdout, job.stderr) if name)
    return (*(File(name) for name in streams if name not in named), *job.outputs)
