"""The grammar that Globus RSL and ARC's xRSL share (RSL 1.0): relations ``(name = value ...)``
joined by ``&``, requests joined by ``+``, literals, sequences, variables and concatenation.

What the names mean is in globus.py and xrsl.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Union

from jdl.errors import BadDescription
from jdl.given import Given, Said
from jdl.job import Draft

LONGEST_TEXT = 1 << 20
DEEPEST_NESTING = 16
SUBSTITUTION = "rslsubstitution"

Value = Union[str, "list[Value]"]

_SKIPPED = re.compile(r"(?:[ \t\n\v\f\r]+|\(\*.*?\*\))*", re.DOTALL)
_PLAIN = re.compile(r"[^+&|()=<>!\"'^#$ \t\n\v\f\r]+")
_OPERATOR = re.compile(r"!=|<=|>=|[=<>]")
_VARIABLE = re.compile(r"\$\(\s*([^\s()\"'$]+)\s*\)")


@dataclass(frozen=True)
class Relation:
    """``(name operator value ...)``; the name in lower case and without underscores, as both
    languages compare them.
    """

    name: str
    operator: str
    values: list[Value]
    line: int


class _Parser:
    def __init__(self, text: str, variables: Mapping[str, str]) -> None:
        self.text, self.position = text, 0
        self.variables = dict(variables)

    def fail(self, reason: str) -> BadDescription:
        return BadDescription(reason, line=self.line)

    @property
    def line(self) -> int:
        return self.text.count("\n", 0, self.position) + 1

    @property
    def next_text(self) -> str:
        """What follows, for errors."""
        found = self.text[self.position : self.position + 10]
        return repr(found) if found else "the end"

    def peek(self) -> str:
        """The next character that is neither space nor comment; empty at the end."""
        match = _SKIPPED.match(self.text, self.position)
        self.position = match.end() if match else self.position
        return self.text[self.position : self.position + 1]

    def expect(self, mark: str) -> None:
        if self.peek() != mark:
            raise self.fail(f"expected {mark!r}, found {self.next_text}")
        self.position += 1

    def requests(self) -> list[list[Relation]]:
        """Each job's relations; one job unless the text is a multi-request."""
        if self.peek() != "+":
            found = [self.relations(0)]
        else:
            self.position += 1
            found = []
            while self.peek() == "(":
                self.position += 1
                found.append(self.relations(1))
                self.expect(")")
        if self.peek():
            raise self.fail(f"expected the end, found {self.next_text}")
        if not found:
            raise self.fail("there is no request behind +")
        return found

    def relations(self, depth: int) -> list[Relation]:
        if depth > DEEPEST_NESTING:
            raise self.fail(f"nested deeper than {DEEPEST_NESTING}")
        mark = self.peek()
        if mark and mark in "|+":
            what = "alternatives (|)" if mark == "|" else "a multi-request (+) within a request"
            raise self.fail(f"{what} are not read; choose one")
        if mark == "&":
            self.position += 1
        found: list[Relation] = []
        while self.peek() == "(":
            self.position += 1
            if self.peek() and self.peek() in "&|+(":
                found += self.relations(depth + 1)
            else:
                found.append(self.relation(depth))
            self.expect(")")
        if not found:
            raise self.fail("expected relations such as (executable = a.out)")
        return found

    def relation(self, depth: int) -> Relation:
        line = self.line
        name = self.literal()
        self.peek()
        operator = _OPERATOR.match(self.text, self.position)
        if operator is None:
            raise self.fail(f"expected = behind {name!r}")
        self.position = operator.end()
        values = self.values(depth)
        canonical = name.lower().replace("_", "")
        if canonical == SUBSTITUTION:
            self.define(values)
        return Relation(canonical, operator[0], values, line)

    def define(self, values: list[Value]) -> None:
        for pair in values:
            if not (isinstance(pair, list) and len(pair) == 2):
                raise self.fail("a substitution is (NAME value)")
            name, value = pair
            if not (isinstance(name, str) and isinstance(value, str)):
                raise self.fail("a substitution is (NAME value)")
            self.variables[name] = value

    def values(self, depth: int) -> list[Value]:
        if depth > DEEPEST_NESTING:
            raise self.fail(f"nested deeper than {DEEPEST_NESTING}")
        found: list[Value] = []
        while (mark := self.peek()) and mark != ")":
            if mark == "(":
                self.position += 1
                found.append(self.values(depth + 1))
                self.expect(")")
            else:
                found.append(self.text_value())
        return found

    def text_value(self) -> str:
        """A literal or a variable, and what is joined to it: by #, or by standing right behind."""
        value = self.piece()
        while True:
            end = self.position
            mark = self.peek()
            if mark == "#":
                self.position += 1
                self.peek()
                value += self.piece()
            elif self.position == end and mark and mark not in "()":
                value += self.piece()
            else:
                return value

    def piece(self) -> str:
        if self.text.startswith("$(", self.position):
            match = _VARIABLE.match(self.text, self.position)
            if match is None:
                raise self.fail("expected a variable $(NAME)")
            if match[1] not in self.variables:
                raise self.fail(f"the variable {match[1]} has no value here")
            self.position = match.end()
            return self.variables[match[1]]
        return self.literal()

    def literal(self) -> str:
        mark = self.peek()
        if mark == "^":
            self.position += 1
            mark = self.text[self.position : self.position + 1]
            return self.quoted(mark)
        if mark and mark in "\"'":
            return self.quoted(mark)
        match = _PLAIN.match(self.text, self.position)
        if match is None:
            raise self.fail(f"expected a value, found {self.next_text}")
        self.position = match.end()
        return match[0]

    def quoted(self, mark: str) -> str:
        """What stands between two marks; a mark that is written twice is meant."""
        start, parts = self.position, list[str]()
        while True:
            end = self.text.find(mark, self.position + 1) if mark else -1
            if end < 0:
                self.position = start
                raise self.fail("a quote does not close")
            parts.append(self.text[self.position + 1 : end])
            self.position = end + 1
            if not self.text.startswith(mark, self.position):
                return mark.join(parts)


def parse(text: str, variables: Mapping[str, str]) -> list[list[Relation]]:
    """The relations of each request, variables replaced; raises BadDescription."""
    if len(text) > LONGEST_TEXT:
        raise BadDescription(f"{len(text)} characters; at most {LONGEST_TEXT}")
    return _Parser(text, variables).requests()


def given(draft: Draft, relations: Iterable[Relation]) -> Given[list[Value]]:
    """The relations as attributes to be taken; those that are no ``=`` are noted."""
    attributes = []
    for each in relations:
        if each.name == SUBSTITUTION:
            continue
        if each.operator != "=":
            draft.note(each.name, f"only = is understood, not {each.operator}", each.line)
            continue
        attributes.append(Said(each.name, each.values, each.line))
    return Given(draft, attributes)


def text_of(said: Said[list[Value]]) -> str:
    """The one text that is said; raises BadDescription."""
    if len(said.value) != 1 or not isinstance(said.value[0], str):
        raise said.wrong("one value")
    return said.value[0]


def texts_of(said: Said[list[Value]]) -> list[str]:
    """The texts that are said; raises BadDescription."""
    texts = [each for each in said.value if isinstance(each, str)]
    if len(texts) != len(said.value):
        raise said.wrong("a list of values")
    return texts


def pairs_of(said: Said[list[Value]]) -> list[list[str]]:
    """The sequences of texts that are said, at least two texts each; raises BadDescription."""
    pairs = []
    for each in said.value:
        if not isinstance(each, list) or len(each) < 2:
            raise said.wrong('pairs such as ("name" "value")')
        texts = [text for text in each if isinstance(text, str)]
        if len(texts) != len(each):
            raise said.wrong('pairs such as ("name" "value")')
        pairs.append(texts)
    return pairs


# Writing


def literal(text: str) -> str:
    """``text`` in quotes. The beginning of a comment is cut in two: ARC's parser looks for its end
    within quotes as well.
    """
    return " # ".join('"' + piece.replace('"', '""') + '"' for piece in _pieces(text))


def _pieces(text: str) -> list[str]:
    pieces = text.split("(*")
    return [
        ("*" if n else "") + piece + ("(" if n < len(pieces) - 1 else "")
        for n, piece in enumerate(pieces)
    ]


def sequence(texts: Iterable[str]) -> str:
    """``("a" "b")``."""
    return f"({' '.join(map(literal, texts))})"


def relation(name: str, *values: str) -> str:
    """``(name = value ...)`` of values that are written already."""
    return f"({name} = {' '.join(values)})"


def request(requests: list[list[str]]) -> str:
    """One request, or several as a multi-request, a relation a line."""
    texts = ["&" + "\n ".join(relations) for relations in requests]
    if len(texts) == 1:
        return texts[0] + "\n"
    return "+\n" + "".join(f"({text})\n" for text in texts)
