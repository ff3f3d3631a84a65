"""The languages that are known, and which of them a description is in.

A language's module is loaded when the language is used, and its libraries with it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from jdl.errors import BadDescription, JdlError, UnknownLanguage
from jdl.job import DEFAULTS, File, Job, Read, check

LARGEST_FILE = 1 << 20


@dataclass(frozen=True)
class Language:
    """A language: the word for it, its title, its files' extensions and its module.

    ``holds_many``: one description may be of several jobs. ``wants_absolute``: what moves the files
    does not know where the description was. ``reads_beside``: it may name files that are read.
    """

    name: str
    title: str
    extensions: tuple[str, ...]
    module: str
    holds_many: bool = False
    wants_absolute: bool = False
    reads_beside: bool = False

    def read(self, text: str, beside: Any = None) -> Read:
        """The jobs of ``text``; ``beside`` holds the files that it may name. Raises
        BadDescription.
        """
        module = self._loaded()
        found: Read = module.read(text, beside) if self.reads_beside else module.read(text)
        return found

    def write(self, jobs: Sequence[Job]) -> str:
        """The description of ``jobs``; raises Unsayable, or BadDescription for a job that no grid
        can run.
        """
        for job in jobs:
            check(job)
        text: str = self._loaded().write(jobs)
        return text

    def _loaded(self) -> Any:
        try:
            return import_module(self.module)
        except ModuleNotFoundError as absent:
            raise JdlError(
                f"{self.title} needs the Python package {absent.name}; install glidebridge[jdl]"
            ) from absent


LANGUAGES = {
    each.name: each
    for each in (
        Language(
            "submit",
            "HTCondor submit file",
            (".sub", ".submit"),
            "jdl.submit",
            True,
            reads_beside=True,
        ),
        Language("jdl", "gLite JDL", (".jdl",), "jdl.glite", True),
        Language("jsdl", "JSDL 1.0", (".jsdl",), "jdl.jsdl"),
        Language("xrsl", "ARC xRSL", (".xrsl",), "jdl.xrsl", True),
        Language("adl", "EMI-ES ADL", (".adl",), "jdl.adl"),
        Language("rsl", "Globus RSL", (".rsl",), "jdl.globus", True, wants_absolute=True),
    )
}
EXTENSIONS = {extension: each for each in LANGUAGES.values() for extension in each.extensions}

_XRSL_ONLY = re.compile(
    r"\(\s*(inputfiles|outputfiles|executables|jobname|walltime|cputime|runtimeenvironment|join|gmlog"
    r"|rerun|notify|countpernode)\s*=",
    re.IGNORECASE,
)
_SIGNS = (
    ("jsdl", re.compile(r"<(\w+:)?JobDefinition\b")),
    ("adl", re.compile(r"<(\w+:)?ActivityDescription\b")),
    ("submit", re.compile(r"^\s*queue\b", re.IGNORECASE | re.MULTILINE)),
    ("jdl", re.compile(r"^\s*\[?\s*(Type|JobType|Executable)\s*=", re.IGNORECASE | re.MULTILINE)),
)


def language(name: str) -> Language:
    """The language of that name; raises UnknownLanguage."""
    if name not in LANGUAGES:
        raise UnknownLanguage(f"no language {name!r}; known are {', '.join(LANGUAGES)}")
    return LANGUAGES[name]


def language_of(path: str, text: str) -> Language:
    """The language of a file, by its extension, else by what it looks like; raises
    UnknownLanguage.
    """
    if found := EXTENSIONS.get(Path(path).suffix.lower()):
        return found
    start = text[:LARGEST_FILE]
    head = re.sub(r"\(\*.*?\*\)", "", start, flags=re.DOTALL).lstrip()
    if head[:1] in ("&", "+", "("):
        return LANGUAGES["xrsl" if _XRSL_ONLY.search(head.replace("_", "")) else "rsl"]
    for name, sign in _SIGNS:
        if sign.search(start):
            return LANGUAGES[name]
    known = ", ".join(f"{each.title} ({each.extensions[0]})" for each in LANGUAGES.values())
    raise UnknownLanguage(f"{path} is in no language that is known: {known}")


def is_description(path: str) -> bool:
    """Whether a file of this name is a job description, by its extension."""
    return Path(path).suffix.lower() in EXTENSIONS


class Directory:
    """The files beside a description."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines_of(self, name: str) -> list[str]:
        """The lines of a file; raises BadDescription."""
        return text_of(self.path / name).splitlines()

    def matching(self, pattern: str, kind: str) -> list[str]:
        """The ``files``, ``dirs`` or ``any`` that match, by their names relative to here."""
        directory, _, name = pattern.rpartition("/")
        try:
            found = sorted((self.path / directory).glob(name)) if name else []
        except (ValueError, NotImplementedError, OSError) as error:
            raise BadDescription(f"{pattern!r} is no pattern: {error}", "queue") from None
        wanted = {"files": Path.is_file, "dirs": Path.is_dir, "any": Path.exists}[kind]
        return [f"{directory}/{p.name}" if directory else p.name for p in found if wanted(p)]


def text_of(path: Path) -> str:
    """The text of a file; raises BadDescription for one that cannot be read, is no text in UTF-8,
    or is very large.
    """
    try:
        with path.open("rb") as opened:
            content = opened.read(LARGEST_FILE + 1)
    except OSError as error:
        raise BadDescription(f"it cannot be read: {error.strerror}", file=str(path)) from None
    if len(content) > LARGEST_FILE:
        raise BadDescription(f"it is larger than {LARGEST_FILE} bytes", file=str(path))
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise BadDescription("it is no text in UTF-8", line=line, file=str(path)) from None


def read_file(path: Path, name: str | None = None) -> tuple[Language, Read]:
    """The language and the jobs of a file; raises BadDescription or UnknownLanguage."""
    text = text_of(path)
    chosen = language(name) if name else language_of(str(path), text)
    try:
        return chosen, chosen.read(text, Directory(path.parent))
    except BadDescription as error:
        raise error.within(error.file or str(path)) from None


def absolute(job: Job, directory: Path) -> Job:
    """``job`` with the submitter's files by their whole paths, which began at ``directory``."""

    def whole(file: File) -> File:
        return file if file.is_remote else File(file.name, str(directory / file.place))

    inputs, outputs = (tuple(map(whole, files)) for files in (job.inputs, job.outputs))
    return replace(job, inputs=inputs, outputs=outputs)


def without(job: Job, names: Sequence[str]) -> Job:
    """``job`` that does not say these fields; raises JdlError for one that there is not."""
    for name in names:
        if name not in DEFAULTS:
            raise JdlError(f"a job has no {name!r}; it has {', '.join(DEFAULTS)}")
    return replace(job, **{name: DEFAULTS[name] for name in names})
