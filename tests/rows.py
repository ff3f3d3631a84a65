"""Rows of the database with a dull default for every field; a test names what it is about."""

from __future__ import annotations

import hashlib
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine

from desktopgrid.server import changes as c
from desktopgrid.server.database.engine import transaction
from desktopgrid.server.database.records import Shard, record, take

NOON = 1_795_176_000.0
FACTS = '{"name":"desk1","cpu":"x86_64","os":"linux","cores":2,"memory_mib":4000,"disk_mib":9000}'

DEFAULTS: dict[type[Any], dict[str, Any]] = {
    c.UserGroupSaved: {"uid": "physics", "name": "physics", "is_deleted": False},
    c.UserSaved: {
        "uid": "alice",
        "login": "alice",
        "level": 20,
        "group": None,
        "email": "",
        "is_revoked": False,
        "quota_mib": None,
        "is_deleted": False,
    },
    c.CredentialSaved: {
        "uid": "token",
        "user": "alice",
        "kind": "token",
        "verifier": "0" * 64,
        "created_at": NOON,
        "expires_at": None,
        "is_revoked": False,
    },
    c.SubjectSaved: {"subject": "CN=Ann,DC=org", "user": "alice"},
    c.CredentialUsed: {"uid": "token", "last_used_at": NOON + 1},
    c.BridgeSaved: {
        "user": "admin",
        "signing_key": "k" * 44,
        "sealing_key": "k" * 44,
        "saved_at": NOON,
    },
    c.OfferSaved: {
        "uid": "offer",
        "bridge": "admin",
        "request": "PEM",
        "signature": "s" * 88,
        "created_at": NOON,
        "taken_by": None,
        "taken_at": None,
    },
    c.OfferForgotten: {"uid": "offer"},
    c.DelegationSaved: {
        "uid": "delegation",
        "owner": "alice",
        "bridge": "admin",
        "kind": "proxy",
        "status": "Signed",
        "created_at": NOON,
        "expires_at": NOON + 3600,
        "generation": 1,
        "content": "PEM",
        "offer": "offer",
        "subject": "CN=Alice",
        "made_from": "f" * 64,
        "serials": "1 CN=CA\n2 CN=CA",
        "vo": "biomed",
        "attributes": "/biomed\n/biomed/Role=pilot",
        "attributes_end_at": NOON + 1800,
        "label": "",
        "reason": "",
    },
    c.DataSaved: {
        "uid": "program",
        "name": "program",
        "owner": "alice",
        "rights": 0o755,
        "sha256": hashlib.sha256(b"").hexdigest(),
        "size": 0,
        "type": "",
        "uri": "",
        "is_available": True,
        "is_deleted": False,
        "cpu": "",
        "os": "",
    },
    c.ApplicationSaved: {
        "uid": "app",
        "name": "app",
        "owner": "alice",
        "rights": 0o755,
        "is_deleted": False,
    },
    c.ExecutableSaved: {"application": "app", "cpu": "any", "os": "any", "data": "program"},
    c.BagSaved: {
        "uid": "bag",
        "kind": "session",
        "name": "bag",
        "owner": "alice",
        "rights": 0o700,
        "is_deleted": False,
    },
    c.HostSaved: {
        "uid": "desk1",
        "owner": "alice",
        "name": "desk1",
        "facts": FACTS,
        "first_seen_at": NOON,
        "last_seen_at": NOON,
        "ends_at": None,
        "pilot": None,
    },
    c.PilotInserted: {
        "stamp": "pilot",
        "site": "lal",
        "owner": "alice",
        "status": "Submitted",
        "verifier": "0" * 64,
        "submitted_at": NOON,
        "deadline_at": NOON + 60,
        "wall_time": 3600,
    },
    c.PilotUpdated: {
        "stamp": "pilot",
        "status": "Running",
        "reference": "7.0",
        "session_verifier": "",
        "host": None,
        "reason": "",
        "deadline_at": NOON + 60,
        "tasks_done": 0,
        "ended_at": None,
    },
    c.AccountInserted: {
        "number": 1,
        "user": "alice",
        "group": None,
        "vo": "",
        "site": "",
        "route": "",
        "application": "app",
        "kind": "desktop",
        "cores": 1,
    },
    c.SubmissionInserted: {
        "uid": "sweep",
        "owner": "alice",
        "application": "app",
        "label": "",
        "session": None,
        "group": None,
        "description": '{"application":"app"}',
        "rights": 0o755,
        "submitted_at": NOON,
    },
    c.WorkInserted: {
        "uid": "sweep-0",
        "number": 1,
        "submission": "sweep",
        "arguments": "[]",
        "status": "WAITING",
    },
    c.WorkUpdated: {
        "uid": "sweep-0",
        "status": "WAITING",
        "attempts": 1,
        "failures": 0,
        "task": None,
        "host": None,
        "reason": "",
        "ended_at": None,
    },
    c.WorkRemoved: {"uid": "sweep-0", "removed_at": NOON + 100},
    c.TaskInserted: {
        "uid": "sweep-0.1",
        "work": "sweep-0",
        "host": "desk1",
        "epoch": 1,
        "status": "PENDING",
        "created_at": NOON,
    },
    c.TaskUpdated: {
        "uid": "sweep-0.1",
        "status": "RUNNING",
        "started_at": NOON + 1,
        "ended_at": None,
        "exit_code": None,
        "reason": "",
        "stdout": None,
        "stderr": None,
        "outputs": None,
        "wall": 0.0,
        "user_time": 0.0,
        "system_time": 0.0,
        "memory_kib": 0,
    },
    c.UsageAdded: {
        "day": 20261121,
        "account": 1,
        "cause": "",
        "bucket": 0,
        "tasks": 1,
        "core_time": 60.0,
        "cpu_time": 30.0,
        "doubtful": 0,
    },
    c.PilotUsed: {"stamp": "pilot", "busy": 60.0},
    c.TaskRegistered: {"uid": "sweep-0.1", "registered_at": NOON + 2},
    c.ReplyRecorded: {
        "session": "link",
        "sequence": 1,
        "user": "alice",
        "body": "{}",
        "recorded_at": NOON,
    },
    c.RepliesForgotten: {"session": "link", "sequence": 1},
    c.TasksForgotten: {"work": "sweep-0"},
    c.WorkForgotten: {"uid": "sweep-0"},
    c.SubmissionForgotten: {"uid": "sweep"},
}

T = TypeVar("T")


def row(kind: type[T], /, **fields: Any) -> T:
    """A change of this kind."""
    return kind(**{**DEFAULTS[kind], **fields})


def pending(uid: str = "sweep-0", task: str = "sweep-0.1", epoch: int = 1) -> list[Any]:
    """A work that was given to a host."""
    return [
        row(c.WorkUpdated, uid=uid, status="PENDING", task=task, host="desk1"),
        row(c.TaskInserted, uid=task, work=uid, epoch=epoch),
    ]


def completed(uid: str = "sweep-0", task: str = "sweep-0.1", **fields: Any) -> list[Any]:
    """A work whose program ended by itself."""
    over = {"status": "COMPLETED", "exit_code": 0, "stdout": b"out\n", "ended_at": NOON + 9}
    return [
        row(c.WorkUpdated, uid=uid, status="COMPLETED", task=task, ended_at=NOON + 9),
        row(c.TaskUpdated, uid=task, **{**over, **fields}),
    ]


PEOPLE = (
    row(c.UserGroupSaved),
    row(c.UserSaved, uid="admin", login="admin", level=40),
    row(c.UserSaved, uid="alice", login="alice", group="physics"),
    row(c.UserSaved, uid="bob", login="bob", group="physics"),
    row(c.UserSaved, uid="carol", login="carol"),
)
PROGRAM = (row(c.DataSaved), row(c.ApplicationSaved), row(c.ExecutableSaved))
HOST = (row(c.HostSaved),)


class Grid:
    """A database and the shard that we hold in it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        with engine.connect() as connection, transaction(connection):
            self.shard: Shard = take(connection, 0, "test")

    def record(self, *batch: Any) -> None:
        """Write ``batch`` in one transaction."""
        with self.engine.connect() as connection, transaction(connection):
            record(connection, self.shard, batch)

    def read(self, reading: Any, *args: Any, **options: Any) -> Any:
        """What ``reading`` gives."""
        with self.engine.connect() as connection, transaction(connection):
            return reading(connection, *args, **options)

    def rows(self, table: Any) -> list[dict[str, Any]]:
        """All rows of a table."""

        def read(connection: Connection) -> list[dict[str, Any]]:
            return [dict(found._mapping) for found in connection.execute(table.select())]

        found: list[dict[str, Any]] = self.read(read)
        return found
