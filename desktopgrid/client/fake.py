"""A grid in memory, for tests of what uses a grid: the same answers, works that really run, here
and at once.

    with FakeGrid(tmp_path).open() as grid:
        result = grid.run(Description("hello"), ["world"])

It is one user's, checks few rules and keeps nothing. ``pause`` holds works back, so that a test may
look at works that wait; ``restart`` breaks the connection and forgets who watches, as a server does
that was killed.
"""

from __future__ import annotations

import base64
import hashlib
import queue
import subprocess
import threading
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from desktopgrid.client.connection import OnBytes
from desktopgrid.client.grid import Grid
from desktopgrid.client.session import GridSession
from desktopgrid.link.identity import Identity
from desktopgrid.model.accounting import Entry, tallied
from desktopgrid.model.errors import (
    AccessDenied,
    BadRequest,
    GridError,
    LimitExceeded,
    Unavailable,
    UnknownObject,
)
from desktopgrid.model.modes import rights_from
from desktopgrid.model.objects import Description
from desktopgrid.model.rights import PRIVATE, PUBLIC, Reach, UserLevel, reach_of
from desktopgrid.model.uris import located
from desktopgrid.wire import messages as m
from desktopgrid.wire.codec import to_body

USER = "u-fake"
HOST = "h-fake"
IDENTITY = Identity(("https://127.0.0.1:0",), "client", "t-fake", "0" * 64, "no CA")

OnMessage = Callable[[int, m.Message], None]
OnOpen = Callable[[m.Welcome], None]


@dataclass
class _Work:
    uid: str
    submission: str
    description: Description
    arguments: tuple[str, ...]
    rights: int
    status: str = "WAITING"
    ended: m.Ended | None = None
    contents: Mapping[str, bytes] | None = None


class _Lane:
    """Calls, one after the other, in threads that do not hold up the end of the program."""

    def __init__(self, threads: int = 1) -> None:
        self._calls: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        for _ in range(threads):
            threading.Thread(target=self._run, daemon=True).start()

    def add(self, call: Callable[[], object]) -> None:
        self._calls.put(call)

    def close(self) -> None:
        self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            call()


def _second_of(chain: str) -> str:
    """What names the second certificate of a chain in PEM, as the server does."""
    blocks = chain.split("-----BEGIN CERTIFICATE-----")[2:]
    if not blocks:
        return ""
    der = base64.b64decode("".join(blocks[0].partition("-----END")[0].split()))
    return hashlib.sha256(der).hexdigest()


class FakeGrid:
    """Server and worker in one; ``open`` gives a Grid that talks to it."""

    def __init__(
        self, directory: Path, level: UserLevel = UserLevel.ADVANCED, host_owner: str = USER
    ) -> None:
        self.directory, self.level = directory, level
        self.requests: list[m.Request] = []
        """What was asked, in order."""
        self.used: list[Entry] = []
        """What reports are made from; the days asked for are not looked at."""
        self.records: list[dict[str, Any]] = []
        """The records of tasks' use, in the order of their epochs."""
        self._host_owner = host_owner
        self._lock = threading.RLock()
        self._runners = _Lane(2)
        self._may_run = threading.Event()
        self._may_run.set()
        self._connections: list[_Connection] = []
        self._watched: set[str] = set()
        self._datas: dict[str, m.SendData] = {}
        self._bags: dict[str, dict[str, Any]] = {}
        self._users: dict[str, dict[str, Any]] = {}
        self._tokens: dict[str, m.SendToken] = {}
        self._bridge: m.SendOffers | None = None
        self._offers: dict[str, dict[str, str]] = {}
        self._taken: set[str] = set()
        self._delegations: dict[str, dict[str, Any]] = {}
        self._contents: dict[str, bytes] = {}
        self._applications: dict[str, dict[str, Any]] = {}
        self._works: dict[str, _Work] = {}

    def open(self) -> Grid:
        """A grid whose server this is."""
        session = GridSession(IDENTITY, self._connect, patience=20.0)
        session.open()
        return Grid(session)

    def pause(self) -> None:
        """Works that have not started wait."""
        self._may_run.clear()

    def resume(self) -> None:
        """Works run again."""
        self._may_run.set()

    def restart(self) -> None:
        """Forget who watches, and greet every client as one that is new."""
        with self._lock:
            self._watched.clear()
        for connection in self._connections:
            connection.greet()

    def _connect(
        self,
        identity: Identity,
        *,
        on_message: OnMessage,
        on_open: OnOpen,
        on_end: Callable[[GridError], None],
    ) -> _Connection:
        connection = _Connection(self, on_message, on_open)
        self._connections.append(connection)
        return connection

    # Questions

    def answer(self, request: m.Message) -> dict[str, Any]:
        """The reply's body; raises the error that the failure tells of."""
        with self._lock:
            if isinstance(request, m.Request):
                self.requests.append(request)
            answer = getattr(self, f"_on_{request.verb}", None)
            if answer is None:
                raise BadRequest(f"the fake grid does not answer {request.verb}")
            body: dict[str, Any] = answer(request)
            return body

    def _on_submit(self, asked: m.Submit) -> dict[str, Any]:
        application = self._application(str(asked.description["application"]))
        description = Description(**{**asked.description, "application": application["uid"]})
        for _, uid in description.inputs:
            if uid not in self._datas:
                raise UnknownObject.named("data", uid)
        for number, arguments in enumerate(asked.arguments, asked.first):
            uid = asked.uid if asked.single else f"{asked.uid}-{number}"
            work = _Work(uid, asked.uid, description, arguments, application["rights"])
            self._works[uid] = work
            if asked.watch:
                self._watched.add(uid)
            self._runners.add(partial(self._run, work))
        reach = reach_of(application["rights"])
        runs_on = "only your own workers" if reach is Reach.PRIVATE else "any public worker"
        return {"works": len(asked.arguments), "runs_on": f"They run on {runs_on}."}

    def _on_watch(self, asked: m.Watch) -> dict[str, Any]:
        known = [self._works[uid] for uid in asked.works if uid in self._works]
        self._watched.update(work.uid for work in known)
        return {
            "open": [work.uid for work in known if work.ended is None],
            "ended": [{"work": work.uid, "status": work.status} for work in known if work.ended],
        }

    def _on_cancel(self, asked: m.Cancel) -> dict[str, Any]:
        aborted = []
        for work in list(self._works.values()):
            if work.ended is None and {work.uid, work.submission} & set(asked.works):
                self._end(work, m.Ended(work.uid, "ABORTED", reason="cancelled by its user"))
                aborted.append(work.uid)
        return {"aborted": aborted}

    def _on_results(self, asked: m.GetResults) -> dict[str, Any]:
        works = [self._works[uid] for uid in asked.works if uid in self._works]
        rows = [{**to_body(w.ended), "usage": [0.1, 0.0, 0.0, 0]} for w in works if w.ended]
        # Fewer than asked for, as the real one where they would not go into a frame.
        return {"results": rows[:3], "more": len(rows) > 3}

    def _on_list(self, asked: m.ListObjects) -> dict[str, Any]:
        rows = [
            row
            for row in self._rows(asked.kind)
            if (not asked.uids or {row["uid"], row.get("submission")} & set(asked.uids))
            and all(row.get(name) == value for name, value in asked.where.items())
        ]
        start = int(asked.after or 0)
        end = start + asked.limit
        return {"rows": rows[start:end], "next": str(end) if end < len(rows) else None}

    def _rows(self, kind: str) -> list[dict[str, Any]]:
        if kind == "apps":
            return list(self._applications.values())
        if kind == "datas":
            return [
                {**to_body(data), "owner": USER, "rights": data.rights}
                for data in self._datas.values()
            ]
        if kind == "users":
            return list(self._users.values())
        if kind == "bridges" and self._bridge is not None:
            keys = {name: getattr(self._bridge, name) for name in ("signing_key", "sealing_key")}
            return [{"uid": USER, "login": USER, **keys, "offers": len(self._offers)}]
        if kind == "delegations":
            return list(self._delegations.values())
        if kind == "tokens":
            return [
                {"uid": token.uid, "user": token.user or USER, "label": token.label}
                for token in self._tokens.values()
            ]
        if kind in ("sessions", "groups", "usergroups"):
            return [bag for bag in self._bags.values() if f"{bag['kind']}s" == kind]
        if kind == "hosts":
            return [{"uid": HOST, "name": "fake", "owner": self._host_owner, "kind": "desktop"}]
        if kind == "works":
            return [
                {
                    "uid": work.uid,
                    "submission": work.submission,
                    "status": work.status,
                    "label": work.description.label,
                    "arguments": list(work.arguments),
                }
                for work in reversed(self._works.values())
            ]
        return []

    def _on_why(self, asked: m.Why) -> dict[str, Any]:
        work = self._works.get(asked.uid)
        if work is None:
            raise UnknownObject.named("work", asked.uid)
        return {"sentences": [f"Work {work.uid} is {work.status}."]}

    def _on_stats(self, asked: m.Stats) -> dict[str, Any]:
        return {"works": len(self._works), "hosts": 1}

    def _on_report(self, asked: m.Report) -> dict[str, Any]:
        rows, total = tallied(self.used, asked.by)
        named = [
            {**dict(zip(asked.by, key, strict=True)), **tally.row()}
            for key, tally in sorted(rows.items())
        ]
        return {
            "since": asked.since or "2026-11-01",
            "until": asked.until or "2026-11-25",
            "rows": named if asked.by else [],
            "total": total.row(),
        }

    def _on_usagerecords(self, asked: m.UsageRecords) -> dict[str, Any]:
        """A page holds two records."""
        if self.level < UserLevel.SUPER:
            raise AccessDenied(f"a user of level {self.level.name.lower()} may not usagerecords")
        start = asked.after.get("0", 0)
        rows = [r for r in self.records if r["epoch"] > start]
        if asked.open:
            rows = [r for r in self.records if r["epoch"] in asked.open]
        page = rows if asked.open else rows[:2]
        return {
            "records": [r for r in page if r["ended_at"] is not None],
            "open": [r["epoch"] for r in page if r["ended_at"] is None],
            "after": {"0": page[-1]["epoch"]} if page and not asked.open else asked.after,
            "more": len(page) < len(rows),
        }

    def _on_senddata(self, asked: m.SendData) -> dict[str, Any]:
        self._datas[asked.uid] = asked
        for data in self._datas.values():
            if data.sha256 == asked.sha256 and data.uid in self._contents:
                self._contents[asked.uid] = self._contents[data.uid]
        if asked.uri:
            located(asked.uri)
        return {"uid": asked.uid, "available": bool(asked.uri) or asked.uid in self._contents}

    def _on_sendapp(self, asked: m.SendApplication) -> dict[str, Any]:
        if asked.data not in self._datas:
            raise UnknownObject.named("data", asked.data)
        may_publish = self.level >= UserLevel.ADVANCED
        rights = asked.rights if asked.rights is not None else PUBLIC if may_publish else PRIVATE
        row = {"uid": asked.uid, "name": asked.name, "owner": USER, "rights": rights}
        self._applications[asked.uid] = {
            **row,
            "executables": {f"{asked.cpu}/{asked.os}": asked.data},
        }
        return row

    def _on_validate(self, asked: m.Validate) -> dict[str, Any]:
        application = self._application(asked.application)
        application["validated_by"] = USER if asked.is_valid else ""
        named = {name: application[name] for name in ("uid", "name")}
        return {**named, "validated": asked.is_valid}

    def _on_sendoffers(self, asked: m.SendOffers) -> dict[str, Any]:
        self._bridge = asked
        self._offers.update(asked.offers)
        return {"bridge": USER, "open": sorted(self._offers), "taken": sorted(self._taken)}

    def _on_takeoffer(self, asked: m.TakeOffer) -> dict[str, Any]:
        if not self._offers:
            raise LimitExceeded("the bridge offers no key at present")
        uid, offer = self._offers.popitem()
        self._taken.add(uid)
        return {"offer": uid, "bridge": USER, **offer}

    def _on_delegate(self, asked: m.Delegate) -> dict[str, Any]:
        before = self._delegations.get(asked.uid)
        self._taken.discard(asked.offer)
        ends_at = datetime.now(UTC) + timedelta(seconds=asked.lifetime or 43_200)
        self._delegations[asked.uid] = {
            **{"uid": asked.uid, "owner": USER, "bridge": USER, "user": USER, "kind": asked.kind},
            **{"status": "Signed", "content": asked.content, "offer": asked.offer, "vo": ""},
            **{"generation": before["generation"] + 1 if before else 1, "label": asked.label},
            **{"subject": "", "attributes": "", "expires_at": ends_at.isoformat()},
            "made_from": _second_of(asked.content),
        }
        return {**self._delegations[asked.uid], "attributes": [], "notes": []}

    def _on_fetchdelegation(self, asked: m.FetchDelegation) -> dict[str, Any]:
        return {**self._delegations[asked.uid], "attributes": []}

    def _on_delegationreport(self, asked: m.DelegationReport) -> dict[str, Any]:
        for uid, said in asked.delegations.items():
            self._delegations[uid].update(status=said["status"], reason=said.get("reason", ""))
        return {"delegations": {uid: self._delegations[uid]["status"] for uid in asked.delegations}}

    def _on_sendtoken(self, asked: m.SendToken) -> dict[str, Any]:
        self._tokens[asked.uid] = asked
        return {"uid": asked.uid}

    def _on_revoke(self, asked: m.Revoke) -> dict[str, Any]:
        if asked.uid in self._delegations:
            self._delegations[asked.uid].update(status="Revoked", content="")
        return {"revoked": asked.uid}

    def _on_chmod(self, asked: m.Chmod) -> dict[str, Any]:
        if asked.uid in self._datas:
            data = self._datas[asked.uid]
            rights = rights_from(asked.rights, data.rights)
            self._datas[asked.uid] = replace(data, rights=rights)
        elif asked.uid in self._bags:
            bag = self._bags[asked.uid]
            rights = bag["rights"] = rights_from(asked.rights, bag["rights"])
        else:
            raise UnknownObject.named("data, session or group", asked.uid)
        return {"uid": asked.uid, "rights": rights}

    def _on_sendgroup(self, asked: m.SendGroup) -> dict[str, Any]:
        row = {"uid": asked.uid, "name": asked.name, "kind": asked.kind, "owner": USER}
        self._bags[asked.uid] = {**row, "rights": PRIVATE}
        return {"uid": asked.uid, "name": asked.name}

    def _on_senduser(self, asked: m.SendUser) -> dict[str, Any]:
        row = {"uid": asked.uid, "login": asked.login, "level": asked.level}
        self._users[asked.uid] = {**row, "usergroup": asked.group or "", "email": asked.email}
        return {"uid": asked.uid, "login": asked.login}

    def _on_changeuser(self, asked: m.ChangeUser) -> dict[str, Any]:
        for row in self._users.values():
            if asked.user in (row["uid"], row["login"]):
                changed = {
                    "level": asked.level,
                    "usergroup": asked.group,
                    "email": asked.email,
                    "quota_mib": asked.quota_mib,
                }
                row.update((name, new) for name, new in changed.items() if new is not None)
                return row
        raise UnknownObject.named("user", asked.user)

    def _on_remove(self, asked: m.Remove) -> dict[str, Any]:
        for uid in asked.uids:
            found = [
                table for table in (self._works, self._datas, self._applications) if uid in table
            ]
            if not found:
                raise UnknownObject.named("object", uid)
            found[0].pop(uid)
        return {"removed": list(asked.uids)}

    def _application(self, name: str) -> dict[str, Any]:
        for application in self._applications.values():
            if name in (application["uid"], application["name"]):
                return application
        raise UnknownObject.named("application", name)

    # Running

    def _run(self, work: _Work) -> None:
        self._may_run.wait()
        with self._lock:
            if work.ended is not None:
                return
            work.status = "RUNNING"
        place = self.directory / work.uid
        place.mkdir(parents=True)
        before = self._stage(work, place)
        application = self._application(work.description.application)
        program = place / ".program"
        program.write_bytes(self._contents[next(iter(application["executables"].values()))])
        program.chmod(0o700)
        stdin = self._contents[work.description.stdin] if work.description.stdin else b""
        done = subprocess.run(
            [program, *work.arguments], cwd=place, input=stdin, capture_output=True, check=False
        )
        self._collect(work, place, before, done)

    def _stage(self, work: _Work, place: Path) -> set[str]:
        if work.description.env:
            with zipfile.ZipFile(BytesIO(self._contents[work.description.env])) as archive:
                archive.extractall(place)
        for name, uid in work.description.inputs:
            (place / name).write_bytes(self._contents[uid])
        return {".program", *(path.name for path in place.iterdir())}

    def _collect(
        self, work: _Work, place: Path, before: set[str], done: subprocess.CompletedProcess[bytes]
    ) -> None:
        contents = {
            path.name: path.read_bytes() for path in place.iterdir() if path.name not in before
        }
        inline = {"stdout": done.stdout, "stderr": done.stderr}
        for name in [name for name, content in inline.items() if len(content) > m.MAX_INLINE]:
            contents[name] = inline.pop(name)
        outputs = tuple(
            m.Stored(name, hashlib.sha256(content).hexdigest(), len(content))
            for name, content in contents.items()
        )
        ended = m.Ended(
            work.uid, "COMPLETED", done.returncode, "", outputs=outputs, host=HOST, **inline
        )
        with self._lock:
            work.contents = contents
            if work.ended is None:
                self._end(work, ended)

    def _end(self, work: _Work, ended: m.Ended) -> None:
        work.status, work.ended = ended.status, ended
        if work.uid in self._watched:
            for connection in self._connections:
                connection.push(ended)

    # Contents

    def read(self, path: str) -> bytes:
        """What stands under an address."""
        _, _, kind, uid, *rest = path.split("/", 5)
        with self._lock:
            if kind == "datas":
                return self._contents[uid]
            return (self._works[uid].contents or {})[unquote(rest[-1])]

    def store(self, path: str, content: bytes) -> None:
        """A data's content has come."""
        with self._lock:
            self._contents[path.rsplit("/", 1)[1]] = content


class _Connection:
    """A link to a fake grid; what the grid says arrives in one thread, in order."""

    def __init__(self, grid: FakeGrid, on_message: OnMessage, on_open: OnOpen) -> None:
        self._grid, self._on_message, self._on_open = grid, on_message, on_open
        self._thread = _Lane()
        self._said = 0
        self._lock = threading.Lock()
        self.transfers = _Transfers(grid)
        self.trouble = ""
        self.welcome: m.Welcome | None = None

    def start(self) -> None:
        self.greet()

    def greet(self) -> None:
        welcome = m.Welcome(False, 0, 60.0, "ticket", USER, int(self._grid.level))
        self.welcome = welcome
        self._thread.add(partial(self._on_open, welcome))

    def wait_open(self, timeout: float) -> m.Welcome:
        if self.welcome is None:
            raise Unavailable("it was not started")
        return self.welcome

    def say(self, message: m.Message, may_wait: bool = False) -> int:
        with self._lock:
            self._said += 1
            sequence = self._said
        answer: m.Reply | m.Failure
        # Before the reply is on its way no push about it may be.
        with self._grid._lock:
            try:
                answer = m.Reply(sequence, self._grid.answer(message))
            except GridError as error:
                answer = m.Failure(sequence, error.code, str(error))
            self.push(answer)
        return sequence

    def push(self, message: m.Message) -> None:
        self._thread.add(partial(self._on_message, 1, message))

    def close(self, timeout: float = 5.0, reason: str = "") -> None:
        if self in self._grid._connections:
            self._grid._connections.remove(self)
            self._thread.close()


class _Transfers:
    """Contents of a fake grid."""

    def __init__(self, grid: FakeGrid) -> None:
        self._grid = grid

    def get(
        self, path: str, target: Path, sha256: str, size: int, progress: OnBytes = lambda n: None
    ) -> None:
        target.write_bytes(self._grid.read(path))
        progress(size)

    def put(
        self,
        path: str,
        source: Path | bytes,
        sha256: str,
        size: int,
        progress: OnBytes = lambda n: None,
    ) -> None:
        content = source if isinstance(source, bytes) else source.read_bytes()
        self._grid.store(path, content)
        progress(size)

    def read(self, path: str, limit: int) -> bytes:
        return self._grid.read(path)
