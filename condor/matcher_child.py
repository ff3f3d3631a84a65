"""The program that judges requirements for matcher.py: a line of JSON in, a line of JSON out.

    {"expression": "Cpus > 2", "hosts": [{"Cpus": 4}, {}]}
    {"matches": [true, false], "cpu_seconds": 0.06}      or  {"refused": "it is no ...", ...}

It is run by its path in an isolated interpreter, and needs nothing but classad2. Expressions are
hostile: one may cost for ever, exhaust memory, or crash the parser. So this process sets itself an
alarm on its own CPU time, which kills it (a busy machine does not make it ring early), and leaves
the rest, limits on memory and the restart, to its parent.
"""

import json
import math
import re
import secrets
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

REQUEST_CPU_SECONDS = 0.1
"""For one request: 100 hosts at most, a few milliseconds if the expression is an honest one."""

_ATTRIBUTE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_HALF_A_CHARACTER = re.compile("[\ud800-\udfff]")
_SENTINEL = f"end_{secrets.token_hex(8)}"


class _Refused(Exception):
    """The expression will not be judged, for the reason given."""


def judge(classad2: Any, expression: str, hosts: Sequence[Mapping[str, Any]]) -> list[bool]:
    """Whether each of ``hosts`` satisfies ``expression``; undefined and error do not."""
    requirement = _parse(classad2, expression)
    return [_is_true(_evaluate(classad2, requirement, host)) for host in hosts]


def _parse(classad2: Any, expression: str) -> Any:
    # What a text like `true); more = (1` or `true] [x = 1` smuggles in changes the attributes of
    # this ad, or cuts off the last one, whose name nobody can know. The line's end closes comments.
    text = f"[requirements = ({expression}\n); {_SENTINEL} = true]"
    try:
        ad = classad2.ClassAd(text)
    except (classad2.ClassAdException, ValueError):
        raise _Refused("it is no well-formed ClassAd expression") from None
    if sorted(ad) != sorted(("requirements", _SENTINEL)):
        raise _Refused("it is more than one ClassAd expression")
    return ad.lookup("requirements")


def _evaluate(classad2: Any, requirement: Any, host: Mapping[str, Any]) -> object:
    # `Cpus`, `MY.Cpus` and `TARGET.Cpus` all mean the host; the library wants two ads for that.
    try:
        return requirement.eval(_ad(classad2, host), _ad(classad2, host))
    except classad2.ClassAdException:
        raise _Refused("it is nested too deeply, or too long, to be evaluated") from None


def _ad(classad2: Any, host: Mapping[str, Any]) -> Any:
    # What an ad cannot hold is left out, so undefined: the library would not raise but crash, and
    # a worker that lies about its host must not get other people's expressions refused.
    ad = classad2.ClassAd()
    for name, value in host.items():
        if _ATTRIBUTE.match(name) and _fits(value):
            ad[name] = value
    return ad


def _fits(value: object) -> bool:
    if isinstance(value, str):
        return "\0" not in value and not _HALF_A_CHARACTER.search(value)
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and -(2**63) <= value < 2**63


def _is_true(value: object) -> bool:
    # Numbers count as HTCondor counts them; classad2.Value (undefined, error) is a number too.
    return type(value) in (bool, int, float) and bool(value)


def main() -> int:
    """Answer requests until the parent closes the pipe."""
    try:
        import classad2
    except ImportError as absent:
        _say({"unavailable": f"{absent}"})
        return 1
    _say({"ready": True})
    for line in sys.stdin.buffer:
        signal.setitimer(signal.ITIMER_PROF, REQUEST_CPU_SECONDS)
        request = json.loads(line)
        try:
            answer: dict[str, object] = {
                "matches": judge(classad2, request["expression"], request["hosts"])
            }
        except _Refused as refused:
            answer = {"refused": str(refused)}
        signal.setitimer(signal.ITIMER_PROF, 0)
        _say(answer | {"cpu_seconds": time.process_time()})
    return 0


def _say(answer: Mapping[str, object]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
