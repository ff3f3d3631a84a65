"""The fake schedd's own time: what should have happened has happened, in its order."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from condor.fake import FakeSchedd, Outcome
from condor.submit import JobDescription

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
A_JOB = JobDescription(Path("/bin/true"))


def test_jobs_follow_each_other_on_the_slots_even_if_nobody_looked() -> None:
    now = NOON
    schedd = FakeSchedd(
        slots=1, clock=lambda: now, behaviour=lambda job: Outcome(timedelta(minutes=10))
    )
    first, second, third = schedd.submit([A_JOB] * 3)
    now = NOON + timedelta(minutes=25)
    assert set(schedd.jobs([first, second, third])) == {third}
    ended = schedd.history([first, second])
    assert ended[first].entered_status_at == NOON + timedelta(minutes=10)
    assert ended[second].entered_status_at == NOON + timedelta(minutes=20)


def test_it_tells_what_is_in_its_queue() -> None:
    schedd = FakeSchedd(slots=2)
    (job,) = schedd.submit([A_JOB])
    assert schedd.descriptions() == {job: A_JOB}
    assert repr(schedd) == "<FakeSchedd fake.pool: 1 jobs on 2 slots>"
