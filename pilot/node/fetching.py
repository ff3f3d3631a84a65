"""Datas that are not on the grid's server: who fetches which scheme of a URI.

http and https are fetched here. For another scheme a site names a command in its worker.conf, which
is run as ``COMMAND URI TARGET`` and must leave the content in the file TARGET. Size and digest are
checked whoever fetched it.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Callable, NamedTuple

from desktopgrid.link.errors import NotToBeHad
from desktopgrid.link.persistence import complete, size_of
from desktopgrid.link.web import Web, patience_for
from desktopgrid.wire.messages import File
from pilot.node.errors import CouldNotRun, UnusableInput

PAUSE = 0.05
MOST_WORDS = 500
"""Characters of what a command said that go into the reason."""


class Errand(NamedTuple):
    """On whose behalf something is fetched: who hears how far it is, and may raise to break it off,
    who hears the number of a process that was started for it, and the variables that mark it.
    """

    progress: Callable[[int], None]
    started: Callable[[int], None]
    variables: Mapping[str, str]


class Fetchers:
    """What this host can fetch. ``commands``: scheme -> the site's command for it."""

    def __init__(self, commands: Mapping[str, str] = {}, reaches_private: bool = False) -> None:
        self._web = Web(reaches_private)
        self._commands = {scheme.lower(): shlex.split(text) for scheme, text in commands.items()}

    @property
    def schemes(self) -> tuple[str, ...]:
        """Those that it knows."""
        return ("http", "https", *sorted(self._commands))

    def fetch(self, file: File, target: Path, errand: Errand) -> None:
        """Make ``target`` the data ``file``.

        Raises UnusableInput where no host would fare better, GridError where another one may.
        """
        scheme = file.uri.partition(":")[0].lower()
        try:
            if scheme in self._commands:
                self._by_command(scheme, file, target, errand)
            elif scheme in ("http", "https"):
                self._web.fetch(file.uri, target, file.sha256, file.size, errand.progress)
            else:
                known = ", ".join(self.schemes)
                raise CouldNotRun(f"{file.uri} cannot be fetched by this host; it fetches {known}")
        except NotToBeHad as error:
            raise UnusableInput(str(error)) from error

    def _by_command(self, scheme: str, file: File, target: Path, errand: Errand) -> None:
        def fill(part: Path) -> None:
            # What a command does with a beginning that it did not leave is its own affair.
            part.unlink(missing_ok=True)
            command = [*self._commands[scheme], file.uri, str(part)]
            ends_at = time.monotonic() + patience_for(file.size)
            with tempfile.TemporaryFile() as said:
                code = _run(command, said.fileno(), ends_at, part, errand)
                said.seek(0)
                words = said.read(MOST_WORDS).decode(errors="replace").strip()
            if code != 0:
                raise CouldNotRun(f"{file.uri}: {command[0]} ended with {code}: {words}")
            if size_of(part) != file.size:
                raise NotToBeHad(
                    f"{file.uri} has {size_of(part)} bytes, not the {file.size} that were announced"
                )

        found = complete(target, file.sha256, fill)
        if found != file.sha256:
            raise NotToBeHad(f"{file.uri} is not what was announced: its SHA-256 is {found}")


def _run(command: list[str], output: int, ends_at: float, part: Path, errand: Errand) -> int:
    """Run ``command`` to its end; its exit code."""
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env={**os.environ, **errand.variables},
        )
    except OSError as error:
        raise CouldNotRun(f"{command[0]} cannot be run: {error.strerror}") from error
    try:
        errand.started(process.pid)
        while process.poll() is None:
            errand.progress(size_of(part))
            if time.monotonic() >= ends_at:
                raise CouldNotRun(f"{command[0]} took longer than it may")
            time.sleep(PAUSE)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return process.returncode
