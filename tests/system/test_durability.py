"""Each acknowledgement leaves the server after the sync of what it acknowledges, shown by tracing;
and the same test sees it where the server does not sync.

Killing a server shows recovery, not durability: what it wrote is in the kernel's hands by then.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from desktopgrid.link.address import ServerName
from desktopgrid.link.https import HTTPS
from desktopgrid.model.objects import ANY_PLATFORM, Description, new_uid
from desktopgrid.wire.messages import SendData
from tests.system import tracing
from tests.system.bystander import SQUARE
from tests.system.peers import RawPeer, submission
from tests.system.processes import SERVER, ServerUnderTest, until
from tests.system.tracing import Trace

TIMES = 5

CARELESS_DATABASE = f"""
from desktopgrid.server.database import engine
engine.PRAGMAS = tuple(p.replace("synchronous = FULL", "synchronous = OFF") for p in engine.PRAGMAS)
{SERVER}
"""
CARELESS_STORE = f"""
from desktopgrid.server import outputs, storage
storage.Files.sync = lambda self, descriptor: None
outputs.sync_directory = lambda directory: None
{SERVER}
"""


@dataclass
class Acknowledged:
    """What peers were acknowledged, and how to find it in a trace: (check, its arguments)."""

    submissions: list[tuple[Any, ...]] = field(default_factory=list)
    results: list[tuple[Any, ...]] = field(default_factory=list)
    datas: list[tuple[Any, ...]] = field(default_factory=list)
    outputs: list[tuple[Any, ...]] = field(default_factory=list)


@pytest.fixture(scope="module")
def traced(
    strace: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[Trace, Acknowledged]]:
    """Runs a server made by this source under strace, and gives what it did and acknowledged."""

    def run(source: str) -> tuple[Trace, Acknowledged]:
        directory = tmp_path_factory.mktemp("grid")
        log = directory / "trace"
        command = tracing.command(strace, log)
        server = ServerUnderTest(directory, command, source, alive_period="60 s")
        try:
            server.start()
            acknowledged = exercise(server)
            server.stop()
        finally:
            server.close()
        until(lambda: log.read_text(errors="replace").endswith("+++ exited with 0 +++\n"), "log")
        return Trace(log), acknowledged

    return run


def exercise(server: ServerUnderTest) -> Acknowledged:
    """One thing after the other, so that it is known which answer is for which."""
    done = Acknowledged()
    admin = server.client()
    admin.send_application("square", SQUARE, ANY_PLATFORM)
    client = RawPeer(server.identity())
    for number in range(1, TIMES + 1):
        body = submission(single=True, description={"expected_host": "nowhere"})
        client.say("submit", number, body, number - 1)
        assert client.answer(number)[0] == "reply"
        done.submissions.append((body["uid"], client.port))
    for _ in range(TIMES):
        done.datas.append(_send_data(server, client))
    worker = RawPeer(server.identity(server.home.worker_identity))
    for number in range(1, TIMES + 1):
        admin.submit(Description("square", expected_host=worker.host))
        task = until(partial(_assigned, worker, number), "a task came")
        done.outputs.append(_send_output(server, worker, task["task"]))
        marker = new_uid()
        said = {"task": task["task"], "epoch": task["epoch"], "exit_code": 0, "reason": marker}
        worker.say("finished", number, {**said, "outcome": "limit"}, number)
        while worker.acknowledged < number:
            worker.listen()
        done.results.append((marker, worker.port))
    for peer in (client, worker):
        peer.close()
    return done


def _assigned(worker: RawPeer, number: int) -> dict[str, Any] | None:
    worker.listen()
    found = [body for verb, _, body in worker.heard if verb == "assign"]
    return found[number - 1] if len(found) >= number else None


def _put(server: ServerUnderTest, peer: RawPeer, path: str, content: bytes) -> int:
    """Upload over a connection of its own; its port."""
    connection = HTTPS(ServerName.parse(server.address), server.identity().ca, None, 60)
    connection.putrequest("PUT", path)
    connection.putheader("Authorization", f"Ticket {peer.welcome.ticket}")
    connection.putheader("Content-Length", str(len(content)))
    connection.endheaders(content)
    port: int = connection.sock.getsockname()[1]
    assert connection.getresponse().status == 201
    connection.close()
    return port


def _send_data(server: ServerUnderTest, peer: RawPeer) -> tuple[str, str, int]:
    content, uid = os.urandom(1000), new_uid()
    digest = hashlib.sha256(content).hexdigest()
    server.client().session.ask(SendData(uid, "data", digest, len(content)))
    return uid, digest, _put(server, peer, f"/v1/datas/{uid}", content)


def _send_output(server: ServerUnderTest, peer: RawPeer, task: str) -> tuple[str, str, int]:
    content = os.urandom(1000)
    digest = hashlib.sha256(content).hexdigest()
    return task, digest, _put(server, peer, f"/v1/tasks/{task}/outputs/{digest}", content)


def faults(trace: Trace, done: Acknowledged) -> dict[str, list[str]]:
    """What was acknowledged too early, by kind."""
    checks = {
        "submissions": (tracing.commit, done.submissions),
        "results": (tracing.commit, done.results),
        "datas": (tracing.data, done.datas),
        "outputs": (tracing.output, done.outputs),
    }
    found = {}
    for kind, (check, things) in checks.items():
        assert len(things) == TIMES
        found[kind] = [wrong for thing in things if (wrong := check(trace, *thing))]
    return found


Traced = Callable[[str], tuple[Trace, Acknowledged]]


def test_nothing_is_acknowledged_before_it_is_synced(traced: Traced) -> None:
    trace, done = traced(SERVER)
    assert faults(trace, done) == {"submissions": [], "results": [], "datas": [], "outputs": []}


def test_a_database_that_does_not_sync_is_found_out(traced: Traced) -> None:
    found = faults(*traced(CARELESS_DATABASE))
    for kind in ("submissions", "results", "datas"):
        assert len(found[kind]) == TIMES, found
        assert all("before its journal was synced" in wrong for wrong in found[kind]), found


def test_a_store_that_does_not_sync_is_found_out(traced: Traced) -> None:
    found = faults(*traced(CARELESS_STORE))
    for kind in ("datas", "outputs"):
        assert len(found[kind]) == TIMES, found
        assert all("was not synced" in wrong for wrong in found[kind]), found
    assert found["submissions"] == found["results"] == []
