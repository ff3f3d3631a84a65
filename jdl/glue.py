"""What gLite's JDL says in Requirements, in the words of the GLUE schema (1.3), and other languages
in attributes: memory, times, platform, software.

``Requirements`` is taken apart at its ``&&``; the terms that say such a thing become fields of the
job, the others stay an expression.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from condor import ads
from condor.errors import CondorError
from jdl.given import minutes
from jdl.job import Job

SOFTWARE = "GlueHostApplicationSoftwareRunTimeEnvironment"
_NUMBERS = {
    "gluehostmainmemoryramsize": ("memory_mib", 1),
    "gluecepolicymaxwallclocktime": ("wall_time", 60),
    "gluecepolicymaxcputime": ("cpu_time", 60),
}
_TEXTS = {
    "gluehostoperatingsystemname": "os",
    "gluehostarchitectureplatformtype": "cpu",
}
_AT_LEAST = re.compile(r"TARGET\.(\w+) >= (\d{1,15})")
_IS = re.compile(r'TARGET\.(\w+) == ("(?:[^"\\]|\\.)*")')
_MEMBER = re.compile(rf'member\(("(?:[^"\\]|\\.)*"),TARGET\.{SOFTWARE}\)', re.IGNORECASE)


def expression(text: str) -> str:
    """An expression in the spelling of the library, ``other`` as TARGET; raises AdSyntaxError."""
    return _replaced(ads.expression(text), "other", "TARGET")


def to_glite(text: str) -> str:
    """An expression with TARGET as ``other``, which is what gLite calls it."""
    return _replaced(ads.expression(text), "target", "other")


def _replaced(text: str, scope: str, by: str) -> str:
    pieces = list(ads.tokens_of(text))
    behind = [*(each.text for each in pieces[1:]), ""]
    return "".join(
        by if each.kind == "name" and each.text.lower() == scope and after == "." else each.text
        for each, after in zip(pieces, behind, strict=True)
    )


def lift(text: str) -> tuple[dict[str, Any], str]:
    """The fields that ``Requirements`` says, and what is left of it; raises AdSyntaxError."""
    fields: dict[str, Any] = {}
    left: list[str] = []
    for term in terms_of(expression(text)):
        if (match := _AT_LEAST.fullmatch(term)) and match[1].lower() in _NUMBERS:
            key, unit = _NUMBERS[match[1].lower()]
            fields[key] = max(fields.get(key, 0), int(match[2]) * unit)
        elif (match := _IS.fullmatch(term)) and match[1].lower() in _TEXTS:
            fields[_TEXTS[match[1].lower()]] = _string(match[2])
        elif match := _MEMBER.fullmatch(term):
            fields["software"] = (*fields.get("software", ()), _string(match[1]))
        elif term.lower() != "true":
            left.append(term)
    return fields, all_of(left)


def terms_of(text: str) -> list[str]:
    """The parts of an expression that must all be true."""
    tokens = list(ads.tokens_of(text))
    while _is_enclosed(tokens):
        text = text.strip()[1:-1].strip()
        tokens = list(ads.tokens_of(text))
    outer = [n for n, each in enumerate(tokens) if each.depth == 0 and each.kind == "mark"]
    if any(_is_pair(tokens, n, "|") or tokens[n].text == "?" for n in outer):
        return [text]
    cuts = [n for n in outer if _is_pair(tokens, n, "&")]
    if not cuts:
        return [text]
    parts, start = [], 0
    for cut in [*cuts, len(tokens)]:
        parts.append("".join(each.text for each in tokens[start:cut]).strip())
        start = cut + 2
    return [term for part in parts for term in terms_of(part)]


def all_of(terms: Sequence[str]) -> str:
    """The terms as one expression; those that bind less tightly than ``&&`` in brackets."""
    if len(terms) < 2:
        return "".join(terms)
    return " && ".join(f"({each})" if _is_loose(each) else each for each in terms)


def said_in_requirements(job: Job) -> str:
    """Requirements of ``job`` for gLite; empty if it has none."""
    written = []
    for name, number in (
        ("GlueHostMainMemoryRAMSize", job.memory_mib),
        ("GlueCEPolicyMaxWallClockTime", minutes(job.wall_time)),
        ("GlueCEPolicyMaxCPUTime", minutes(job.cpu_time)),
    ):
        if number:
            written.append(f"other.{name} >= {number}")
    for name, text in (
        ("GlueHostOperatingSystemName", job.os),
        ("GlueHostArchitecturePlatformType", job.cpu),
    ):
        if text:
            written.append(f"other.{name} == {ads.quote(text)}")
    written += [f"Member({ads.quote(name)}, other.{SOFTWARE})" for name in job.software]
    if job.requirements:
        written.append(to_glite(job.requirements))
    return all_of(written)


def renamed(text: str, names: Mapping[str, str]) -> str:
    """An expression with other names for attributes; ``names`` has the old ones in lower case."""
    return "".join(
        names.get(each.text.lower(), each.text) if each.kind == "name" else each.text
        for each in ads.tokens_of(text)
    )


def names_in(text: str) -> Iterable[str]:
    """The names of attributes in an expression."""
    return [each.text for each in ads.tokens_of(text) if each.kind == "name"]


def _is_enclosed(tokens: Sequence[ads.Token]) -> bool:
    solid = [each for each in tokens if each.kind != "space"]
    if len(solid) < 3 or solid[0].text != "(" or solid[-1].text != ")":
        return False
    return all(each.depth > 0 for each in solid[1:-1])


def _is_pair(tokens: Sequence[ads.Token], n: int, mark: str) -> bool:
    return n + 1 < len(tokens) and tokens[n].text == mark == tokens[n + 1].text


def _is_loose(text: str) -> bool:
    tokens = list(ads.tokens_of(text))
    outer = [n for n, each in enumerate(tokens) if each.depth == 0 and each.kind == "mark"]
    return any(_is_pair(tokens, n, "|") or tokens[n].text == "?" for n in outer)


def _string(quoted: str) -> str:
    (only,) = ads.parse(f"[ it = {quoted} ]")
    if not isinstance(only.value, str):
        raise CondorError(f"{quoted} is no string")
    return only.value
