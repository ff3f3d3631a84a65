"""Functions are sent with what they need, run elsewhere as here, or are refused by name."""

from __future__ import annotations

import functools
import json
import math
import subprocess
import sys
import types
from collections import Counter as Tally
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from desktopgrid.client import runner
from desktopgrid.client.shipping import NotShippable, call_of, check_arguments, plain

RATE = 3
TABLE = {"a": [1, 2]}
OPENED = object()


def triple(number: int) -> int:
    return RATE * number


def chain(number: int) -> int:
    return triple(triple(number)) + TABLE["a"][1]


def circle(radius: float) -> float:
    return math.pi * radius**2


def common(text: str) -> str:
    return Tally(text).most_common(1)[0][0]


def factorial(number: int) -> int:
    return 1 if number < 2 else number * factorial(number - 1)


def is_even(number: int) -> bool:
    return number == 0 or is_odd(number - 1)


def is_odd(number: int) -> bool:
    return number != 0 and is_even(number - 1)


class Point:
    def __init__(self, x: int) -> None:
        self.x = x

    def moved(self) -> Point:
        return Point(self.x + RATE)


def move(x: int) -> int:
    return Point(x).moved().x


@functools.lru_cache
def cached(number: int = RATE) -> int:
    return number + 1


def annotated(path: Path | None = None) -> NotShippable | None:
    return None


def both(number: int) -> int:
    return RATE + triple(number)


double = lambda number: RATE * number  # noqa: E731 - as users write them
either = [lambda number: number + 1, lambda number, by=RATE: number - by]


def nested(numbers: list[int]) -> list[int]:
    def inner(number: int) -> int:
        return triple(number)

    return [inner(number) for number in numbers]


def elsewhere(task: dict[str, Any], python: str = sys.executable) -> dict[str, Any]:
    """What the runner answers, in a process and a directory of its own."""
    done = subprocess.run(
        [python, "-I", runner.__file__],
        input=json.dumps(task),
        capture_output=True,
        text=True,
        check=True,
    )
    _, _, frame = done.stdout.rpartition("\nmark ")
    answer: dict[str, Any] = json.loads(frame)
    return answer


def a_task(function: Callable[..., Any], *args: Any, **fields: Any) -> dict[str, Any]:
    """A call as it travels."""
    return {
        "version": runner.VERSION,
        "marker": "mark",
        "call": call_of(function),
        "args": list(args),
        "kwargs": {},
        "results": "json",
        **fields,
    }


CASES: list[tuple[Callable[..., Any], list[Any]]] = [
    (math.hypot, [3, 4]),
    (len, ["four"]),
    (triple, [4]),
    (chain, [2]),
    (circle, [1.0]),
    (common, ["abbc"]),
    (factorial, [10]),
    (is_even, [10]),
    (move, [1]),
    (cached, []),
    (annotated, []),
    (nested, [[1, 2]]),
    (double, [4]),
    (either[0], [4]),
    (either[1], [4]),
    (lambda text: "".join(sorted(text)), ["cab"]),
]


@pytest.mark.parametrize("function, args", CASES, ids=lambda case: getattr(case, "__name__", ""))
def test_a_function_gives_elsewhere_what_it_gives_here(
    function: Callable[..., Any], args: list[Any]
) -> None:
    assert elsewhere(a_task(function, *args)) == {"value": function(*args)}


def test_the_oldest_python_of_a_node_runs_them_too(python39: Path) -> None:
    for function, args in CASES:
        assert elsewhere(a_task(function, *args), str(python39)) == {"value": function(*args)}


def test_what_the_standard_library_has_goes_by_reference() -> None:
    assert call_of(math.sqrt) == {"reference": "math:sqrt"}
    assert call_of(Path.exists) == {"reference": "pathlib:Path.exists"}
    top = triple.__module__.partition(".")[0]
    assert call_of(triple, modules=[top]) == {"reference": f"{triple.__module__}:triple"}


def test_a_closure_goes_with_its_values() -> None:
    factor = 7

    def times(number: int) -> int:
        return factor * number

    assert elsewhere(a_task(times, 6)) == {"value": 42}


def test_a_partial_is_its_function_and_arguments() -> None:
    inner = functools.partial(pow, 2)
    assert plain(functools.partial(inner, 5, mod=7)) == (pow, (2, 5), {"mod": 7})


def with_undefined() -> Any:
    return nowhere  # type: ignore[name-defined]  # noqa: F821


def with_object() -> Any:
    return OPENED


def test_what_cannot_go_along_is_refused_by_name() -> None:
    i = 1

    def default(value: int = i) -> int:
        return value

    i = OPENED  # type: ignore[assignment]
    refusals = [
        (eval("lambda: 1"), "the source of a lambda"),  # noqa: S307 - has no source
        (with_undefined, "'nowhere', which is defined nowhere"),
        (with_object, "'OPENED' is used but cannot go along"),
        (Point(1).moved, "is no function"),
        (Tally(), "is no function"),
        (default, "'i', which is defined nowhere"),
    ]
    for function, complaint in refusals:
        with pytest.raises(NotShippable, match=complaint):
            call_of(function)


def test_two_things_of_one_name_are_refused() -> None:
    elsewhere = {"RATE": 99, "triple": triple}
    with pytest.raises(NotShippable, match="two different things are called 'RATE'"):
        call_of(types.FunctionType(both.__code__, elsewhere, "both"))
    equal = {"RATE": RATE, "triple": triple}
    assert call_of(types.FunctionType(both.__code__, equal, "both"))["values"] == {"RATE": 3}


@pytest.mark.parametrize(
    "argument, complaint",
    [
        (b"x", "bytes"),
        ({1: 2}, "the key 1"),
        ({"a": [{2}]}, "set"),
        (OPENED, "object"),
        (True, None),
        ([1, "a", None, {"b": (1.5,)}], None),
    ],
)
def test_arguments_are_json_or_refused(argument: Any, complaint: str | None) -> None:
    if complaint is None:
        check_arguments([argument], {"name": argument})
        return
    with pytest.raises(NotShippable, match=complaint):
        check_arguments([argument], {})
    with pytest.raises(NotShippable, match=complaint):
        check_arguments([], {"name": argument})


def prints_and_fails(code: int) -> None:
    print("\nmark {}")
    if code == 1:
        raise ValueError("no luck\nat all")
    if code == 2:
        raise SystemExit(3)
    sys.exit()


def test_an_error_comes_back_with_the_traceback_of_the_functions_own_lines() -> None:
    error = elsewhere(a_task(prints_and_fails, 1))["error"]
    assert (error["type"], error["message"]) == ("ValueError", "no luck\nat all")
    assert 'raise ValueError("no luck' in error["traceback"]
    assert "runner.py" not in error["traceback"]
    assert elsewhere(a_task(prints_and_fails, 2))["error"]["type"] == "SystemExit"


def odd_result() -> Any:
    return {1: 2}


@pytest.mark.parametrize(
    "task, type, message",
    [
        (a_task(odd_result), "TypeError", "the key 1"),
        (a_task(triple, version=99), "RuntimeError", "version 1 only"),
        (a_task(triple, call={"reference": "no_such_module:f"}), "ModuleNotFoundError", "no_such"),
    ],
)
def test_what_the_runner_cannot_do_is_an_error_of_the_call(
    task: dict[str, Any], type: str, message: str
) -> None:
    error = elsewhere(task)["error"]
    assert error["type"] == type
    assert message in error["message"]
