"""The grid as a `concurrent.futures` executor: functions run on workers, futures hold what came of
them.

    with GridExecutor() as grid:
        for area in grid.map(area_of, range(1000)):
            ...

Theory of operation. A function travels as shipping.py says, its arguments as JSON or as datas that
the grid has (:class:`NamedData`); the worker runs runner.py under the application `python`, which
an advanced user inserted for all. Where there is none, or where it may not be used, the runner is
inserted as a private application: then only workers under the user's own identity take the works,
and the first ``submit`` warns of it.

What comes back is JSON. Pickled results are loaded only where they are asked for, and then only
from private works that ran on a host of the caller's own: who unpickles what a stranger sent runs
the stranger's code.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import pickle
import secrets
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent import futures
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec

from desktopgrid.client import runner, shipping
from desktopgrid.client.calls import (
    Call,
    GridFuture,
    NamedData,
    PrivateWorks,
    RemoteError,
    Value,
    WorkFailed,
    answer_in,
    placed,
)
from desktopgrid.client.grid import Grid
from desktopgrid.client.parts import Part, parts_of
from desktopgrid.client.replies import rights_of
from desktopgrid.client.session import Reply
from desktopgrid.model.errors import GridError
from desktopgrid.model.lifecycle import WorkStatus
from desktopgrid.model.objects import ANY_PLATFORM, UID, Description, Result, digest, new_uid
from desktopgrid.model.rights import EXECUTE, PRIVATE, PUBLIC, Reach, reach_of
from desktopgrid.wire import messages as m

Parameters = ParamSpec("Parameters")

INLINE = 32 << 10
"""Bytes of a call that travel as an argument; a longer one goes as a data."""

RUNNER = Path(runner.__file__)


class GridExecutor(futures.Executor):
    """Runs functions on the grid. Threads may share it.

    ``results`` is ``json`` or ``pickle``; ``modules`` names what workers have beside the standard
    library (in ``env``, say). Further keywords are fields of a work's description:
    ``requirements``, ``env``, ``wall_time``, ``label`` ...
    """

    def __init__(
        self,
        grid: Grid | None = None,
        *,
        application: str = "python",
        results: str = "json",
        modules: Sequence[str] = (),
        **description: Any,
    ) -> None:
        if results not in ("json", "pickle"):
            raise ValueError(f"results are json or pickle, not {results!r}")
        self._grid = grid or Grid.open()
        self._owns_grid = grid is None
        self._results, self._modules = results, tuple(modules)
        self._description = Description(application, **description)
        self._lock = threading.Lock()
        self._readying = threading.RLock()
        self._is_ready = False
        self._is_private = False
        self._is_shut = False
        self._open: dict[UID, tuple[GridFuture[Any], str]] = {}
        self._own_hosts: dict[UID, bool] = {}
        # Results are unpacked here and not in the link's thread: that one must never wait.
        self._unpackers = futures.ThreadPoolExecutor(2, "grid-results")
        self._grid.session.when_ended(self._abandon)

    def __repr__(self) -> str:
        return f"<GridExecutor of {self._grid!r}: {len(self._open)} calls open>"

    def submit(
        self,
        fn: Callable[Parameters, Value],
        /,
        *args: Parameters.args,
        **kwargs: Parameters.kwargs,
    ) -> GridFuture[Value]:
        """Run ``fn(*args, **kwargs)`` on a worker; raises NotShippable, or what the grid refuses
        with.
        """
        return self._send([self._call(fn, args, kwargs)])[0]

    def map(
        self,
        fn: Callable[..., Value],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
    ) -> Iterator[Value]:
        """Like the built-in ``map``, in parallel; the works are submitted together, before this
        returns.

        ``chunksize`` has no meaning here: a call is a work. Raises TimeoutError from the iterator.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        calls = [self._call(fn, args, {}) for args in zip(*iterables, strict=False)]
        promises = self._send(calls) if calls else []

        def values() -> Iterator[Value]:
            try:
                for promise in promises:
                    left = None if deadline is None else deadline - time.monotonic()
                    yield promise.result(left)
            finally:
                for promise in promises:
                    promise.cancel()

        return values()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; with ``cancel_futures`` take back those that are open."""
        with self._lock:
            self._is_shut = True
            left = [promise for promise, _ in self._open.values()]
        if cancel_futures:
            for promise in left:
                promise.cancel()
        if wait:
            futures.wait(left)
            self._unpackers.shutdown()
            if self._owns_grid:
                self._grid.close()

    # Sending

    def _call(self, fn: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Call:
        function, first, given = shipping.plain(fn)
        datas: dict[str, UID] = {}
        given_args = [placed(each, datas) for each in (*first, *args)]
        named = {name: placed(each, datas) for name, each in {**given, **kwargs}.items()}
        shipping.check_arguments(given_args, named)
        marker = f"glidebridge-{secrets.token_hex(8)}"
        task = {
            "version": runner.VERSION,
            "marker": marker,
            "call": shipping.call_of(function, self._modules),
            "args": given_args,
            "kwargs": named,
            "results": self._results,
        }
        return Call(marker, json.dumps(task), tuple(datas.items()))

    def _send(self, calls: Sequence[Call]) -> list[GridFuture[Any]]:
        with self._readying:
            if self._is_shut:
                raise RuntimeError("the executor was shut down; it takes no more calls")
            if not self._is_ready:
                self._choose_application()
                # One first: what is wrong with the description is wrong with all of them.
                first, asked = self._start(calls[:1], *self._described(calls[0]))
                reply = self._grid.session.answer(asked)
                self._is_ready = True
                if self._is_private:
                    warnings.warn(str(reply.get("runs_on", "")), PrivateWorks, stacklevel=3)
                return [*first, *self._post(calls[1:])]
        return self._post(calls)

    def _choose_application(self) -> None:
        """The application for all, if it is there and may be used; else one of one's own."""
        named = self._description.application
        rows = [*self._grid.objects("apps", name=named), *self._grid.objects("apps", (named,))]
        if self._results == "json" and any(self._may_run(row) for row in rows):
            return
        content = RUNNER.read_bytes()
        name = f"python-{digest(content)[:12]}"
        for row in self._grid.objects("apps", name=name):
            if self._is_mine(row) and reach_of(rights_of(row)) is Reach.PRIVATE:
                uid = str(row["uid"])
                break
        else:
            reply = self._grid.send_application(name, content, ANY_PLATFORM, rights=PRIVATE)
            uid = str(reply["uid"])
        self._description = replace(self._description, application=uid)
        self._is_private = True

    def _may_run(self, row: Mapping[str, Any]) -> bool:
        # A group's application is listed to its members alone.
        return self._is_mine(row) or bool(rights_of(row) & (EXECUTE << 3 | EXECUTE))

    def _is_mine(self, row: Mapping[str, Any]) -> bool:
        return row.get("owner") == self._grid.session.welcome.user

    def _post(self, calls: Sequence[Call]) -> list[GridFuture[Any]]:
        """Send calls without waiting for the answers, as many as possible in a message."""
        promises: list[GridFuture[Any]] = []
        described = [(call, *self._described(call)) for call in calls]
        for description, some in itertools.groupby(described, key=lambda each: each[1]):
            batch = list(some)
            for part in parts_of(alone.arguments[0] for _, _, alone in batch):
                portion = batch[part.first : part.first + len(part.arguments)]
                promises += self._start([call for call, *_ in portion], description, part)[0]
        return promises

    def _described(self, call: Call) -> tuple[Description, Part]:
        """The description of a call's work, and its arguments; a long call goes as a data."""
        description = self._description
        arguments: tuple[str, ...] = (call.text,)
        if call.inputs:
            description = replace(description, inputs=(*description.inputs, *call.inputs))
        if len(call.text) > INLINE:
            rights = PRIVATE if self._is_private else PUBLIC
            data = self._grid.send_data(call.text.encode(), "call", type="json", rights=rights)
            description, arguments = replace(description, stdin=data.uid), ()
        return description, Part(0, (arguments,))

    def _start(
        self, calls: Sequence[Call], description: Description, part: Part
    ) -> tuple[list[GridFuture[Any]], futures.Future[Reply]]:
        """Submit one message of works; a refusal becomes the error of their futures."""
        uid = new_uid()
        works = [f"{uid}-{part.first + number}" for number in range(len(calls))]
        promises = [GridFuture[Any](work, self._take_back) for work in works]
        with self._lock:
            for promise, call in zip(promises, calls, strict=True):
                self._open[promise.work] = promise, call.marker
        try:
            _, asked = self._grid.session.start(description, part, uid, on_ended=self._on_ended)
        except GridError:
            with self._lock:
                for work in works:
                    del self._open[work]
            raise

        def heard(answer: futures.Future[Reply]) -> None:
            if error := answer.exception():
                for promise in promises:
                    self._unpackers.submit(self._settle, promise, _raising(error))

        asked.add_done_callback(heard)
        return promises, asked

    # What comes back

    def _on_ended(self, result: Result) -> None:
        """In the link's thread: only hand it on."""
        with self._lock:
            known = self._open.get(result.work)
        if known is not None:
            promise, marker = known
            promise.ended = result
            self._unpackers.submit(self._settle, promise, partial(self._value, result, marker))

    def _settle(self, promise: GridFuture[Any], value: Callable[[], Any]) -> None:
        promise.settle(value)
        with self._lock:
            self._open.pop(promise.work, None)

    def _value(self, result: Result, marker: str) -> Any:
        """What the function returned; raises what it raised, or WorkFailed."""
        if result.status is not WorkStatus.COMPLETED:
            raise WorkFailed(result, result.reason or f"it is {result.status.value}")
        try:
            answer = answer_in(self._grid.content(result, "stdout"), marker)
        except ValueError:
            raise WorkFailed(result, "its worker's answer makes no sense") from None
        if answer is None:
            said = self._grid.content(result, "stderr")[-500:].decode(errors="replace").strip()
            reason = f"it ended with exit code {result.exit_code} and no answer"
            raise WorkFailed(result, f"{reason}: {said}" if said else reason)
        if "error" in answer:
            raise answer["error"]
        return answer["value"] if "value" in answer else self._unpickled(result, answer["pickle"])

    def _unpickled(self, result: Result, text: str) -> Any:
        """The object in a pickle, if it may be trusted."""
        if self._results != "pickle":
            raise WorkFailed(result, "its worker sent a pickle that nobody asked for")
        if not self._is_private or not self._is_own_host(result.host):
            raise WorkFailed(result, "its worker is not your own; its pickle was not loaded")
        try:
            return pickle.loads(base64.b64decode(text))  # noqa: S301 - from the user's own worker
        except Exception as error:
            raise WorkFailed(result, f"its pickle could not be loaded: {error!r}") from error

    def _is_own_host(self, host: UID | None) -> bool:
        if host is None:
            return False
        if host not in self._own_hosts:
            rows = list(self._grid.objects("hosts", (host,)))
            self._own_hosts[host] = bool(rows) and all(self._is_mine(row) for row in rows)
        return self._own_hosts[host]

    def _take_back(self, work: UID) -> None:
        with self._lock:
            self._open.pop(work, None)
        # Nobody waits for the answer; a work that has ended meanwhile stays as it is.
        with contextlib.suppress(GridError):
            self._grid.session.post(m.Cancel((work,)))

    def _abandon(self, error: GridError) -> None:
        """The session is over: what is open will not be told."""
        with self._lock:
            left, self._open = list(self._open.values()), {}
        for promise, _ in left:
            promise.settle(_raising(error))


def _raising(error: BaseException) -> Callable[[], Any]:
    def raise_it() -> Any:
        raise error

    return raise_it


__all__ = ["GridExecutor", "GridFuture", "NamedData", "PrivateWorks", "RemoteError", "WorkFailed"]
