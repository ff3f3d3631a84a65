"""A job at the counter, as who carries it over sees it: what can be asked of its carrier, and what
may happen meanwhile.
"""

from __future__ import annotations

import queue
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.carrier import CHUNK, frame
from desktopgrid.model.errors import GridError
from desktopgrid.model.objects import Result

PATIENCE = 120.0
"""Seconds that a carrier may take to read or write a piece."""


class Gone(GridError):
    """The carrier is away: it hands the job in again, or it is dead."""


class Cancelled(GridError):
    """The job is wanted no more where it comes from: removed, held, vacated."""


class CarrierFailed(GridError):
    """The carrier cannot read or write what the job's owner named."""


@dataclass(frozen=True)
class Said:
    """What a carrier answered."""

    message: Mapping[str, Any]
    content: bytes


class Lost(GridError):
    """Nobody tells any more what becomes of the work; it is to be looked for anew."""


Event = Said | Result | Lost | type[Gone] | type[Cancelled]


class HandedJob:
    """One connection of a carrier. Asked by one thread, told by others."""

    def __init__(self, facts: Mapping[str, Any], connection: socket.socket) -> None:
        self.facts = facts
        self._connection = connection
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._result: Result | None = None
        self._lost: Lost | None = None
        self._is_gone, self._is_cancelled = False, bool(facts.get("is_cancelled"))

    def tell(self, event: Event) -> None:
        """Something happened; from any thread."""
        self._events.put(event)

    def ended(self, result: Result) -> None:
        """The work is over."""
        self.tell(result)

    def lost(self, error: GridError) -> None:
        """The session that would tell has come to its end."""
        self.tell(Lost(str(error)))

    # What is awaited

    def check(self) -> None:
        """Raise Gone or Cancelled if that has happened."""
        while not self._events.empty():
            self._note(self._events.get())
        self._raise()

    def pause(self, seconds: float) -> None:
        """Wait so long; raises Gone, or Cancelled, as soon as that happens."""
        self._raise()
        try:
            self._note(self._events.get(timeout=seconds))
        except queue.Empty:
            return
        self._raise()

    def result(self) -> Result:
        """Wait for what becomes of the work; raises Gone, Cancelled or Lost."""
        while self._result is None:
            self._raise()
            if self._lost is not None:
                lost, self._lost = self._lost, None
                raise lost
            self._note(self._events.get())
        return self._result

    def wait(self) -> None:
        """Wait until it is wanted no more, or its carrier is gone: raises Cancelled or Gone."""
        while True:
            self._raise()
            self._note(self._events.get())

    def take_back(self) -> None:
        """That it was cancelled is known by now: from here on only Gone is raised."""
        self._is_cancelled = False

    def _note(self, event: Event) -> None:
        if isinstance(event, Result):
            self._result = event
        elif isinstance(event, Lost):
            self._lost = event
        elif event is Gone:
            self._is_gone = True
        elif event is Cancelled:
            self._is_cancelled = True

    def _raise(self) -> None:
        if self._is_gone:
            raise Gone("its carrier is away")
        if self._is_cancelled:
            raise Cancelled("it is wanted no more where it comes from")

    # What the carrier is asked

    def _ask(self, message: Mapping[str, Any], content: bytes = b"") -> bytes:
        if self._is_gone:
            raise Gone("its carrier is away")
        try:
            self._connection.sendall(frame(dict(message), content))
        except OSError as error:
            raise Gone(f"its carrier is away: {error}") from error
        while True:
            try:
                event = self._events.get(timeout=PATIENCE)
            except queue.Empty:
                raise Gone(f"its carrier has not answered for {PATIENCE:.0f} s") from None
            if isinstance(event, Said):
                break
            self._note(event)
            if self._is_gone:
                raise Gone("its carrier is away")
        if event.message.get("say") != "done":
            raise CarrierFailed(str(event.message.get("reason", "the carrier failed")))
        return event.content

    def read(self, name: str) -> Iterator[bytes]:
        """The content of one of its files, or of its standard input, which has no name."""
        offset = 0
        while piece := self._ask({"do": "read", "name": name, "offset": offset, "length": CHUNK}):
            yield piece
            offset += len(piece)
            self.check()

    def fetch(self, name: str, target: Path) -> Path:
        """Write one of its files to ``target``."""
        with target.open("wb") as file:
            for piece in self.read(name):
                file.write(piece)
        return target

    def write(self, name: str, source: Path) -> None:
        """Put ``source`` where the output ``name`` belongs: all of it, or nothing."""
        size, offset = source.stat().st_size, 0
        with source.open("rb") as file:
            while True:
                piece = file.read(CHUNK)
                is_last = offset + len(piece) >= size
                said = {"do": "write", "name": name, "offset": offset, "is_last": is_last}
                self._ask(said, piece)
                offset += len(piece)
                if is_last:
                    return

    def stream(self, name: str, source: Path) -> None:
        """Write ``source`` to its ``stdout`` or ``stderr``; what is there already is left out."""
        offset = 0
        with source.open("rb") as file:
            while piece := file.read(CHUNK):
                self._ask({"do": "stream", "name": name, "offset": offset}, piece)
                offset += len(piece)

    def note(self, status: str, attributes: Mapping[str, str]) -> None:
        """Say how it does to who asks for it where it comes from."""
        self._ask({"do": "note", "status": status, "attributes": dict(attributes)})

    def end(self, *, code: int = 0, signal: int = 0, hold: str = "") -> None:
        """Say how it ended. The carrier is gone after that."""
        status = "held" if hold else "ended"
        self._ask({"do": "end", "status": status, "code": code, "signal": signal, "hold": hold})
