"""Jobs of a Globus GRAM gatekeeper, through `globusrun`.

GRAM says how far a job is, forgets it when it is over, and then calls it DONE, as it calls whatever
it never knew. So what becomes of a job stands at the site, in a directory of its own (parcel.sh),
and is asked for by small jobs of the gatekeeper's fork service (agent.sh), as grids have always
done.

A submission has two steps, as in ARC: GRAM accepts all jobs, each of which waits for its program;
only when we know what GRAM calls them all the program is given out (gass.py). What broke off
before never runs. From then on a job is found by its stamp: GRAM's cache of files knows it under
the address of its program, and once it has started its directory does.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import logging
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from desktopgrid.model.errors import BadRequest
from desktopgrid.model.lifecycle import PilotStatus
from jdl import globus as language
from jdl import rsl
from jdl.errors import JdlError
from jdl.job import File, Job
from pilot.ce import tls
from pilot.ce.base import (
    OUTPUT_LIMIT,
    STDERR,
    STDOUT,
    ComputingElementUnavailable,
    JobDescription,
    JobState,
    NothingToRetrieve,
    Reference,
    SubmissionRefused,
    check_outputs,
)
from pilot.ce.finding import Finding, Verdict, life_of
from pilot.ce.gass import NAME, Gass
from pilot.ce.globus import CONTACT, Globus, GramRefused, GramSilent, Submission
from pilot.ce.https import utc_now
from pilot.ce.landing import Landing, TooMuch
from pilot.ce.parcel import pack

logger = logging.getLogger(__name__)

AGENT = Path(__file__).with_name("agent.sh")
AT_A_TIME = 8
"""Commands that run beside one another."""
PORTION = 100
"""Jobs in one question to the site's agent: a description has a longest length."""
LAST_BYTES = 4096

STATUS_OF_STATE = {
    "UNSUBMITTED": PilotStatus.WAITING,
    "STAGE_IN": PilotStatus.WAITING,
    "PENDING": PilotStatus.WAITING,
    "ACTIVE": PilotStatus.RUNNING,
    "SUSPENDED": PilotStatus.RUNNING,
    "STAGE_OUT": PilotStatus.RUNNING,
}
"""GRAM's states as far as they alone decide; of the others the job's directory tells."""
OVER = ("DONE", "FAILED")

STATE_OF_NUMBER = {
    "1": "PENDING",
    "2": "ACTIVE",
    "4": "FAILED",
    "8": "DONE",
    "16": "SUSPENDED",
    "32": "UNSUBMITTED",
    "64": "STAGE_IN",
    "128": "STAGE_OUT",
}
"""As job managers write them down."""

T = TypeVar("T")
R = TypeVar("R")

_REFERENCE = re.compile(rf"({CONTACT.pattern})#([A-Za-z0-9][A-Za-z0-9-]*)")
_STAMP = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")


@dataclass(frozen=True)
class Trace:
    """What a site's agent says of one job."""

    has_started: bool = False
    exit_code: int | None = None
    is_removed: bool = False
    contact: str = ""
    """What GRAM calls it by now, if a job manager has it on record."""
    state: str = ""
    """How far it is by that record."""

    @property
    def is_alive(self) -> bool:
        """Whether a job manager that does not answer has it on record."""
        return bool(self.contact) and self.state not in ("", *OVER)


class GramCE:
    """One service of a gatekeeper as a computing element."""

    def __init__(
        self,
        globus: Globus,
        authorities: Path,
        name: str = "",
        queue: str = "",
        ports: range | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        """``authorities`` is the directory of CAs that may vouch for sites that fetch files;
        ``ports`` those that they may reach here. ``name`` is what errors call this door.
        """
        self._name = name or f"GRAM {globus.contact}"
        self._globus, self._authorities, self._queue = globus, authorities, queue
        self._ports, self._clock = ports, clock

    def __repr__(self) -> str:
        return f"<GramCE on {self._globus.contact}>"

    def submit(self, jobs: Sequence[JobDescription]) -> list[Reference]:
        """In two steps: GRAM accepts all jobs, then gets their programs."""
        if not jobs:
            return []
        parcels = [self._packed(job) for job in jobs]
        with self._asked(), ExitStack() as stack:
            gass = stack.enter_context(self._gass())
            contacts: list[str] = []
            try:
                descriptions = [
                    self._description(job, gass.offer(job.stamp, parcel))
                    for job, parcel in zip(jobs, parcels, strict=True)
                ]
                submissions = [self._globus.submit(each) for each in descriptions]
                for submission in submissions:
                    stack.callback(submission.close)
                with ThreadPoolExecutor(len(jobs)) as pool:
                    contacts += _all(pool, Submission.contact, submissions)
                    gass.release()
                    _all(pool, Submission.settle, submissions)
            except (GramRefused, GramSilent, OSError) as error:
                self._undo(contacts, jobs)
                if isinstance(error, GramRefused):
                    raise SubmissionRefused(self._name, str(error)) from error
                raise
        return [
            Reference(f"{contact}#{job.stamp}") for contact, job in zip(contacts, jobs, strict=True)
        ]

    def find(self, stamps: Sequence[str]) -> dict[str, Reference]:
        """Those that have started, and those whose program waits in GRAM's cache."""
        wanted = [stamp for stamp in stamps if _STAMP.fullmatch(stamp)]
        if not stamps:
            return {}
        found: dict[str, str] = {}
        with self._asked():
            for portion in _portions(wanted):
                stamp = ""
                for words in self._agent("find", *portion):
                    if words[0] == "contact" and len(words) == 3:
                        found[words[1]] = words[2]
                    elif words[:2] == ["cache", "URL:"] and len(words) > 2:
                        parts = words[2].split("/")
                        stamp = parts[-2] if parts[-1:] == [NAME] and len(parts) > 2 else ""
                    elif words[0] == "cache" and stamp in portion:
                        found.setdefault(stamp, words[1].removeprefix("Tag:"))
        return {
            stamp: Reference(f"{contact}#{stamp}")
            for stamp, contact in found.items()
            if stamp in wanted and CONTACT.fullmatch(contact)
        }

    def statuses(self, references: Sequence[Reference]) -> dict[Reference, JobState]:
        """GRAM is asked for each, some at a time; the site's agent for those that GRAM calls over,
        in one question.
        """
        jobs = _jobs(references)
        with self._asked():
            said = self._states(jobs)
            over = [name for name, state in said.items() if state in OVER]
            traces = self._traces([jobs[name] for name in over])
            states: dict[Reference, JobState] = {}
            for name, state in said.items():
                trace = traces.get(jobs[name][1], Trace()) if state in OVER else None
                judged = state_of(state, trace)
                if judged is not None:
                    states[name] = judged
            if any(trace.is_alive for trace in traces.values()):
                logger.warning("%s: a job manager is down, and is started again", self._name)
                self._globus.wake()
            return states

    def remove(self, references: Sequence[Reference]) -> None:
        """The site is told first, so that what waits does not start and what ends is known to have
        been taken back; then GRAM cancels, by the signals that its job manager uses.
        """
        jobs = _jobs(references)
        with self._asked():
            said = self._states(jobs)
            over = [job for name, job in jobs.items() if said[name] in OVER]
            traces = {stamp: trace for stamp, trace in self._traces(over).items() if trace.is_alive}
            alive = {
                stamp: traces[stamp].contact if stamp in traces else contact
                for name, (contact, stamp) in jobs.items()
                if said[name] not in OVER or stamp in traces
            }
            if not alive:
                return
            self._tell("taken", list(alive))
            with ThreadPoolExecutor(AT_A_TIME) as pool:
                _all(pool, self._globus.cancel, list(alive.values()))
            self._tell("over", list(alive))

    def last_words(self, reference: Reference) -> str:
        """The end of the file ``err`` in its directory."""
        with self._asked():
            for _, stamp in _jobs([reference]).values():
                for words in self._agent("words", stamp):
                    if words[0] == "words" and len(words) == 2:
                        return _decoded(words[1])[-LAST_BYTES:].decode(errors="replace")
        return ""

    def retrieve(
        self, reference: Reference, directory: Path, limit: int = OUTPUT_LIMIT
    ) -> list[str]:
        """From its directory at the site, through the standard output of the site's agent."""
        with self._asked():
            for _, stamp in _jobs([reference]).values():
                try:
                    with Landing(directory, limit) as landing:
                        self._land(landing, stamp, limit)
                except TooMuch as too_much:
                    raise NothingToRetrieve(self._name, reference, str(too_much)) from too_much
                except (BadRequest, ValueError) as error:
                    reason = f"what the site has of it is not ours: {error}"
                    raise NothingToRetrieve(self._name, reference, reason) from error
                if landing.names:
                    return landing.names
        reason = "it has not ended, or the site keeps nothing of it"
        raise NothingToRetrieve(self._name, reference, reason)

    def discard(self, references: Sequence[Reference]) -> None:
        """The jobs' directories at the site are removed, if they are over."""
        with self._asked():
            self._tell("drop", [stamp for _, stamp in _jobs(references).values()])

    def examine(self, job: JobDescription) -> Iterator[Finding]:
        """The proxy's life, the command, the gatekeeper, and the fork service."""
        try:
            proxy = self._proxy()
            what = f"the proxy in {proxy.file}, of {proxy.subject},"
            advice = "make a new one there, such as by grid-proxy-init"
            yield life_of("proxy", what, proxy.ends_at, self._clock(), advice)
        except GramSilent as unusable:
            yield Finding("proxy", str(unusable), Verdict.WRONG)
            return
        try:
            yield Finding("command", f"globusrun is {self._globus.program}")
            self._globus.authenticate()
            yield Finding("identity", f"{self._globus.contact} lets in {proxy.subject}")
        except GramSilent as error:
            advice = (
                "look whether `contact` and `ca_directory` are right, and whether the site maps"
            )
            yield Finding("gatekeeper", str(error), Verdict.WRONG, f"{advice} us to an account")
            return
        service = self._globus.fork_service
        try:
            self._tell("drop", ["nobody"])
            yield Finding("agent", f"{service} answers, and can reach {self._globus.host}")
        except GramSilent as error:
            advice = f"the site must run small jobs at {service}, and reach `callback_host`"
            yield Finding("agent", str(error), Verdict.WRONG, advice)

    # Submitting

    def _packed(self, job: JobDescription) -> bytes:
        if not _STAMP.fullmatch(job.stamp):
            raise SubmissionRefused(self._name, f"{job.stamp!r} is no stamp")
        try:
            return pack(job)
        except OSError as error:
            reason = f"{error.filename or job.program} cannot be read: {error.strerror}"
            raise SubmissionRefused(self._name, reason) from error

    def _description(self, job: JobDescription, address: str) -> str:
        try:
            return language.write(
                [
                    Job(
                        executable=NAME,
                        inputs=(File(NAME, address),),
                        queue=self._queue,
                        cores=job.cores,
                        memory_mib=job.memory_mib,
                        wall_time=int(job.wall_time.total_seconds()),
                    )
                ]
            )
        except JdlError as error:
            raise SubmissionRefused(self._name, str(error)) from error

    def _gass(self) -> Gass:
        proxy = self._proxy()
        try:
            context = tls.server_context(self._authorities, proxy.file)
        except tls.CredentialUnusable as error:
            raise GramSilent(str(error)) from error
        return Gass(context, proxy.subject, self._globus.host, self._ports)

    def _proxy(self) -> tls.ProxyFacts:
        try:
            proxy = tls.proxy_in(self._globus.proxy, self._clock())
        except tls.CredentialUnusable as error:
            raise GramSilent(str(error)) from error
        if proxy.is_limited:
            raise GramSilent(
                f"the proxy in {proxy.file}, of {proxy.subject}, is limited, and those may not"
                " start jobs; make a full one"
            )
        return proxy

    def _undo(self, contacts: Sequence[str], jobs: Sequence[JobDescription]) -> None:
        """What cannot be cancelled now waits for a program that never comes, and fails; or it has
        come, and then the mark at the site keeps it from running.
        """
        with contextlib.suppress(GramSilent):
            if contacts:
                self._tell("taken", [job.stamp for job in jobs])
            for contact in contacts:
                self._globus.cancel(contact)

    # Asking

    def _states(self, jobs: dict[Reference, tuple[str, str]]) -> dict[Reference, str]:
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            contacts = [contact for contact, _ in jobs.values()]
            return dict(zip(jobs, _all(pool, self._globus.status, contacts), strict=True))

    def _traces(self, jobs: Sequence[tuple[str, str]]) -> dict[str, Trace]:
        found: dict[str, Trace] = {}
        for portion in _portions(jobs):
            pairs = [f"{stamp}={contact}" for contact, stamp in portion]
            for words in self._agent("look", *pairs):
                if words[0] == "job" and len(words) >= 5:
                    found[words[1]] = _trace(words[2:])
            missing = {stamp for _, stamp in portion} - found.keys()
            if missing:
                raise GramSilent(f"its agent says nothing of {len(missing)} jobs")
        return found

    def _tell(self, question: str, stamps: Sequence[str]) -> None:
        for portion in _portions(stamps):
            for _ in self._agent(question, *portion):
                continue

    def _agent(self, question: str, *about: str) -> Iterator[list[str]]:
        """The lines of the agent's answer, in words; raises GramSilent where it has no end."""
        for line in self._answer(question, *about):
            words = line.decode("utf-8", "replace").split()
            if words:
                yield words

    def _answer(self, question: str, *about: str) -> Iterator[bytes]:
        self._proxy()
        script = f"set -- {shlex.join([question, *about])}\n{AGENT.read_text()}"
        # Letters and digits are the same to every job manager.
        coded = base64.b64encode(script.encode()).decode()
        described = rsl.request(
            [
                [
                    rsl.relation("executable", rsl.literal("/bin/sh")),
                    rsl.relation(
                        "arguments", *map(rsl.literal, ["-c", f"echo {coded} | base64 -d | sh"])
                    ),
                ]
            ]
        )
        is_whole = False
        for line in self._globus.ask(described):
            if line.strip() == b"end":
                is_whole = True
            else:
                yield line
        if not is_whole:
            raise GramSilent("its agent's answer has no end")

    def _land(self, landing: Landing, stamp: str, limit: int) -> None:
        """Take what the agent sends: ``outputs`` first, which names the others."""
        names = {"out": STDOUT, "err": STDERR}
        for file, chunks in _files(self._answer("fetch", stamp, str(limit)), limit):
            if file == "outputs":
                outputs = b"".join(chunks).decode().splitlines()
                check_outputs(outputs)
                names |= {f"kept/{number}": name for number, name in enumerate(outputs)}
            elif file in names:
                landing.receive(names[file], chunks)

    @contextmanager
    def _asked(self) -> Iterator[None]:
        try:
            yield
        except (GramSilent, GramRefused) as error:
            raise ComputingElementUnavailable(self._name, str(error)) from error
        except OSError as error:
            raise ComputingElementUnavailable(self._name, str(error)) from error


def state_of(state: str, trace: Trace | None) -> JobState | None:
    """What GRAM's word on a job means, with what the site's agent says where GRAM calls it over;
    None where nobody knows it.
    """
    if trace is not None and trace.is_alive:
        # Nobody answered GRAM's question, but a job manager has the job on record.
        state = trace.state
    if state not in OVER:
        status = STATUS_OF_STATE.get(state)
        if status is None:
            raise GramSilent(f"a job is {state!r}, of which we know nothing")
        return JobState(status)
    if trace is None:
        raise GramSilent("its agent says nothing of a job that is over")
    if trace.is_removed:
        return JobState(PilotStatus.DELETED, "taken back", trace.exit_code)
    if trace.exit_code == 0:
        return JobState(PilotStatus.DONE, exit_code=0)
    if trace.exit_code is not None:
        reason = f"ended with exit code {trace.exit_code}"
        return JobState(PilotStatus.FAILED, reason, trace.exit_code)
    if trace.has_started:
        return JobState(PilotStatus.ABORTED, "it was killed at the site, and left no exit code")
    if state == "FAILED":
        return JobState(PilotStatus.FAILED, "it failed at the site before it started")
    return None


def _trace(words: Sequence[str]) -> Trace:
    started, code, removed, *managed = words
    if code != "-" and not re.fullmatch(r"\d{1,3}", code):
        raise GramSilent(f"its agent says {code[:20]!r} for an exit code")
    contact, state = managed if len(managed) == 2 else ("", "")
    return Trace(
        started == "started",
        None if code == "-" else int(code),
        removed == "removed",
        contact if CONTACT.fullmatch(contact) else "",
        STATE_OF_NUMBER.get(state, ""),
    )


def _files(lines: Iterator[bytes], limit: int) -> Iterator[tuple[str, Iterator[bytes]]]:
    """The files in an agent's answer, each a line with its name and then its content in base64;
    raises TooMuch.
    """
    head = next(lines, b"").split()

    def content() -> Iterator[bytes]:
        nonlocal head
        head = []
        for line in lines:
            if line.startswith(b"file "):
                head = line.split()
                return
            yield _decoded(line.strip().decode("ascii", "replace"))

    while len(head) == 2:
        if head[0] == b"too":
            raise TooMuch(limit)
        chunks = content()
        yield head[1].decode("utf-8", "replace"), chunks
        for _ in chunks:  # what nobody wanted
            continue


def _jobs(references: Sequence[Reference]) -> dict[Reference, tuple[str, str]]:
    """Contacts and stamps; what has no such form was never one of ours."""
    matches = ((name, _REFERENCE.fullmatch(name)) for name in references)
    return {name: (match[1], match[2]) for name, match in matches if match}


def _portions(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), PORTION):
        yield items[start : start + PORTION]


def _all(pool: ThreadPoolExecutor, function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """What ``function`` makes of each; raises the first error when all have come back."""
    started = [pool.submit(function, item) for item in items]
    failures = [each.exception() for each in started]
    for failure in failures:
        if failure is not None:
            raise failure
    return [each.result() for each in started]


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("it is no base64") from error
