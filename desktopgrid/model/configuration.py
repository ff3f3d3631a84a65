"""The one reader of the one configuration form: sections and keys, each with its line.

    [site lal]                      a section: a kind, and where there may be several, a name
    # a comment, also after a value  # like this
    computing_element = condor
    max_pilots: 20                  `:` separates as well as `=`

:func:`read` gives back what stands there, :func:`from_section` makes a frozen dataclass of one
section: the fields are the known keys, their types say what a value must look like, their defaults
what is meant when a key is left out. What is wrong raises ConfigurationError, which names file,
line, key and the known keys.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Any, Callable, TypeVar

from desktopgrid.model.errors import ConfigurationError

T = TypeVar("T")


@dataclass(frozen=True)
class Entry:
    """The value of one key, the line on which it stands, and how the key is spelled there if it is
    not spelled as ours.
    """

    value: str
    line: int
    spelling: str = ""


@dataclass(frozen=True)
class Section:
    """One section of a file: ``kind`` and ``name`` of ``[kind name]``, and its entries by key."""

    file: str
    line: int
    kind: str
    name: str
    entries: Mapping[str, Entry]

    @property
    def title(self) -> str:
        """The section as it is written: ``[site lal]``."""
        if not self.kind:
            return ""
        return f"[{self.kind} {self.name}]" if self.name else f"[{self.kind}]"

    def error(self, key: str, message: str) -> ConfigurationError:
        """The error that says ``message`` about ``key``, or about the section if it has none."""
        entry = self.entries.get(key)
        return ConfigurationError(
            self.file, entry.line if entry else self.line, f"{self.title} {message}"
        )

    def texts(self) -> dict[str, str]:
        """Keys and values as they stand, for a section whose keys are free."""
        return {key: entry.value for key, entry in self.entries.items()}


@dataclass(frozen=True)
class Configuration:
    """A file's sections, in the order in which they stand there, and who may read the file."""

    file: str
    sections: tuple[Section, ...]
    mode: int = 0o600

    def section(self, kind: str) -> Section:
        """The section ``[kind]``; an empty one if the file has none, so that all defaults hold."""
        for section in self.sections:
            if section.kind == kind and not section.name:
                return section
        return Section(self.file, 1, kind, "", {})

    def named(self, kind: str) -> list[Section]:
        """The sections ``[kind name]``."""
        return [section for section in self.sections if section.kind == kind and section.name]

    def refuse_open_secret(self, key: str, entry: Entry) -> None:
        """Raise ConfigurationError if others than the owner can read the secret of ``key``."""
        if self.mode & 0o077:
            message = f"others can read this {key} (mode {self.mode & 0o777:o}); chmod 600 the file"
            raise ConfigurationError(self.file, entry.line, message)

    def expect(self, *kinds: str) -> Configuration:
        """This configuration; raises ConfigurationError on a section of no kind in ``kinds``."""
        for section in self.sections:
            if section.kind not in kinds:
                known = ", ".join(f"[{kind}]" for kind in kinds)
                message = f"unknown section {section.title}; known sections are {known}"
                raise ConfigurationError(self.file, section.line, message)
        return self


def read(path: str | Path, *, may_begin_plain: bool = False) -> Configuration:
    """The configuration in the file ``path``; raises ConfigurationError. ``may_begin_plain`` as for
    :func:`parse`.
    """
    try:
        text, mode = Path(path).read_text(encoding="utf-8"), Path(path).stat().st_mode
    except OSError as error:
        raise ConfigurationError(str(path), 0, f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigurationError(str(path), line, "is not UTF-8 text") from None
    found = parse(text, str(path), may_begin_plain=may_begin_plain)
    return dataclasses.replace(found, mode=mode)


def parse(text: str, file: str = "<text>", *, may_begin_plain: bool = False) -> Configuration:
    """The configuration that ``text`` describes; ``file`` is what errors call it.

    Keys before the first section are an error, or where it ``may_begin_plain`` a section without
    a kind (model/manual.py reads it).
    """
    entries: dict[str, Entry] = {}
    sections = [Section(file, 1, "", "", entries)] if may_begin_plain else []
    for number, raw in enumerate(text.splitlines(), 1):
        line = _without_comment(raw)
        if not line:
            continue
        if line.startswith("["):
            section = _section(file, number, line)
            _refuse_twice(sections, section)
            # The section holds this dictionary, which the following lines fill.
            entries = dict(section.entries)
            sections.append(dataclasses.replace(section, entries=entries))
            continue
        key, value = _entry(file, number, line)
        if not sections:
            raise ConfigurationError(file, number, f"key {key!r} stands before the first [section]")
        if key in entries:
            earlier = entries[key].line
            message = f"{sections[-1].title} key {key!r} stands on line {earlier} already"
            raise ConfigurationError(file, number, message.lstrip())
        entries[key] = Entry(value, number)
    return Configuration(file, tuple(sections))


def from_section(kind: type[T], section: Section) -> T:
    """The dataclass ``kind`` that ``section`` describes; raises ConfigurationError.

    A ``name`` field of ``kind`` takes the section's own name; the key of a field ``from_`` is
    ``from``, which no field can be called. What ``__post_init__`` refuses with ValueError is an
    error of the section.
    """
    fields = {field.name.rstrip("_"): field for field in dataclasses.fields(typing.cast(Any, kind))}
    hints = {name.rstrip("_"): hint for name, hint in typing.get_type_hints(kind).items()}
    values: dict[str, Any] = {}
    if section.name and "name" in fields:
        values["name"] = section.name
    known = [name for name in fields if name not in values]
    for key, entry in section.entries.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, 1, 0.75)
            hint = f", perhaps {near[0]}" if near else ""
            message = f"{section.title} unknown key {key!r}{hint}"
            raise ConfigurationError(section.file, entry.line, message, known)
        try:
            values[key] = reader_of(hints[key])(entry.value)
        except ValueError as error:
            spelled = entry.spelling or f"{section.title} {key}"
            message = f"{spelled} must be {error}, not {entry.value!r}"
            raise ConfigurationError(section.file, entry.line, message) from None
    for name, field in fields.items():
        if name not in values and _is_required(field):
            message = f"{section.title} lacks the key {name!r}"
            raise ConfigurationError(section.file, section.line, message, known)
    try:
        return kind(**{fields[name].name: value for name, value in values.items()})
    except ValueError as error:
        raise ConfigurationError(section.file, section.line, f"{section.title} {error}") from None


def reader_of(hint: Any) -> Callable[[str], Any]:
    """What makes a ``hint`` of text; it raises ValueError saying what the text must be."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if type(None) in arguments:
        inner = reader_of(next(a for a in arguments if a is not type(None)))
        return lambda text: inner(text) if text else None
    if origin is tuple:
        item = reader_of(arguments[0])
        return lambda text: tuple(item(part) for part in re.split(r"[,\s]+", text) if part)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return lambda text: _choice(hint, text)
    try:
        return _READERS[hint]
    except KeyError:
        raise TypeError(f"a configuration key cannot have the type {hint}") from None


def timedelta_of(text: str) -> timedelta:
    """The span that ``text`` names: ``90``, ``90 s``, ``5 min``, ``1.5 h``; raises ValueError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip())
    if match is None or match[2] not in _UNITS:
        raise ValueError("a span of time such as 90 s, 5 min, 1.5 h or 2 d")
    try:
        return timedelta(seconds=float(match[1]) * _UNITS[match[2]])
    except OverflowError:
        raise ValueError("a span of time such as 90 s, 5 min, 1.5 h or 2 d") from None


def _without_comment(line: str) -> str:
    # `#` inside a word belongs to it: a claim ID has three of them.
    return re.sub(r"(^|\s)#.*", "", line).strip()


def _section(file: str, number: int, line: str) -> Section:
    match = re.fullmatch(r"\[\s*([\w.-]+)(?:\s+([^\[\]]*[^\[\]\s]))?\s*\]", line)
    if match is None:
        message = f"a section is written [kind] or [kind name], not {line!r}"
        raise ConfigurationError(file, number, message)
    return Section(file, number, match[1], match[2] or "", {})


def _refuse_twice(sections: list[Section], section: Section) -> None:
    for earlier in sections:
        if (earlier.kind, earlier.name) == (section.kind, section.name):
            message = f"section {section.title} stands on line {earlier.line} already"
            raise ConfigurationError(section.file, section.line, message)


def _entry(file: str, number: int, line: str) -> tuple[str, str]:
    match = re.fullmatch(r"([^=:]*?)\s*[=:]\s*(.*)", line)
    if match is None or not match[1]:
        raise ConfigurationError(file, number, f"a line is `key = value`, not {line!r}")
    return match[1], match[2]


def _is_required(field: Any) -> bool:
    missing = dataclasses.MISSING
    return field.default is missing and field.default_factory is missing


def _int(text: str) -> int:
    try:
        return int(text, 0) if text.startswith("0o") else int(text)
    except ValueError:
        raise ValueError("a whole number") from None


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError("a number") from None


def _path(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ValueError("a path; nobody here has such a home") from None


def _bool(text: str) -> bool:
    try:
        return _BOOLEANS[text.lower()]
    except KeyError:
        raise ValueError("yes or no") from None


def _choice(kind: type[Enum], text: str) -> Any:
    for member in kind:
        if text in (member.value, member.name):
            return member
    raise ValueError("one of " + ", ".join(str(member.value) for member in kind))


_UNITS = {"": 1, "s": 1, "min": 60, "h": 3600, "d": 86400}
_BOOLEANS = {"yes": True, "true": True, "on": True, "1": True}
_BOOLEANS.update({"no": False, "false": False, "off": False, "0": False})
_READERS: dict[Any, Callable[[str], Any]] = {
    str: str,
    int: _int,
    float: _float,
    bool: _bool,
    Path: _path,
    timedelta: timedelta_of,
}

__all__ = [
    "Configuration",
    "Entry",
    "Section",
    "from_section",
    "parse",
    "read",
    "reader_of",
    "timedelta_of",
]
