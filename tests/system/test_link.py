"""A link to the server itself, which is killed while it serves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from desktopgrid.link import handshake
from desktopgrid.link.backoff import Backoff
from desktopgrid.link.errors import WebSocketBroken
from desktopgrid.link.identity import Identity
from desktopgrid.link.session import Link
from desktopgrid.wire import messages as m
from tests.link_server import digest_of

DEADLINE = 60.0


class Grid:
    """A grid in a directory of its own, on a port that changes with each start."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.run(
            "init", "--port", "0", "--address", "127.0.0.1", "--name", "127.0.0.1", str(directory)
        )

    def run(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "desktopgrid.server.cli", *arguments]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        return subprocess.run(
            command,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            stdin=subprocess.DEVNULL,
        ).stdout

    def start(self) -> Identity:
        """Start the server; what an administrator connects with now."""
        self.run("--directory", str(self.directory), "start")
        self.status = json.loads(
            self.run("--directory", str(self.directory), "status", "--format", "json")
        )
        identity = Identity.read(self.directory / "admin.identity")
        return replace(identity, servers=(self.status["address"],))

    def kill(self) -> None:
        os.kill(self.status["pid"], signal.SIGKILL)

    def stop(self) -> None:
        self.run("--directory", str(self.directory), "stop")


@pytest.fixture
def grid(tmp_path: Path) -> Iterator[Grid]:
    grid = Grid(tmp_path / "grid")
    yield grid
    grid.stop()


@pytest.fixture(params=["websocket", "poll"])
def door(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    def fail(*_: object) -> None:
        raise WebSocketBroken("none here")

    if request.param == "poll":
        monkeypatch.setattr(handshake.Duplex, "open", fail)
    return str(request.param)


def wait_until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


def test_a_server_that_is_killed_does_what_is_asked_once(grid: Grid, door: str) -> None:
    answers: list[tuple[int, m.Message]] = []
    opened: list[bool] = []
    link = Link(
        grid.start(),
        on_message=lambda number, message: answers.append((number, message)),
        on_open=lambda welcome: opened.append(welcome.resumed),
        backoff=Backoff(0.01, 0.2),
    )
    link.start()
    link.wait_open(DEADLINE)
    asked = []
    for n in range(300):
        name = f"session-{n}"
        asked.append(link.say(m.SendGroup(str(uuid.uuid4()), "session", name)))
        if n == 150:
            grid.kill()
            wait_until(lambda: not link.is_open, "the link has not noticed")
            link.identity = grid.start()
    wait_until(lambda: {a.to for _, a in answers if isinstance(a, m.Reply)} == {*asked}, "lost")
    wait_until(lambda: link.unacknowledged == 0, "not all was acknowledged")
    assert not [answer for _, answer in answers if isinstance(answer, m.Failure)]
    assert opened == [False, False]
    last = link.say(m.ListObjects("sessions"))
    wait_until(lambda: any(a.to == last for _, a in answers if isinstance(a, m.Reply)), "no list")
    [listed] = [a.body for _, a in answers if isinstance(a, m.Reply) and a.to == last]
    names = sorted(row["name"] for row in listed["rows"])
    assert names == sorted(f"session-{n}" for n in range(300))
    link.close()


def test_a_cut_session_is_resumed_and_carries_datas(grid: Grid, door: str, tmp_path: Path) -> None:
    answers: list[m.Message] = []
    link = Link(grid.start(), on_message=lambda _, a: answers.append(a), backoff=Backoff(0.01, 0.2))
    link.start()
    link.wait_open(DEADLINE)
    content = os.urandom(2_500_000)
    uid, digest = str(uuid.uuid4()), digest_of(content)
    link.say(m.SendData(uid, "a-data", digest, len(content)))
    wait_until(lambda: answers, "no answer")
    connection = link._connection
    assert connection is not None
    connection.abort()
    wait_until(lambda: link.is_open and link._connection is not connection, "not open again")
    assert link.welcome is not None
    assert link.welcome.resumed
    link.transfers.put(f"/v1/datas/{uid}", content, digest, len(content))
    (tmp_path / "data.part").write_bytes(content[:1_000_000])
    link.transfers.get(f"/v1/datas/{uid}", tmp_path / "data", digest, len(content))
    assert (tmp_path / "data").read_bytes() == content
    link.close()
