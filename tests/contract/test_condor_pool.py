"""What every JobQueue promises, asked of the fake and of real schedds, found in two ways."""

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from condor.errors import (
    CredentialRefused,
    DescriptionRefused,
    PoolUnavailable,
    ScheddRefused,
)
from condor.fake import UNTIL_REMOVED, FakeSchedd, Outcome
from condor.jobs import JobId, JobQueue, JobStatus
from condor.personal import LoopbackPool
from condor.pool import Schedd, ScheddLocation
from condor.submit import JobDescription

PATIENCE_SECONDS = 60.0
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def a_job(script: str = "sleep 600", **facts: object) -> JobDescription:
    defaults = {"memory_mib": 64, "disk_mib": 1, "vacate_time": timedelta(seconds=5)}
    arguments = ("-c", script)
    return JobDescription(Path("/bin/sh"), arguments, **(defaults | facts))  # type: ignore[arg-type]


@dataclass
class World:
    """A queue, and how its time passes."""

    queue: JobQueue
    let_time_pass: Callable[[], None]

    def eventually(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < deadline, f"waited {PATIENCE_SECONDS} s for it"
            self.let_time_pass()

    def status(self, job: JobId) -> JobStatus | None:
        found = self.queue.jobs([job])
        return found[job].status if job in found else None


def a_fake_world() -> World:
    now = [NOON]

    def behaviour(job: JobDescription) -> Outcome:
        verb, _, number = job.arguments[1].partition(" ")
        return Outcome(timedelta(seconds=1), int(number)) if verb == "exit" else UNTIL_REMOVED

    def pass_a_second() -> None:
        now[0] += timedelta(seconds=1)

    return World(FakeSchedd(clock=lambda: now[0], behaviour=behaviour), pass_a_second)


def a_real_world(pool: LoopbackPool, location: ScheddLocation) -> World:
    return World(Schedd(location), lambda: time.sleep(0.1))


@pytest.fixture(params=["fake", "by address", "by name and pool", "newest release"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    if request.param == "fake":
        yield a_fake_world()
        return
    fixture = "newest_condor_pool" if request.param == "newest release" else "condor_pool"
    pool = request.getfixturevalue(fixture)
    if request.param == "by name and pool":
        schedd = Schedd(at(pool, "alice")).name
        token = pool.token_directory("alice") / "token"
        location = ScheddLocation(name=schedd, pool=pool.collector_address, token=token)
    else:
        location = at(pool, "alice")
    yield a_real_world(pool, location)


def at(pool: LoopbackPool, identity: str) -> ScheddLocation:
    return ScheddLocation(address=pool.schedd_address, token=pool.token_directory(identity))


def test_jobs_are_found_by_what_they_were_submitted_with(world: World) -> None:
    stamps = [uuid.uuid4().hex for _ in range(2)]
    jobs = world.queue.submit([a_job(attributes={"MyStamp": stamp}) for stamp in stamps])
    found = world.queue.having("MyStamp", [*stamps, "nobody"])
    assert found == dict(zip(stamps, jobs, strict=True))
    assert world.queue.having("MyStamp", []) == {}
    assert world.queue.having("NobodySaidThis", stamps) == {}
    world.queue.remove(jobs, "the test is over")


def test_only_a_spooled_job_that_has_ended_gives_files_back(world: World, tmp_path: Path) -> None:
    (job,) = world.queue.submit([a_job()])
    for name in (job, JobId(world.queue.name, 2**31 - 1, 0), JobId("another.schedd", 1, 0)):
        assert world.queue.retrieve(name, tmp_path) is None
        world.queue.let_go([name])
    assert not list(tmp_path.iterdir())
    assert world.status(job) is not None
    world.queue.remove([job], "the test is over")


def test_jobs_get_names_in_their_order_and_are_found_by_them(world: World) -> None:
    jobs = world.queue.submit([a_job(), a_job("sleep 601"), a_job("sleep 602")])
    assert len(set(jobs)) == 3
    assert jobs == sorted(jobs)
    assert {job.schedd for job in jobs} == {world.queue.name}
    assert [JobId.parse(str(job)) for job in jobs] == jobs
    assert set(world.queue.jobs(jobs)) == set(jobs)
    world.queue.remove(jobs, "the test is over")


@pytest.mark.parametrize("spool", [False, True], ids=["files stay here", "files are spooled"])
def test_each_job_gets_its_own_arguments_and_its_exit_code_is_remembered(
    world: World, spool: bool
) -> None:
    jobs = world.queue.submit([a_job("exit 3"), a_job("exit 0")], spool=spool)
    world.eventually(lambda: len(world.queue.history(jobs)) == 2)
    ended = world.queue.history(jobs)
    assert [ended[job].exit_code for job in jobs] == [3, 0]
    assert [ended[job].status for job in jobs] == [JobStatus.COMPLETED] * 2
    assert not any(ended[job].is_in_queue for job in jobs)
    assert world.queue.jobs(jobs) == {}


def test_a_job_runs_on_a_slot_that_has_a_name(world: World) -> None:
    (job,) = world.queue.submit([a_job()])
    world.eventually(lambda: world.status(job) == JobStatus.RUNNING)
    assert "slot" in str(world.queue.jobs([job])[job].host)
    world.queue.remove([job], "the test is over")


def test_a_job_that_is_on_hold_says_why(world: World) -> None:
    (job,) = world.queue.submit([a_job(on_hold=True)])
    held = world.queue.jobs([job])[job]
    assert (held.status, held.hold_code, held.hold_words) == ("Held", 15, "submitted on hold")
    assert "submitted on hold" in str(held.reason)

    world.queue.release([job], "it may run")
    assert world.status(job) != JobStatus.HELD

    world.queue.hold([job], "the site asked for it")
    held = world.queue.jobs([job])[job]
    assert held.status == JobStatus.HELD
    assert held.hold_words == "held by a user"
    assert "the site asked for it" in str(held.reason)
    world.queue.remove([job], "the test is over")


def test_a_job_can_be_removed_twice_and_its_history_says_why_it_went(world: World) -> None:
    jobs = world.queue.submit([a_job(on_hold=True), a_job()])
    world.queue.remove(jobs, "nobody needs it")
    world.queue.remove(jobs, "nobody needs it")
    world.eventually(lambda: not world.queue.jobs(jobs))
    world.queue.remove(jobs, "nobody needs it")
    world.eventually(lambda: len(world.queue.history(jobs)) == 2)
    for job in world.queue.history(jobs).values():
        assert job.status == JobStatus.REMOVED
        assert "nobody needs it" in str(job.reason)


def test_a_job_that_the_queue_never_had_is_absent(world: World) -> None:
    (job,) = world.queue.submit([a_job(on_hold=True)])
    strangers = [
        JobId(job.schedd, 99_999_999, 0),
        JobId(job.schedd, job.cluster, 7),
        JobId("another.schedd", job.cluster, job.proc),
    ]
    assert set(world.queue.jobs([job, *strangers])) == {job}
    assert world.queue.history(strangers) == {}
    world.queue.remove(strangers, "they are not there")
    assert set(world.queue.jobs([job])) == {job}
    world.queue.remove([job], "the test is over")


def test_nothing_asked_is_nothing_done(world: World) -> None:
    assert world.queue.submit([]) == []
    assert world.queue.jobs([]) == {}
    assert world.queue.history([]) == {}
    world.queue.remove([], "there is none")


def test_jobs_that_ended_before_a_time_can_be_left_out(world: World) -> None:
    (job,) = world.queue.submit([a_job(on_hold=True)])
    world.queue.remove([job], "it ends")
    world.eventually(lambda: bool(world.queue.history([job])))
    ended_at = world.queue.history([job])[job].entered_status_at
    assert ended_at is not None
    assert job in world.queue.history([job], ended_after=ended_at - timedelta(minutes=1))
    assert job not in world.queue.history([job], ended_after=ended_at + timedelta(minutes=1))


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(a_job("sleep 1\nqueue 100"), id="a second line"),
        pytest.param(a_job("echo $$(Name)"), id="a macro of the schedd"),
        pytest.param(JobDescription(Path("/bin/ls")), id="another executable"),
    ],
)
def test_one_bad_description_and_none_is_submitted(world: World, bad: JobDescription) -> None:
    before = world.queue.submit([a_job(on_hold=True)])
    with pytest.raises(DescriptionRefused):
        world.queue.submit([a_job(on_hold=True), bad])
    after = world.queue.submit([a_job(on_hold=True)])
    assert after[0].cluster == before[0].cluster + 1
    world.queue.remove([*before, *after], "the test is over")


# What only a real schedd does


def test_a_requirement_that_is_no_expression_is_refused(condor_pool: LoopbackPool) -> None:
    schedd = Schedd(at(condor_pool, "alice"))
    with pytest.raises(ScheddRefused, match="Parse error"):
        schedd.submit([a_job(requirements="Memory > 1 +")])


def test_a_file_that_is_not_there_is_found_out_before_submission(
    condor_pool: LoopbackPool,
) -> None:
    schedd = Schedd(at(condor_pool, "alice"))
    with pytest.raises(DescriptionRefused, match="/no/such/file"):
        schedd.submit([a_job(input_files=(Path("/no/such/file"),))])


def test_arguments_environment_and_attributes_arrive_as_they_are(condor_pool: LoopbackPool) -> None:
    words = ("zero", "$HOME", "$(X)", 'say "hi"', "don't", "", "two words", "\\", "é", "a,b", "\tx")
    checks = [
        "test $# = 10",
        "test \"$1$2\" = '$HOME$(X)'",
        'test "$3" = \'say "hi"\'',
        'test "$4" = "don\'t"',
        'test -z "$5"',
        'test "$6" = "two words"',
        "test \"$7$8$9\" = '\\éa,b'",
        'test "${10}" = "\tx"',
        'test "$V" = "a \'b\' \\"c\\""',
    ]
    probe = JobDescription(
        Path("/bin/sh"),
        ("-c", " && ".join(checks), *words),
        environment={"PATH": "/usr/bin:/bin", "V": "a 'b' \"c\""},
        attributes={"GlidebridgeStamp": 'o"brien $(X)'},
        memory_mib=64,
        disk_mib=1,
        on_hold=True,
    )
    schedd = Schedd(at(condor_pool, "alice"))
    (job,) = schedd.submit([probe])
    stamp = condor_pool.tool("condor_q", job.in_schedd, "-af", "GlidebridgeStamp")
    assert stamp.strip() == 'o"brien $(X)'
    schedd.release([job], "look")
    world = a_real_world(condor_pool, at(condor_pool, "alice"))
    world.eventually(lambda: bool(schedd.history([job])))
    assert schedd.history([job])[job].exit_code == 0


def test_two_identities_take_turns_at_one_schedd(condor_pool: LoopbackPool) -> None:
    alice, bob = (Schedd(at(condor_pool, who)) for who in ("alice", "bob"))
    owned_by_alice = alice.submit([a_job(on_hold=True)])
    owned_by_bob = bob.submit([a_job(on_hold=True)])
    owned_by_alice += alice.submit([a_job(on_hold=True)])
    with pytest.raises(ScheddRefused, match="not ours"):
        alice.remove(owned_by_bob, "they are in the way")
    assert set(bob.jobs(owned_by_bob)) == set(owned_by_bob)
    alice.remove(owned_by_alice, "the test is over")
    bob.remove(owned_by_bob, "the test is over")
    assert alice.jobs([*owned_by_alice, *owned_by_bob]) == {}


@pytest.mark.parametrize(
    "location",
    [
        pytest.param(ScheddLocation(address="<127.0.0.1:1>"), id="by address"),
        pytest.param(ScheddLocation(name="nobody", pool="127.0.0.1:1"), id="by name and pool"),
    ],
)
def test_a_schedd_that_does_not_answer_is_unknown_not_empty(location: ScheddLocation) -> None:
    schedd = Schedd(location)
    for question in (schedd.jobs, schedd.history):
        with pytest.raises(PoolUnavailable):
            question([JobId("nobody", 1, 0)])


def test_a_fake_can_be_out_of_reach_too() -> None:
    schedd = FakeSchedd()
    jobs = schedd.submit([a_job()])
    schedd.unavailable_because = "its network is down"
    with pytest.raises(PoolUnavailable, match="network is down"):
        schedd.jobs(jobs)
    schedd.unavailable_because = None
    assert set(schedd.jobs(jobs)) == set(jobs)


def test_a_name_that_the_collector_does_not_know_is_said(condor_pool: LoopbackPool) -> None:
    token = condor_pool.token_directory("alice")
    location = ScheddLocation("nobody", condor_pool.collector_address, token=token)
    with pytest.raises(PoolUnavailable, match="does not know it"):
        Schedd(location).jobs([JobId("nobody", 1, 0)])


def test_a_token_that_htcondor_would_pass_over_is_refused_with_its_reason(tmp_path: Path) -> None:
    token = tmp_path / "token"
    with pytest.raises(CredentialRefused, match="no such file"):
        Schedd(ScheddLocation(token=token))
    token.write_text("a token")
    token.chmod(0o644)
    with pytest.raises(CredentialRefused, match="mode must be 0600"):
        Schedd(ScheddLocation(token=token))


LOCAL_SUBMISSION = """
from pathlib import Path
from condor.pool import Schedd
from condor.submit import JobDescription
schedd = Schedd()
jobs = schedd.submit([JobDescription(Path("/bin/true"), on_hold=True)])
print(jobs[0], [str(job.status) for job in schedd.jobs(jobs).values()])
schedd.remove(jobs, "the test is over")
"""


def environments(pool: LoopbackPool) -> dict[str, dict[str, str]]:
    by_token = pool.environment("alice")
    return {"token": by_token, "file system": {"CONDOR_CONFIG": by_token["CONDOR_CONFIG"]}}


@pytest.mark.parametrize("method", ["token", "file system"])
@pytest.mark.parametrize("fixture", ["condor_pool", "newest_condor_pool"])
def test_without_a_location_it_is_the_schedd_of_this_machine(
    request: pytest.FixtureRequest, fixture: str, method: str
) -> None:
    if method == "file system" and os.geteuid() == 0:
        pytest.skip("as root one is somebody only by a token")
    environment = environments(request.getfixturevalue(fixture))[method]
    done = subprocess.run(
        [sys.executable, "-c", LOCAL_SUBMISSION],
        cwd=Path(__file__).parent.parent.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.endswith("['Held']\n"), done.stderr
