"""An A-REX in this process, for tests: real TLS and proxies in front, processes of this machine
behind, and the habits of ARC 6.17 that arc_rest.py has to know.

It does at each question what an A-REX does all the time. ``interfere`` lets it hang, break off or
lie.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import threading
import uuid
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import unquote

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from desktopgrid.credentials.subjects import certificates_in
from jdl import adl
from jdl.errors import JdlError
from jdl.job import Job
from pilot.ce.fake_https import FakeHttps, Question, Reply

GRACE_SECONDS = 5.0
ENDED = ("FINISHED", "FAILED", "KILLED", "WIPED")


@dataclass
class FakeJob:
    """One job."""

    id: str
    job: Job
    description: str
    directory: Path
    owner: str
    delegation: str = ""
    state: str = "ACCEPTING"
    is_described: bool = False
    """Whether the information system has come by since it was made."""
    is_to_be_killed: bool = False
    exit_code: int | None = None
    errors: list[str] = field(default_factory=list)
    files: set[str] = field(default_factory=set)
    process: subprocess.Popen[bytes] | None = None


class FakeArex:
    """An A-REX at ``url`` while it is entered."""

    def __init__(
        self,
        directory: Path,
        certificate: Path,
        authorities: Path,
        people: Sequence[str] = (),
        tokens: Sequence[str] = (),
        versions: Sequence[str] = ("1.0",),
        slots: int = 4,
    ) -> None:
        """``certificate`` is a file with the host's certificate and key; ``people`` are the
        subjects that are let in.
        """
        self.directory, self.people, self.tokens = directory, list(people), list(tokens)
        self.versions, self.slots = list(versions), slots
        self.interfere: Callable[[Question], Reply | None] = lambda question: None
        """What is said instead of the truth; None: the truth is."""
        self.is_slow_to_describe = False
        """The information system does not come by: new jobs have no names."""
        self.jobs: dict[str, FakeJob] = {}
        self.delegations: dict[str, tuple[Any, str]] = {}
        """Their keys, and the proxies that were handed in."""
        self.questions: list[Question] = []
        self._lock = threading.RLock()
        self.https = FakeHttps(self.answer, certificate, authorities)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"https://localhost:{self.https.port}/arex"

    def __enter__(self) -> FakeArex:
        self.https.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.https.__exit__(kind, error, trace)
        for name in list(self.jobs):
            self.forget(name)

    def forget(self, name: str) -> None:
        """Know nothing of a job any more."""
        with self._lock:
            job = self.jobs.pop(name)
            if job.process is not None:
                _signal(job.process, signal.SIGKILL)
                job.process.wait()

    # What it does all the time

    def step(self) -> None:
        """Start what can start, and see what has ended."""
        with self._lock:
            for job in self.jobs.values():
                self._step(job)

    def _step(self, job: FakeJob) -> None:
        job.is_described = job.is_described or not self.is_slow_to_describe
        if job.process is not None and job.state == "RUNNING":
            if job.is_to_be_killed:
                _signal(job.process, signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    job.process.wait(GRACE_SECONDS)
                _signal(job.process, signal.SIGKILL)
                job.process.wait()
            if job.process.poll() is not None:
                self._end(job, job.process.returncode)
        elif job.state not in ENDED and job.is_to_be_killed:
            self._finish(job, "KILLED")
        elif job.state in ("ACCEPTING", "PREPARING"):
            job.state = "PREPARING"
            running = sum(each.state == "RUNNING" for each in self.jobs.values())
            if {file.name for file in job.job.inputs} <= job.files and running < self.slots:
                self._start(job)

    def _start(self, job: FakeJob) -> None:
        out, err = job.directory / job.job.stdout, job.directory / job.job.stderr
        with out.open("wb") as stdout, err.open("wb") as stderr:
            job.process = subprocess.Popen(
                [job.job.executable, *job.job.arguments],
                cwd=job.directory,
                env={"PATH": "/usr/bin:/bin"},
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
        job.state = "RUNNING"

    def _end(self, job: FakeJob, code: int) -> None:
        if job.is_to_be_killed:
            self._finish(job, "KILLED")
            return
        job.exit_code = code if code >= 0 else 128 - code
        if job.exit_code:
            job.errors.append(f"LRMS error: ({job.exit_code}) Job failed")
        self._finish(job, "FAILED" if job.exit_code else "FINISHED")

    def _finish(self, job: FakeJob, state: str) -> None:
        """Only what was named as an output stays."""
        kept = {file.name for file in job.job.outputs} | {job.job.stdout, job.job.stderr}
        for path in sorted(job.directory.rglob("*"), reverse=True):
            if str(path.relative_to(job.directory)) in kept:
                continue
            if path.is_dir() and not path.is_symlink():
                with contextlib.suppress(OSError):
                    path.rmdir()
            else:
                path.unlink(missing_ok=True)
        job.state = state

    # What it answers

    def answer(self, question: Question) -> Reply:
        """The truth about ``question``."""
        with self._lock:
            self.questions.append(question)
        said = self.interfere(question)
        if said is not None:
            return said
        with self._lock:
            self.step()
            return self._answer(question)

    def _answer(self, question: Question) -> Reply:
        owner = self._owner(question)
        if not owner:
            return Reply(403, b"", {})
        path = question.path.removeprefix("/arex")
        parts = [unquote(part) for part in path.split("/") if part]
        if parts == ["rest"]:
            return _json({"version": _listed(self.versions, self.versions)})
        if parts[0] != "rest" or parts[1] not in self.versions:
            return Reply(404)
        asked = (question.method, *parts[2:3])
        if asked == ("GET", "jobs") and len(parts) == 3:
            ids = [{"id": job.id} for job in self.jobs.values() if job.owner == owner]
            return self._listing(ids, 200, parts[1])
        if asked == ("POST", "jobs") and len(parts) == 3:
            return self._act(question, owner, parts[1])
        if parts[2] == "jobs" and len(parts) > 4:
            return self._file(question, owner, parts[3], parts[4], "/".join(parts[5:]))
        if parts[2] == "delegations":
            return self._delegation(question, parts[1], parts[3:])
        return Reply(404)

    def _owner(self, question: Question) -> str:
        scheme, _, token = question.headers.get("authorization", "").partition(" ")
        if scheme == "Bearer":
            return f"token {token}" if token in self.tokens else ""
        # A proxy's subject is its person's, and more.
        names = [each for each in self.people if question.subject.endswith(each)]
        return names[0] if names and question.subject else ""

    def _listing(self, jobs: list[dict[str, Any]], status: int, version: str) -> Reply:
        if not jobs and version == "1.0":
            return Reply(status, b"", {"Content-Type": "application/json"})
        return _json({"job": _listed(jobs, jobs if version == "1.0" else None)}, status)

    def _act(self, question: Question, owner: str, version: str) -> Reply:
        action = question.query.get("action", "")
        if action == "new":
            return self._listing(self._create(question, owner), 201, version)
        jobs = json.loads(question.body)["job"]
        ids = [each["id"] for each in (jobs if isinstance(jobs, list) else [jobs])]
        return self._listing([self._one(action, each, owner) for each in ids], 201, version)

    def _create(self, question: Question, owner: str) -> list[dict[str, Any]]:
        root = ElementTree.fromstring(question.body)  # noqa: S314 - a test's own
        texts = [ElementTree.tostring(root, "unicode")]
        if root.tag.endswith("ActivityDescriptions"):
            texts = [ElementTree.tostring(child, "unicode") for child in root]
        return [self._created(text, question, owner) for text in texts]

    def _created(self, text: str, question: Question, owner: str) -> dict[str, Any]:
        try:
            (job,) = adl.read(text).jobs
        except JdlError as error:
            return {"status-code": "500", "reason": f"Failed to parse: {error}"}
        if job.queue and job.queue not in ("main", "fork"):
            return {"status-code": "500", "reason": f"Requested queue {job.queue} does not exist"}
        name = uuid.uuid4().hex[:12]
        directory = self.directory / name
        directory.mkdir(parents=True, mode=0o700)
        made = FakeJob(name, job, text, directory, owner)
        found = re.search(r"DelegationID[^>]*>([^<]+)<", text)
        made.delegation = question.query.get("delegation_id", found[1] if found else "")
        self.jobs[name] = made
        return {"status-code": "201", "reason": "Created", "id": name, "state": "ACCEPTING"}

    def _one(self, action: str, name: str, owner: str) -> dict[str, Any]:
        job = self.jobs.get(name)
        if job is None or job.owner != owner:
            return {"status-code": "404", "reason": "Job not found", "id": name}
        good = {"status-code": "200", "reason": "OK", "id": name}
        if action == "status":
            return {**good, "state": job.state}
        if action == "info":
            return {**good, "info_document": {"ComputingActivity": _glue(job)}}
        if action == "kill":
            job.is_to_be_killed = True
            return {**good, "status-code": "202", "reason": "Queued for killing"}
        if action == "clean":
            job.is_to_be_killed = True
            self._step(job)
            shutil.rmtree(job.directory, ignore_errors=True)
            del self.jobs[name]
            return {**good, "status-code": "202", "reason": "Queued for cleaning"}
        return {"status-code": "501", "reason": "Action not implemented", "id": name}

    def _file(self, question: Question, owner: str, name: str, kind: str, path: str) -> Reply:
        job = self.jobs.get(name)
        if job is None or job.owner != owner:
            return Reply(404)
        if kind == "diagnose":
            told = {"local": f"jobname={job.job.name}\n", "description": job.description}
            return Reply(200, told[path].encode()) if path in told else Reply(404)
        file = job.directory / path
        if question.method == "PUT":
            file.touch(0o600)
            file.write_bytes(question.body)
            job.files.add(path)
            return Reply(200)
        # It follows links, and never ends with a pipe.
        if not file.is_file():
            return Reply(404)
        start = re.fullmatch(r"bytes=(\d+)-", question.headers.get("range", ""))
        content = file.read_bytes()[int(start[1]) if start else 0 :]
        return Reply(200, content, {"Content-Type": "application/octet-stream"})

    def _delegation(self, question: Question, version: str, names: list[str]) -> Reply:
        action = question.query.get("action", "")
        if not names and action == "new":
            name = uuid.uuid4().hex
            place = {"Location": f"/arex/rest/{version}/delegations/{name}"}
            if question.query.get("type") == "jwt":
                self.delegations[name] = (None, question.headers["x-token-delegation"])
                return Reply(201, b"", place)
            self.delegations[name] = (ec.generate_private_key(ec.SECP256R1()), "")
            return Reply(201, _request(self.delegations[name][0]), place)
        if not names or names[0] not in self.delegations:
            return Reply(404)
        key, _ = self.delegations[names[0]]
        if action == "renew":
            key = ec.generate_private_key(ec.SECP256R1())
            self.delegations[names[0]] = (key, "")
            return Reply(201, _request(key))
        chain = certificates_in(question.body.decode())
        if chain[0].public_key() != key.public_key():
            return Reply(500)
        chain[0].verify_directly_issued_by(chain[1])
        if chain[0].not_valid_after_utc <= datetime.now(UTC):
            return Reply(500)
        self.delegations[names[0]] = (key, question.body.decode())
        return Reply(200)


def _glue(job: FakeJob) -> dict[str, Any]:
    """What the information system knows of a job."""
    states = [f"emies:{job.state.lower()}", f"arcrest:{job.state}"]
    if not job.is_described:
        return {"State": states[-1]}
    more: dict[str, Any] = {}
    if job.exit_code is not None:
        more["ExitCode"] = str(job.exit_code)
    if job.errors:
        more["Error"] = _listed(job.errors, job.errors)
    return {"Name": job.job.name, "State": states, "Owner": job.owner, **more}


def _listed(items: list[Any], short: list[Any] | None) -> Any:
    """REST 1.0's habit: one element is written as itself."""
    return items[0] if short is not None and len(short) == 1 else items


def _json(document: object, status: int = 200) -> Reply:
    return Reply(status, json.dumps(document).encode(), {"Content-Type": "application/json"})


def _request(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A certificate request of the version that ARC writes, and that does not exist."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "delegation")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject)
    made = request.sign(key, hashes.SHA256())
    good = made.tbs_certrequest_bytes
    info = good.replace(b"\x02\x01\x00", b"\x02\x01\x02", 1)
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")  # ecdsa-with-SHA256
    signature = key.sign(info, ec.ECDSA(hashes.SHA256()))
    body = info + algorithm + _element(3, b"\0" + signature)
    pem = ssl.DER_cert_to_PEM_cert(_element(0x30, body))
    return pem.replace("CERTIFICATE", "CERTIFICATE REQUEST").encode()


def _element(tag: int, content: bytes) -> bytes:
    size = len(content)
    count = (size.bit_length() + 7) // 8
    long = bytes((0x80 | count,)) + size.to_bytes(count, "big")
    return bytes((tag,)) + (bytes((size,)) if size < 0x80 else long) + content


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
