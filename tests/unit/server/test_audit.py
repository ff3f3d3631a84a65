"""The audit log: who did what to which object, once it is true, and nothing secret."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from desktopgrid.model.objects import Site
from desktopgrid.server import audit
from desktopgrid.server.audit import Record, chosen, encode, read
from desktopgrid.server.codec import CODEC
from desktopgrid.server.core import Core, Peer
from desktopgrid.server.logs import append
from desktopgrid.server.requests import PASSING, READING, REQUESTS
from desktopgrid.server.watching import Watcher
from desktopgrid.server.watching_cli import sentence
from desktopgrid.wire import messages as m
from desktopgrid.wire.exchange import CLIENT, SERVER, WORKER, Exchange
from tests.builders import NOON, GridUnderTest, hours, replace, who

CHANGES = sorted(set(REQUESTS) - READING - PASSING, key=lambda kind: kind.verb)
SECRET = "5ec2e7" + "0" * 58


class SlowJournal:
    """A journal whose disk takes what it is told to take."""

    def __init__(self) -> None:
        self.position = self.durable = 0

    def put(self, changes: Sequence[Any]) -> int:
        self.position += 1
        return self.position


class Lines(list[Record]):
    """A log in memory."""

    put = list.append


class AuditedGrid(GridUnderTest):
    """A grid whose clients are heard through a core, and what its audit log has."""

    def __init__(self) -> None:
        super().__init__(sites={"pool": Site("pool", "condor", 3, 2, 4)})
        self.journal, self.log = SlowJournal(), Lines()
        watcher = Watcher(lambda: self.now, None, self.log)  # type: ignore[arg-type]
        self.core = Core(self.grid, self.journal, {}, watcher)  # type: ignore[arg-type]
        self._asked = 0

    def peer(self, login: str = "alice", kind: str = CLIENT, host: str | None = None) -> Peer:
        session = f"session{host or login}"
        if session not in self.core.peers:
            self.core.peers[session] = Peer(
                session,
                kind,
                who(self.grid.users[login]),
                f"token-{login}",
                Exchange(SERVER, kind, CODEC),
                "",
                self.now,
                host,
                "192.0.2.7",
            )
        return self.core.peers[session]

    def says_to_core(self, asked: m.Request, login: str = "alice") -> None:
        """A client asks for something; the disk takes nothing yet."""
        self._asked += 1
        self.core.client_said(self.peer(login), self._asked, asked, self.now)

    def commit(self) -> None:
        """The disk takes everything."""
        self.core.durable(self.journal.position)

    def done(self, asked: m.Request, login: str = "alice") -> Record:
        """The line of a request."""
        self.says_to_core(asked, login)
        self.commit()
        return self.log[-1]


@pytest.fixture
def grid() -> AuditedGrid:
    return AuditedGrid()


def test_a_change_has_a_line_once_it_is_on_disk(grid):
    grid.says_to_core(m.Submit("sweep", {"application": "app"}, ((), ())))
    assert grid.log == []
    grid.commit()
    assert grid.log == [
        Record(
            grid.now,
            "submit",
            "done",
            "alice",
            level="standard",
            objects=("sweep",),
            what={"works": 2, "application": "app"},
            session="sessionalice",
            credential="token-alice",
            address="192.0.2.7",
        )
    ]


def test_a_commit_that_fails_leaves_no_line(grid):
    grid.says_to_core(m.Submit("sweep", {"application": "app"}))
    grid.core.durable(0)
    assert grid.log == []


def test_what_was_refused_has_a_line_with_its_code(grid):
    found = grid.done(m.SendUser("u2", "mallory", "super", SECRET))
    assert (found.outcome, found.code, found.objects) == ("refused", "access-denied", ("u2",))
    assert found.what == {"login": "mallory", "level": "super"}


def test_a_refused_request_does_not_fill_the_log(grid):
    found = grid.done(m.Remove(tuple("x" * 1000 for _ in range(10_000))))
    assert found.code == "unknown-object"
    assert found.objects == ("x" * 64,) * 10


def test_questions_have_no_lines(grid):
    grid.says_to_core(m.Stats())
    grid.says_to_core(m.Why("nothing"))
    grid.commit()
    assert grid.log == []


def test_an_answer_given_again_has_no_second_line(grid):
    grid.done(m.SendGroup("g1", "group", "mine"))
    grid.core.forget(grid.peer())
    grid.core.client_said(grid.peer(), 1, m.SendGroup("g1", "group", "mine"), grid.now)
    grid.commit()
    assert len(grid.log) == 1


@pytest.mark.parametrize(
    ("asked", "login", "objects", "what"),
    [
        (m.Cancel(("sweep", "none")), "alice", ("sweep-0", "sweep-1"), {}),
        (m.Remove(("sweep-1",)), "alice", ("sweep-1",), {}),
        (m.Chmod("bag", "755"), "alice", ("bag",), {"rights": "755"}),
        (m.ChangeUser("alice", level="advanced"), "admin", ("alice",), {"level": "advanced"}),
        (m.SendToken("t1", SECRET, "alice"), "admin", ("t1",), {"user": "alice"}),
        (m.Revoke("token-alice"), "admin", ("token-alice",), {}),
        (m.SubmitPilots("pool", {"p1": SECRET, "p2": SECRET}), "admin", None, {"site": "pool"}),
        (m.SendData("d1", "in", "0" * 64, 5), "alice", ("d1",), None),
        (m.SendUser("u2", "bob", "worker", SECRET), "admin", ("u2",), None),
    ],
)
def test_a_line_names_the_objects_and_keeps_the_secrets(grid, asked, login, objects, what):
    grid.done(m.Submit("sweep", {"application": "app"}, (("--key=" + SECRET,), ())))
    grid.done(m.SendGroup("bag", "session", "tuesday"))
    found = grid.done(asked, login)
    assert (found.verb, found.user, found.outcome) == (asked.verb, login, "done")
    assert set(found.objects) == set(objects or ("p1", "p2"))
    assert what is None or found.what == what
    assert SECRET.encode() not in encode(grid.log)


@pytest.mark.parametrize("kind", CHANGES, ids=lambda kind: kind.verb)
def test_every_change_names_its_object(kind):
    fields = {field.name for field in dataclasses.fields(kind)}
    assert fields & set(audit.OBJECTS)
    assert set(audit.WHAT.get(kind, ())) <= fields
    assert not set(audit.WHAT.get(kind, ())) & {"password", "verifier", "pilots", "arguments"}


@pytest.mark.feature("XW-PIL-6")
def test_a_task_is_logged_with_its_pilot_its_host_and_the_real_user(grid):
    grid.done(m.SubmitPilots("pool", {"p1": SECRET}), "admin")
    host = grid.arrives("node1").host
    facts = replace(host.facts, name="node1.example.org")
    grid.grid.known_hosts["node1"] = replace(host, facts=facts, pilot="p1")
    grid.peer("worker", WORKER, "node1")
    grid.says_to_core(m.Submit("sweep", {"application": "app"}))
    assert [record.verb for record in grid.log] == ["submitpilots"]
    grid.commit()
    task = next(record for record in grid.log if record.verb == "task")
    assert task == Record(
        grid.now,
        "task",
        "done",
        "alice",
        objects=("sweep-0.1", "sweep-0"),
        application="app",
        host="node1",
        host_name="node1.example.org",
        worker="worker",
        pilot="p1",
        address="192.0.2.7",
    )


def test_access_rights_are_written_as_people_write_them(grid):
    assert grid.done(m.SendData("d1", "in", "0" * 64, 5, rights=0o750)).what["rights"] == "750"


def test_a_name_makes_no_other_line_for_people_or_programs():
    name = "eve\n2026-11-20 12:00:00  admin  revoke\x1b[2J\u2028"
    record = audit.of_login(name, "192.0.2.7", "", "not-authenticated", NOON)
    assert sentence(record).isprintable()
    assert sentence(record).startswith("2026-11-20 12:00:00  eve\\n2026-11-20 12:00:00")
    assert encode([record]).count(b"\n") == 1


# --- searching ------------------------------------------------------------------------------------


def a_record(number: int = 0, **fields: Any) -> Record:
    default: dict[str, Any] = {"verb": "chmod", "outcome": "done", "user": "alice"}
    return Record(NOON + timedelta(hours=number), **{**default, **fields})


RECORDS = [
    a_record(0, verb="submit", objects=("sweep",)),
    a_record(1, user="bob", objects=("data",)),
    a_record(2, verb="task", objects=("sweep-1.1", "sweep-1"), host="h1", worker="w", pilot="p1"),
    a_record(3, user="bob", objects=("sweeper",)),
]


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ({}, [0, 1, 2, 3]),
        ({"users": ["bob"]}, [1, 3]),
        ({"users": ["bob", "w"]}, [1, 2, 3]),
        ({"objects": ["sweep"]}, [0, 2]),
        ({"objects": ["sweep-1"]}, [2]),
        ({"objects": ["h1"]}, [2]),
        ({"objects": ["p1"], "users": ["alice"]}, [2]),
        ({"since": NOON + hours(1), "until": NOON + hours(3)}, [1, 2]),
    ],
)
def test_what_is_asked_for_is_found(question, found):
    assert list(chosen(RECORDS, **question)) == [RECORDS[number] for number in found]


def test_a_log_is_read_with_its_older_files_and_what_is_broken_is_passed_over(tmp_path: Path):
    path = tmp_path / "audit.log"
    for record in RECORDS:
        append(path, encode([record]) + b"broken {\n", most_bytes=10, kept=9)
    assert path.with_name("audit.log.3").exists()
    assert list(read(path)) == RECORDS
    assert list(read(tmp_path / "none.log")) == []
