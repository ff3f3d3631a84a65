"""The XWHEP manual's own configuration files, read as ours (7.1.1, 7.2.1, 7.3.1).

What stands in a file before its first ``[section]`` is in the manual's spelling, such as
``port.https = 4325``. A table says for each of the manual's keys which of ours it is, or why it has
no effect here; upper and lower case are the same, as Java programs were never sure which it was. A
key that neither side knows is an error.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Callable, Union

from desktopgrid.model.configuration import Configuration, Entry, Section
from desktopgrid.model.errors import ConfigurationError

Check = Callable[[str], None]
"""Raises ValueError with what is wrong about a value, as the rest of a sentence about its key."""


def anything(value: str) -> None:
    """The check that every value passes."""


def a_port(value: str) -> None:
    """The check of a port's number."""
    if not value.isdigit() or int(value) > 65535:
        raise ValueError(f"must be between 0 and 65535, not {value!r}")


@dataclass(frozen=True)
class Means:
    """The manual's key is our ``key`` of ``[section]``; ``reading`` makes our value of the
    manual's.
    """

    section: str
    key: str
    reading: Callable[[str], str] = str
    check: Check = anything
    is_secret: bool = False


@dataclass(frozen=True)
class Ignored:
    """The manual's key has no effect, for ``reason``, which is told unless the value is one of
    ``silent``: those that ask for what is so anyway.
    """

    reason: str
    silent: tuple[str, ...] = ()
    check: Check = anything
    is_secret: bool = False


Table = Mapping[str, Union[Means, Ignored]]
"""What each of the manual's keys means; two spellings of one differ in more than their case."""


@dataclass(frozen=True)
class Reading:
    """A file in our words, and a sentence for each key that has no effect."""

    configuration: Configuration
    notes: tuple[str, ...] = ()


def in_our_words(found: Configuration, table: Table, ours: Mapping[str, Any]) -> Reading:
    """``found``, which may begin in the manual's spelling, with our keys in our sections.

    ``ours`` are the dataclasses of our sections, by their kinds. Raises ConfigurationError.
    """
    plain, *sections = found.sections
    by_name = {key.lower(): known for key, known in table.items()}
    translated: dict[str, dict[str, Entry]] = {}
    notes = []
    for key, entry in plain.entries.items():
        known = by_name.get(key.lower())
        if known is None:
            raise _unknown(found.file, key, entry.line, table, ours)
        try:
            known.check(entry.value)
        except ValueError as error:
            raise ConfigurationError(found.file, entry.line, f"{key} {error}") from None
        if known.is_secret and entry.value:
            found.refuse_open_secret(key, entry)
        if isinstance(known, Ignored):
            if entry.value.lower() not in known.silent:
                notes.append(f"{found.file}:{entry.line}: {key} has no effect: {known.reason}")
            continue
        group = translated.setdefault(known.section, {})
        if known.key in group:
            message = f"{key} and {group[known.key].spelling} are the same; keep one"
            raise ConfigurationError(found.file, entry.line, message)
        group[known.key] = Entry(known.reading(entry.value), entry.line, key)
    for section in sections:
        _refuse_manuals(section, by_name)
    merged = [_merged(section, translated.pop(section.kind, {})) for section in sections]
    merged += [Section(found.file, 1, kind, "", more) for kind, more in translated.items()]
    return Reading(dataclasses.replace(found, sections=tuple(merged)), tuple(notes))


def _refuse_manuals(section: Section, by_name: Mapping[str, Union[Means, Ignored]]) -> None:
    """Say where a key of the manual's belongs."""
    for key in section.entries:
        known = by_name.get(key.lower())
        # Some of ours are called like the manual's, and all of ours are in lower case.
        if isinstance(known, Means) and key != known.key:
            message = f"{key} is the XWHEP manual's key: it stands before the first [section]"
            if known.section == section.kind:
                message += f"; here it is called {known.key}"
            raise section.error(key, message)


def _merged(section: Section, more: Mapping[str, Entry]) -> Section:
    for key, entry in more.items():
        if key in section.entries:
            message = f"{key} is what {entry.spelling} on line {entry.line} says already; keep one"
            raise section.error(key, message)
    return dataclasses.replace(section, entries={**more, **section.entries})


def _unknown(
    file: str, key: str, line: int, table: Table, ours: Mapping[str, Any]
) -> ConfigurationError:
    """What to say of ``key``: where it belongs, what it may have been meant to be."""
    for kind, shape in ours.items():
        if key in {field.name for field in dataclasses.fields(shape)}:
            message = f"key {key!r} stands before the first [section]; it belongs into [{kind}]"
            return ConfigurationError(file, line, message)
    message = f"unknown key {key!r} before the first [section], where the XWHEP manual's keys stand"
    spellings = {known.lower(): known for known in table}
    near = difflib.get_close_matches(key.lower(), spellings, 3)
    if not near:
        return ConfigurationError(file, line, message, list(table))
    guess = " or ".join(spellings[name] for name in near)
    return ConfigurationError(file, line, f"{message}; did you mean {guess}?")
