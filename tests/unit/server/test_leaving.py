"""The end of users and of user groups: what becomes of what was theirs."""

from __future__ import annotations

import pytest

from desktopgrid.model.errors import AccessDenied, AlreadyThere, UnknownObject
from desktopgrid.model.rights import UserLevel
from desktopgrid.server import changes as c
from desktopgrid.wire import messages as m
from tests.builders import GridUnderTest, a_data, a_user, an_application


@pytest.fixture
def grid() -> GridUnderTest:
    """With ann of the user group `lab`."""
    grid = GridUnderTest()
    grid.ask(m.SendGroup("g1", "usergroup", "lab"), login="admin")
    grid.add_user(a_user("ann", group="g1", level=UserLevel.ADVANCED))
    return grid


def listed(grid: GridUnderTest, kind: str) -> set[str]:
    """The UIDs of what is listed to a super user."""
    return {row["uid"] for row in grid.ask(m.ListObjects(kind), login="admin")["rows"]}


@pytest.mark.feature("XW-GEN-1", "XW-USR-13")
def test_a_user_who_is_removed_is_marked_so_and_may_do_nothing(grid: GridUnderTest) -> None:
    assert grid.ask(m.Remove(("ann",)), login="admin") == {"removed": ["ann"]}
    (saved,) = grid.changes(c.UserSaved)
    assert (saved.uid, saved.is_deleted, saved.is_revoked) == ("ann", True, True)
    (token,) = grid.changes(c.CredentialSaved)
    assert (token.uid, token.is_revoked) == ("token-ann", True)
    assert ("by:ann", "not-authenticated", "removed") in grid.out.closing
    assert "ann" not in listed(grid, "users")


@pytest.mark.feature("XW-GEN-1")
def test_nobody_is_ever_called_as_a_removed_user_was(grid: GridUnderTest) -> None:
    grid.ask(m.Remove(("ann",)), login="admin")
    with pytest.raises(AlreadyThere):
        grid.ask(m.SendUser("u2", "ann"), login="admin")
    with pytest.raises(AlreadyThere):
        grid.ask(m.SendUser("ann", "anna"), login="admin")
    for asked in (
        m.Remove(("ann",)),
        m.ChangeUser("ann", email="x"),
        m.Revoke("ann"),
        m.SendToken("t2", "0" * 64, user="ann"),
    ):
        with pytest.raises(UnknownObject):
            grid.ask(asked, login="admin")


@pytest.mark.feature("XW-GEN-1")
def test_the_open_works_of_a_removed_user_are_cancelled(grid: GridUnderTest) -> None:
    grid.arrives("desk1")
    grid.ask(m.Submit("w1", {"application": "app"}, (("1",), ("2",))), login="ann")
    grid.ask(m.Submit("w2", {"application": "app"}, (("1",),)))
    grid.ask(m.Remove(("ann",)), login="admin")
    assert {row.uid for row in grid.changes(c.WorkUpdated) if row.status == "ABORTED"} == {
        "w1-0",
        "w1-1",
    }
    assert set(grid.grid.works) == {"w2-0"}


@pytest.mark.feature("XW-USR-13")
def test_what_runs_on_the_worker_of_a_removed_user_is_tried_elsewhere(grid: GridUnderTest) -> None:
    grid.arrives("hers", login="ann")
    grid.ask(m.Submit("w1", {"application": "app"}, (("1",),)))
    grid.ask(m.Submit("w2", {"application": "app"}, (("1",),)), login="ann")
    grid.ask(m.Remove(("ann",)), login="admin")
    assert "hers" not in grid.grid.scheduler.hosts
    assert set(grid.grid.works) == {"w1-0"}
    assert grid.status("w1-0") == "WAITING"
    grid.arrives("desk1")
    assert grid.status("w1-0") == "PENDING"


@pytest.mark.feature("XW-GEN-1")
def test_what_a_removed_user_owns_stays(grid: GridUnderTest) -> None:
    grid.grid.put_data(a_data("hers", owner="ann"))
    grid.grid.put_application(an_application("tool", owner="ann"))
    grid.ask(m.Remove(("ann",)), login="admin")
    grid.ask(m.Submit("w1", {"application": "tool"}, ((),)))
    assert grid.status("w1-0") == "WAITING"
    assert grid.ask(m.Remove(("hers", "tool")), login="admin") == {"removed": ["hers", "tool"]}


@pytest.mark.feature("XW-GEN-1", "XW-UM-3")
def test_a_user_group_is_removed_when_nobody_is_in_it(grid: GridUnderTest) -> None:
    with pytest.raises(AccessDenied, match="user group lab has members: ann"):
        grid.ask(m.Remove(("lab",)), login="admin")
    assert grid.ask(m.Remove(("lab", "ann")), login="admin") == {"removed": ["g1", "ann"]}
    (saved,) = (row for row in grid.changes(c.UserGroupSaved) if row.is_deleted)
    assert (saved.uid, saved.name) == ("g1", "lab")
    assert listed(grid, "usergroups") == set()
    for asked in (m.SendGroup("g2", "usergroup", "lab"), m.SendGroup("g1", "usergroup", "new")):
        with pytest.raises(AlreadyThere):
            grid.ask(asked, login="admin")
    with pytest.raises(UnknownObject):
        grid.ask(m.SendUser("u2", "bert", group="lab"), login="admin")


@pytest.mark.parametrize("asked", [m.Remove(("admin",)), m.Revoke("admin")])
def test_a_super_user_stays_so_that_there_is_one(grid: GridUnderTest, asked: m.Request) -> None:
    with pytest.raises(AccessDenied, match="another one has to be there"):
        grid.ask(asked, login="admin")
    grid.add_user(a_user("root", level=UserLevel.SUPER))
    grid.ask(asked, login="root")
    assert grid.grid.users["admin"].is_revoked


def test_only_super_users_remove_users(grid: GridUnderTest) -> None:
    for name in ("ann", "lab", "alice"):
        with pytest.raises(UnknownObject):
            grid.ask(m.Remove((name,)), login="ann")
    assert not grid.grid.users["ann"].is_deleted


def test_of_several_all_are_removed_or_none(grid: GridUnderTest) -> None:
    for names in (("ann", "nobody"), ("ann", "admin")):
        with pytest.raises((UnknownObject, AccessDenied)):
            grid.ask(m.Remove(names), login="admin")
    assert not grid.grid.users["ann"].is_deleted


@pytest.mark.feature("XW-USR-13")
def test_a_user_who_has_a_password_is_revoked_by_his_uid_too(grid: GridUnderTest) -> None:
    grid.ask(m.SendUser("u-eve", "eve", password="its hash"), login="admin")
    grid.ask(m.Revoke("u-eve"), login="admin")
    assert grid.grid.users["u-eve"].is_revoked
    with pytest.raises(AccessDenied):
        grid.ask(m.Revoke("u-eve"), login="ann")
