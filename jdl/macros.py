"""Macros of HTCondor's submit files, replaced late and by the last value as HTCondor does it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from jdl.errors import BadDescription
from jdl.given import Said

_MACRO = re.compile(r"\$\(([A-Za-z_][\w.]*)(:[^()]*)?\)")
_NAME = re.compile(r"\$\(([A-Za-z_][\w.]*)")
_FUNCTION = re.compile(r"\$[A-Za-z_]\w*\(|\$\$")
_DOLLAR = "\0"
_NUMBERS = {"cluster": "0", "clusterid": "0"}
LONGEST_VALUE = 64 << 10
MOST_REPLACEMENTS = 1000


class Macros:
    """Replaces macros; ``notes`` says which of them have no value before the job is submitted."""

    def __init__(self, commands: Mapping[str, Said[str]], variables: Mapping[str, str]) -> None:
        self.commands, self.variables = commands, variables
        self.notes: dict[str, str] = {}

    def replace(self, said: Said[str], text: str) -> str:
        """``text`` without macros; raises BadDescription for one that never ends."""
        for _ in range(MOST_REPLACEMENTS):
            match = _MACRO.search(text)
            if match is None:
                break
            text = text[: match.start()] + self._value(said, match) + text[match.end() :]
            if len(text) > LONGEST_VALUE:
                raise BadDescription(f"more than {LONGEST_VALUE} characters", said.name, said.line)
        else:
            raise BadDescription("its macros never end", said.name, said.line)
        if _FUNCTION.search(text):
            raise said.wrong("no $$ and no function, which mean something in HTCondor only")
        return text.replace(_DOLLAR, "$")

    def _value(self, said: Said[str], match: re.Match[str]) -> str:
        name, default = match[1].lower(), match[2]
        if name == "dollar":
            return _DOLLAR
        if name in _NUMBERS and name not in self.variables:
            number = _NUMBERS[name]
            text = f"it has no number before the job is submitted; {number} stands for it"
            self.notes[f"$({match[1]})"] = text
            return number
        value = self.variables.get(name)
        if value is None and name in self.commands:
            value = self.commands[name].value
        # A macro that is there and empty has its default as well.
        if default is not None and not value:
            return default[1:]
        if value is not None:
            return value
        self.notes[f"$({match[1]})"] = f"it is defined nowhere, and empty in {said.name}"
        return ""


def names_in(text: str) -> set[str]:
    """The names of the macros that a text uses, in lower case."""
    return {name.lower() for name in _NAME.findall(text)}


def replaced(
    said: Said[str], commands: Mapping[str, Said[str]], variables: Mapping[str, str]
) -> str:
    """The value of ``said`` without macros; raises BadDescription."""
    return Macros(commands, variables).replace(said, said.value)
