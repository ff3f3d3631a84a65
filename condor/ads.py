"""ClassAds: expressions built without injection, attributes read with their type.

A constraint made by string formatting is wrong for the user called ``o"brien``; an attribute taken
from an ad as it stands may be an expression. Both stop here. Values that go into an expression are
quoted, values that come out of an ad are evaluated, and what is not of the wanted kind raises
AdError, which names the attribute and the value.
"""

import math
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Protocol

import classad2

from condor.errors import AdError

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
