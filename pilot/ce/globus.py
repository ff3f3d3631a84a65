"""The command `globusrun`, which is how one speaks to GRAM.

Its output (GCT 6, globusrun 17.4):

    globusrun -b -r C -f F      globus_gram_client_callback_allow successful
                                GRAM Job submission successful
                                https://ce.example.org:47341/17370897133670526136/7205759826593/
                                GLOBUS_GRAM_PROTOCOL_JOB_STATE_PENDING
    globusrun -status CONTACT   one word; of a job that nobody knows, and where nobody answers: DONE
    any of them                 GRAM Job submission failed because ... (error code 7), on stderr
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from pilot.ce.gram_errors import UNREACHABLE, code_in, meaning_of

CONTACT = re.compile(r"https://[^\s/]+:\d+/\d+/\d+/")
MOST_OUTPUT = 2 << 30
CHUNK = 1 << 16
PATH = "/usr/local/bin:/usr/bin:/bin"
FORK = "jobmanager-fork"


class GramSilent(Exception):
    """The site, or the command, did not answer; the text says why."""


class GramRefused(Exception):
    """The site will not have a job; the text says why."""


@dataclass(frozen=True)
class Globus:
    """One gatekeeper, by commands that act for one proxy."""

    contact: str
    """HOST[:PORT]/SERVICE[:SUBJECT]."""
    proxy: Path
    authorities: Path | None = None
    commands: Path | None = None
    """The directory that has them; None: the PATH has."""
    host: str = ""
    """What sites know this machine by."""
    ports: str = ""
    """FIRST,LAST of those that a firewall lets through."""
    answer_within: timedelta = timedelta(seconds=60)

    @property
    def program(self) -> str:
        """Where globusrun is; raises GramSilent."""
        path = str(self.commands) if self.commands else os.environ.get("PATH", PATH)
        found = shutil.which("globusrun", path=path)
        if found is None:
            raise GramSilent(f"the command globusrun is not in {path}")
        return found

    @property
    def fork_service(self) -> str:
        """The contact of the service that runs small things on the gatekeeper itself."""
        match = re.fullmatch(r"([^/]+/?)/[^:]+(:.*)?", self.contact)
        if match is None:
            host, _, subject = self.contact.partition("::")
            return f"{host}/{FORK}" + (f":{subject}" if subject else "")
        return f"{match[1]}/{FORK}{match[2] or ''}"

    def status(self, contact: str) -> str:
        """GRAM's word on a job; DONE may mean that nobody knows it. Raises GramSilent."""
        done = self._run(["-status", contact])
        words = done.stdout.split()
        if done.returncode != 0 or not words or words[0] == "ERROR":
            raise GramSilent(meaning_of(done.stderr or done.stdout))
        return words[0]

    def authenticate(self) -> None:
        """Find out whether the gatekeeper lets us in; raises GramSilent."""
        done = self._run(["-a", "-r", self.contact])
        if done.returncode != 0:
            raise GramSilent(meaning_of(done.stderr or done.stdout))

    def cancel(self, contact: str) -> None:
        """Have a job ended; one that is over, or unknown, is left alone."""
        self._run(["-k", contact])

    def wake(self) -> None:
        """Have a job manager started, which then looks for its jobs of before."""
        with contextlib.suppress(GramSilent):
            self._run(["-j", "-r", self.contact])

    def ask(self, rsl: str, most: int = MOST_OUTPUT) -> Iterator[bytes]:
        """The lines that a small job writes on the gatekeeper; raises GramSilent."""
        with self._start(["-o", "-r", self.fork_service, rsl]) as process:
            assert process.stdout is not None and process.stderr is not None  # noqa: S101 - types
            try:
                with _limited(process, self._seconds) as is_late:
                    size = 0
                    for line in process.stdout:
                        size += len(line)
                        if size > most:
                            raise GramSilent("the answer is larger than was asked for")
                        yield line
                    said = process.stderr.read().decode("utf-8", "replace")
                    if is_late.is_set():
                        raise self._late()
                    if process.wait() != 0 or said.strip():
                        raise GramSilent(meaning_of(said))
            finally:
                process.kill()

    def submit(self, rsl: str) -> Submission:
        """Hand in a job; it may want files of ours before it runs. Raises GramSilent."""
        # In a file: command lines are for all to see.
        file = tempfile.NamedTemporaryFile("w", prefix="glidebridge-", suffix=".rsl")  # noqa: SIM115
        file.write(rsl)
        file.flush()
        # Into a pipe, what C programs write comes when they end; and it must come before.
        line_by_line = ["stdbuf", "-oL"] if shutil.which("stdbuf") else []
        process = self._start(["-b", "-r", self.contact, "-f", file.name], line_by_line)
        return Submission(process, self._seconds, file.close)

    @property
    def _seconds(self) -> float:
        return self.answer_within.total_seconds()

    def _late(self) -> GramSilent:
        return GramSilent(f"globusrun did not come back within {self._seconds:g} s")

    def _run(self, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                [self.program, *arguments],
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=self._seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            raise self._late() from late

    def _start(
        self, arguments: Sequence[str], before: Sequence[str] = ()
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*before, self.program, *arguments],
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def _environment(self) -> dict[str, str]:
        """The proxy's path is no secret; nothing else of ours gets there."""
        environment = {
            "PATH": f"{self.commands}:{PATH}" if self.commands else os.environ.get("PATH", PATH),
            "HOME": os.environ.get("HOME", "/"),
            "X509_USER_PROXY": str(self.proxy),
        }
        if self.authorities:
            environment["X509_CERT_DIR"] = str(self.authorities)
        if self.commands:
            environment["GLOBUS_LOCATION"] = str(self.commands.parent)
        if self.host:
            environment["GLOBUS_HOSTNAME"] = self.host
        if self.ports:
            environment["GLOBUS_TCP_PORT_RANGE"] = self.ports
        return environment


class Submission:
    """A job on its way; `globusrun` waits with it until the batch system has it."""

    def __init__(
        self, process: subprocess.Popen[bytes], seconds: float, clean_up: Callable[[], None]
    ) -> None:
        self._process, self._seconds, self._clean_up = process, seconds, clean_up

    def contact(self) -> str:
        """What GRAM calls the job, once it is accepted; raises GramRefused, GramSilent."""
        assert self._process.stdout is not None  # noqa: S101 - for the types
        with _limited(self._process, self._seconds) as is_late:
            for line in self._process.stdout:
                if match := CONTACT.fullmatch(line.decode("utf-8", "replace").strip()):
                    return match[0]
            raise self._failure(is_late.is_set())

    def settle(self) -> None:
        """Wait until the batch system has the job; raises GramRefused, GramSilent."""
        assert self._process.stdout is not None  # noqa: S101 - for the types
        with _limited(self._process, self._seconds) as is_late:
            rest = self._process.stdout.read().decode("utf-8", "replace")
            if self._process.wait() != 0 or "JOB_STATE_FAILED" in rest or is_late.is_set():
                raise self._failure(is_late.is_set())

    def close(self) -> None:
        """End with it, whatever it does."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        self._clean_up()

    def _failure(self, is_late: bool) -> Exception:
        assert self._process.stderr is not None  # noqa: S101 - for the types
        if is_late:
            return GramSilent(f"globusrun did not come back within {self._seconds:g} s")
        self._process.wait()
        said = self._process.stderr.read().decode("utf-8", "replace")
        code = code_in(said)
        reason = meaning_of(said)
        return GramSilent(reason) if code in UNREACHABLE or code is None else GramRefused(reason)


@contextlib.contextmanager
def _limited(process: subprocess.Popen[bytes], seconds: float) -> Iterator[threading.Event]:
    """Kill ``process`` after so long; the event says that it was."""
    is_late = threading.Event()

    def end() -> None:
        is_late.set()
        process.kill()

    timer = threading.Timer(seconds, end)
    timer.start()
    try:
        yield is_late
    finally:
        timer.cancel()
