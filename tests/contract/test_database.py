"""The grid's database, one suite for every kind of it: SQLite always, others where there is one.

GLIDEBRIDGE_POSTGRESQL_URL and GLIDEBRIDGE_MARIADB_URL name a database that the suite may fill and
empty.
"""

from __future__ import annotations

import pytest

from desktopgrid.model.errors import BadRequest
from desktopgrid.model.lifecycle import TaskStatus, WorkStatus
from desktopgrid.model.objects import Output, Platform, Usage
from desktopgrid.model.rights import READ, UserLevel, Who, grants
from desktopgrid.server import changes as c
from desktopgrid.server.database import reading, schema
from desktopgrid.server.database.engine import Refused, transaction
from desktopgrid.server.database.listing import KINDS, list_objects
from desktopgrid.server.database.portions import NAMED
from desktopgrid.server.database.records import ShardLost, record, take
from desktopgrid.server.database.statements import HOW
from tests.rows import HOST, NOON, PEOPLE, PROGRAM, Grid, completed, pending, row

ADMIN = Who("admin", UserLevel.SUPER)
ALICE = Who("alice", UserLevel.STANDARD, "physics")
BOB = Who("bob", UserLevel.STANDARD, "physics")
CAROL = Who("carol", UserLevel.STANDARD)


@pytest.fixture
def grid(bare: Grid) -> Grid:
    """Users, an application and a host."""
    bare.record(*PEOPLE, *PROGRAM, *HOST)
    return bare


@pytest.fixture
def work(grid: Grid) -> Grid:
    """The same with one waiting work."""
    grid.record(row(c.SubmissionInserted), row(c.WorkInserted))
    return grid


# --- the schema ---------------------------------------------------------------------------------


def test_every_kind_of_change_has_a_statement():
    assert set(HOW) == set(c.ORDER)


# --- recording ----------------------------------------------------------------------------------


def test_a_name_that_no_text_can_be_is_that_of_nothing(work):
    with work.engine.connect() as connection:
        assert list_objects(connection, "works", uids=["\0"]).rows == []
        assert list_objects(connection, "works", where={"label": ["\0", None]}).rows == []
        assert list(reading.results(connection, ["\0"])) == []


def test_one_transaction_may_hold_every_kind_of_change_in_any_order(bare):
    batch = [
        *PEOPLE,
        *PROGRAM,
        *HOST,
        row(c.CredentialSaved),
        row(c.CredentialUsed),
        row(c.SubjectSaved),
        row(c.BridgeSaved),
        row(c.OfferSaved),
        row(c.OfferForgotten),
        row(c.DelegationSaved),
        row(c.BagSaved),
        row(c.PilotInserted),
        row(c.PilotUpdated, host="desk1"),
        row(c.SubmissionInserted, session="bag"),
        row(c.WorkInserted),
        *pending(),
        row(c.TaskRegistered),
        *completed(),
        row(c.WorkRemoved),
        row(c.ReplyRecorded),
        row(c.ReplyRecorded, sequence=2),
        row(c.RepliesForgotten),
    ]
    bare.record(*sorted(batch, key=lambda change: -c.ORDER.index(type(change))))
    (work,) = bare.rows(schema.works)
    assert (work["status"], work["task"], work["host"]) == ("COMPLETED", "sweep-0.1", None)
    assert (work["owner"], work["shard"]) == ("alice", 0)
    (task,) = bare.rows(schema.tasks)
    assert (task["exit_code"], bytes(task["stdout"]), task["registered_at"]) == (
        0,
        b"out\n",
        NOON + 2,
    )
    assert [reply["sequence"] for reply in bare.rows(schema.replies)] == [2]


def test_of_changes_to_one_object_the_last_is_written(work):
    work.record(
        row(c.WorkUpdated, attempts=1, reason="first"),
        row(c.WorkUpdated, attempts=2, reason="second"),
    )
    (found,) = work.rows(schema.works)
    assert (found["attempts"], found["reason"]) == (2, "second")


def test_a_saved_object_is_inserted_once_and_changed_after(grid):
    grid.record(row(c.UserSaved, email="a@example.org"))
    grid.record(row(c.UserSaved, email="b@example.org"), row(c.UserSaved, email="c@example.org"))
    found = [user for user in grid.rows(schema.users) if user["login"] == "alice"]
    assert [user["email"] for user in found] == ["c@example.org"]


def test_a_work_of_an_earlier_submission_gets_its_owner(work):
    work.record(row(c.WorkInserted, uid="sweep-1", number=2))
    assert {found["owner"] for found in work.rows(schema.works)} == {"alice"}


def test_no_user_has_two_submissions_of_one_origin(work):
    """The server names them by it, so that there cannot be; the database would not take them."""
    origin = "lal/schedd#1.0#7/0"
    for uid, owner in (("one", "alice"), ("two", "alice"), ("of-admin", "admin")):
        work.record(row(c.SubmissionInserted, uid=uid, owner=owner, origin=origin))
    work.record(row(c.SubmissionInserted, uid="plain"), row(c.SubmissionInserted, uid="simple"))
    found = {each["uid"]: each["origin"] for each in work.rows(schema.submissions)}
    assert found == {
        "sweep": None,
        "one": origin,
        "of-admin": origin,
        "plain": None,
        "simple": None,
    }


def test_an_update_of_what_is_not_there_is_refused(work):
    with pytest.raises(Refused, match="1 x WorkUpdated touched 0 rows"):
        work.record(row(c.WorkUpdated, uid="nobody"))


def test_a_transaction_that_fails_leaves_nothing(work):
    with pytest.raises(Refused):
        work.record(
            row(c.WorkInserted, uid="sweep-1", number=2), row(c.WorkUpdated, status="RUNNING")
        )
    assert [found["uid"] for found in work.rows(schema.works)] == ["sweep-0"]


def test_a_work_that_is_over_is_alive_no_more(work):
    work.record(*pending())
    assert len(work.read(reading.load, work.shard).works) == 1
    work.record(*completed())
    assert work.read(reading.load, work.shard).works == []


# --- the shard ----------------------------------------------------------------------------------


def test_the_incarnation_rises_with_every_taking(bare):
    def again(connection):
        return take(connection, 0, "other")

    assert [bare.read(again).incarnation for _ in range(3)] == [2, 3, 4]


def test_no_two_shards_have_the_same_incarnation(bare):
    assert bare.read(lambda connection: take(connection, 1, "other")).incarnation == 2


def test_who_lost_the_shard_writes_nothing(grid):
    old = grid.shard
    grid.read(lambda connection: take(connection, 0, "other"))
    with pytest.raises(ShardLost, match="shard 0, incarnation 1"):
        grid.record(row(c.SubmissionInserted))
    assert grid.rows(schema.submissions) == []
    with pytest.raises(ShardLost), grid.engine.connect() as connection, transaction(connection):
        record(connection, old, [])


def test_every_commit_is_counted_on_the_shard(grid):
    before = grid.rows(schema.shards)[0]["commits"]
    grid.record()
    assert grid.rows(schema.shards)[0]["commits"] == before + 1


# --- nonsense -----------------------------------------------------------------------------------

NONSENSE = {
    "a running work without a host": [row(c.WorkUpdated, status="RUNNING", task="sweep-0.1")],
    "a waiting work with a host": [row(c.WorkUpdated, host="desk1", task="sweep-0.1")],
    "a waiting work with a task": [row(c.WorkUpdated, task="sweep-0.1")],
    "a pending work without a task": [row(c.WorkUpdated, status="PENDING", host="desk1")],
    "a final work without an end": [row(c.WorkUpdated, status="ERROR")],
    "an open work with an end": [row(c.WorkUpdated, ended_at=NOON)],
    "a completed work without a task": [row(c.WorkUpdated, status="COMPLETED", ended_at=NOON)],
    "a work of no known status": [row(c.WorkUpdated, status="SLEEPING")],
    "a work that failed less than never": [row(c.WorkUpdated, failures=-1)],
    "an open work that is removed": [row(c.WorkRemoved)],
    "a work of no submission": [row(c.WorkInserted, uid="x-0", number=9, submission="x")],
    "a task of no work": [row(c.TaskInserted, work="nobody")],
    "a task on no host": [row(c.TaskInserted, host="nowhere")],
    "a task of no known status": [row(c.TaskInserted, status="SLEEPING")],
    "two tasks of one epoch": [row(c.TaskInserted), row(c.TaskInserted, uid="sweep-0.2")],
    "two tasks of one name": [row(c.TaskInserted), row(c.TaskInserted, epoch=2)],
    "a final task without an end": [row(c.TaskInserted), row(c.TaskUpdated, status="LOST")],
    "a live task with an end": [row(c.TaskInserted), row(c.TaskUpdated, ended_at=NOON)],
    "a running task that never started": [
        row(c.TaskInserted),
        row(c.TaskUpdated, started_at=None),
    ],
    "two users of one login": [row(c.UserSaved, uid="other", login="alice")],
    "a user without a login": [row(c.UserSaved, uid="other", login="")],
    "a user of no known level": [row(c.UserSaved, level=25)],
    "a user of no user group": [row(c.UserSaved, group="nobody")],
    "two user groups of one name": [row(c.UserGroupSaved, uid="other")],
    "a credential of nobody": [row(c.CredentialSaved, user="nobody")],
    "a credential of no known kind": [row(c.CredentialSaved, kind="smile")],
    "a credential that proves nothing": [row(c.CredentialSaved, verifier="")],
    "a data without a digest": [row(c.DataSaved, sha256="")],
    "a data smaller than nothing": [row(c.DataSaved, size=-1)],
    "a data of nobody": [row(c.DataSaved, owner="nobody")],
    "rights that are none": [row(c.DataSaved, rights=0o1000)],
    "an application without a name": [row(c.ApplicationSaved, name="")],
    "an executable that is no data": [row(c.ExecutableSaved, data="nothing")],
    "an executable of no application": [row(c.ExecutableSaved, application="nothing")],
    "a bag of no known kind": [row(c.BagSaved, kind="basket")],
    "a submission of no application": [
        row(c.SubmissionInserted, uid="other", application="nothing")
    ],
    "a submission in no session": [row(c.SubmissionInserted, uid="other", session="nothing")],
    "a pilot of no known status": [row(c.PilotInserted, status="Sleeping")],
    "a final pilot without an end": [
        row(c.PilotInserted),
        row(c.PilotUpdated, status="Failed"),
    ],
    "a pilot with no time": [row(c.PilotInserted, wall_time=0)],
    "a pilot on no host": [row(c.PilotInserted), row(c.PilotUpdated, host="nowhere")],
    "a reply to no request": [row(c.ReplyRecorded, sequence=0)],
}


@pytest.mark.parametrize("batch", NONSENSE.values(), ids=NONSENSE.keys())
def test_the_database_refuses(work, batch):
    with pytest.raises(Refused):
        work.record(*batch)


def test_what_a_client_names_twice_does_not_make_a_commit_fail(work):
    work.record(
        row(c.SubmissionInserted, label="again"),
        row(c.WorkInserted, number=7),
        row(c.ReplyRecorded),
        row(c.ReplyRecorded, body="again"),
    )
    assert [found["number"] for found in work.rows(schema.works)] == [1]


# --- loading ------------------------------------------------------------------------------------


def test_an_empty_grid_is_loaded(bare):
    snapshot = bare.read(reading.load, bare.shard)
    assert (snapshot.works, snapshot.users, snapshot.next_number) == ([], [], 1)


def test_works_come_back_with_their_submission_and_task(work):
    work.record(row(c.WorkInserted, uid="sweep-1", number=2, arguments='["a","b c"]'))
    work.record(*pending(uid="sweep-1", task="sweep-1.1", epoch=5))
    work.record(
        row(c.WorkUpdated, uid="sweep-1", status="RUNNING", task="sweep-1.1", host="desk1"),
        row(c.TaskUpdated, uid="sweep-1.1"),
    )
    snapshot = work.read(reading.load, work.shard)
    waiting, running = snapshot.works
    assert (waiting.uid, waiting.status, waiting.task) == ("sweep-0", WorkStatus.WAITING, None)
    assert running.arguments == ("a", "b c")
    assert (running.task.epoch, running.task.status) == (5, TaskStatus.RUNNING)
    assert running.task.started_at.timestamp() == NOON + 1
    assert waiting.submission is running.submission is snapshot.submissions["sweep"]
    assert waiting.submission.description.application == "app"
    assert snapshot.next_number == 3


def test_a_submission_counts_its_works_that_are_over(work):
    work.record(row(c.WorkInserted, uid="sweep-1", number=2), *pending())
    work.record(*completed())
    snapshot = work.read(reading.load, work.shard)
    assert [found.uid for found in snapshot.works] == ["sweep-1"]
    assert snapshot.totals == {"sweep": 2}


def test_everything_else_comes_back_too(grid):
    grid.record(
        row(c.CredentialSaved, expires_at=NOON + 60),
        row(c.CredentialSaved, uid="revoked", is_revoked=True),
        row(c.DataSaved, uid="deleted", is_deleted=True),
        row(c.BagSaved, uid="group", kind="group"),
        row(c.PilotInserted),
        row(c.PilotInserted, stamp="old", submitted_at=NOON - 9999),
        row(c.ReplyRecorded, body='{"works":3}'),
    )
    grid.record(
        row(c.PilotUpdated, status="Done", ended_at=NOON),
        row(c.PilotUpdated, stamp="old", status="Done", ended_at=NOON),
    )
    found = grid.read(reading.load, grid.shard)
    assert {user.login for user in found.users} == {"admin", "alice", "bob", "carol"}
    assert [group.name for group in found.user_groups] == ["physics"]
    assert [token.uid for token in found.credentials] == ["token"]
    assert found.credentials[0].expires_at.timestamp() == NOON + 60
    assert {data.uid: data.is_deleted for data in found.datas} == {
        "program": False,
        "deleted": True,
    }
    assert found.applications[0].executables == {Platform("any", "any"): "program"}
    assert type(found.bags[0]).__name__ == "Group"
    assert found.hosts[0].facts.cores == 2
    assert [pilot.stamp for pilot in found.pilots] == ["pilot"]
    assert found.replies["link", 1].body == '{"works":3}'


def test_another_shard_has_other_works(work):
    other = Grid(work.engine)
    other.shard = work.read(lambda connection: take(connection, 1, "other"))
    snapshot = other.read(reading.load, other.shard)
    assert snapshot.works == []
    assert snapshot.next_number == (1 << 40) + 1
    other.record(
        row(c.SubmissionInserted, uid="theirs"),
        row(c.WorkInserted, uid="theirs-0", submission="theirs", number=snapshot.next_number),
    )
    assert [found.uid for found in other.read(reading.load, other.shard).works] == ["theirs-0"]
    assert len(other.read(list_objects, "works").rows) == 2


# --- results ------------------------------------------------------------------------------------


def results(grid, names, who=None):
    def read(connection):
        return list(reading.results(connection, names, who))

    return grid.read(read)


def test_the_result_of_a_work_is_that_of_its_task(work):
    work.record(*pending())
    work.record(
        *completed(
            exit_code=3,
            stderr=b"err\n",
            outputs='[{"name":"a.png","sha256":"00","size":7}]',
            wall=1.5,
            memory_kib=99,
        )
    )
    (found,) = results(work, ["sweep-0"])
    assert (found.status, found.exit_code) == (WorkStatus.COMPLETED, 3)
    assert (found.stdout, found.stderr) == (b"out\n", b"err\n")
    assert found.outputs == (Output("a.png", "00", 7),)
    assert found.usage == Usage(1.5, 0.0, 0.0, 99)
    assert found.host == "desk1"


def test_the_results_of_a_submission_are_those_of_its_works(work):
    work.record(row(c.WorkInserted, uid="sweep-1", number=2), *pending())
    work.record(*completed())
    found = results(work, ["sweep"])
    assert [(one.work, one.status.value) for one in found] == [
        ("sweep-0", "COMPLETED"),
        ("sweep-1", "WAITING"),
    ]


def test_a_work_that_is_its_own_submission_has_one_result(grid):
    grid.record(
        row(c.SubmissionInserted, uid="one"), row(c.WorkInserted, uid="one", submission="one")
    )
    assert len(results(grid, ["one"])) == 1


def test_a_removed_work_has_no_result(work):
    work.record(*pending())
    work.record(*completed(), row(c.WorkRemoved))
    assert results(work, ["sweep-0"]) == []


def test_an_aborted_work_says_why(work):
    work.record(row(c.WorkUpdated, status="ABORTED", reason="cancelled", ended_at=NOON))
    (found,) = results(work, ["sweep-0"])
    assert (found.status, found.reason, found.exit_code) == (WorkStatus.ABORTED, "cancelled", None)


def test_results_of_many_works_are_found(grid):
    count = 2 * NAMED + 1
    grid.record(
        row(c.SubmissionInserted),
        *(row(c.WorkInserted, uid=f"sweep-{n}", number=n + 1) for n in range(count)),
    )
    names = [f"sweep-{n}" for n in range(count)]
    assert [found.work for found in results(grid, names)] == names
    submitted = grid.read(reading.submitted, "sweep", [*names, "other"])
    assert len(submitted.arguments) == count


def test_names_that_were_ever_used_are_known(work):
    work.record(row(c.WorkUpdated, status="ABORTED", ended_at=NOON))
    submitted = work.read(reading.submitted, "sweep", ["sweep-0", "sweep-1"])
    assert submitted.owner == "alice"
    assert submitted.arguments == {"sweep-0": ()}
    assert work.read(reading.submitted, "other", ["other"]) is None
    assert work.read(reading.owners_of_submissions, ["sweep", "other"]) == {"sweep": "alice"}


# --- lists --------------------------------------------------------------------------------------


@pytest.fixture
def full(grid: Grid) -> Grid:
    """An object of every kind, and three works."""
    grid.record(
        row(c.BagSaved),
        row(c.BagSaved, uid="pile", kind="group", name="pile"),
        row(c.PilotInserted),
        row(c.SubmissionInserted, session="bag", label="night"),
        *(row(c.WorkInserted, uid=f"sweep-{n}", number=n + 1) for n in range(3)),
        row(c.TaskInserted),
        row(c.WorkUpdated, status="PENDING", task="sweep-0.1", host="desk1"),
    )
    return grid


def uids(grid, kind, who=None, **options):
    return [
        found.get("uid", found.get("stamp"))
        for found in grid.read(list_objects, kind, who, **options).rows
    ]


def test_works_are_listed_newest_first_a_page_at_a_time(full):
    first = full.read(list_objects, "works", limit=2)
    assert [found["uid"] for found in first.rows] == ["sweep-2", "sweep-1"]
    second = full.read(list_objects, "works", limit=2, after=first.next)
    assert [found["uid"] for found in second.rows] == ["sweep-0"]
    assert second.next is None


def test_a_listed_work_names_people_and_things_by_name(full):
    (found,) = full.read(list_objects, "works", uids=["sweep-0"]).rows
    assert found["owner"] == "alice"
    assert found["application"] == "app"
    assert found["host"] == "desk1"
    assert found["label"] == "night"
    assert found["submitted_at"] == "2026-11-20T12:00:00.000+00:00"


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("tasks", ["sweep-0.1"]),
        ("apps", ["app"]),
        ("datas", ["program"]),
        ("users", ["carol", "bob", "alice", "admin"]),
        ("usergroups", ["physics"]),
        ("sessions", ["bag"]),
        ("groups", ["pile"]),
        ("pilots", ["pilot"]),
        ("hosts", ["desk1"]),
    ],
)
def test_every_kind_is_listed(full, kind, expected):
    assert uids(full, kind) == expected


@pytest.mark.feature("XW-JM-2")
def test_a_listed_task_names_its_work_and_its_host(full):
    (found,) = full.read(list_objects, "tasks").rows
    assert (found["work"], found["host"], found["status"]) == ("sweep-0", "desk1", "PENDING")


def test_an_application_names_its_platforms(full):
    full.record(row(c.ExecutableSaved, cpu="x86_64", os="linux"))
    (found,) = full.read(list_objects, "apps").rows
    assert found["platforms"] == ["any/any", "x86_64/linux"]


@pytest.mark.parametrize(
    ("kind", "where", "expected"),
    [
        ("works", {"status": "WAITING"}, ["sweep-2", "sweep-1"]),
        ("works", {"status": ["WAITING", "PENDING"], "owner": "alice"}, 3),
        ("works", {"owner": "bob"}, []),
        ("works", {"session": "bag"}, 3),
        ("works", {"group": None}, 3),
        ("works", {"host": "desk1"}, ["sweep-0"]),
        ("tasks", {"work": "sweep-0"}, ["sweep-0.1"]),
        ("users", {"login": "bob"}, ["bob"]),
        ("users", {"group": "physics"}, ["bob", "alice"]),
    ],
)
def test_where_narrows(full, kind, where, expected):
    found = uids(full, kind, where=where)
    assert len(found) == expected if isinstance(expected, int) else found == expected


@pytest.mark.parametrize(
    ("kind", "options", "sentence"),
    [
        ("wroks", {}, "kinds are works, tasks"),
        ("works", {"where": {"reason": "x"}}, "fields are status, application"),
        ("works", {"where": {"status; DROP TABLE works": "x"}}, "cannot be asked for by"),
        ("works", {"where": {"status": 3}}, "status must be a text"),
        ("works", {"after": "x"}, "no token"),
        ("works", {"after": "-1"}, "no token"),
    ],
)
def test_a_wrong_question_is_refused(full, kind, options, sentence):
    with pytest.raises(BadRequest, match=sentence):
        full.read(list_objects, kind, **options)


@pytest.mark.parametrize(
    ("rights", "who", "sees"),
    [
        (0o700, ALICE, True),
        (0o700, BOB, False),
        (0o700, CAROL, False),
        (0o700, ADMIN, True),
        (0o750, BOB, True),
        (0o750, CAROL, False),
        (0o755, CAROL, True),
        (0o050, ALICE, False),
        (0o005, BOB, True),
        (0o005, ALICE, False),
    ],
)
def test_who_sees_what_is_as_the_rights_say(grid, rights, who, sees):
    grid.record(
        row(c.SubmissionInserted, rights=rights),
        row(c.WorkInserted),
        row(c.DataSaved, uid="data", rights=rights),
        row(c.ApplicationSaved, uid="other", rights=rights),
    )
    assert grants(who, READ, "alice", "physics", rights) is sees
    assert bool(uids(grid, "works", who)) is sees
    assert ("data" in uids(grid, "datas", who)) is sees
    assert ("other" in uids(grid, "apps", who)) is sees
    assert bool(results(grid, ["sweep-0"], who)) is sees


@pytest.mark.parametrize(
    ("kind", "alice", "carol"),
    [
        ("users", ["alice"], ["carol"]),
        ("usergroups", ["physics"], []),
        ("sessions", ["bag"], []),
        ("groups", ["pile"], []),
        ("pilots", ["pilot"], []),
        ("hosts", ["desk1"], ["desk1"]),
    ],
)
def test_what_has_no_rights_is_seen_by_its_owner(full, kind, alice, carol):
    assert uids(full, kind, ALICE) == alice
    assert uids(full, kind, CAROL) == carol
    assert uids(full, kind, ADMIN) == uids(full, kind)


def test_a_worker_sees_no_host_but_its_own(full):
    full.record(row(c.UserSaved, uid="worker", login="worker", level=10))
    assert uids(full, "hosts", Who("worker", UserLevel.WORKER)) == []


def test_removed_and_deleted_objects_are_not_listed(full):
    full.record(*completed(), row(c.WorkRemoved), row(c.DataSaved, is_deleted=True))
    assert uids(full, "works") == ["sweep-2", "sweep-1"]
    assert uids(full, "tasks") == []
    assert uids(full, "datas") == []


def test_every_listed_field_can_be_asked_for(full):
    for kind, listed in KINDS.items():
        for field in listed.fields:
            uids(full, kind, where={field: "x"})


def test_a_work_that_is_over_is_listed_with_the_host_that_did_it(full):
    full.record(*completed())
    (found,) = full.read(list_objects, "works", uids=["sweep-0"]).rows
    assert (found["status"], found["host"]) == ("COMPLETED", "desk1")
    assert full.read(list_objects, "works", where={"host": "desk1"}).rows == [], "it has none now"
