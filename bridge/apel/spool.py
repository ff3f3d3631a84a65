"""A directory in dirq's layout, from which `ssmsend` takes messages, and what we remember of what
went there.

    DIR/5f3c8a40/5f3c8a5c0001a1      a message: seconds, microseconds and a digit, all hexadecimal
    DIR/.glidebridge/state.json      how far we are, and which messages are ready
    DIR/.glidebridge/5f3c8a5c0001a1  a message that is ready and not yet put there

A message is written, then it is recorded as ready together with how far we are, and then it is put
where `ssmsend` looks, by renaming. Whatever is killed when, each message comes there once.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path

from desktopgrid.model.errors import BadRequest, Unavailable

OURS = ".glidebridge"
STATE = "state.json"
GRANULARITY = 60
"""Seconds whose messages share a directory."""
MODE = 0o640
"""Who sends them may be another user of the same group."""


@dataclass(frozen=True)
class State:
    """How far we are. ``after`` and ``open`` are what the server is to be asked for next,
    ``months`` the digests of the summaries that were written last; ``published_as`` tells as what.
    """

    published_as: str
    after: dict[str, int] = field(default_factory=dict)
    open: list[int] = field(default_factory=list)
    months: dict[str, str] = field(default_factory=dict)
    ready: list[str] = field(default_factory=list)


class Spool:
    """Messages into a directory, each once. One process at a time: see :func:`opened`."""

    def __init__(self, directory: Path, published_as: str, clock: Callable[[], datetime]) -> None:
        """Raises BadRequest if the directory holds what was published as something else."""
        self._directory, self._ours, self._clock = directory, directory / OURS, clock
        self.state = self._load(published_as)
        self._put_ready()
        for path in self._ours.iterdir():
            # A message that was written, and never recorded: its records will come again.
            if len(path.name) == 14 or path.suffix == ".new":
                path.unlink()

    def _load(self, published_as: str) -> State:
        path = self._ours / STATE
        try:
            found = State(**json.loads(path.read_text()))
        except FileNotFoundError:
            return State(published_as)
        except (ValueError, TypeError) as error:
            raise BadRequest(
                f"{path} is none of ours, or damaged ({error}); without it nobody knows what was"
                " published: put it back from a backup, or name another directory"
            ) from error
        if found.published_as != published_as:
            raise BadRequest(
                f"{self._directory} has what was published as {found.published_as}, not as"
                f" {published_as}: to publish both would count the same use twice. Name another"
                " directory if that is meant"
            )
        return found

    def add(self, messages: Sequence[str], **progress: object) -> None:
        """Put ``messages`` there, and remember ``progress``, fields of :class:`State`: both, or
        after a failure neither.
        """
        names = self._new_names(len(messages))
        for name, text in zip(names, messages, strict=True):
            self._write(self._ours / name, text)
        self._commit(replace(self.state, ready=names, **progress))  # type: ignore[arg-type]
        self._put_ready()

    def _new_names(self, count: int) -> list[str]:
        now = self._clock()
        start = int(now.timestamp()) * 1_000_000 + now.microsecond
        names: list[str] = []
        while len(names) < count:
            seconds, micros = divmod(start, 1_000_000)
            name = f"{seconds:08x}{micros:05x}0"
            if not self._place(name).exists():
                names.append(name)
            start += 1
        return names

    def _place(self, name: str) -> Path:
        seconds = int(name[:8], 16)
        return self._directory / f"{seconds - seconds % GRANULARITY:08x}" / name

    def _put_ready(self) -> None:
        """Put what is ready where `ssmsend` looks; what is not here any more was put there."""
        for name in self.state.ready:
            place = self._place(name)
            if (self._ours / name).exists():
                place.parent.mkdir(exist_ok=True)
                (self._ours / name).rename(place)
                _sync_directory(place.parent)
        if self.state.ready:
            _sync_directory(self._ours)
            self._commit(replace(self.state, ready=[]))

    def _commit(self, state: State) -> None:
        path = self._ours / STATE
        self._write(path.with_suffix(".new"), json.dumps(asdict(state)))
        path.with_suffix(".new").replace(path)
        _sync_directory(self._ours)
        self.state = state

    @staticmethod
    def _write(path: Path, text: str) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, MODE)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())


@contextmanager
def opened(directory: Path, published_as: str, clock: Callable[[], datetime]) -> Iterator[Spool]:
    """The spool in ``directory``, which is made if it is not there; raises BadRequest, Unavailable
    if it cannot be written to, or another process does just that.
    """
    try:
        (directory / OURS).mkdir(parents=True, exist_ok=True, mode=0o700)
        with (directory / OURS / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Unavailable(f"another process writes into {directory}") from None
            yield Spool(directory, published_as, clock)
    except OSError as error:
        raise Unavailable(f"{directory} cannot be written to: {error.strerror or error}") from error


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
