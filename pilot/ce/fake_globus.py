"""A Globus site of this machine, for tests: the commands globusrun and globus-gass-cache, and job
managers with the habits of GRAM5 that gram.py has to know.

A job manager fetches the program from who submits, over TLS in which both show a proxy, runs it in
the site's home directory, and forgets the job when it is over: from then on it is DONE, as all that
nobody ever knew. What stands in the file ``faults`` of the site's directory goes wrong: lines of a
command and of what it does instead, ``hang`` or an exit code and words.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from jdl import rsl

ROOT = Path(__file__).resolve().parent.parent.parent
PATIENCE_SECONDS = 30.0
GRACE_SECONDS = 2.0
COMMANDS = ("globusrun", "globus-gass-cache")


class FakeGlobus:
    """A site in ``directory``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.home, self.jobs = directory / "home", directory / "jobs"
        self.commands = directory / "bin"

    def build(self) -> FakeGlobus:
        """Make the directory, with the commands."""
        for place in (self.home, self.jobs, self.commands):
            place.mkdir(parents=True)
        for name in COMMANDS:
            command = self.commands / name
            words = (sys.executable, "-m", "pilot.ce.fake_globus", str(self.directory), name)
            command.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {shlex.join(words)} "$@"\n')
            command.chmod(0o755)
        return self

    def fail(self, command: str, instead: str) -> None:
        """Let a command (-b, -o, -status, -k) go wrong from now on."""
        (self.directory / "faults").write_text(f"{command} {instead}\n")

    def mend(self) -> None:
        """Let all go well again."""
        (self.directory / "faults").unlink(missing_ok=True)

    def end(self) -> None:
        """End all that runs there."""
        for job in self.jobs.iterdir():
            _kill(job, signal.SIGKILL)
            _kill(job, signal.SIGKILL, "manager")

    # The commands

    def run(self, name: str, arguments: Sequence[str]) -> int:
        """What a command does; its exit code."""
        if name == "globus-gass-cache":
            return self._list_cache()
        given = list(arguments)
        kind = next((each for each in ("-status", "-k", "-b", "-o", "-j") if each in given), "")
        self._go_wrong(kind)
        if kind == "-status":
            print(self._state(given[-1]))
        elif kind == "-k":
            self._cancel(given[-1])
        elif kind == "-o":
            return self._run_now(given[-1])
        elif kind == "-b":
            return self._submit(Path(given[-1]).read_text())
        return 0

    def _go_wrong(self, kind: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            for line in (self.directory / "faults").read_text().splitlines():
                command, _, instead = line.partition(" ")
                if command != kind:
                    continue
                if instead == "hang":
                    time.sleep(PATIENCE_SECONDS)
                code, _, words = instead.partition(" ")
                print(words, file=sys.stderr)
                sys.exit(int(code))

    def _job(self, contact: str) -> Path | None:
        match = re.fullmatch(r"https://site:1/(\d+)/1/", contact)
        job = self.jobs / match[1] if match else None
        return job if job is not None and job.is_dir() else None

    def _state(self, contact: str) -> str:
        job = self._job(contact)
        # Between two looks it may be over.
        with contextlib.suppress(FileNotFoundError):
            if job is not None:
                return (job / "state").read_text()
        return "DONE"

    def _cancel(self, contact: str) -> None:
        job = self._job(contact)
        if job is None:
            return
        (job / "cancelled").touch()
        _kill(job, signal.SIGTERM)
        deadline = time.monotonic() + GRACE_SECONDS
        while job.is_dir() and time.monotonic() < deadline:
            time.sleep(0.02)
        _kill(job, signal.SIGKILL)

    def _run_now(self, description: str) -> int:
        relations = {each.name: each.values for each in rsl.parse(description, {})[0]}
        command = [*relations["executable"], *relations["arguments"]]
        return subprocess.run(
            [str(word) for word in command], env=self._environment(), cwd=self.home, check=False
        ).returncode

    def _submit(self, description: str) -> int:
        print("globus_gram_client_callback_allow successful", flush=True)
        relations = {each.name: each.values for each in rsl.parse(description, {})[0]}
        number = str(uuid.uuid4().int % 10**18)
        job = self.jobs / number
        job.mkdir()
        (job / "url").write_text(str(relations["executable"][0]))
        (job / "state").write_text("UNSUBMITTED")
        print(f"GRAM Job submission successful\nhttps://site:1/{number}/1/", flush=True)
        if relations.get("queue") not in (None, ["main"]):
            shutil.rmtree(job)
            print("GRAM Job failed because the queue (error code 37)", file=sys.stderr)
            return 37
        words = [sys.executable, "-m", "pilot.ce.fake_globus", str(self.directory), "manage"]
        subprocess.Popen(
            [*words, number],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        contact = f"https://site:1/{number}/1/"
        while (state := self._state(contact)) in ("UNSUBMITTED", "STAGE_IN"):
            time.sleep(0.02)
        print(f"GLOBUS_GRAM_PROTOCOL_JOB_STATE_{state}", flush=True)
        if state == "FAILED":
            print("GRAM Job failed because it was not staged (error code 43)", file=sys.stderr)
            shutil.rmtree(job, ignore_errors=True)
            return 43
        return 0

    def _list_cache(self) -> int:
        for job in self.jobs.iterdir():
            print(f"URL: {(job / 'url').read_text()}\n\tTag:https://site:1/{job.name}/1/")
        return 0

    # A job manager

    def manage(self, number: str) -> None:
        """Look after one job until it is over."""
        job = self.jobs / number
        (job / "manager").write_text(str(os.getpid()))
        (job / "state").write_text("STAGE_IN")
        try:
            program = job / "data"
            program.write_bytes(_fetched((job / "url").read_text()))
            program.chmod(0o700)
        except (OSError, ValueError):
            (job / "state").write_text("FAILED")
            return
        if not (job / "cancelled").exists():
            process = subprocess.Popen(
                [str(program)],
                cwd=self.home,
                env=self._environment(f"https://site:1/{number}/1/"),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            (job / "pid").write_text(str(process.pid))
            (job / "state").write_text("ACTIVE")
            process.wait()
        shutil.rmtree(job)

    def _environment(self, contact: str = "") -> dict[str, str]:
        return {
            "HOME": str(self.home),
            "PATH": f"{self.commands}:/usr/bin:/bin",
            "LOGNAME": "nobody-of-that-name",
            "GLOBUS_GRAM_JOB_CONTACT": contact,
        }


def _fetched(url: str) -> bytes:
    """What a client of GASS gets, by its own delegated proxy."""
    # Only job managers need them, and each command is a process that has to start.
    import http.client
    import ssl
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    proxy = os.environ["X509_USER_PROXY"]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # who is there shows a person's proxy
    context.verify_flags |= ssl.VerifyFlags.VERIFY_ALLOW_PROXY_CERTS
    context.load_verify_locations(capath=os.environ["X509_CERT_DIR"])
    context.load_cert_chain(proxy)
    connection = http.client.HTTPSConnection(
        parts.hostname or "", parts.port, timeout=PATIENCE_SECONDS, context=context
    )
    with contextlib.closing(connection):
        connection.request("GET", parts.path)
        try:
            answer = connection.getresponse()
            if answer.status == 200:
                return answer.read()
        except http.client.HTTPException as error:
            raise ValueError("broken off") from error
    raise ValueError(answer.status)


def _kill(job: Path, number: signal.Signals, whose: str = "pid") -> None:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, ValueError):
        os.killpg(int((job / whose).read_text()), number)


def main() -> None:
    """Be a command of a site."""
    site, name, *arguments = sys.argv[1:]
    if name == "manage":
        FakeGlobus(Path(site)).manage(*arguments)
    else:
        sys.exit(FakeGlobus(Path(site)).run(name, arguments))


if __name__ == "__main__":
    main()
