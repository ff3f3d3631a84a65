"""Requests outside of any session: what is on record of them, and for how long."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import pytest

from desktopgrid.model.errors import AlreadyThere, LimitExceeded, NotAuthenticated
from desktopgrid.server.changes import Change, RepliesForgotten, ReplyRecorded
from desktopgrid.server.core import Core
from desktopgrid.server.recorded import RECORDS_KEPT, Name
from desktopgrid.server.state import Outcome, Policy
from desktopgrid.server.watching import Watcher
from desktopgrid.wire import messages as m
from tests.builders import NOON, GridUnderTest, a_user, hours, seconds, who

SESSION = m.SendGroup("g1", "session", "g1")


class AJournal:
    """A journal whose disk takes no time."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.position = self.durable = self.backlog = 0

    def put(self, changes: Sequence[Change]) -> int:
        self.changes += changes
        return self.position


@pytest.fixture
def core() -> Core:
    return Core(GridUnderTest().grid, AJournal(), {}, Watcher(lambda: NOON))  # type: ignore[arg-type]


def ask(core: Core, key: str, request: m.Request = SESSION, now: datetime = NOON) -> object:
    alice = who(core.grid.users["alice"])
    name = Name.of("alice", key, request) if key else None
    return core.asked(alice, name, request, now, Outcome())


def put(core: Core) -> list[Change]:
    return core.journal.changes  # type: ignore[attr-defined,no-any-return]


def test_the_same_under_the_same_key_is_answered_and_not_done_again(core: Core) -> None:
    first = ask(core, "k")
    count = len(put(core))
    assert ask(core, "k") == first == {"uid": "g1", "name": "g1"}
    assert len(put(core)) == count
    assert [type(each) for each in put(core)].count(ReplyRecorded) == 1


def test_without_a_key_it_is_asked_anew_and_nothing_is_on_record(core: Core) -> None:
    ask(core, "")
    with pytest.raises(AlreadyThere, match="g1"):
        ask(core, "")
    assert not [each for each in put(core) if isinstance(each, ReplyRecorded)]


def test_a_key_stands_for_one_request_of_one_user(core: Core) -> None:
    ask(core, "k")
    with pytest.raises(AlreadyThere, match="under this key"):
        ask(core, "k", m.SendGroup("g2", "session", "g2"))
    assert Name.of("alice", "k", SESSION).session != Name.of("bob", "k", SESSION).session


def test_what_only_reads_is_read_again(core: Core) -> None:
    ask(core, "k", m.Stats())
    assert put(core) == []
    assert core.recorded == {}


def test_an_answer_that_nobody_comes_back_for_is_kept_for_a_day(core: Core) -> None:
    ask(core, "early")
    ask(core, "late", m.SendGroup("g2", "session", "g2"), NOON + hours(1))
    core.forget_idle(NOON + RECORDS_KEPT - seconds(1))
    assert len(core.recorded) == 2
    core.forget_idle(NOON + RECORDS_KEPT)
    early, late = (Name.of("alice", key, SESSION).session for key in ("early", "late"))
    assert list(core.recorded) == [late]
    [forgotten] = [each for each in put(core) if isinstance(each, RepliesForgotten)]
    assert forgotten.session == early


def test_a_watch_outside_of_a_session_has_nobody_to_tell(core: Core) -> None:
    ask(core, "", m.Submit("s1", {"application": "app"}, watch=True))
    ask(core, "", m.Watch(("s1",)))
    assert core.grid.batches["s1"].watchers == set()


@pytest.mark.feature("XW-USR-13")
def test_nobody_is_known_by_what_was_revoked_ran_out_or_is_another_kind(core: Core) -> None:
    assert core.holder("token-alice", NOON, lambda verifier: verifier == "0" * 64).user == "alice"
    with pytest.raises(NotAuthenticated):
        core.holder("token-alice", NOON, lambda verifier: False)
    with pytest.raises(NotAuthenticated):
        core.holder("alice", NOON, lambda verifier: True)
    core.grid.put_user(a_user(is_revoked=True))
    with pytest.raises(NotAuthenticated):
        core.present("token-alice", NOON)


def test_a_user_has_a_bounded_number_of_requests_on_record() -> None:
    grid = GridUnderTest(Policy(max_keys=2)).grid
    core = Core(grid, AJournal(), {}, Watcher(lambda: NOON))  # type: ignore[arg-type]
    first = ask(core, "k1")
    ask(core, "k2", m.SendGroup("g2", "session", "g2"))
    with pytest.raises(LimitExceeded, match=r"\[limits\] max_keys"):
        ask(core, "k3", m.SendGroup("g3", "session", "g3"))
    assert ask(core, "k1") == first, "what is on record is answered"
    ask(core, "", m.SendGroup("g3", "session", "g3"))
    core.forget_idle(NOON + RECORDS_KEPT)
    ask(core, "k3", m.SendGroup("g4", "session", "g4"), NOON + RECORDS_KEPT)
    loaded = Core(grid, AJournal(), core.recorded, Watcher(lambda: NOON))  # type: ignore[arg-type]
    ask(loaded, "k5", m.SendGroup("g5", "session", "g5"))
    with pytest.raises(LimitExceeded):
        ask(loaded, "k6", m.SendGroup("g6", "session", "g6"))
