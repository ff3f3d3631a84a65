"""ClassAds: expressions built without injection, attributes read with their type.

A constraint made by string formatting is wrong for the user called ``o"brien``; an attribute taken
from an ad as it stands may be an expression. Both stop here. Values that go into an expression are
quoted, values that come out of an ad are evaluated, and what is not of the wanted kind raises
AdError, which names the attribute and the value.

The text of a foreign ad is measured before the library sees it: one that is very long or nested
very deeply does not raise there but ends the interpreter.
"""

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol, Union

import classad2

from condor.errors import AdError, AdSyntaxError

Scalar = str | int | float | bool

_ATTRIBUTE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_SMALLEST_INTEGER, _LARGEST_INTEGER = -(2**63), 2**63 - 1


class Ad(Protocol):
    """What reading needs of a ``classad2.ClassAd``."""

    def eval(self, attr: str) -> object:
        """The value of the attribute; KeyError if the ad has no such attribute."""


# Building expressions


def attribute(name: str) -> str:
    """``name`` itself if it can stand in an expression as an attribute; raises AdError."""
    if not _ATTRIBUTE.match(name):
        raise AdError(name, name, "a name of letters, digits and underscores")
    return name


def quote(text: str) -> str:
    r"""``text`` as a ClassAd string: ``o"brien`` becomes ``"o\"brien"``."""
    if "\0" in text or not is_unicode(text):
        raise AdError("string", text, "Unicode text without NUL characters")
    return str(classad2.quote(text))


def is_unicode(text: str) -> bool:
    """Whether the bindings survive ``text``: half of a surrogate pair crashes the interpreter."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def literal(value: Scalar) -> str:
    """``value`` as it is written in an expression."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, int):
        if not _SMALLEST_INTEGER <= value <= _LARGEST_INTEGER:
            raise AdError("integer", value, "a number of 64 bits")
        return str(value)
    if not math.isfinite(value):
        raise AdError("real", value, "a finite number")
    return repr(float(value))


def equals(name: str, value: Scalar) -> str:
    """True where the attribute is exactly ``value``.

    ``=?=`` rather than ``==``: it minds the case of strings (to ``==``, alice and Alice are one
    user) and is false, not undefined, where the attribute is absent.
    """
    return f"({attribute(name)} =?= {literal(value)})"


def is_among(name: str, values: Sequence[int] | Sequence[str]) -> str:
    """True where the attribute is one of ``values``.

    A list, because a chain of ``||`` of some hundred terms is too deep for HTCondor to evaluate.
    """
    return f"member({attribute(name)}, {{{', '.join(literal(value) for value in values)}}})"


def is_between(name: str, low: int, high: int) -> str:
    """True where the attribute is a number from ``low`` to ``high``, both included."""
    name = attribute(name)
    return f"({name} >= {literal(low)} && {name} <= {literal(high)})"


def all_of(expressions: Iterable[str]) -> str:
    """True where every one of ``expressions`` is; each must be well-formed on its own."""
    return " && ".join(f"({expression})" for expression in expressions) or "true"


def any_of(expressions: Iterable[str]) -> str:
    """True where at least one of ``expressions`` is; each must be well-formed on its own."""
    return " || ".join(f"({expression})" for expression in expressions) or "false"


# Reading ads


def string(ad: Ad, name: str) -> str:
    """The attribute's value, a string; raises AdError."""
    value = _evaluated(ad, name)
    if not isinstance(value, str):
        raise AdError(name, value, "a string")
    return value


def integer(ad: Ad, name: str) -> int:
    """The attribute's value, an integer (a boolean is none); raises AdError."""
    value = _evaluated(ad, name)
    # Undefined and error are members of an enumeration of integers.
    if not isinstance(value, int) or isinstance(value, bool | classad2.Value):
        raise AdError(name, value, "an integer")
    return int(value)


def boolean(ad: Ad, name: str) -> bool:
    """The attribute's value, a boolean; raises AdError."""
    value = _evaluated(ad, name)
    if not isinstance(value, bool):
        raise AdError(name, value, "a boolean")
    return value


def moment(ad: Ad, name: str) -> datetime:
    """The attribute's value, seconds since 1970, as a time; raises AdError."""
    return datetime.fromtimestamp(integer(ad, name), UTC)


def optional_string(ad: Ad, name: str) -> str | None:
    """As ``string``; None where the attribute is absent or undefined."""
    return string(ad, name) if has(ad, name) else None


def optional_integer(ad: Ad, name: str) -> int | None:
    """As ``integer``; None where the attribute is absent or undefined."""
    return integer(ad, name) if has(ad, name) else None


def optional_moment(ad: Ad, name: str) -> datetime | None:
    """As ``moment``; None where the attribute is absent or undefined."""
    return moment(ad, name) if has(ad, name) else None


def has(ad: Ad, name: str) -> bool:
    """Whether the attribute has a value: neither absent nor undefined."""
    return _evaluated(ad, name) is not classad2.Value.Undefined


def _evaluated(ad: Ad, name: str) -> object:
    try:
        return ad.eval(name)
    except KeyError:
        return classad2.Value.Undefined
    except classad2.ClassAdException as broken:
        raise AdError(name, str(broken), "an expression that can be evaluated") from broken


# Reading texts

LONGEST_TEXT = 64 << 10
DEEPEST_NESTING = 32
MOST_OPERATORS = 1000
"""In one expression: a chain of 30,000 selections (``a.a.a``) crashes the library."""

_TOKEN = re.compile(
    r"""(?P<space>\s+|//[^\n]*|\#[^\n]*|/\*.*?\*/)
    | (?P<string>"(?:[^"\\]|\\.)*") | (?P<quoted>'(?:[^'\\]|\\.)*')
    | (?P<name>[A-Za-z_]\w*) | (?P<number>\d[\w.]*) | (?P<mark>.)""",
    re.DOTALL | re.VERBOSE | re.ASCII,
)
_PAIRS = {"]": "[", "}": "{", ")": "("}


@dataclass(frozen=True)
class Expression:
    """A value that is no literal: its text, as the library writes it."""

    text: str


Value = Union[Scalar, None, Expression, "list[Value]", "dict[str, Value]"]
"""A literal (None is undefined), a list, a nested ad, or what has to be evaluated first."""


@dataclass(frozen=True)
class Attribute:
    """One attribute of a text, and the line it begins on."""

    name: str
    value: Value
    line: int


def parse(text: str) -> list[Attribute]:
    """The attributes of an ad ``[ Name = value; ... ]``, in their order; raises AdSyntaxError.

    Comments are those of C, of C++ and of JDL (``#``). Unlike the library this refuses a name that
    is there twice, of which it would take the last, and text behind the ad, which it would ignore.
    """
    tokens = [token for token in _measured(text) if token.kind != "space"]
    if not tokens or tokens[0].text != "[":
        raise AdSyntaxError("an ad begins with [", 1)
    names = _names(tokens)
    ad = _ad_of(_without_comments(text))
    found = {name.lower(): value for name, value in ad.items()}
    if sorted(found) != sorted(names):
        raise AdSyntaxError("an ad is Name = value; Name = value; and so on", tokens[0].line)
    return [
        Attribute(token.text, _value(found[lower], token.line), token.line)
        for lower, token in names.items()
    ]


def expression(text: str) -> str:
    """One expression as the library writes it; raises AdSyntaxError for what is none, or more."""
    tokens = [token for token in _measured(text) if token.kind != "space"]
    if not tokens or any(token.text in ";[" for token in tokens):
        raise AdSyntaxError("this is no single ClassAd expression", 1)
    ad = _ad_of(f"[ it = {_without_comments(text)}\n]")
    if list(ad) != ["it"]:
        raise AdSyntaxError("this is no single ClassAd expression", 1)
    return str(ad.lookup("it")).strip()


@dataclass(frozen=True)
class Token:
    """A piece of a text; ``depth`` is how many brackets are open before it."""

    kind: str
    text: str
    line: int
    depth: int


def tokens_of(text: str) -> Iterator[Token]:
    """The pieces of a ClassAd text; raises AdSyntaxError where a string or bracket stays open."""
    line, open_ones = 1, list[str]()
    for match in _TOKEN.finditer(text):
        kind, piece = match.lastgroup or "", match[0]
        if kind == "mark" and piece in "\"'":
            raise AdSyntaxError("a string does not end", line)
        if (
            kind == "mark"
            and piece in _PAIRS
            and (not open_ones or open_ones.pop() != _PAIRS[piece])
        ):
            raise AdSyntaxError(f"{piece} closes nothing", line)
        yield Token(kind, piece, line, len(open_ones))
        if kind == "mark" and piece in _PAIRS.values():
            open_ones.append(piece)
        line += piece.count("\n")
    if open_ones:
        raise AdSyntaxError(f"{open_ones[-1]} is not closed", line)


def _measured(text: str) -> list[Token]:
    """The tokens of a text that the library will survive."""
    if len(text) > LONGEST_TEXT:
        raise AdSyntaxError(f"{len(text)} characters; at most {LONGEST_TEXT}", 1)
    if "\0" in text or not is_unicode(text):
        raise AdSyntaxError("expected Unicode text without NUL characters", 1)
    tokens, operators = [], 0
    for token in tokens_of(text):
        tokens.append(token)
        if token.depth > DEEPEST_NESTING:
            raise AdSyntaxError(f"nested deeper than {DEEPEST_NESTING}", token.line)
        if token.kind == "mark":
            operators = 0 if token.text in ";," else operators + 1
        if token.kind == "number" and token.text.isdigit() and int(token.text) > _LARGEST_INTEGER:
            raise AdSyntaxError(f"{token.text} is no number of 64 bits", token.line)
        if operators > MOST_OPERATORS:
            raise AdSyntaxError(f"more than {MOST_OPERATORS} operators", token.line)
    return tokens


def _without_comments(text: str) -> str:
    kept = ((match.lastgroup, match[0]) for match in _TOKEN.finditer(text))
    return "".join(" " + "\n" * t.count("\n") if kind == "space" else t for kind, t in kept)


def _names(tokens: Sequence[Token]) -> dict[str, Token]:
    """The first token of each attribute, by its name in lower case."""
    end = next(n for n, token in enumerate(tokens) if token.text == "]" and token.depth == 0)
    if end + 1 < len(tokens):
        raise AdSyntaxError("there is more behind the ad", tokens[end + 1].line)
    names: dict[str, Token] = {}
    for before, token in itertools.pairwise(tokens):
        if token.depth != 1 or before.text not in "[;" or token.kind not in ("name", "quoted"):
            continue
        name = token.text.strip("'")
        if name.lower() in names:
            first = names[name.lower()].line
            raise AdSyntaxError(f"{name} is said twice, first on line {first}", token.line)
        names[name.lower()] = Token(token.kind, name, token.line, token.depth)
    return names


def _ad_of(text: str) -> classad2.ClassAd:
    try:
        return classad2.ClassAd(text)
    except (classad2.ClassAdException, ValueError):
        raise AdSyntaxError("this is no well-formed ClassAd", None) from None


def _value(value: object, line: int) -> Value:
    if isinstance(value, classad2.ClassAd):
        return {str(name): _value(each, line) for name, each in value.items()}
    if isinstance(value, list):
        return [_value(each, line) for each in value]
    if isinstance(value, classad2.ExprTree):
        return Expression(str(value).strip())
    if value is classad2.Value.Undefined:
        return None
    if isinstance(value, str | bool | int | float) and not isinstance(value, classad2.Value):
        return value
    raise AdSyntaxError(f"{value!r} is no value", line)
