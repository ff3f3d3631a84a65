"""How far along something is: a bar on a terminal, now and then a line elsewhere. Always on
standard error.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TextIO

BAR_SECONDS = 0.1
LINE_SECONDS = 5.0


class Progress:
    """A context manager; ``show`` says how much is done, as often as one likes."""

    def __init__(
        self,
        what: str,
        total: int,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        scale: Callable[[float], str] = lambda amount: f"{amount:.0f}",
    ) -> None:
        self.what, self.total, self._scale = what, total, scale
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._is_terminal = self._stream.isatty()
        self._started_at = clock()
        self._shown_at: float | None = None
        self._done = 0
        self._note = ""
        self._width = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # What was done at once needs no line.
        if self._shown_at is not None:
            self._write()
        if self._is_terminal and self._width:
            self._stream.write("\n")
            self._stream.flush()

    def show(self, done: int, note: str = "") -> None:
        """``done`` of the total is done; drawn at most 10 times a second, or every five seconds."""
        self._done, self._note = done, note
        now = self._clock()
        pause = BAR_SECONDS if self._is_terminal else LINE_SECONDS
        since = self._started_at if self._shown_at is None else self._shown_at
        if now - since >= pause:
            self._shown_at = now
            self._write()

    def line(self, columns: int = 80) -> str:
        """What is shown now, on a terminal of so many columns or, with 0, as a plain line."""
        seconds = max(self._clock() - self._started_at, 1e-9)
        rate = self._done / seconds
        text = f"{self._scale(self._done)}/{self._scale(self.total)}"
        tail = f"{text}  {self._scale(rate)}/s" if rate >= 10 else f"{text}  {rate:.1f}/s"
        if 0 < self._done < self.total:
            tail += f"  {(self.total - self._done) / rate:.0f} s left"
        if self._note:
            tail += f"  {self._note}"
        if not columns:
            return f"{self.what}: {tail}"
        room = min(40, columns - len(self.what) - len(tail) - 6)
        if room < 8:
            return f"{self.what} {tail}"[: columns - 1]
        full = room * self._done // self.total if self.total else room
        return f"{self.what} [{'#' * full}{'.' * (room - full)}] {tail}"

    def _write(self) -> None:
        if not self._is_terminal:
            self._stream.write(self.line(0) + "\n")
        else:
            text = self.line(shutil.get_terminal_size().columns)
            self._stream.write("\r" + text.ljust(self._width))
            self._width = len(text)
        self._stream.flush()


def in_mib(amount: float) -> str:
    """Bytes as people read them."""
    return f"{amount / (1 << 20):.1f} MiB"
