"""What tokens are good for, and what their end ends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from desktopgrid.model.errors import AccessDenied, BadRequest, NotAuthenticated
from desktopgrid.model.objects import Credential
from desktopgrid.model.rights import EVERYTHING, SCOPES, Scope
from desktopgrid.server import changes as c
from desktopgrid.server import requests, upkeep
from desktopgrid.server.core import USED_EVERY, Core
from desktopgrid.server.journal import Journal
from desktopgrid.server.state import Outcome
from desktopgrid.server.watching import Watcher
from desktopgrid.wire import messages as m
from desktopgrid.wire.proof import new_secret, prove, verifier_of
from tests.builders import NOON, GridUnderTest, hours, seconds, who

pytestmark = pytest.mark.feature("XW-SEC-1")

VERIFIER = "1" * 64
BODIES = {
    m.Submit: m.Submit("s", {"application": "app"}),
    m.Watch: m.Watch(),
    m.Cancel: m.Cancel(("w",)),
    m.ListObjects: m.ListObjects("apps"),
    m.GetResults: m.GetResults(("w",)),
    m.Why: m.Why("w"),
    m.Stats: m.Stats(),
    m.Report: m.Report(),
    m.UsageRecords: m.UsageRecords(),
    m.SendApplication: m.SendApplication("a", "mine", "any", "any", "program", 0o700),
    m.SendData: m.SendData("d", "d", "0" * 64, 3),
    m.SendUser: m.SendUser("u", "eve"),
    m.ChangeUser: m.ChangeUser("alice", email="a@b"),
    m.SendToken: m.SendToken("t", VERIFIER),
    m.SendGroup: m.SendGroup("g", "session", "s"),
    m.Chmod: m.Chmod("d", "700"),
    m.Remove: m.Remove(("w",)),
    m.SubmitPilots: m.SubmitPilots("lal", {"p": VERIFIER}),
    m.PilotReport: m.PilotReport({}),
    m.DrainPilots: m.DrainPilots(()),
    m.Demand: m.Demand(),
    m.SiteReport: m.SiteReport({"lal": ("Nothing is to be done.",)}),
    m.Validate: m.Validate("app"),
    m.SendOffers: m.SendOffers("k", "k"),
    m.TakeOffer: m.TakeOffer("b"),
    m.Delegate: m.Delegate("d", "b", ""),
    m.FetchDelegation: m.FetchDelegation("d"),
    m.DelegationReport: m.DelegationReport({}),
}
WANTED = {
    m.Submit: Scope.CREATE,
    m.SendData: Scope.CREATE,
    m.Cancel: Scope.CANCEL,
    m.TakeOffer: Scope.CREATE,
    m.Delegate: Scope.CREATE,
    m.SendOffers: Scope.BRIDGE,
    m.FetchDelegation: Scope.BRIDGE,
    m.DelegationReport: Scope.BRIDGE,
    **dict.fromkeys(requests.READING, Scope.READ),
}


def is_let_through(grid: GridUnderTest, request: m.Request, scope: Scope) -> bool:
    """Whether a super user whose token has this scope gets past it."""
    asker = replace(who(grid.grid.users["admin"]), scope=scope)
    try:
        requests.answer(grid.grid, asker, "s", request, NOON, Outcome())
    except AccessDenied as error:
        assert str(error).startswith(f"your token is good for {str(scope) or 'all but that'} only")
        return False
    except BadRequest:
        pass
    return True


@pytest.mark.parametrize("verb", sorted(kind.verb for kind in requests.REQUESTS))
def test_each_request_wants_a_token_for_it(verb: str) -> None:
    if verb == "revoke":
        return  # below: it depends on what is revoked
    [kind] = [kind for kind in requests.REQUESTS if kind.verb == verb]
    wanted = WANTED.get(kind, Scope.MANAGE)
    for scope in SCOPES.values():
        request = BODIES[kind]
        assert is_let_through(GridUnderTest(), request, scope) is (scope is wanted), scope
    # Nobody is a bridge by the way.
    is_bridges = wanted is Scope.BRIDGE
    assert is_let_through(GridUnderTest(), BODIES[kind], EVERYTHING) is not is_bridges


@pytest.mark.parametrize(
    "asker, token, is_taken_back",
    [
        pytest.param("read", "read", True, id="logging out"),
        pytest.param("read", "create", False, id="another scope"),
        pytest.param("read", "", False, id="a greater one"),
        pytest.param("read create", "create", True, id="a smaller one"),
        pytest.param("run", "run", True, id="a worker's own"),
        pytest.param("", "", True, id="everything"),
    ],
)
def test_a_token_takes_back_no_greater_one(asker: str, token: str, is_taken_back: bool) -> None:
    grid = GridUnderTest()
    grid.grid.credentials["t"] = Credential(
        "t", "alice", "token", VERIFIER, NOON, scope=Scope.of(token)
    )
    alice = replace(who(grid.grid.users["alice"]), scope=Scope.of(asker))
    try:
        requests.answer(grid.grid, alice, "s", m.Revoke("t"), NOON, Outcome())
    except AccessDenied:
        assert not is_taken_back
    assert grid.grid.credentials["t"].is_revoked is is_taken_back


@pytest.mark.parametrize("words", ["read", "create cancel", "read run manage", ""])
def test_a_scope_is_said_and_read_alike(words: str) -> None:
    assert str(Scope.of(words)) == words


def test_what_is_no_scope_is_refused_with_those_there_are() -> None:
    grid = GridUnderTest()
    with pytest.raises(BadRequest, match="'all' is no scope; scopes are read, create, cancel"):
        grid.ask(m.SendToken("t", VERIFIER, scope="all"))
    assert "t" not in grid.grid.credentials


def test_a_token_is_labelled_and_bounded() -> None:
    grid = GridUnderTest()
    grid.ask(m.SendToken("t", VERIFIER, lifetime=60, label="desk\0top" * 100, scope="run"))
    [saved] = grid.changes(c.CredentialSaved)
    assert (saved.user, saved.scope, saved.expires_at) == ("alice", "run", NOON.timestamp() + 60)
    assert saved.label.startswith("desktop") and len(saved.label) <= 100


def test_a_super_user_makes_a_token_for_a_login() -> None:
    grid = GridUnderTest()
    grid.ask(m.SendToken("t", VERIFIER, user="worker"), login="admin")
    assert grid.grid.credentials["t"].user == "worker"


@pytest.fixture
def core() -> Core:
    grid = GridUnderTest().grid
    journal = Journal(lambda batch: None, lambda at: None, lambda error: None)
    return Core(grid, journal, {}, Watcher(lambda: NOON))


def hello(core: Core, kind: str, scope: Scope) -> m.Hello:
    """A hello by a new token of alice."""
    secret = new_secret()
    core.grid.credentials["t"] = Credential(
        "t", "alice", "token", verifier_of(secret), NOON, scope=scope
    )
    facts = {"name": "desk", "cpu": "x86_64", "os": "linux", "cores": 1}
    facts |= {"memory_mib": 1000, "disk_mib": 1000}
    proof = prove(secret, "nonce", kind, "t", "session1")
    return m.Hello(1, kind, "t", proof, "session1", host="desk", facts=facts)


@pytest.mark.parametrize(
    "kind, scope, is_welcome",
    [
        ("worker", EVERYTHING, True),
        ("worker", Scope.RUN, True),
        ("worker", EVERYTHING ^ Scope.RUN, False),
        ("client", EVERYTHING, True),
        ("client", Scope.READ, True),
        ("client", Scope.RUN, False),
    ],
)
def test_a_workers_token_opens_no_client_and_a_clients_runs_nothing(
    core: Core, kind: str, scope: Scope, is_welcome: bool
) -> None:
    said = hello(core, kind, scope)
    if is_welcome:
        peer, _ = core.open(said, "nonce", NOON, "")
        assert peer.who.scope == scope
    else:
        with pytest.raises(NotAuthenticated):
            core.open(said, "nonce", NOON, "")
    core.journal.close()


def test_when_a_token_was_used_is_on_record_to_the_hour(core: Core) -> None:
    said = hello(core, "client", EVERYTHING)
    written: list[object] = []
    core.journal.put = written.append  # type: ignore[method-assign,assignment]
    for at in (NOON, NOON + seconds(5), NOON + USED_EVERY):
        core.open(said, "nonce", at, "")
    assert written == [[c.CredentialUsed("t", at.timestamp())] for at in (NOON, NOON + USED_EVERY)]


def test_a_token_that_comes_to_its_end_ends_its_sessions_and_workers() -> None:
    grid = GridUnderTest()
    session = grid.arrives("desk1").session
    grid.arrives("desk2", login="admin")
    [work] = grid.submit()
    token = grid.grid.credentials["token-worker"]
    grid.grid.credentials["token-worker"] = replace(token, expires_at=NOON + seconds(60))
    out = Outcome()
    upkeep.end_expired_tokens(grid.grid, NOON + seconds(59), out)
    assert out.closing == []
    upkeep.end_expired_tokens(grid.grid, NOON + seconds(60), out)
    assert (session, "not-authenticated", "its token has expired") in out.closing
    assert ("by:token-worker", "not-authenticated", "its token has expired") in out.closing
    assert set(grid.grid.scheduler.hosts) == {"desk2"}
    assert grid.status(work) == "WAITING"


@pytest.mark.feature("XW-USR-13")
def test_a_revoked_token_ends_the_workers_that_it_opened_and_no_others() -> None:
    grid = GridUnderTest()
    grid.arrives("desk1")
    grid.grid.credentials["second"] = replace(grid.grid.credentials["token-worker"], uid="second")
    other = grid.arrives("desk2")
    other.credential = "second"
    works = grid.submit(4)
    grid.ask(m.Revoke("token-worker"), login="admin")
    assert set(grid.grid.scheduler.hosts) == {"desk2"}
    assert {grid.grid.works[work].task.host for work in works if grid.grid.works[work].task} == {
        "desk2"
    }


@pytest.mark.feature("XW-USR-13")
def test_what_a_revoked_user_submitted_is_aborted() -> None:
    grid = GridUnderTest()
    grid.arrives("desk1", cores=1)
    running, ahead, waiting = grid.submit(3)
    [others] = grid.submit(login="admin")
    grid.ask(m.Revoke("alice"), login="admin")
    hers = (running, ahead, waiting)
    assert {grid.status(work) for work in hers} == {"gone"}
    assert {row.status for row in grid.changes(c.WorkUpdated) if row.uid in hers} == {"ABORTED"}
    assert {message.task for message in grid.pushes(m.Abandon)} == {f"{running}.1", f"{ahead}.1"}
    assert grid.status(others) == "PENDING"


def test_a_workers_token_is_good_for_no_more_once_its_user_has_changed() -> None:
    grid = GridUnderTest()
    state = grid.arrives(login="alice")
    state.who = replace(state.who, scope=Scope.RUN)
    grid.ask(m.ChangeUser("alice", email="a@b"), login="admin")
    assert state.who.scope is Scope.RUN


@pytest.mark.feature("XW-SEC-6")
@pytest.mark.parametrize(
    "scope, lifetime, ends_after",
    [
        pytest.param("", None, 12, id="everything, for ever"),
        pytest.param("read", 3600, 1, id="for less than the proof"),
        pytest.param("run", None, None, id="a worker's may stay"),
    ],
)
def test_a_token_made_by_way_of_a_proxy_is_taken_back_with_it(
    scope: str, lifetime: int | None, ends_after: int | None
) -> None:
    grid = GridUnderTest()
    grid.ask(m.ChangeUser("alice", add_subjects=("CN=Alice",)), login="admin")
    proof = Credential(
        *("proof", "alice", "token", "0" * 64, NOON, NOON + hours(12)),
        source="certificate",
        subject="CN=Alice",
        serials=("7 CN=CA",),
    )
    grid.grid.credentials["proof"] = proof
    asker = replace(who(grid.grid.users["alice"]), credential="proof")
    asked = m.SendToken("t", VERIFIER, scope=scope, lifetime=lifetime)
    requests.answer(grid.grid, asker, "s", asked, NOON, grid.out)
    made = grid.grid.credentials["t"]
    assert made.expires_at == (None if ends_after is None else NOON + hours(ends_after))
    assert (made.subject, made.serials) == (proof.subject, proof.serials)
    grid.ask(m.ChangeUser("alice", remove_subjects=("CN=Alice",)), login="admin")
    assert grid.grid.credentials["t"].is_revoked
