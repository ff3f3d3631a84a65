"""The calls that an executor sends, the futures of what will come of them, and how an answer is
read.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass
from typing import Any, TypeVar

from desktopgrid.client.shipping import NotShippable
from desktopgrid.model.errors import GridError
from desktopgrid.model.objects import UID, Result

Value = TypeVar("Value")


class RemoteError(Exception):
    """What a function raised on its worker; the type is told by its name, for its class may not be
    here.
    """

    def __init__(self, type: str, message: str, traceback: str = "") -> None:
        super().__init__(f"{type}: {message}" if message else type)
        self.type, self.message, self.traceback = type, message, traceback
        if traceback:
            self.add_note(f"On the worker:\n{traceback}")


class WorkFailed(GridError):
    """A work came to nothing: no answer of the function is there. ``result`` has what is known."""

    code = "work-failed"

    def __init__(self, result: Result, reason: str) -> None:
        super().__init__(f"work {result.work} failed: {reason}")
        self.result = result


class PrivateWorks(UserWarning):
    """Only workers of the user's own take his works."""


@dataclass(frozen=True)
class NamedData:
    """A data as an argument: the function gets the name of a file in its directory."""

    uid: UID
    name: str


class GridFuture(futures.Future[Value]):
    """What will come of a call. ``work`` is the work's UID, ``ended`` what the grid tells of it at
    last.

    It can be cancelled until its result is here: a work that runs is stopped.
    """

    def __init__(self, work: UID, cancel: Callable[[UID], None]) -> None:
        super().__init__()
        self.work = work
        self.ended: Result | None = None
        self._cancel = cancel
        self._settling = threading.Lock()

    def cancel(self) -> bool:
        """Take the work back; False if its result is here already."""
        with self._settling:
            if self.cancelled():
                return True
            if not super().cancel():
                return False
            # Whoever waits for it waits no longer.
            self.set_running_or_notify_cancel()
        self._cancel(self.work)
        return True

    def settle(self, value: Callable[[], Value]) -> None:
        """The result is here: what ``value`` gives or raises. A cancelled future stays so."""
        try:
            found, error = value(), None
        except Exception as raised:
            found, error = None, raised
        with self._settling:
            if self.done() or not self.set_running_or_notify_cancel():
                return
        if error is not None:
            self.set_exception(error)
        else:
            self.set_result(found)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Call:
    """A call on its way: the marker of its answer, its JSON, and the datas that it needs."""

    marker: str
    text: str
    inputs: tuple[tuple[str, UID], ...]


def placed(argument: Any, datas: dict[str, UID]) -> Any:
    """An argument as it travels: a data is the name of a file, which goes into ``datas``."""
    if not isinstance(argument, NamedData):
        return argument
    if datas.setdefault(argument.name, argument.uid) != argument.uid:
        raise NotShippable(f"two datas are called {argument.name!r}")
    return argument.name


def answer_in(stdout: bytes, marker: str) -> dict[str, Any] | None:
    """The runner's answer at the end of what a work printed; None if there is none.

    A worker may lie: ``error`` is a RemoteError, ``value`` anything that is JSON, ``pickle`` a
    text, or ValueError is raised.
    """
    _, found, frame = stdout.rpartition(f"\n{marker} ".encode())
    if not found:
        return None
    answer = json.loads(frame)
    if not isinstance(answer, dict) or len(answer) != 1:
        raise ValueError("an answer has one of error, value and pickle")
    if "error" in answer:
        told = answer["error"]
        if not isinstance(told, dict):
            raise ValueError("an error has a type, a message and a traceback")
        fields = (str(told.get(name, "")) for name in ("type", "message", "traceback"))
        return {"error": RemoteError(*fields)}
    if "value" not in answer and not isinstance(answer.get("pickle"), str):
        raise ValueError("a pickle is base64 text")
    return answer
