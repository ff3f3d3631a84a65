"""Datas, on the server and elsewhere: what may be announced, who may refer to it, what replaces
what.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from desktopgrid.model.errors import AccessDenied, BadRequest, LimitExceeded, UnknownObject
from desktopgrid.server import changes as c
from desktopgrid.server.state import Policy
from desktopgrid.wire import messages as m
from desktopgrid.wire.codec import from_body
from tests.builders import GridUnderTest, a_data, a_user

DIGEST = "a" * 64
URI = "https://w.example.org/points"


@pytest.fixture
def grid() -> GridUnderTest:
    return GridUnderTest(Policy(schemes=("davs",)))


def send(grid: GridUnderTest, uid: str, login: str = "alice", **fields: Any) -> dict[str, Any]:
    asked = m.SendData(**{"uid": uid, "name": "points", "sha256": DIGEST, "size": 10, **fields})
    reply: dict[str, Any] = grid.ask(asked, login=login)
    return reply


def there(grid: GridUnderTest) -> set[str]:
    """The datas that are listed, but for the one that the grid began with."""
    return {d.uid for d in grid.grid.datas.values() if not d.is_deleted} - {"program"}


@pytest.mark.feature("XW-ARC-6")
def test_a_data_may_stay_where_it_is(grid: GridUnderTest) -> None:
    assert send(grid, "d1", uri=URI) == {"uid": "d1", "available": True}
    host = grid.arrives()
    grid.submit(inputs=[["points", "d1"]])
    [assign] = grid.pushes(m.Assign)
    assert assign.inputs == (m.File("points", "d1", DIGEST, 10, URI),)
    assert assign.executable.uri == ""
    assert host.tasks


@pytest.mark.feature("XW-ARC-6")
@pytest.mark.parametrize(
    "uri, said",
    [
        ("gopher://w/x", "it knows xw://, http://, https://, file://, davs://"),
        ("adics://w/x", "its network is gone"),
        ("file:///etc/passwd", "it is a file of the one who names it"),
        ("xw:///v1/datas/program", "it is on the grid's server"),
        ("https://ann:secret@w/x", "login"),
    ],
)
def test_a_uri_that_no_worker_could_fetch_is_refused(
    grid: GridUnderTest, uri: str, said: str
) -> None:
    with pytest.raises(BadRequest, match=said):
        send(grid, "d1", uri=uri)
    assert there(grid) == set()


def test_a_scheme_that_the_administrator_named_is_taken(grid: GridUnderTest) -> None:
    assert send(grid, "d1", uri="davs://w/x")["available"]


@pytest.mark.feature("XW-AR-16")
def test_access_rights_govern_what_is_on_the_server_only(grid: GridUnderTest) -> None:
    grid.add_user(a_user("bob"))
    send(grid, "elsewhere", uri=URI, rights=0o700)
    grid.grid.put_data(a_data("here", owner="alice", rights=0o700))
    assert grid.submit(login="bob", stdin="elsewhere")
    with pytest.raises(UnknownObject):
        grid.submit(login="bob", stdin="here")
    with pytest.raises(AccessDenied):  # alice's own, but less open than the work
        grid.submit(stdin="here")


def test_content_elsewhere_is_not_content_here(grid: GridUnderTest) -> None:
    send(grid, "d1", uri=URI)
    assert not send(grid, "d2")["available"]


def test_the_same_data_again_is_answered_again(grid: GridUnderTest) -> None:
    assert send(grid, "d1", uri=URI) == send(grid, "d1", uri=URI)
    with pytest.raises(BadRequest):
        send(grid, "d1", uri=URI + "2")
    with pytest.raises(BadRequest):
        send(grid, "d1")


@pytest.mark.feature("XW-DM-2")
def test_the_same_name_platform_and_place_replaces(grid: GridUnderTest) -> None:
    what = {"cpu": "x86_64", "os": "linux", "uri": URI, "replaces": True}
    send(grid, "d1", **what)
    send(grid, "d2", **what)
    assert there(grid) == {"d2"}
    others = ({"cpu": "i686"}, {"os": "windows"}, {"uri": URI + "2"}, {"uri": ""})
    for number, other in enumerate((*others, {"name": "lines"})):
        send(grid, f"other{number}", **{**what, **other})
    grid.add_user(a_user("bob"))
    send(grid, "bobs", login="bob", **what)
    assert len(there(grid)) == 7
    send(grid, "d3", **{**what, "uri": ""})
    assert there(grid) == {"d2", "d3", "other0", "other1", "other2", "other4", "bobs"}


def test_nothing_is_replaced_unless_that_was_asked_for(grid: GridUnderTest) -> None:
    send(grid, "d1")
    send(grid, "d2")
    assert there(grid) == {"d1", "d2"}


@pytest.mark.feature("XW-AP-2", "XW-AP-3")
def test_one_application_has_a_program_for_each_platform(grid: GridUnderTest) -> None:
    """What a host reports is what it is given; the same platform again replaces."""
    for uid, cpu in (("d1", "x86_64"), ("d2", "aarch64"), ("d3", "x86_64")):
        send(grid, uid, sha256=uid[1] * 64, uri=f"{URI}{uid}")
        grid.ask(m.SendApplication(f"a{uid}", "tool", cpu, "linux", uid, 0o755), login="admin")
    [application] = [a for a in grid.grid.applications.values() if a.name == "tool"]
    assert {str(p): uid for p, uid in application.executables.items()} == {
        "x86_64/linux": "d3",
        "aarch64/linux": "d2",
    }
    for host, cpu, given in (("one", "x86_64", "d3"), ("two", "aarch64", "d2")):
        grid.arrives(host, cpu=cpu, cores=1)
        grid.submit(application="tool", expected_host=host)
        [assign] = grid.pushes(m.Assign)
        assert assign.executable.data == given


@pytest.mark.feature("XW-AR-15")
def test_a_work_has_its_applications_rights_whatever_was_sent(grid: GridUnderTest) -> None:
    said = {"uid": "w", "description": {"application": "app"}, "single": True, "rights": 0o777}
    grid.ask(from_body(m.Submit, said))
    [stored] = grid.changes(c.SubmissionInserted)
    assert stored.rights == grid.grid.applications["app"].rights == 0o755


@pytest.mark.feature("XW-JM-7")
def test_a_waiting_work_that_was_removed_is_handed_to_nobody(grid: GridUnderTest) -> None:
    works = grid.submit(3)
    grid.ask(m.Remove((works[1],)))
    host = grid.arrives(cores=4)
    assert {task.work for task in host.tasks.values()} == {works[0], works[2]}


# Quotas.

MIB = 1 << 20


@pytest.fixture
def narrow() -> GridUnderTest:
    """A grid whose users may have 2 MiB each, of which alice has 1 already."""
    grid = GridUnderTest(Policy(quota_mib=2))
    grid.grid.put_data(a_data("old", owner="alice", size=MIB, sha256="b" * 64))
    return grid


def test_a_data_beyond_the_quota_is_refused(narrow: GridUnderTest) -> None:
    send(narrow, "d1", size=MIB)
    said = f"has {MIB + 1} bytes, and your datas take {MIB} of the {2 * MIB}.*xw rm"
    with pytest.raises(LimitExceeded, match=said):
        send(narrow, "d2", size=MIB + 1)
    assert there(narrow) == {"old", "d1"}


def test_what_takes_no_room_needs_none(narrow: GridUnderTest) -> None:
    send(narrow, "elsewhere", size=9 * MIB, uri=URI)
    narrow.ask(m.Chmod("old", "private"))
    narrow.grid.put_data(a_data("again", owner="alice", size=MIB, sha256="b" * 64))
    assert narrow.grid.holdings.used("alice") == MIB
    narrow.ask(m.Remove(("again",)))
    assert narrow.grid.holdings.used("alice") == MIB
    narrow.ask(m.Remove(("old",)))
    assert narrow.grid.holdings.used("alice") == 0
    assert not narrow.grid.holdings.has(narrow.grid.datas["old"])
    send(narrow, "d1", size=2 * MIB)


def test_others_have_a_quota_of_their_own(narrow: GridUnderTest) -> None:
    narrow.add_user(a_user("bob"))
    send(narrow, "d1", login="bob", size=2 * MIB)


@pytest.mark.parametrize("quota, size", [(5, 4), (0, 400), (m.USUAL_QUOTA, 1)])
def test_an_administrator_gives_one_user_another_quota(
    narrow: GridUnderTest, quota: int, size: int
) -> None:
    for given in (3, quota):
        narrow.ask(m.ChangeUser("alice", quota_mib=given), login="admin")
    assert narrow.changes(c.UserSaved)[0].quota_mib == (None if quota < 0 else quota)
    send(narrow, "d1", size=size * MIB)
    if quota:
        with pytest.raises(LimitExceeded):
            send(narrow, "d2", size=(size + 1) * MIB)


@pytest.mark.parametrize("quota", [-2, 1 << 50])
def test_a_quota_that_is_none_is_refused(narrow: GridUnderTest, quota: int) -> None:
    with pytest.raises(BadRequest, match="a quota is"):
        narrow.ask(m.ChangeUser("alice", quota_mib=quota), login="admin")


def test_one_sees_what_one_has_and_may_have(narrow: GridUnderTest) -> None:
    stats = narrow.ask(m.Stats())
    assert (stats["your_data_mib"], stats["your_quota_mib"]) == (1, 2)
    [row] = narrow.ask(m.ListObjects("users"))["rows"]
    assert (row["used_mib"], row["quota_mib"]) == (1.0, 2)


def test_who_gives_his_content_another_size_has_not_sent_that(narrow: GridUnderTest) -> None:
    """Else its end would give back more room than its content took."""
    assert not send(narrow, "lie", sha256="b" * 64, size=MIB - 1, login="alice")["available"]
    narrow.ask(m.Remove(("old",)))
    narrow.ask(m.Remove(("lie",)))
    assert narrow.grid.holdings.used("alice") == 0


# --- what is on its way, and how much there may be ------------------------------------------------


def test_what_has_begun_to_come_counts_until_it_is_here_or_thrown_away() -> None:
    narrow = GridUnderTest(Policy(quota_mib=2))
    narrow.ask(m.SendData("d1", "d1", "1" * 64, MIB))
    narrow.ask(m.SendData("d2", "d2", "2" * 64, 2 * MIB))
    grid = narrow.grid
    assert grid.holdings.used("alice") == 0
    grid.holdings.begin(grid.datas["d1"])
    grid.holdings.begin(grid.datas["d1"])
    assert grid.holdings.used("alice") == MIB
    grid.check_quota(grid.datas["d1"])
    with pytest.raises(LimitExceeded, match="your datas take 1048576 of the 2097152"):
        grid.check_quota(grid.datas["d2"])
    narrow.ask(m.Remove(("d1",)))
    assert grid.holdings.used("alice") == MIB, "its parts are still there"
    grid.holdings.end("d1")
    assert grid.holdings.used("alice") == 0
    grid.holdings.begin(grid.datas["d2"])
    grid.put_data(replace(grid.datas["d2"], is_available=True))
    assert (grid.holdings.used("alice"), grid.holdings.begun) == (2 * MIB, frozenset())


def test_a_user_has_a_bounded_number_of_objects() -> None:
    grid = GridUnderTest(Policy(max_objects=3))
    grid.ask(m.SendData("d1", "d1", "1" * 64, 1))
    grid.ask(m.SendGroup("s1", "session", "s1"))
    grid.grid.put_data(replace(grid.grid.datas["d1"], is_available=True))
    grid.ask(m.SendApplication("a1", "a1", "x86_64", "linux", "d1"))
    for asked in (
        m.SendData("d2", "d2", "2" * 64, 1),
        m.SendGroup("g1", "group", "g1"),
        m.SendApplication("a2", "a2", "x86_64", "linux", "d1"),
    ):
        with pytest.raises(LimitExceeded, match=r"\[limits\] max_objects"):
            grid.ask(asked)
    grid.ask(m.SendApplication("a1", "a1", "aarch64", "linux", "d1"))
    grid.ask(m.SendGroup("g1", "group", "g1"), "admin")
    grid.ask(m.Remove(("s1",)))
    grid.ask(m.SendData("d2", "d2", "2" * 64, 1))
