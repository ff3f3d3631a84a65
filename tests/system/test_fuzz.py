"""Frames that nobody should send, thousands of them and always the same, at the doors for sessions:
the server answers each or closes that connection with a code, and goes on for everybody else.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from desktopgrid.link.errors import ConnectionLost
from desktopgrid.model.objects import new_uid
from desktopgrid.wire.codec import LAST_NUMBER
from tests.system.bystander import Bystander
from tests.system.peers import RawPeer
from tests.system.processes import DEADLINE, ServerUnderTest, a_grid, a_port
from tests.system.tables import Watcher
from tests.system.test_bad_values import REQUESTS

ROUNDS = 300
CODES = {"protocol", "bad-request", "access-denied", "lost", "bye", "unknown-object"}
"""With which a connection may be closed for what was sent over it."""

DEEP = "[" * 60_000
ODD: tuple[str, ...] = (
    *("null", "true", "-1", "0", "1.5", "1e400", "-1e400", "9" * 400, "1" + "0" * 18),
    *('""', '"\\u0000"', '"\\ud800"', '"\\udc00\\ud800"', '"\u202e\u200b"', '"x"', "[]", "{}"),
    *('{"a":{"a":{"a":{}}}}', "[[[[[]]]]]", DEEP, DEEP + "]" * 60_000, "NaN", "Infinity"),
    *('"' + "y" * 10_000 + '"', '"\\u00e9\\u0301"', '{"": null}', "[0, 0]", "-0", "1E2"),
)
"""Values in JSON, or in what looks like it."""

Message = tuple[str, int, dict[str, Any]]


def a_request(choice: random.Random) -> Message:
    verb = choice.choice(sorted(REQUESTS))
    body = REQUESTS[verb]()
    if verb == "sendapp":
        body["data"] = new_uid()
    return verb, 1, body


def a_report(choice: random.Random) -> Message:
    """What a worker says of a task that it does not have, and of itself."""
    task = {"task": new_uid(), "epoch": choice.randrange(1 << 50)}
    file = {"name": "out", "sha256": "0" * 64, "size": 3}
    return choice.choice(
        [
            ("alive", 0, {"load": 0.5, "free_disk_mib": 7}),
            ("started", 1, task),
            ("registered", 1, task),
            ("finished", 1, {**task, "exit_code": 0, "stdout": "aGk=", "usage": [1, 1, 1, 1]}),
            ("finished", 1, {**task, "outputs": [file]}),
            ("returned", 1, {**task, "reason": "r"}),
            ("draining", 1, {"reason": "r"}),
            ("bye", 1, {}),
        ]
    )


def a_frame(choice: random.Random, make: Callable[[random.Random], Message]) -> list[Any]:
    """One to three messages in a frame, as they should be."""
    frame: list[Any] = [0]
    number = 0
    for _ in range(choice.randint(1, 3)):
        verb, is_numbered, body = make(choice)
        number += is_numbered
        frame.append([verb, number if is_numbered else 0, body])
    return frame


# What is done to it.


def truncated(choice: random.Random, frame: list[Any]) -> bytes:
    raw = json.dumps(frame).encode()
    return raw[: choice.randrange(len(raw))]


def with_other_bytes(choice: random.Random, frame: list[Any]) -> bytes:
    raw = bytearray(json.dumps(frame).encode())
    for _ in range(choice.randint(1, 8)):
        raw[choice.randrange(len(raw))] = choice.randrange(256)
    return bytes(raw)


def with_an_odd_value(choice: random.Random, frame: list[Any]) -> bytes:
    """Somewhere in it, in the place of whatever stood there."""
    mark = f"mark{choice.randrange(10**9)}"
    place: Any = frame
    while True:
        keys = list(place) if isinstance(place, dict) else range(len(place))
        key = choice.choice(list(keys))
        if isinstance(place[key], (list, dict)) and place[key] and choice.random() < 0.8:
            place = place[key]
            continue
        place[key] = mark
        odd = choice.choice(ODD).encode("utf-8", "surrogatepass")
        return json.dumps(frame).encode().replace(f'"{mark}"'.encode(), odd)


def with_doubled_messages(choice: random.Random, frame: list[Any]) -> bytes:
    return json.dumps(frame + choice.choices(frame[1:], k=3)).encode()


def in_another_order(choice: random.Random, frame: list[Any]) -> bytes:
    choice.shuffle(frame)
    return json.dumps(frame).encode()


def with_other_numbers(choice: random.Random, frame: list[Any]) -> bytes:
    for message in frame[1:]:
        message[1] = choice.choice([-1, 0, 2, 3, LAST_NUMBER, LAST_NUMBER + 1, 1 << 63, 1 << 64])
    frame[0] = choice.choice([0, 0, 1, LAST_NUMBER, -1])
    return json.dumps(frame).encode()


def with_doubled_keys(choice: random.Random, frame: list[Any]) -> bytes:
    raw = json.dumps(frame)
    at = raw.index("{") + 1
    name = choice.choice(["uid", "task", "works", "kind"])
    return (raw[:at] + f'"{name}": {choice.choice(ODD)}, ' + raw[at:]).encode(
        "utf-8", "surrogatepass"
    )


def with_a_foreign_verb(choice: random.Random, frame: list[Any]) -> bytes:
    frame[-1][0] = choice.choice(["assign", "welcome", "hello", "refused", "reply", "", "\0", "é"])
    return json.dumps(frame).encode()


def with_fields_that_nobody_knows(choice: random.Random, frame: list[Any]) -> bytes:
    frame[-1][2][f"field{choice.randrange(9)}"] = choice.choice([None, [], {"a": 1}, "x" * 5000])
    return json.dumps(frame).encode()


def with_a_second_frame(choice: random.Random, frame: list[Any]) -> bytes:
    return json.dumps(frame).encode() * 2


MUTATIONS = (
    truncated,
    with_other_bytes,
    with_an_odd_value,
    with_an_odd_value,
    with_doubled_messages,
    in_another_order,
    with_other_numbers,
    with_doubled_keys,
    with_a_foreign_verb,
    with_fields_that_nobody_knows,
    with_a_second_frame,
)


@pytest.fixture(scope="module")
def tcp_port() -> int:
    return a_port()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tcp_port: int) -> Iterator[ServerUnderTest]:
    place = tmp_path_factory.mktemp("grid")
    # So seldom that nothing changes by itself while a frame is looked at.
    settings = {"alive_period": "300 s", "doors__tcp_port": str(tcp_port)}
    with a_grid(place, **settings) as server:
        server.worker("worker")
        yield server


@pytest.fixture(scope="module")
def bystander(server: ServerUnderTest) -> Iterator[Bystander]:
    somebody = Bystander(server)
    yield somebody
    somebody.close()


@pytest.mark.feature("XW-ARC-2")
@pytest.mark.parametrize("door", ["websocket", "poll", "framed"])
@pytest.mark.parametrize("kind", ["client", "worker"])
def test_no_frame_hurts_anybody_but_its_sender(
    server: ServerUnderTest, bystander: Bystander, tcp_port: int, kind: str, door: str
) -> None:
    choice = random.Random(f"{kind} by {door}")  # noqa: S311 - the same at each run
    is_client = kind == "client"
    identity = server.identity(None if is_client else server.home.worker_identity)
    if door == "framed":
        identity = replace(identity, servers=(f"tcp+tls://127.0.0.1:{tcp_port}",))
    watcher = Watcher(server)
    for number in range(ROUNDS):
        frame = a_frame(choice, a_request if is_client else a_report)
        sent = choice.choice(MUTATIONS)(choice, frame)
        peer = RawPeer(identity, polls=door == "poll")
        watcher.changes()
        peer.send(sent)
        # Over a number that cannot come next the connection ends at the latest.
        with suppress(ConnectionLost):
            peer.say("stats" if is_client else "draining", LAST_NUMBER - 1, {})
        hear_all(peer, LAST_NUMBER - 1)
        refused = [body for verb, _, body in peer.heard if verb == "refused"]
        # Who says bye and goes on must say hello first.
        has_left = b'"bye"' in sent and "lease ran out" in str(refused)
        assert not refused or has_left or refused[0]["code"] in CODES, (sent[:500], refused)
        if refused and refused[0]["code"] == "protocol" and not is_at_last_number(refused[0]):
            assert not watcher.changes(), sent[:500]
        peer.close()
        if number % 25 == 24:
            bystander.works()
    watcher.close()
    bystander.works()
    assert "Error" not in server.log.replace("desktopgrid.access", "")


def hear_all(peer: RawPeer, probe: int) -> None:
    """Until the connection has ended, or the last thing that was said is answered."""
    ends_at = time.monotonic() + DEADLINE
    while not peer.ending and not peer.has_answered(probe) and peer.acknowledged < probe:
        assert time.monotonic() < ends_at, f"the server hangs after {peer.heard}"
        peer.listen(1.0)


def is_at_last_number(refused: dict[str, Any]) -> bool:
    """Whether it was the probe that was refused, and not what came before."""
    return f"message {LAST_NUMBER - 1} came after" in str(refused["reason"])
