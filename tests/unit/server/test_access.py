"""Who may do what to what, over requests: the whole product of levels, owners, kinds and rights,
and sequences of requests that nobody thought of. The oracle is written from the manual's sentences
(3.1 to 3.3), not from our code.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from desktopgrid.model.errors import (
    AccessDenied,
    AlreadyThere,
    BadRequest,
    GridError,
    UnknownObject,
)
from desktopgrid.model.objects import Group, Session
from desktopgrid.model.rights import UserLevel
from desktopgrid.wire import messages as m
from tests.builders import GridUnderTest, a_data, a_user, an_application

RIGHTS = {"private": 0o700, "group": 0o750, "public": 0o755}
KINDS = ("app", "data", "session", "group")
LISTED = {"app": "apps", "session": "sessions", "group": "groups"}
RELATIONS = ("owner", "member", "other")


@dataclass(frozen=True)
class Cell:
    """One question: may a user of ``level``, who is to the owner as ``relation`` says, do it?"""

    level: UserLevel
    relation: str
    kind: str
    reach: str

    @property
    def is_readable(self) -> bool:
        """Private: the owner only; group: the members of his user group; public: everybody."""
        if self.level is UserLevel.SUPER or self.relation == "owner":
            return True
        return self.reach == "public" or (self.reach == "group" and self.relation == "member")

    @property
    def is_changeable(self) -> bool:
        """Only the owner and privileged users; a worker changes nothing."""
        if self.level is UserLevel.WORKER:
            return False
        return self.level is UserLevel.SUPER or self.relation == "owner"

    def grid(self) -> GridUnderTest:
        """A grid with an object of that kind, ``x``, of that owner, and the user ``asker``."""
        grid = GridUnderTest()
        for group in ("lab", "elsewhere"):
            grid.ask(m.SendGroup(group, "usergroup", group), login="admin")
        owner = "asker" if self.relation == "owner" else "owner"
        asker_group = "elsewhere" if self.relation == "other" else "lab"
        grid.add_user(a_user("owner", group="lab"))
        grid.add_user(a_user("asker", level=self.level, group=asker_group))
        rights = RIGHTS[self.reach]
        if self.kind == "app":
            grid.grid.put_application(an_application("x", owner=owner, rights=rights))
        elif self.kind == "data":
            grid.grid.put_data(a_data("x", owner=owner, rights=rights))
        else:
            make = Session if self.kind == "session" else Group
            grid.grid.bags["x"] = make("x", "x", owner, rights)
        return grid


def of_kinds(*kinds: str) -> list[Any]:
    """The questions about objects of these kinds."""
    return [
        pytest.param(Cell(*each), id="-".join((each[0].name.lower(), *each[1:])))
        for each in itertools.product(UserLevel, RELATIONS, kinds, RIGHTS)
    ]


def allowed(grid: GridUnderTest, request: m.Request) -> bool:
    """Whether ``asker`` may."""
    return allowed_to(grid, "asker", request)


def allowed_to(grid: GridUnderTest, login: str, request: m.Request) -> bool:
    """Whether the user may; where not, nothing is changed."""
    before = image(grid)
    try:
        grid.ask(request, login=login)
    except (AccessDenied, UnknownObject):
        assert not grid.out.changes
        assert not grid.out.pushes
        assert image(grid) == before
        return False
    return True


def image(grid: GridUnderTest) -> dict[str, Any]:
    """What a request might change of the objects."""
    return {name: dict(table) for name, table in grid.grid.tables.items()}


@pytest.mark.feature("XW-AR-19", "XW-GRP-3", "XW-GRP-4", "XW-GRP-11", "XW-GRP-12")
@pytest.mark.parametrize("cell", of_kinds(*LISTED))
def test_one_lists_what_one_may_read(cell: Cell) -> None:
    # Datas are listed by the database: tests/contract/test_database.py.
    rows = cell.grid().ask(m.ListObjects(LISTED[cell.kind]), login="asker")["rows"]
    assert ("x" in [row["uid"] for row in rows]) is cell.is_readable


@pytest.mark.feature("XW-AR-12", "XW-AR-14", "XW-GEN-2", "XW-USR-5", "XW-USR-8")
@pytest.mark.parametrize("cell", of_kinds(*KINDS))
def test_one_changes_the_rights_of_ones_own_but_never_an_applications(cell: Cell) -> None:
    grid = cell.grid()
    expected = cell.is_changeable and cell.kind != "app"
    assert allowed(grid, m.Chmod("x", "g+w")) is expected
    if expected:
        table = grid.grid.datas if cell.kind == "data" else grid.grid.bags
        assert table["x"].rights == RIGHTS[cell.reach] | 0o020


@pytest.mark.feature("XW-GEN-1", "XW-USR-5", "XW-USR-8")
@pytest.mark.parametrize("cell", of_kinds(*KINDS))
def test_one_removes_what_is_ones_own(cell: Cell) -> None:
    assert allowed(cell.grid(), m.Remove(("x",))) is cell.is_changeable


@pytest.mark.feature("XW-GRP-3", "XW-GRP-4", "XW-JM-4", "XW-USR-11")
@pytest.mark.parametrize("cell", of_kinds("app"))
def test_one_runs_what_one_may_execute(cell: Cell) -> None:
    expected = cell.is_readable and cell.level is not UserLevel.WORKER
    assert allowed(cell.grid(), m.Submit("w", {"application": "x"})) is expected


@pytest.mark.feature("XW-AR-19", "XW-JM-6")
@pytest.mark.parametrize("cell", of_kinds("session", "group"))
def test_one_puts_works_where_one_may_write(cell: Cell) -> None:
    expected = cell.is_changeable  # none of the three modes lets others write
    asked = m.Submit("w", {"application": "app", cell.kind: "x"})
    assert allowed(cell.grid(), asked) is expected


@pytest.mark.feature("XW-AR-14")
@pytest.mark.parametrize(
    "uid, rule",
    [
        ("app", "given once"),
        ("u1", "those of its application"),
        ("u1-0", "those of its application"),
        ("desk1", "its worker's identity"),
    ],
)
def test_why_rights_never_change_is_told_to_the_owner(uid: str, rule: str) -> None:
    grid = GridUnderTest()
    grid.arrives("desk1", login="admin")
    grid.grid.put_application(replace(an_application(), owner="admin"))
    grid.ask(m.Submit("u1", {"application": "app"}, ((), ())), login="admin")
    with pytest.raises(AccessDenied, match=rule):
        grid.ask(m.Chmod(uid, "777"), login="admin")
    with pytest.raises(UnknownObject):
        grid.ask(m.Chmod(uid, "777"))


@pytest.mark.feature("XW-GRP-11", "XW-GRP-12")
def test_a_worker_is_known_to_those_whose_works_it_runs() -> None:
    grid = GridUnderTest()
    for group in ("lab", "elsewhere"):
        grid.ask(m.SendGroup(group, "usergroup", group), login="admin")
    for user in (
        a_user("labworker", level=UserLevel.WORKER, group="lab"),
        a_user("member", group="lab", level=UserLevel.ADVANCED),
        a_user("stranger", group="elsewhere", level=UserLevel.ADVANCED),
    ):
        grid.add_user(user)
    for host, login in (("pub", "worker"), ("grp", "labworker"), ("prv", "alice")):
        grid.arrives(host, login=login)

    def seen(login: str) -> set[str]:
        return {row["uid"] for row in grid.ask(m.ListObjects("hosts"), login=login)["rows"]}

    assert seen("admin") == {"pub", "grp", "prv"}
    assert seen("alice") == {"pub", "prv"}
    assert seen("member") == {"pub", "grp"}
    assert seen("stranger") == {"pub"}


@pytest.mark.feature("XW-USR-4", "XW-GRP-9")
def test_a_user_is_in_one_user_group_and_what_he_owns_goes_with_him() -> None:
    grid = GridUnderTest()
    for group in ("lab", "elsewhere"):
        grid.ask(m.SendGroup(group, "usergroup", group), login="admin")
    grid.add_user(a_user("ann", group="lab"))
    grid.add_user(a_user("bob", group="elsewhere"))
    grid.grid.put_application(an_application("tool", owner="ann", rights=0o750))

    def sees() -> bool:
        return bool(grid.ask(m.ListObjects("apps", where={"name": "tool"}), login="bob")["rows"])

    assert not sees()
    grid.ask(m.ChangeUser("ann", group="elsewhere"), login="admin")
    assert grid.grid.users["ann"].group == "elsewhere"
    assert sees()
    grid.ask(m.ChangeUser("ann", group=""), login="admin")
    assert grid.grid.users["ann"].group is None
    assert not sees()


@pytest.mark.feature("XW-USR-2", "XW-USR-7")
def test_a_level_that_changes_changes_what_one_may_do() -> None:
    grid = GridUnderTest()
    grid.ask(m.ChangeUser("alice", level="worker"), login="admin")
    with pytest.raises(AccessDenied):
        grid.submit()
    grid.ask(m.ChangeUser("alice", level="standard"), login="admin")
    grid.submit()


@pytest.mark.feature("XW-USR-7")
@pytest.mark.parametrize("login", ["alice", "worker"])
def test_only_a_super_user_changes_users(login: str) -> None:
    grid = GridUnderTest()
    assert not allowed_to(grid, login, m.ChangeUser("alice", level="super"))


@pytest.mark.parametrize(
    "asked, error",
    [
        (m.ChangeUser("nobody", level="super"), UnknownObject),
        (m.ChangeUser("alice", level="emperor"), BadRequest),
        (m.ChangeUser("alice", group="nowhere"), UnknownObject),
        (m.ChangeUser("admin", level="standard"), AccessDenied),
    ],
)
def test_a_wrong_change_of_a_user_changes_nothing(
    asked: m.ChangeUser, error: type[GridError]
) -> None:
    grid = GridUnderTest()
    before = image(grid)
    with pytest.raises(error):
        grid.ask(asked, login="admin")
    assert image(grid) == before


@pytest.mark.feature("XW-USR-3")
def test_a_login_is_given_once() -> None:
    grid = GridUnderTest()
    before = image(grid)
    with pytest.raises(AlreadyThere, match="alice"):
        grid.ask(m.SendUser("u9", "alice", level="super"), login="admin")
    assert image(grid) == before


def test_a_group_worker_goes_with_its_user_group() -> None:
    grid = GridUnderTest()
    for group in ("lab", "elsewhere"):
        grid.ask(m.SendGroup(group, "usergroup", group), login="admin")
    grid.add_user(a_user("ann", group="lab"))
    grid.add_user(a_user("labworker", level=UserLevel.WORKER, group="elsewhere"))
    grid.grid.put_application(an_application("tool", owner="ann", rights=0o750))
    host = grid.arrives("desk1", login="labworker")
    grid.ask(m.Submit("w", {"application": "tool"}), login="ann")
    assert not host.tasks
    grid.ask(m.ChangeUser("labworker", group="lab"), login="admin")
    assert [task.work for task in host.tasks.values()] == ["w-0"]


# --- sequences that nobody thought of -------------------------------------------------------------

USERS = ("ann", "bob", "cat", "dan", "worker")
UIDS = ("o1", "o2", "o3")
MODES = ("private", "group", "public", "g+w", "o-rx", "a+r", "u-r", "000")

requests = st.one_of(
    st.builds(m.SendData, st.sampled_from(UIDS), st.just("d"), st.just("0" * 64), st.just(1)),
    st.builds(
        m.SendApplication,
        st.sampled_from(UIDS),
        st.sampled_from(("a1", "a2")),
        st.just("any"),
        st.just("any"),
        st.just("program"),
        st.sampled_from((None, 0o700, 0o750, 0o755)),
    ),
    st.builds(
        m.SendGroup, st.sampled_from(UIDS), st.sampled_from(("session", "group")), st.just("b")
    ),
    st.builds(m.Chmod, st.sampled_from(UIDS), st.sampled_from(MODES)),
    st.builds(m.Remove, st.tuples(st.sampled_from(UIDS))),
    st.builds(
        lambda uid, app, bag: m.Submit(uid, {"application": app, "stdin": bag}),
        st.sampled_from(("w1", "w2", "w3")),
        st.sampled_from(("a1", "a2", "app")),
        st.sampled_from((*UIDS, None)),
    ),
    st.builds(m.Cancel, st.tuples(st.sampled_from(("w1", "w2", "w3")))),
)


@given(st.lists(st.tuples(st.sampled_from(USERS), requests), max_size=25))
@settings(max_examples=150, deadline=None)
def test_no_sequence_of_requests_changes_what_is_anothers_or_shows_what_is_closed(
    steps: list[tuple[str, m.Request]],
) -> None:
    grid = GridUnderTest()
    grid.ask(m.SendGroup("lab", "usergroup", "lab"), login="admin")
    grid.add_user(a_user("ann", group="lab"))
    grid.add_user(a_user("bob", group="lab", level=UserLevel.ADVANCED))
    grid.add_user(a_user("cat"))
    grid.add_user(a_user("dan", level=UserLevel.ADVANCED))
    for login, request in steps:
        before, owners = image(grid), owned(grid)
        try:
            grid.ask(request, login=login)
        except GridError:
            assert image(grid) == before
            assert not grid.out.changes
        else:
            if isinstance(request, m.Submit) and f"{request.uid}-0" not in before["work"]:
                check_submission(grid, login, request)
        for uid, (owner, was) in owners.items():
            now = owned(grid).get(uid)
            if now is None or now[1] != was:
                assert owner == login, f"{login} changed {uid} of {owner}"
        assert login != "worker" or image(grid) == before
        check_lists(grid)


def owned(grid: GridUnderTest) -> dict[str, tuple[str, Any]]:
    """Every object that has an owner."""
    inner = grid.grid
    found = {uid: (x.owner, x) for t in (inner.datas, inner.bags) for uid, x in t.items()}
    found |= {uid: (x.owner, x) for uid, x in inner.applications.items()}
    return found | {uid: (w.submission.owner, w.status) for uid, w in inner.works.items()}


def check_lists(grid: GridUnderTest) -> None:
    """Each user lists what the bits let him read, and nothing else: a file system's rule."""
    for login, kind in itertools.product(USERS, LISTED.values()):
        shown = {row["uid"] for row in grid.ask(m.ListObjects(kind), login=login)["rows"]}
        table: dict[str, Any] = grid.grid.applications if kind == "apps" else grid.grid.bags
        wanted = {"sessions": Session, "groups": Group}.get(kind, object)
        for uid, found in table.items():
            if not isinstance(found, wanted) or getattr(found, "is_deleted", False):
                assert uid not in shown
                continue
            is_readable = bool(bits_for(grid, login, found) & 4)
            assert (uid in shown) is is_readable, (login, kind, uid, oct(found.rights))


def check_submission(grid: GridUnderTest, login: str, request: m.Submit) -> None:
    """Who submitted may run the program and read the data, and the work, which is as open as its
    program, is no more open than the data.
    """
    work = grid.grid.works[f"{request.uid}-0"]
    description = work.submission.description
    application = grid.grid.applications[description.application]
    assert work.submission.rights == application.rights
    assert bits_for(grid, login, application) & 1
    if description.stdin is not None:
        data = grid.grid.datas[description.stdin]
        assert bits_for(grid, login, data) & 4
        if application.rights & 0o005:
            assert data.rights & 0o005
        elif application.rights & 0o050:
            assert data.rights & 0o055


def bits_for(grid: GridUnderTest, login: str, found: Any) -> int:
    """What a file system would let the user do to it."""
    user, owner = grid.grid.users[login], grid.grid.users[found.owner]
    if found.owner == login:
        return int(found.rights >> 6)
    is_member = owner.group is not None and owner.group == user.group
    return int((found.rights | (found.rights >> 3 if is_member else 0)) & 0o7)
