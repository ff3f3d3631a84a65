"""What public, group and private applications make of the works that refer to them, and whose a
work's result is (manual, 3.1 and 3.2).
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from desktopgrid.model.errors import AccessDenied, AlreadyThere, BadRequest, UnknownObject
from desktopgrid.model.rights import UserLevel
from desktopgrid.server import changes as c
from desktopgrid.wire import messages as m
from tests.builders import GridUnderTest, a_user, an_application


@pytest.fixture
def grid() -> GridUnderTest:
    """A grid with a user group, its member ann, and ben who is in none."""
    grid = GridUnderTest()
    grid.ask(m.SendGroup("lab", "usergroup", "lab"), login="admin")
    grid.add_user(a_user("ann", group="lab"))
    grid.add_user(a_user("ben"))
    return grid


@pytest.mark.feature("XW-GRP-1")
def test_a_user_who_is_put_into_no_group_is_in_none(grid: GridUnderTest) -> None:
    uid = grid.ask(m.SendUser("u-new", "new"), login="admin")["uid"]
    assert grid.grid.users[uid].group is None


@pytest.mark.feature("XW-GRP-2", "XW-AR-15")
@pytest.mark.parametrize("rights", [0o700, 0o750, 0o755])
def test_a_work_is_as_open_as_its_application_and_stays_so(
    grid: GridUnderTest, rights: int
) -> None:
    grid.grid.put_application(an_application("tool", owner="ann", rights=rights))
    with pytest.raises(BadRequest, match="rights"):
        grid.ask(m.Submit("w", {"application": "tool", "rights": 0o777}), login="ann")
    grid.ask(m.Submit("w", {"application": "tool"}, single=True), login="ann")
    (stored,) = grid.changes(c.SubmissionInserted)
    assert stored.rights == rights
    with pytest.raises(AccessDenied, match="those of its application"):
        grid.ask(m.Chmod("w", "777"), login="ann")


@pytest.mark.feature("XW-GRP-8")
def test_a_group_member_runs_a_public_application_on_a_public_worker(grid: GridUnderTest) -> None:
    host = grid.arrives()
    (work,) = grid.submit(login="ann")
    assert [task.work for task in host.tasks.values()] == [work]


@pytest.mark.feature("XW-USR-14")
@pytest.mark.parametrize("rights", [0o700, 0o750, 0o755])
def test_a_standard_user_opens_datas_as_far_as_he_likes(grid: GridUnderTest, rights: int) -> None:
    grid.ask(m.SendData("d", "input", "0" * 64, 1, rights=rights), login="ann")
    assert grid.grid.datas["d"].rights == rights


@pytest.mark.feature("XW-USR-14")
@pytest.mark.parametrize("rights", [0o750, 0o755])
def test_a_standard_users_application_is_private(grid: GridUnderTest, rights: int) -> None:
    asked = m.SendApplication("a", "tool", "any", "any", "program", rights)
    with pytest.raises(AccessDenied, match="private applications only"):
        grid.ask(asked, login="ann")


@pytest.mark.feature("XW-USR-9")
def test_what_a_worker_brings_back_is_the_submitters(grid: GridUnderTest) -> None:
    host = grid.arrives()
    (work,) = grid.submit(login="ann")
    sha256 = "ab" * 32
    grid.finishes(host, work, stdout=b"42", outputs=(m.Stored("out.txt", sha256, 2),))
    (written,) = grid.changes(c.TaskUpdated)
    # An output has no owner of its own: it is the work's, and so is the right to read it.
    assert written.stdout == b"42"
    assert grid.changes(c.WorkUpdated)[-1].status == "COMPLETED"


@pytest.mark.feature("XW-USR-10")
def test_only_the_worker_that_runs_a_work_completes_it(grid: GridUnderTest) -> None:
    grid.add_user(a_user("labworker", level=UserLevel.WORKER, group="lab"))
    grid.grid.put_application(an_application("tool", owner="ann", rights=0o750))
    runs, other = grid.arrives("runs", login="labworker"), grid.arrives("other", login="labworker")
    grid.ask(m.Submit("w", {"application": "tool"}, single=True), login="ann")
    (task,) = [*runs.tasks.values(), *other.tasks.values()]
    holder, bystander = (runs, other) if runs.tasks else (other, runs)
    with pytest.raises(AccessDenied):
        grid.says(bystander, m.Finished(task.uid, task.epoch, exit_code=0))
    # The work's own rights let its group read and execute, not write; its worker may all the same.
    grid.says(holder, m.Finished(task.uid, task.epoch, exit_code=0))
    assert grid.status("w") == "gone"
    with pytest.raises((AccessDenied, UnknownObject)):
        grid.ask(m.Cancel(("w",)), login="labworker")


@pytest.mark.feature("XW-AR-14")
def test_an_application_is_not_inserted_again_with_other_rights(grid: GridUnderTest) -> None:
    asked = m.SendApplication("a", "tool", "any", "any", "program", 0o755)
    grid.ask(asked, login="admin")
    for_another = m.SendApplication("b", "tool", "x86_64", "linux", "program", 0o700)
    with pytest.raises(AlreadyThere, match="0755"):
        grid.ask(for_another, login="admin")
    grid.ask(m.SendApplication("c", "tool", "x86_64", "linux", "program"), login="admin")
    assert grid.grid.applications["a"].rights == 0o755


def test_nobody_puts_a_program_in_the_place_of_one_that_others_mean() -> None:
    grid = GridUnderTest()
    grid.add_user(a_user("mallory", level=UserLevel.ADVANCED))
    first = "0"  # of two of one name the first UID would be taken
    asked = m.SendApplication(first, "app", "any", "any", "program", 0o755)
    for rights in (0o755, 0o750, None):
        with pytest.raises(AlreadyThere, match="another user's"):
            grid.ask(replace(asked, rights=rights), login="mallory")
    [work] = grid.submit()
    assert grid.grid.works[work].submission.description.application == "app"
    grid.ask(replace(asked, rights=0o700), login="mallory")
    grid.ask(replace(asked, uid="1"), login="admin")
