"""Each field of what peers say at values that no table of the database would take.

One such row would fail the commit in which it is, and the server would have to begin anew.
"""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from desktopgrid.model.objects import Description, new_uid
from desktopgrid.wire.exchange import CLIENT, RULES
from desktopgrid.wire.messages import Finished
from tests.system.bystander import Bystander
from tests.system.peers import FACTS, RawPeer, submission
from tests.system.processes import ServerUnderTest, a_grid

VALUES: tuple[Any, ...] = (
    *("", "\0", "x" * 70_000, "../../etc/passwd", "a\nb", "\u00e9" * 300),
    *(-1, 0, 1 << 31, 1 << 63, 10**30, -(10**30), 1e308, True, None),
    *([], [""], ["\0"], [[]], [["x" * 300_000]]),
    *({}, {"": ""}, {"a": {"b": ["c"]}}, {"x": "0" * 64}),
)

KEY = base64.b64encode(b"k" * 32).decode()
NOWHERE = {"expected_host": "nowhere"}
"""No host runs what is said there."""

REQUESTS: dict[str, Callable[[], dict[str, Any]]] = {
    "submit": lambda: submission(description=NOWHERE, arguments=[["1"]]),
    "watch": lambda: {"works": ["w"]},
    "cancel": lambda: {"works": ["w"]},
    "list": lambda: {"kind": "works"},
    "results": lambda: {"works": ["w"]},
    "why": lambda: {"uid": "u"},
    "stats": dict,
    "report": lambda: {"since": "2026-11-01", "by": ["user"]},
    "usagerecords": dict,
    "sendapp": lambda: {"uid": new_uid(), "name": new_uid(), "cpu": "any", "os": "any"},
    "senddata": lambda: {"uid": new_uid(), "name": "d", "sha256": "0" * 64, "size": 3},
    "senduser": lambda: {"uid": new_uid(), "login": new_uid()},
    "changeuser": lambda: {"user": "worker"},
    "chmod": lambda: {"uid": "u", "rights": "755"},
    "sendtoken": lambda: {"uid": new_uid(), "verifier": "0" * 64},
    "sendgroup": lambda: {"uid": new_uid(), "kind": "session", "name": new_uid()},
    "remove": lambda: {"uids": ["u"]},
    "revoke": lambda: {"uid": "u"},
    "demand": dict,
    "submitpilots": lambda: {"site": "local", "pilots": {new_uid(): "0" * 64}},
    "pilotreport": lambda: {"pilots": {}},
    "drainpilots": lambda: {"stamps": ["s"]},
    "sitereport": lambda: {"sites": {"local": ["s"]}},
    "validate": lambda: {"application": "square"},
    "sendoffers": lambda: {"signing_key": KEY, "sealing_key": KEY},
    "takeoffer": lambda: {"bridge": "admin"},
    "delegate": lambda: {"uid": new_uid(), "bridge": "admin", "content": "", "kind": "token"},
    "fetchdelegation": lambda: {"uid": "u"},
    "delegationreport": lambda: {"delegations": {}},
}


@pytest.fixture(scope="module")
def server(
    any_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerUnderTest]:
    directory = tmp_path_factory.mktemp("grid")
    with a_grid(directory, database=any_database, alive_period="5 s") as server:
        server.worker("worker")
        yield server


@pytest.fixture(scope="module")
def somebody(server: ServerUnderTest) -> Iterator[Bystander]:
    somebody = Bystander(server)
    yield somebody
    somebody.close()


@pytest.fixture(autouse=True)
def bystander(somebody: Bystander) -> Iterator[Bystander]:
    """Nothing that a test does may be seen by somebody else."""
    yield somebody
    somebody.works()


def variants(kind: type[Any], body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """``body`` with each of its fields at each of VALUES."""
    for field in dataclasses.fields(kind):
        for value in VALUES:
            yield {**body, field.name: value}


def submissions_of_all_sorts() -> Iterator[dict[str, Any]]:
    """Descriptions with each of their fields at each of VALUES."""
    for field in dataclasses.fields(Description):
        for value in VALUES:
            yield submission(description={**NOWHERE, field.name: value})


def test_the_requests_are_all_here() -> None:
    numbered = {verb for verb, rule in RULES.items() if rule.sayers == {CLIENT}}
    assert set(REQUESTS) == numbered


@pytest.mark.parametrize("verb", REQUESTS)
def test_a_value_that_no_table_would_take_is_refused_or_made_to_fit(
    server: ServerUnderTest, bystander: Bystander, verb: str
) -> None:
    bodies = list(variants(RULES[verb].kind, REQUESTS[verb]()))
    if verb == "submit":
        bodies += submissions_of_all_sorts()
    if verb == "sendapp":
        [data, *_] = bystander.grid.objects("datas", limit=1)
        bodies = [{"data": data["uid"], **body} for body in bodies]
    peer, number = RawPeer(server.identity()), 0
    for body in bodies:
        number += 1
        fresh = {name: new_uid() for name in ("uid", "login") if len(str(body.get(name))) == 32}
        peer.say(verb, number, {**body, **fresh}, len(peer.heard))
        while not peer.ending and not peer.has_answered(number):
            peer.listen(1.0)
        if peer.ending:
            # What has the wrong type is not even a request.
            assert peer.refusal()[0] == "protocol", body
            peer, number = RawPeer(server.identity()), 0
        elif peer.answer(number)[0] == "failure":
            assert peer.answer(number)[1]["code"] not in ("unavailable", "error"), body
    peer.close()


def test_a_result_that_no_table_would_take_is_made_to_fit_or_refused(
    server: ServerUnderTest, bystander: Bystander
) -> None:
    identity = server.identity(server.home.worker_identity)
    bodies = list(variants(Finished, {}))
    rogue = RawPeer(identity, facts={**FACTS, "cores": 500})
    where = Description("square", expected_host=rogue.host, retries=1000)
    works = list(bystander.grid.sweep(where, [[]] * 20).works)
    said = 0
    for number, body in enumerate(bodies):
        rogue.heard = [each for each in rogue.heard if each[0] == "assign"]
        while not rogue.ending and not rogue.heard:
            rogue.listen(1.0)
        if not rogue.ending:
            _, _, assign = rogue.heard.pop(0)
            said += 1
            task = {"task": assign["task"], "epoch": assign["epoch"]}
            rogue.say("finished", said, {**task, "exit_code": 0, **body})
            rogue.say("draining", said + 1, {})
            said += 1
            while not rogue.ending and rogue.acknowledged < said:
                rogue.listen(1.0)
        if rogue.ending:
            code, _ = rogue.refusal()
            assert code in ("protocol", "bad-request", "access-denied"), body
        rogue.close()
        rogue, said = RawPeer(identity, host=rogue.host, facts={**FACTS, "cores": 500}), 0
        if number % 10 == 9:
            works += bystander.grid.sweep(where, [[]] * 10).works
    rogue.close()
    bystander.grid.cancel(works)
