"""Jobs that come in: what was handed in at the counter, as what a grid needs to know. Pure.

The facts are a stranger's: HTCondor's starter wrote down what a user said. They are read without
the ClassAd library, which a user's expression could end; an attribute counts if it is plain.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from desktopgrid.model.errors import BadRequest
from desktopgrid.model.objects import Description
from desktopgrid.model.origins import Origin, job_named, places_of

EVERYTHING = ("*",)
IS_PROGRAM = 0o100
KIB_A_MIB = 1024


@dataclass(frozen=True)
class Handed:
    """A file of a job's, as it lies where the job was to run; a directory has size -1."""

    name: str
    size: int
    mode: int

    @property
    def is_directory(self) -> bool:
        """Whether it is one."""
        return self.size < 0

    @property
    def is_program(self) -> bool:
        """Whether its owner may execute it."""
        return not self.is_directory and bool(self.mode & IS_PROGRAM)


@dataclass(frozen=True)
class Inbound:
    """A job that asks to be run elsewhere.

    ``job`` is its name where it comes from, which is the same however often it is handed in;
    ``completions`` how often it has ended there and was to run again all the same. ``program`` is
    one of ``files`` if ``is_carried``, else a path on the machine that runs it.
    """

    job: str
    user: str
    label: str
    program: str
    arguments: tuple[str, ...]
    is_carried: bool
    files: tuple[Handed, ...] = ()
    has_stdin: bool = False
    completions: int = 0
    passed: tuple[str, ...] = ()
    """Places where it was before the one that it comes from."""
    description: Description = field(default_factory=lambda: Description(""))

    def origin(self, place: str, run: int) -> Origin:
        """What its ``run``-th work is called, if it comes from ``place``."""
        job = job_named(f"{self.job}.{self.completions}" if self.completions else self.job)
        return Origin((*self.passed, place), job, run)

    @property
    def inputs(self) -> tuple[Handed, ...]:
        """Its plain files but for the program: each travels by itself, and once for many jobs."""
        return tuple(
            each
            for each in self.files
            if not each.is_directory and not each.is_program and not self.is_its_program(each)
        )

    @property
    def packed(self) -> tuple[Handed, ...]:
        """What has to travel as it lies there: programs keep their modes, directories are there
        though they are empty.
        """
        return tuple(
            each
            for each in self.files
            if (each.is_directory and not self._is_around(each))
            or (each.is_program and not self.is_its_program(each))
        )

    def is_its_program(self, file: Handed) -> bool:
        """Whether ``file`` is what runs."""
        return self.is_carried and file.name == self.program

    def _is_around(self, directory: Handed) -> bool:
        return any(
            each.name.startswith(f"{directory.name}/") and not each.is_directory
            for each in self.files
        )


def inbound(facts: Mapping[str, Any]) -> Inbound:
    """The job that these facts describe; raises BadRequest."""
    try:
        if facts["kind"] == "condor":
            return of_condor(facts)
        return of_task(facts) if facts["kind"] == "task" else of_spec(facts)
    except (LookupError, TypeError, ValueError) as error:
        raise BadRequest(f"a job's facts are wrong: {type(error).__name__}: {error}") from None


def of_condor(facts: Mapping[str, Any]) -> Inbound:
    """The job of an HTCondor starter: its ad, the command that was to be executed, its sandbox."""
    ad = literals(str(facts["ad"]))
    command = [str(word) for word in facts["command"]]
    files = _files(facts["files"])
    program, is_carried = _program(command[0], str(facts["directory"]), files)
    proxy = PurePosixPath(str(ad.get("x509userproxy", ""))).name
    variables = environment(ad)
    wall_time = _whole(ad, "allowedexecuteduration") or _whole(ad, "glidebridgewalltime")
    description = Description(
        "",
        label=_label(ad),
        variables=tuple(variables.items()),
        outputs=_outputs(ad, files),
        cores=max(1, _whole(ad, "cpusprovisioned") or _whole(ad, "requestcpus") or 1),
        memory_mib=_whole(ad, "requestmemory") or 0,
        disk_mib=-(-(_whole(ad, "requestdisk") or 0) // KIB_A_MIB),
        wall_time=wall_time or 0,
        requirements=str(ad.get("glidebridgerequirements", "")),
    )
    return Inbound(
        str(ad["globaljobid"]),
        str(ad.get("user") or ad["owner"]),
        description.label,
        program,
        tuple(command[1:]),
        is_carried,
        # A proxy's key is not shown to strangers' machines.
        tuple(each for each in files if not proxy or each.name != proxy),
        str(ad.get("in", "/dev/null")) not in ("/dev/null", ""),
        _whole(ad, "numjobcompletions") or 0,
        _passed(str(ad.get("glidebridgepassed", ""))),
        description,
    )


def of_spec(facts: Mapping[str, Any]) -> Inbound:
    """The job that a batch system's submission described (bridge/lrms.py)."""
    files = _files(facts["files"])
    command = [str(word) for word in facts["command"]]
    names = {each.name for each in files}
    description = Description(
        "",
        label=str(facts.get("label", "")),
        variables=tuple((str(name), str(value)) for name, value in facts.get("variables", ())),
        outputs=tuple(map(str, facts.get("outputs", EVERYTHING))),
        cores=max(1, int(facts.get("cores", 1))),
        memory_mib=int(facts.get("memory_mib", 0)),
        disk_mib=int(facts.get("disk_mib", 0)),
        wall_time=int(facts.get("wall_time", 0)),
    )
    return Inbound(
        str(facts["job"]),
        str(facts["user"]),
        description.label,
        command[0],
        tuple(command[1:]),
        command[0] in names,
        files,
        bool(facts.get("has_stdin")),
        int(facts.get("completions", 0)),
        tuple(map(str, facts.get("passed", ()))),
        description,
    )


def of_task(facts: Mapping[str, Any]) -> Inbound:
    """The task of another grid's worker: the work is its job, whichever task of it this is."""
    passed = places_of(str(facts["origin"]))
    return of_spec(
        {
            **facts,
            "job": facts["work"],
            "command": [facts["name"], *facts["arguments"]],
            "label": f"{facts['user']} {facts['work']}",
            "passed": passed,
        }
    )


def _files(rows: Sequence[Sequence[Any]]) -> tuple[Handed, ...]:
    return tuple(Handed(str(name), int(size), int(mode)) for name, size, mode in rows)


def _program(path: str, directory: str, files: Sequence[Handed]) -> tuple[str, bool]:
    """What runs, and whether it goes along."""
    name = path.removeprefix(f"{directory.rstrip('/')}/").removeprefix("./")
    is_carried = any(each.name == name and not each.is_directory for each in files)
    return (name if is_carried else path), is_carried


def _passed(text: str) -> tuple[str, ...]:
    return tuple(word for word in text.split(">") if word)


def _label(ad: Mapping[str, Any]) -> str:
    number = f"{ad.get('clusterid', '?')}.{ad.get('procid', '?')}"
    batch = f" {ad['jobbatchname']}" if "jobbatchname" in ad else ""
    words = f"{ad.get('user') or ad.get('owner', '')} {number}{batch}"
    return "".join(c for c in words if c.isprintable())[:255]


def _outputs(ad: Mapping[str, Any], files: Sequence[Handed]) -> tuple[str, ...]:
    """What comes back: what HTCondor will take of it, if the user said that."""
    said = ad.get("transferoutput", ad.get("transferoutputfiles"))
    if not isinstance(said, str):
        return EVERYTHING
    patterns: dict[str, None] = {}
    for word in filter(None, re.split(r"\s*,\s*", said.strip())):
        name = str(PurePosixPath(word))
        if name == "." or name.startswith(("/", "..")):
            return EVERYTHING
        patterns[glob.escape(name)] = None
        # It may be a directory, of which all is meant.
        patterns[f"{glob.escape(name)}/*"] = None
    return tuple(patterns)


def _whole(ad: Mapping[str, Any], name: str) -> int | None:
    value = ad.get(name)
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


# What HTCondor writes


_LINE = re.compile(r"([A-Za-z_]\w*)\s*=\s*(.*)")
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")
_WORDS = {"true": True, "false": False}


def literals(text: str) -> dict[str, str | int | float | bool]:
    """The attributes of an ad, a line each, that are no expressions; names in lower case."""
    found: dict[str, str | int | float | bool] = {}
    for line in text.splitlines():
        match = _LINE.fullmatch(line.strip())
        if match is None:
            continue
        name, value = match[1].lower(), match[2].strip()
        string = _STRING.fullmatch(value)
        if string is not None:
            found[name] = re.sub(
                r"\\(.)", lambda escaped: _ESCAPES.get(escaped[1], escaped[1]), string[1]
            )
        elif value.lower() in _WORDS:
            found[name] = _WORDS[value.lower()]
        else:
            number = _number(value)
            if number is not None:
                found[name] = number
    return found


_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


def _number(text: str) -> int | float | None:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return None


def environment(ad: Mapping[str, Any]) -> dict[str, str]:
    """The variables that a user set for a job: the newer form of the attribute, else the older."""
    newer = ad.get("environment")
    if isinstance(newer, str):
        words = split(newer)
    else:
        older = str(ad.get("env", ""))
        words = [word for word in older.split(str(ad.get("envdelim", ";"))) if word]
    return dict(word.split("=", 1) for word in words if "=" in word and word[0] != "=")


def split(text: str) -> list[str]:
    """The words of a list in HTCondor's newer syntax (condor_submit, "arguments"): white space
    between them but within single quotes, of which two mean one.
    """
    words: list[str] = []
    word: str | None = None
    is_quoted = False
    position = 0
    while position < len(text):
        character = text[position]
        if character == "'":
            if is_quoted and text[position + 1 : position + 2] == "'":
                word = (word or "") + "'"
                position += 1
            else:
                is_quoted = not is_quoted
                word = word or ""
        elif character.isspace() and not is_quoted:
            if word is not None:
                words.append(word)
            word = None
        else:
            word = (word or "") + character
        position += 1
    return words if word is None else [*words, word]
