"""Names of jobs, and HTCondor's numbers in words."""

import pytest

from condor.errors import CondorError
from condor.jobs import Job, JobId, JobStatus


def test_a_job_s_name_can_be_written_and_read() -> None:
    job = JobId("site@schedd.example", 12, 3)
    assert str(job) == "site@schedd.example#12.3"
    assert JobId.parse(str(job)) == job
    assert job.in_schedd == "12.3"


@pytest.mark.parametrize(
    "text", ["", "1.2", "#1.2", "s#1", "s#1.x", "s#-1.2", "s#1.2.3", "s#²." + "1"]
)
def test_what_is_no_job_s_name_is_refused(text: str) -> None:
    with pytest.raises(CondorError, match="is no job"):
        JobId.parse(text)


@pytest.mark.parametrize(
    "code, words",
    [
        (None, None),
        (1, "held by a user"),
        (13, "its input files could not be transferred"),
        (4711, "hold reason 4711"),
    ],
)
def test_reasons_of_holds_in_words(code: int | None, words: str | None) -> None:
    assert Job(JobId("s", 1, 0), JobStatus.HELD, hold_code=code).hold_words == words
