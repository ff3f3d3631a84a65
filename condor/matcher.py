"""Judges requirement expressions over hosts, in a process of its own.

A requirement comes from a user, and the ClassAd library is C++: 200,000 terms crash the parser, a
few lines can keep the evaluator busy for years. So classad2 is never loaded here, but in one small
child process with limits; an expression that kills or stalls the child is refused, remembered, and
costs the next caller nothing. Safe to share between threads; callers take turns.
"""

import json
import os
import resource
import selectors
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from condor.errors import MatcherUnavailable, RequirementRefused

# Whoever judges requirements needs nothing else of this package.
__all__ = ["Attributes", "Matcher", "MatcherUnavailable", "RequirementRefused"]

Attributes = Mapping[str, str | int | float | bool]

LONGEST_TEXT = 4096
"""Bytes of an expression. What people write has a few hundred."""

HOSTS_A_REQUEST = 100
"""The child gives 100 ms of CPU time to a request; an honest one of this size takes 5 ms."""

START_SECONDS = 20.0
ANSWER_SECONDS = 10.0
"""The child's own alarm is on CPU time; this one is for a child that gets none, or is stopped."""

REFUSALS_REMEMBERED = 1024
LIFETIME_CPU_SECONDS = 30.0

LIMITS = {
    resource.RLIMIT_AS: 512 * 1024 * 1024,
    resource.RLIMIT_CPU: int(2 * LIFETIME_CPU_SECONDS),
    resource.RLIMIT_CORE: 0,
    resource.RLIMIT_FSIZE: 0,
    resource.RLIMIT_NPROC: 0,
}

PROBE_HOSTS: tuple[Attributes, ...] = (
    {},
    {"Cpus": 4, "Memory": 8192, "Disk": 10**7, "OpSys": "LINUX", "Arch": "X86_64"},
)
"""What an expression is tried on when it is only checked."""

_CHILD = Path(__file__).with_name("matcher_child.py")


class Matcher:
    """Answers whether hosts satisfy requirements. Starts its child when it is first asked."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._child: _Child | None = None
        self._refusals: OrderedDict[str, str] = OrderedDict()

    def __repr__(self) -> str:
        child = f"child {self._child.pid}" if self._child else "no child"
        return f"<Matcher with {child}, {len(self._refusals)} expressions refused>"

    def check(self, expression: str) -> None:
        """Return if ``expression`` can be judged; raises as ``matches`` does."""
        self.matches(expression, PROBE_HOSTS)

    def matches(self, expression: str, hosts: Sequence[Attributes]) -> list[bool]:
        """Whether each of ``hosts`` satisfies ``expression``; undefined and error count as no.

        ``Cpus``, ``MY.Cpus`` and ``TARGET.Cpus`` all mean the host's attribute. Raises
        RequirementRefused for an expression that is wrong or costs too much, perhaps only on one
        of these hosts, and MatcherUnavailable when nobody is there to judge.
        """
        _refuse_by_its_text(expression)
        answers: list[bool] = []
        with self._turn:
            if expression in self._refusals:
                raise RequirementRefused(expression, self._refusals[expression])
            try:
                for start in range(0, len(hosts), HOSTS_A_REQUEST):
                    answers += self._ask(expression, hosts[start : start + HOSTS_A_REQUEST])
            except RequirementRefused as refused:
                self._remember(refused)
                raise
        return answers

    def close(self) -> None:
        """End the child. The next question would start another one."""
        with self._turn:
            self._drop_child()

    def _ask(self, expression: str, hosts: Sequence[Attributes]) -> list[bool]:
        request = {"expression": expression, "hosts": [dict(host) for host in hosts]}
        line = json.dumps(request).encode() + b"\n"
        reason = ""
        # A child may die of other causes (an administrator, the kernel out of memory): ask twice.
        for _ in range(2):
            child = self._running_child()
            answer = child.ask(line, ANSWER_SECONDS)
            if answer is not None:
                if answer["cpu_seconds"] > LIFETIME_CPU_SECONDS:
                    self._drop_child()
                if "refused" in answer:
                    raise RequirementRefused(expression, answer["refused"])
                return [bool(match) for match in answer["matches"]]
            ended_by = self._drop_child()
            if ended_by == -signal.SIGPROF:
                raise RequirementRefused(expression, "it takes too long to evaluate")
            reason = _words_for(ended_by)
        raise RequirementRefused(expression, f"who evaluates it {reason}")

    def _running_child(self) -> "_Child":
        if self._child is None or not self._child.is_alive():
            self._drop_child()
            self._child = _Child()
        return self._child

    def _drop_child(self) -> int | None:
        child, self._child = self._child, None
        return child.end() if child else None

    def _remember(self, refused: RequirementRefused) -> None:
        self._refusals[refused.expression] = refused.reason
        while len(self._refusals) > REFUSALS_REMEMBERED:
            self._refusals.popitem(last=False)


class _Child:
    """One child process: started, limited, and ready to be asked; raises MatcherUnavailable."""

    def __init__(self) -> None:
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", str(_CHILD)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={"CONDOR_CONFIG": os.devnull},
                bufsize=0,
                start_new_session=True,
            )
        except OSError as failure:
            raise MatcherUnavailable(f"its process does not start: {failure}") from failure
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: S101
        self._to, self._from = self._process.stdin, self._process.stdout
        # It ends by itself when our end of the pipe closes; this is for an orderly exit of ours.
        self.end = weakref.finalize(self, _end, self._process)
        self._limit()
        for pipe in (self._to, self._from):
            os.set_blocking(pipe.fileno(), False)
        greeting = self.ask(b"", START_SECONDS)
        if greeting is None or "ready" not in greeting:
            self.end()
            why = greeting["unavailable"] if greeting else "it does not come up"
            raise MatcherUnavailable(f"the matcher's process: {why}")

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def _limit(self) -> None:
        for limit, value in LIMITS.items():
            try:
                _, hard = resource.prlimit(self.pid, limit)
                value = value if hard == resource.RLIM_INFINITY else min(value, hard)
                resource.prlimit(self.pid, limit, (value, value))
            except ProcessLookupError:
                return  # it is dead already, which the greeting will show

    def ask(self, line: bytes, seconds: float) -> dict[str, Any] | None:
        """The answer to one request; None if the child died or did not answer in time."""
        deadline = time.monotonic() + seconds
        received = b""
        try:
            with selectors.DefaultSelector() as ready:
                ready.register(self._from, selectors.EVENT_READ)
                if line:
                    ready.register(self._to, selectors.EVENT_WRITE)
                while not received.endswith(b"\n"):
                    events = ready.select(deadline - time.monotonic())
                    if not events:
                        return None
                    for key, _ in events:
                        if key.fileobj is self._to:
                            line = line[self._to.write(line) or 0 :]
                            if not line:
                                ready.unregister(self._to)
                        else:
                            piece = self._from.read(65536)
                            if not piece:
                                return None
                            received += piece
            answer = json.loads(received)
        except (OSError, ValueError):
            return None
        return answer if isinstance(answer, dict) else None


def _end(process: subprocess.Popen[bytes]) -> int:
    """What the child ended by; it is killed if it lives."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    try:
        # It may be dying of its own alarm at this moment, and we want to know.
        return process.wait(0.2)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _refuse_by_its_text(expression: str) -> None:
    try:
        size = len(expression.encode())
    except UnicodeEncodeError:
        raise RequirementRefused(expression, "it is no Unicode text") from None
    if size > LONGEST_TEXT:
        raise RequirementRefused(
            expression, f"it has {size} bytes, and {LONGEST_TEXT} are the limit"
        )
    if not expression.strip():
        raise RequirementRefused(expression, "it is empty")


def _words_for(ended_by: int | None) -> str:
    if ended_by is not None and ended_by < 0:
        return f"is killed by {signal.Signals(-ended_by).name}"
    return f"ends with code {ended_by}"
