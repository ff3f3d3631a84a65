"""What one says to an A-REX by its REST interface, versions 1.0 and 1.1.

Facts about it that no documentation tells, seen on ARC 6.17:

    POST /jobs?action=...   201 outside, whatever became of each job; the ``status-code`` in each
                            job's own answer is the truth
    {"job": {...}}          one element comes as an object, several as a list, none as an empty body
                            (1.0; 1.1 has a list always)
    certificate requests    are of a version that does not exist; credentials/signing.py reads them
    input files             a job whose files were not all PUT waits, and fails after 10 minutes

So nothing runs before all its files are there: uploading them is what commits a submission.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from pilot.ce.base import Credential
from pilot.ce.https import NOTHING, Answer, Body, Https, Silent, utc_now

VERSIONS = ("1.1", "1.0")
"""Those that we speak, the best first."""
PORTION = 100
"""Jobs in one question."""
NO_LONGER = 200
"""Characters of a foreign text in an error of ours."""

JSON = {"Accept": "application/json"}
ANY = {"Accept": "*/*"}


class Refused(Exception):
    """The A-REX said no; nothing was done."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class JobAnswer:
    """What an A-REX says of one job."""

    id: str
    code: int
    """As of HTTP; of this job alone."""
    reason: str = ""
    state: str = ""
    info: Mapping[str, Any] = field(default_factory=dict)
    """Its GLUE 2 document, where that was asked for."""


class Arex:
    """One A-REX."""

    def __init__(
        self,
        url: str,
        credential: Credential,
        authorities: Path | None = None,
        answer_within: timedelta = timedelta(seconds=30),
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        """``url`` is such as https://ce.example.org:443/arex; ``authorities`` the directory of CAs
        that may vouch for it.
        """
        self.url = url.rstrip("/")
        self.https = Https(url, credential, authorities, answer_within, clock)
        self._path = urlsplit(self.url).path
        self._version = ""

    def __repr__(self) -> str:
        return f"<A-REX {self.url}>"

    @property
    def version(self) -> str:
        """The best version of the interface that both of us speak; raises Silent, Refused."""
        if not self._version:
            answer = self._let_in(self.https.ask("GET", f"{self._path}/rest", headers=JSON))
            if answer.status == 404:
                raise Refused(404, f"{self.url} is not the REST interface of an ARC CE")
            spoken = elements(_document(answer, 200), "version")
            best = next((each for each in VERSIONS if each in spoken), None)
            if best is None:
                said = ", ".join(map(str, spoken)) or "none"
                raise Refused(501, f"it speaks REST {said}, and we speak {' and '.join(VERSIONS)}")
            self._version = best
        return self._version

    # Jobs

    def create(self, descriptions: str, delegation: str = "") -> list[JobAnswer]:
        """Make jobs of a document with descriptions; what became of each, in their order."""
        parameters = {"action": "new"}
        if delegation and self.version != "1.0":
            parameters["delegation_id"] = delegation
        headers = {**JSON, "Content-Type": "application/xml"}
        body = descriptions.encode()
        answer = self._ask("POST", "/jobs", parameters, body, headers, once=True)
        return [_job(each) for each in elements(_document(answer, 201), "job")]

    def jobs(self) -> list[str]:
        """The jobs of ours that it has, whatever their states."""
        document = _document(self._ask("GET", "/jobs", headers=JSON), 200)
        return [str(each["id"]) for each in elements(document, "job") if each.get("id")]

    def states(self, ids: Sequence[str]) -> dict[str, JobAnswer]:
        """How far jobs are; those that it does not know are absent."""
        return self._tell("status", ids)

    def infos(self, ids: Sequence[str]) -> dict[str, JobAnswer]:
        """All that it tells of jobs; those that it does not know are absent."""
        return self._tell("info", ids)

    def kill(self, ids: Sequence[str]) -> None:
        """Have jobs ended; those that it does not know are left out."""
        self._tell("kill", ids)

    def clean(self, ids: Sequence[str]) -> None:
        """Have all traces of jobs removed, and them ended if they are not."""
        self._tell("clean", ids)

    def _tell(self, action: str, ids: Sequence[str]) -> dict[str, JobAnswer]:
        found: dict[str, JobAnswer] = {}
        for start in range(0, len(ids), PORTION):
            portion = ids[start : start + PORTION]
            body = json.dumps({"job": [{"id": each} for each in portion]}).encode()
            headers = {**JSON, "Content-Type": "application/json"}
            answer = self._ask("POST", "/jobs", {"action": action}, body, headers)
            said = {job.id: job for job in map(_job, elements(_document(answer, 200, 201), "job"))}
            if not said.keys() >= set(portion):
                missing = len(set(portion) - said.keys())
                raise Silent(
                    f"it was asked for {len(portion)} jobs, and left {missing} of them out"
                )
            for name in portion:
                job = said[name]
                if job.code in (200, 201, 202):
                    found[name] = job
                elif job.code != 404:
                    raise Silent(f"{action} of job {name}: {job.reason} ({job.code})")
        return found

    # Files

    def put(self, job: str, name: str, file: Path) -> None:
        """Give a job one of its files."""
        with file.open("rb") as body:
            size = str(file.stat().st_size)
            headers = {"Content-Type": "application/octet-stream", "Content-Length": size}
            _expect(self._ask("PUT", _session(job, name), NOTHING, body, headers), 200, 201, 204)

    def size(self, job: str, name: str) -> int | None:
        """How large a file of a job is; None if there is none."""
        answer = self._ask("HEAD", _session(job, name))
        if answer.status == 404:
            return None
        length = _expect(answer, 200).headers.get("Content-Length", "")
        return int(length) if length.isdigit() else None

    def fetch(self, job: str, name: str, start: int = 0) -> Iterator[bytes] | None:
        """A file of a job in chunks, which raise Silent; None if there is none. From ``start`` on,
        if the A-REX does that.
        """
        headers = {**ANY, "Range": f"bytes={start}-"} if start else ANY
        answer, chunks = self.https.stream(self._address(_session(job, name)), headers)
        if answer.status == 404:
            return None
        _expect(answer, 200, 206)
        return chunks

    def diagnosis(self, job: str, name: str) -> str:
        """A file that A-REX itself keeps about a job, such as local or output; empty if it has
        none.
        """
        answer = self._ask("GET", f"/jobs/{quote(job)}/diagnose/{name}", headers=ANY)
        return "" if answer.status == 404 else _expect(answer, 200).body.decode("utf-8", "replace")

    # Delegations

    def delegate(self, sign: Callable[[str], str]) -> str:
        """Have a proxy of ours kept for jobs: the A-REX makes key and request, ``sign`` makes proxy
        and chain; what it is called.
        """
        answer = self._ask("POST", "/delegations", {"action": "new"}, b"", ANY, once=True)
        name = _delegation(answer)
        self._hand_in(name, sign(answer.body.decode("ascii", "replace")))
        return name

    def delegate_token(self, token: str) -> str:
        """Have a token kept for jobs; what it is called. REST 1.0 has no words for that."""
        if self.version == "1.0":
            raise Refused(501, "it cannot keep tokens for jobs (REST 1.0); set delegate = no")
        headers = {**ANY, "X-Token-Delegation": token}
        parameters = {"action": "new", "type": "jwt"}
        return _delegation(self._ask("POST", "/delegations", parameters, b"", headers, once=True))

    def renew(self, delegation: str, sign: Callable[[str], str]) -> None:
        """Let a delegation last longer; raises Refused where the A-REX has it no more."""
        address = f"/delegations/{quote(delegation)}"
        answer = _expect(self._ask("POST", address, {"action": "renew"}, b"", ANY), 200, 201)
        self._hand_in(delegation, sign(answer.body.decode("ascii", "replace")))

    def _hand_in(self, delegation: str, proxy: str) -> None:
        headers = {**ANY, "Content-Type": "application/x-pem-file"}
        address = f"/delegations/{quote(delegation)}"
        answer = self._ask("PUT", address, NOTHING, proxy.encode(), headers)
        _expect(answer, 200, 201, 204)

    def _ask(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str] = NOTHING,
        body: Body = None,
        headers: Mapping[str, str] = ANY,
        *,
        once: bool = False,
    ) -> Answer:
        address = self._address(path)
        answer = self.https.ask(method, address, parameters, body, headers, once=once)
        return self._let_in(answer)

    def _let_in(self, answer: Answer) -> Answer:
        """``answer``, if it is not that we may not ask; raises Refused."""
        if answer.status in (401, 403):
            who, said = self.https.identity, f"{answer.status} {_words(answer)}".strip()
            raise Refused(answer.status, f"it does not let in {who} ({said})")
        return answer

    def _address(self, path: str) -> str:
        return f"{self._path}/rest/{self.version}{path}"


def elements(document: Mapping[str, Any], name: str) -> list[Any]:
    """The elements ``name`` of a document: one of them is written as itself, several as a list,
    none as nothing at all.
    """
    found = document.get(name)
    if found is None or found == "":
        return []
    return found if isinstance(found, list) else [found]


def _job(element: Any) -> JobAnswer:
    if not isinstance(element, Mapping):
        raise Silent("what it answers about a job is no object of JSON")
    code = str(element.get("status-code", ""))
    if not code.isdigit():
        raise Silent("what it answers about a job has no status-code")
    document = element.get("info_document")
    info = document.get("ComputingActivity") if isinstance(document, Mapping) else None
    return JobAnswer(
        str(element.get("id", "")),
        int(code),
        str(element.get("reason", ""))[:NO_LONGER],
        str(element.get("state", "")),
        info if isinstance(info, Mapping) else {},
    )


def _session(job: str, name: str) -> str:
    return f"/jobs/{quote(job)}/session/{quote(name)}"


def _delegation(answer: Answer) -> str:
    name = _expect(answer, 201).headers.get("Location", "").rstrip("/").rpartition("/")[2]
    if not re.fullmatch(r"[\w-]+", name):
        raise Silent(f"it did not say what the delegation is called, but {name[:40]!r}")
    return name


def _document(answer: Answer, *expected: int) -> Mapping[str, Any]:
    body = _expect(answer, *expected).body.strip()
    if not body:
        return {}
    try:
        document = json.loads(body)
    except ValueError as error:
        raise Silent("what it answers is no JSON") from error
    if not isinstance(document, dict):
        raise Silent("what it answers is no object of JSON")
    return document


def _expect(answer: Answer, *expected: int) -> Answer:
    """``answer``, if its status is one of those; raises Refused, or Silent where it says that it
    cannot answer.
    """
    if answer.status in expected:
        return answer
    text = f"it answers {answer.status} {_words(answer)}".strip()
    if 400 <= answer.status < 500 or answer.status in (500, 501, 505):
        raise Refused(answer.status, text)
    raise Silent(text)


def _words(answer: Answer) -> str:
    """Why, in the service's words; pages for browsers are none."""
    said = answer.body.decode("utf-8", "replace").strip()
    return (said if said and "<" not in said else answer.reason)[:NO_LONGER]
