"""Commands and files of one account on one machine: this one, or over SSH another one (ssh.py).

A command is a script that /bin/sh reads from its standard input, so that no value stands in a
command line, and none is too long for one. Whoever writes a script quotes what is not his own by
``quoted``.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO, Protocol

from pilot.ce.landing import chunks_of, open_regular

MOST_BYTES = 64 << 20
"""Of what a command may say: a site that talks without end is not listened to."""

quoted = shlex.quote


class ShellUnavailable(Exception):
    """The machine cannot be asked, or did not answer to the end."""


class CannotWrite(Exception):
    """A file could not be put there: no room, no right, no such directory."""


@dataclass(frozen=True)
class Answer:
    """What a command said, and its exit code."""

    code: int
    output: str
    errors: str = ""

    @property
    def is_no_command(self) -> bool:
        """Whether a shell did not find its command, or may not run it (POSIX, 2.8.2)."""
        return self.code in (126, 127)

    @property
    def complaint(self) -> str:
        """What it said last that is not blank, on one line: the sentence for an error."""
        lines = [line.strip() for line in (self.errors or self.output).splitlines()]
        return "; ".join(line for line in lines if line)[-400:] or f"exit code {self.code}"


@dataclass(frozen=True)
class Upload:
    """A file that is to be there: its path from the account's home, its content, its mode."""

    path: str
    content: bytes | Path
    mode: int = 0o600


class Shell(Protocol):
    """Any method raises ShellUnavailable; nobody may conclude anything from that."""

    def run(self, script: str, patience: timedelta) -> Answer:
        """What ``script`` says, in the account's home, if it ends within ``patience``."""

    def put(self, directories: Sequence[str], files: Sequence[Upload]) -> None:
        """Make new directories, for the account only (0700), and then ``files``; raises CannotWrite
        for one that cannot be made, or is there already.
        """

    def read(self, path: str, last: int | None = None) -> Iterator[bytes] | None:
        """A regular file's content, or so many bytes at its end; None if there is none."""

    def describe(self) -> str:
        """Whose account on which machine, and by what that machine is known."""

    def close(self) -> None:
        """Let go of the machine until it is asked again."""


class LocalShell:
    """This account, on this machine."""

    def __init__(self, home: Path | None = None) -> None:
        self._home = home or Path.home()

    def __repr__(self) -> str:
        return "<LocalShell>"

    def run(self, script: str, patience: timedelta) -> Answer:
        """A process group of its own, which is killed when the patience is over."""
        names = ("PATH", "HOME", "USER", "LOGNAME")
        environment = {name: os.environ[name] for name in names if name in os.environ}
        try:
            process = subprocess.Popen(
                ["/bin/sh", "-s"],
                cwd=self._home,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise ShellUnavailable(f"{self._home}: {error.strerror}") from error
        with process:
            try:
                out, err = process.communicate(script.encode(), patience.total_seconds())
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                raise ShellUnavailable(no_answer(patience)) from None
        if len(out) > MOST_BYTES:
            raise ShellUnavailable(too_long())
        return Answer(
            process.returncode, out.decode(errors="replace"), err.decode(errors="replace")
        )

    def put(self, directories: Sequence[str], files: Sequence[Upload]) -> None:
        """As the file system has it."""
        path = Path()
        try:
            for directory in directories:
                path = self._home / directory
                path.mkdir(mode=0o700)
            for file in files:
                path = self._home / file.path
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
                with os.fdopen(os.open(path, flags, 0o600), "wb") as target:
                    os.fchmod(target.fileno(), file.mode)
                    if isinstance(file.content, bytes):
                        target.write(file.content)
                    else:
                        with file.content.open("rb") as source:
                            shutil.copyfileobj(source, target)
        except OSError as error:
            raise CannotWrite(f"{path} cannot be made: {error.strerror}") from error

    def read(self, path: str, last: int | None = None) -> Iterator[bytes] | None:
        """As the file system has it."""
        directory, _, name = path.rpartition("/")
        file = open_regular(self._home / directory, name)
        return None if file is None else _content(file, last)

    def describe(self) -> str:
        """Who we are."""
        user = pwd.getpwuid(os.geteuid()).pw_name
        return f"commands are run on this machine, by {user} in {self._home}"

    def close(self) -> None:
        """There is nothing to let go of."""


def _content(file: BinaryIO, last: int | None) -> Iterator[bytes]:
    with file:
        if last is not None:
            file.seek(max(os.fstat(file.fileno()).st_size - last, 0))
        yield from chunks_of(file)


def no_answer(patience: timedelta) -> str:
    """The sentence for a command that hangs."""
    return f"it did not answer within {patience.total_seconds():g} s"


def too_long() -> str:
    """The sentence for one that talks without end."""
    return f"it answered more than {MOST_BYTES >> 20} MiB"
