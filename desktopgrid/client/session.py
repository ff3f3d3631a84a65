"""A client's session with the server: questions and their answers, and the works that one waits
for.

Theory of operation. A question is said over the link, which numbers it; its answer comes back in
the link's thread and settles the Future that stands under that number. What was asked when a
connection broke is asked again by the link and has its effect once. A server that was restarted
knows no longer who watches what, so the works that are awaited are watched anew. grid.py is the
face of this for users.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any
from weakref import WeakMethod

from desktopgrid.client.connection import Connect, Connection, Transfers
from desktopgrid.client.parts import Part
from desktopgrid.client.replies import error_of, field, result_of, result_of_ended, status_of
from desktopgrid.client.watches import OnEnded, Watches
from desktopgrid.link.identity import Identity
from desktopgrid.link.session import Link
from desktopgrid.model.errors import GridError, Unavailable, UnknownObject
from desktopgrid.model.lifecycle import WorkStatus
from desktopgrid.model.objects import UID, Description, Result, new_uid
from desktopgrid.wire import messages as m
from desktopgrid.wire.codec import to_body

MANY = 16
"""Questions open at a time from which on a further one need not be sent at once."""

logger = logging.getLogger(__name__)

PATIENCE = 60.0
"""Seconds after which a server that says nothing is given up."""

WINDOW = 1_000
"""Requests that may be unanswered at a time; whoever asks one more waits."""

WORKS_A_WATCH = 2_000
"""Works that one request names."""

RESULTS_A_REQUEST = 100
"""Works whose results one request asks for; the server may answer with the first of them."""

Reply = dict[str, Any]


class GridSession:
    """Asks the server, from any thread."""

    def __init__(
        self, identity: Identity, connect: Connect = Link, patience: float = PATIENCE
    ) -> None:
        self.identity, self.patience = identity, patience
        self._lock = threading.Lock()
        self._unanswered: dict[int, Future[Reply]] = {}
        self._early: dict[int, m.Reply | m.Failure] = {}
        self._window = threading.Semaphore(WINDOW)
        self._watches = Watches()
        self._births = 0
        self._link: Connection = connect(
            identity, on_message=self._on_message, on_open=self._on_open, on_end=self._on_end
        )
        self._ended: GridError | None = None
        self._mourners: list[WeakMethod[Callable[[GridError], None]]] = []

    def __repr__(self) -> str:
        return (
            f"<GridSession with {self.identity.servers[0]}: {len(self._unanswered)} questions open,"
            f" {len(self._watches)} works awaited>"
        )

    def open(self) -> m.Welcome:
        """Connect; raises NotAuthenticated, Unavailable or whatever the server refuses with."""
        self._link.start()
        return self._link.wait_open(self.patience)

    def close(self) -> None:
        """Take leave; what is still asked gets no answer any more."""
        self._link.close(timeout=5.0, reason="the client is through")
        self._on_end(Unavailable("the session was closed before the server answered"))

    @property
    def welcome(self) -> m.Welcome:
        """Who we are to the server."""
        welcome = self._link.welcome
        return welcome if welcome is not None else self._link.wait_open(self.patience)

    @property
    def transfers(self) -> Transfers:
        """Where contents are moved."""
        return self._link.transfers

    def check(self) -> None:
        """Raise what ended the session for good, if something did."""
        if self._ended is not None:
            raise self._ended

    def when_ended(self, mourner: Callable[[GridError], None]) -> None:
        """Call ``mourner``, a method, when the session ends for good: what is awaited is not told
        any more. Its object is not kept alive for that.
        """
        self._mourners = [each for each in self._mourners if each() is not None]
        self._mourners.append(WeakMethod(mourner))

    # Questions and answers

    def ask(self, request: m.Request) -> Reply:
        """The server's answer; raises the error that it refuses with, or Unavailable after
        ``patience``.
        """
        return self.answer(self.post(request))

    def answer(self, asked: Future[Reply]) -> Reply:
        """Wait for what ``post`` promised."""
        try:
            return asked.result(self.patience)
        except TimeoutError:
            raise self._silence() from None

    def _silence(self) -> Unavailable:
        trouble = self._link.trouble
        why = f": {trouble}" if trouble else ""
        return Unavailable(f"the server has not answered for {self.patience:.0f} s{why}")

    def post(self, request: m.Request) -> Future[Reply]:
        """Ask without waiting for the answer, but for room where very many questions are open."""
        if not self._window.acquire(timeout=self.patience):
            raise self._silence()
        future: Future[Reply] = Future()
        future.add_done_callback(lambda _: self._window.release())
        try:
            self._say(request, future)
        except GridError:
            future.cancel()
            raise
        return future

    def _say(self, request: m.Request, future: Future[Reply]) -> None:
        self.check()
        # Who has many questions open waits for none of them: they may go out together.
        sequence = self._link.say(request, len(self._unanswered) >= MANY)
        with self._lock:
            # The answer may have been quicker than we are.
            answer = self._early.pop(sequence, None)
            if answer is None:
                self._unanswered[sequence] = future
                return
        _settle(future, answer)

    # Works

    def start(
        self,
        description: Description,
        part: Part,
        uid: UID | None = None,
        *,
        is_single: bool = False,
        on_ended: OnEnded | None = None,
    ) -> tuple[list[UID], Future[Reply]]:
        """Submit works without waiting: their names, and the promise of the server's answer.

        With ``on_ended`` each result is told, if the submission is accepted.
        """
        uid = uid or new_uid()
        count = len(part.arguments)
        works = [uid] if is_single else [f"{uid}-{part.first + n}" for n in range(count)]
        request = m.Submit(
            uid,
            to_body(description),
            part.arguments,
            part.first,
            is_single,
            watch=on_ended is not None,
        )
        if on_ended is None:
            return works, self.post(request)
        self._watches.add(works, on_ended)
        births = self._births
        try:
            asked = self.post(request)
        except GridError:
            self._watches.drop(works, on_ended)
            raise

        def heard(answer: Future[Reply]) -> None:
            if answer.cancelled() or answer.exception() is not None:
                self._watches.drop(works, on_ended)
                return
            still_open = self._watches.know(works)
            if births != self._births:
                # The server was restarted meanwhile, and its record of the answer watches nothing.
                self._watch_again(still_open)

        asked.add_done_callback(heard)
        return works, asked

    def watch(self, works: Sequence[UID], on_ended: OnEnded) -> None:
        """Tell ``on_ended`` what becomes of each of these works; of what has ended already, soon.

        Raises UnknownObject, and then nothing is watched.
        """
        self._watches.add(works, on_ended)
        try:
            for some in _portions(works):
                if unknown := self._take_watched(some, self.ask(m.Watch(some))):
                    raise UnknownObject.named("work", unknown[0])
        except GridError:
            self._watches.drop(works, on_ended)
            raise
        self._watches.know(works)

    def unwatch(self, works: Iterable[UID], on_ended: OnEnded) -> None:
        """``on_ended`` wants to hear no more of these."""
        self._watches.drop(works, on_ended)

    def _watch_again(self, works: Sequence[UID]) -> None:
        """Ask what has become of awaited works; never waits, for this is the link's thread."""
        for some in _portions(works):
            future: Future[Reply] = Future()
            future.add_done_callback(partial(self._on_watched, some))
            self._say(m.Watch(some), future)

    def _on_watched(self, works: tuple[UID, ...], answer: Future[Reply]) -> None:
        if error := answer.exception():
            logger.warning("The server tells of %d works no more: %s", len(works), error)
            return
        for work in self._take_watched(works, answer.result()):
            reason = "it was removed from the grid"
            self._watches.ended(Result(work, None, WorkStatus.ABORTED, reason=reason))

    def _take_watched(self, works: tuple[UID, ...], reply: Reply) -> list[UID]:
        """Fetch the results of those that have ended; those of which the server knows nothing."""
        ended = {str(entry["work"]): str(entry["status"]) for entry in field(reply, "ended", list)}
        self._fetch_results(ended)
        known = {*ended, *field(reply, "open", list)}
        return [work for work in works if work not in known]

    def _fetch_results(self, ended: Mapping[UID, str]) -> None:
        """Ask for the results of works that have ended, and tell them; never waits."""
        if not ended:
            return
        asked = tuple(itertools.islice(ended, RESULTS_A_REQUEST))
        left = dict(ended)

        def heard(answer: Future[Reply]) -> None:
            if error := answer.exception():
                logger.warning("The server does not give %d results: %s", len(left), error)
                return
            for row in answer.result().get("results", ()):
                result = result_of(row)
                left.pop(result.work, None)
                self._watches.ended(result)
            if not answer.result().get("more"):
                for work in asked:
                    if work in left:
                        reason = "its result is not to be had any more"
                        status = status_of(left.pop(work))
                        self._watches.ended(Result(work, None, status, reason=reason))
            self._fetch_results(left)

        future: Future[Reply] = Future()
        future.add_done_callback(heard)
        self._say(m.GetResults(asked), future)

    # What the link tells, in its thread

    def _on_open(self, welcome: m.Welcome) -> None:
        if not welcome.resumed:
            self._births += 1
            self._watch_again(self._watches.known())

    def _on_end(self, error: GridError) -> None:
        with self._lock:
            self._ended = self._ended or error
            orphans, self._unanswered = list(self._unanswered.values()), {}
        for future in orphans:
            if future.set_running_or_notify_cancel():
                future.set_exception(error)
        for reference in self._mourners:
            if mourner := reference():
                mourner(error)

    def _on_message(self, sequence: int, message: m.Message) -> None:
        if isinstance(message, m.Ended):
            self._watches.ended(result_of_ended(message))
        elif isinstance(message, (m.Reply, m.Failure)):
            with self._lock:
                future = self._unanswered.pop(message.to, None)
                if future is None:
                    self._early[message.to] = message
            if future is not None:
                _settle(future, message)


def _settle(future: Future[Reply], answer: m.Reply | m.Failure) -> None:
    if not future.set_running_or_notify_cancel():
        return
    if isinstance(answer, m.Failure):
        future.set_exception(error_of(answer))
    else:
        future.set_result(answer.body)


def _portions(names: Sequence[UID]) -> list[tuple[UID, ...]]:
    return [
        tuple(names[start : start + WORKS_A_WATCH]) for start in range(0, len(names), WORKS_A_WATCH)
    ]
