"""The matcher refuses what is wrong or costs too much, and outlives all of it."""

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from condor import matcher as module
from condor.errors import MatcherUnavailable, RequirementRefused
from condor.matcher import Matcher

DOUBLED_60_TIMES = (
    "[a0 = 1; " + "; ".join(f"a{i + 1} = a{i} + a{i}" for i in range(60)) + "].a60 > 1"
)
GROWING_TEXT = (
    '[a0 = "aaaaaaaa"; '
    + "; ".join(f"a{i + 1} = strcat(a{i}, a{i})" for i in range(64))
    + '].a64 == ""'
)
BACKTRACKING = f'regexp("^(a+)+$", "{"a" * 40}b")'


@pytest.fixture(scope="module")
def shared() -> Iterator[Matcher]:
    matcher = Matcher()
    yield matcher
    matcher.close()


@pytest.fixture
def matcher() -> Iterator[Matcher]:
    matcher = Matcher()
    yield matcher
    matcher.close()


def child_of(matcher: Matcher) -> int:
    assert matcher._child is not None
    return matcher._child.pid


@pytest.mark.parametrize(
    "expression, hosts, answers",
    [
        pytest.param("Cpus > 2", [{"Cpus": 4}, {"Cpus": 2}], [True, False], id="a number"),
        pytest.param('OpSys == "linux"', [{"OpSys": "LINUX"}], [True], id="== minds no case"),
        pytest.param("cpus > 2", [{"CPUS": 4}], [True], id="nor do names"),
        pytest.param("TARGET.Cpus > 2 && MY.Cpus > 2", [{"Cpus": 4}], [True], id="prefixes"),
        pytest.param(
            "HasGpu", [{"HasGpu": True}, {"HasGpu": False}], [True, False], id="a boolean"
        ),
        pytest.param("Cpus", [{"Cpus": 4}, {"Cpus": 0}], [True, False], id="a number as truth"),
        pytest.param("Load < 0.5", [{"Load": 0.25}], [True], id="a real"),
        pytest.param("Name", [{"Name": "true"}], [False], id="text is no truth"),
        pytest.param("Gpus > 0", [{}], [False], id="undefined"),
        pytest.param("Cpus / 0 > 1", [{"Cpus": 1}], [False], id="an error"),
        pytest.param("nosuch(1)", [{}], [False], id="an unknown function"),
        pytest.param("Cpus > 2\n && true // why not", [{"Cpus": 4}], [True], id="lines, a comment"),
        pytest.param('Name == "é"', [{"Name": "é"}], [True], id="beyond ASCII"),
        pytest.param("Cpus > 2", [], [], id="no host"),
    ],
)
def test_requirements_are_judged(
    shared: Matcher,
    expression: str,
    hosts: list[dict[str, str | int | float | bool]],
    answers: list[bool],
) -> None:
    assert shared.matches(expression, hosts) == answers


def test_hosts_beyond_one_request_are_judged_in_their_order(shared: Matcher) -> None:
    hosts = [{"Cpus": number} for number in range(1050)]
    assert shared.matches("Cpus % 7 == 0", hosts) == [number % 7 == 0 for number in range(1050)]


@pytest.mark.parametrize(
    "attributes",
    [
        {"Cpus": 10**30},
        {"Cpus": float("nan")},
        {"Cpus": "\ud800"},
        {"Cpus": "a\0b"},
        {"Cp us; x = 1": 1},
        {"": 1},
    ],
    ids=repr,
)
def test_a_host_that_no_ad_can_hold_harms_nobody(
    shared: Matcher, attributes: dict[str, str | int | float | bool]
) -> None:
    shared.check("true")
    before = child_of(shared)
    assert shared.matches("Cpus > 2", [attributes, {"Cpus": 3}])[1] is True
    assert child_of(shared) == before


@pytest.mark.parametrize(
    "expression, reason",
    [
        pytest.param("Cpus >", "no well-formed", id="syntax"),
        pytest.param("Cpus = 4", "no well-formed", id="an assignment"),
        pytest.param("(Cpus > 4", "no well-formed", id="an open parenthesis"),
        pytest.param("true); more = (1", "more than one", id="a second attribute"),
        pytest.param("true] [x = 1", "no well-formed", id="a second ad"),
        pytest.param("true /* for ever", "no well-formed", id="an open comment"),
        pytest.param("a\0b", "no well-formed", id="NUL"),
        pytest.param("", "empty", id="nothing"),
        pytest.param(" \n", "empty", id="white space"),
        pytest.param("\ud800", "no Unicode", id="half a character"),
        pytest.param("x" * 4097, "4097 bytes", id="one byte too many"),
        pytest.param(f'Name == "{"x" * 5000}"', "bytes, and 4096 are the limit", id="5 KiB"),
        pytest.param(" && ".join(["true"] * 200_000), "are the limit", id="200,000 terms"),
        pytest.param("&&".join(["x"] * 1300), "nested too deeply, or too long", id="1,300 terms"),
        pytest.param("(" * 2000 + "1" + ")" * 2000, "no well-formed", id="2,000 parentheses"),
        pytest.param("-" * 4000 + "1", "no well-formed", id="4,000 signs"),
        pytest.param(DOUBLED_60_TIMES, "takes too long", id="exponential time"),
        pytest.param(BACKTRACKING, "takes too long", id="a backtracking pattern"),
    ],
)
def test_what_cannot_be_judged_is_refused(shared: Matcher, expression: str, reason: str) -> None:
    with pytest.raises(RequirementRefused, match=reason):
        shared.check(expression)
    assert shared.matches("Cpus > 2", [{"Cpus": 4}]) == [True]


def test_memory_is_limited_as_well(shared: Matcher) -> None:
    with pytest.raises(RequirementRefused):
        shared.check(GROWING_TEXT)
    assert shared.matches("true", [{}]) == [True]


def test_an_expression_that_killed_a_child_kills_no_second_one(matcher: Matcher) -> None:
    with pytest.raises(RequirementRefused):
        matcher.check(DOUBLED_60_TIMES)
    matcher.check("true")
    survivor = child_of(matcher)
    with pytest.raises(RequirementRefused, match="takes too long"):
        matcher.check(DOUBLED_60_TIMES)
    assert child_of(matcher) == survivor


def test_an_expression_may_be_dear_on_one_host_only(matcher: Matcher) -> None:
    expression = f"Cpus =?= 128 && {DOUBLED_60_TIMES}"
    matcher.check(expression)
    with pytest.raises(RequirementRefused, match="takes too long"):
        matcher.matches(expression, [{"Cpus": 4}, {"Cpus": 128}])


def test_a_child_that_somebody_killed_is_replaced_and_the_answer_is_right(matcher: Matcher) -> None:
    matcher.check("true")
    os.kill(child_of(matcher), signal.SIGKILL)
    assert matcher.matches("Cpus > 2", [{"Cpus": 4}]) == [True]


def test_a_child_that_is_killed_while_it_answers_is_asked_again_in_the_next(
    matcher: Matcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    matcher.check("true")
    first = child_of(matcher)
    os.kill(first, signal.SIGSTOP)
    answers: list[list[bool]] = []
    asking = threading.Thread(
        target=lambda: answers.append(matcher.matches("Cpus > 2", [{"Cpus": 4}] * 5000))
    )
    asking.start()
    os.kill(first, signal.SIGKILL)
    asking.join(20)
    assert answers == [[True] * 5000]
    assert child_of(matcher) != first


def test_a_child_that_stalls_is_killed_and_replaced(
    matcher: Matcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.3)
    matcher.check("true")
    first = child_of(matcher)
    os.kill(first, signal.SIGSTOP)
    assert matcher.matches("Cpus > 2", [{"Cpus": 4}]) == [True]
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)


def test_callers_on_many_threads_get_their_own_answers(shared: Matcher) -> None:
    def ask(number: int) -> bool:
        if number % 10 == 0:
            with pytest.raises(RequirementRefused):
                shared.check(f"{DOUBLED_60_TIMES} || {number % 20}")
        return shared.matches(f"Cpus == {number}", [{"Cpus": number}, {"Cpus": -1}]) == [
            True,
            False,
        ]

    with ThreadPoolExecutor(8) as callers:
        assert all(callers.map(ask, range(60)))


def test_a_worn_out_child_is_replaced(matcher: Matcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIFETIME_CPU_SECONDS", 0.0)
    assert matcher.matches("true", [{}]) == [True]
    assert matcher._child is None
    assert matcher.matches("true", [{}]) == [True]


@pytest.mark.parametrize(
    "limit, value",
    [
        (resource.RLIMIT_AS, 512 * 1024 * 1024),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ],
)
def test_the_child_has_limits(shared: Matcher, limit: int, value: int) -> None:
    shared.check("true")
    assert resource.prlimit(child_of(shared), limit) == (value, value)


def test_without_classad2_it_says_so(
    matcher: Matcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "child.py"
    broken.write_text('print(\'{"unavailable": "no module named classad2"}\')')
    monkeypatch.setattr(module, "_CHILD", broken)
    with pytest.raises(MatcherUnavailable, match="no module named classad2"):
        matcher.check("true")


def test_the_child_starts_at_the_first_question_and_ends_with_the_parent() -> None:
    program = (
        "import sys\n"
        "from condor.matcher import Matcher\n"
        "matcher = Matcher()\n"
        "assert matcher._child is None\n"
        "matcher.check('Cpus > 2')\n"
        "assert not {'classad2', 'htcondor2'} & set(sys.modules)\n"
        "print(matcher._child.pid, flush=True)\n"
        "sys.stdin.read()\n"
        "import os, signal\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = Path(module.__file__).parent.parent
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdin is not None and parent.stdout is not None
        child = Path(f"/proc/{int(parent.stdout.readline())}")
        assert child.exists()
        parent.stdin.close()
        parent.wait(10)
    deadline = time.monotonic() + 10
    while child.exists() and "State:\tZ" not in (child / "status").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
