"""ARC's door before an A-REX that hangs, lies, forgets and refuses."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from desktopgrid.model.lifecycle import PilotStatus
from pilot.ce.arc import ArcCE, in_bulk, outputs_of, state_of
from pilot.ce.arc_rest import JobAnswer
from pilot.ce.base import (
    ComputingElementUnavailable,
    JobDescription,
    JobState,
    NothingToRetrieve,
    Reference,
    SubmissionRefused,
)
from pilot.ce.fake_arex import FakeArex
from pilot.ce.fake_https import Question, Reply
from pilot.ce.https import Silent
from tests.builders import seconds
from tests.grid_doors import a_door, client
from tests.grid_site import Grid


def once(reply: Reply, *, at: str = "", method: str = "") -> Callable[[Question], Reply | None]:
    """That reply to the first question whose path holds ``at``, and the truth to all others."""
    waiting = [reply]

    def interfere(question: Question) -> Reply | None:
        fits = at in question.path and method in ("", question.method)
        return waiting.pop() if waiting and fits else None

    return interfere


def always(reply: Reply, action: str = "") -> Callable[[Question], Reply | None]:
    """That reply to every question, or to those of one action."""
    return lambda question: reply if question.query.get("action", "") == action else None


# What it says of jobs


@pytest.mark.parametrize(
    "state, info, expected",
    [
        pytest.param("ACCEPTED", {}, JobState(PilotStatus.WAITING), id="accepted"),
        pytest.param("PREPARING", {}, JobState(PilotStatus.WAITING), id="waits for its files"),
        pytest.param("QUEUING", {}, JobState(PilotStatus.WAITING), id="in the batch system"),
        pytest.param("RUNNING", {}, JobState(PilotStatus.RUNNING), id="runs"),
        pytest.param("OTHER", {}, JobState(PilotStatus.RUNNING), id="is about to be over"),
        pytest.param("FINISHED", {}, JobState(PilotStatus.DONE, "", 0), id="well"),
        pytest.param("KILLED", {}, JobState(PilotStatus.DELETED, "taken back"), id="taken back"),
        pytest.param("WIPED", {}, None, id="only its name is left"),
        pytest.param(
            "HELD",
            {"Error": "user hold"},
            JobState(PilotStatus.FAILED, "on hold in the site's batch system; user hold"),
            id="held",
        ),
        pytest.param(
            "FAILED",
            {"ExitCode": "7", "Error": "LRMS error: (7) Job failed"},
            JobState(PilotStatus.FAILED, "ended with exit code 7", 7),
            id="one error comes as itself",
        ),
        pytest.param(
            "FAILED",
            {"ExitCode": "271", "Error": ["LRMS error: (271) Job failed", "walltime exceeded"]},
            JobState(PilotStatus.FAILED, "ended with exit code 271; walltime exceeded", 271),
            id="several come as a list",
        ),
        pytest.param(
            "FAILED",
            {"Error": "User file: x.  Timeout waiting"},
            JobState(PilotStatus.FAILED, "User file: x.  Timeout waiting"),
            id="it never ran",
        ),
        pytest.param(
            "FAILED", {}, JobState(PilotStatus.FAILED, "the site does not say why"), id="no reason"
        ),
        pytest.param(
            "RUNNING",
            {"State": ["emies:terminal", "arcrest:FINISHED"]},
            JobState(PilotStatus.DONE, "", 0),
            id="the document is the later word",
        ),
    ],
)
def test_a_state_of_arc_s_means(state: str, info: dict[str, object], expected: JobState) -> None:
    assert state_of(JobAnswer("a", 200, "OK", state, info)) == expected


def test_a_state_that_nobody_knows_is_unknown() -> None:
    with pytest.raises(Silent, match="'DREAMING', of which we know nothing"):
        state_of(JobAnswer("a", 200, "OK", "DREAMING"))


def test_many_jobs_are_asked_for_in_few_questions(arex: FakeArex, grid: Grid) -> None:
    assert client(arex, grid).states([f"j{n}" for n in range(250)]) == {}
    asked = [len(json.loads(each.body)["job"]) for each in arex.questions if each.body]
    assert asked == [100, 100, 50]


def test_connections_stay_open(
    arex: FakeArex, grid: Grid, job: Callable[..., JobDescription]
) -> None:
    door = a_door(arex, grid)
    (reference,) = door.submit([job("0")])
    before = arex.https.connections
    for _ in range(20):
        door.statuses([reference])
    assert arex.https.connections == before


@pytest.mark.parametrize("versions", [["1.0"], ["1.0", "1.1"]])
def test_both_versions_are_spoken(
    arex: FakeArex, grid: Grid, job: Callable[..., JobDescription], versions: list[str]
) -> None:
    arex.versions = versions
    door = a_door(arex, grid)
    assert door.find(["nobody"]) == {}  # there are no jobs
    (one,) = door.submit([job()])
    two, three = door.submit([job(), job()])
    assert f"/rest/{versions[-1]}/jobs/" in one
    assert set(door.statuses([one, two, three])) == {one, two, three}
    door.remove([one, two, three])


def test_a_job_s_address_is_good_when_the_site_speaks_another_version(
    arex: FakeArex, grid: Grid, job: Callable[..., JobDescription]
) -> None:
    (reference,) = a_door(arex, grid).submit([job()])
    arex.versions = ["1.0", "1.1"]
    door = a_door(arex, grid)
    assert door.statuses([reference])[reference].status is PilotStatus.RUNNING
    door.remove([reference])


def test_an_interface_that_we_do_not_speak_is_named(arex: FakeArex, grid: Grid) -> None:
    arex.versions = ["2.0"]
    with pytest.raises(ComputingElementUnavailable, match=r"it speaks REST 2.0, and we speak 1.1"):
        a_door(arex, grid).find(["a"])


# What goes wrong


def test_one_that_hangs_is_given_up(arex: FakeArex, grid: Grid) -> None:
    is_over = threading.Event()

    def hang(question: Question) -> None:
        is_over.wait(30)

    arex.interfere = hang
    door = ArcCE(client(arex, grid, answer_within=seconds(0.3)), "site arc")
    began = time.monotonic()
    with pytest.raises(ComputingElementUnavailable, match=r"^site arc .*did not answer within 0.3"):
        door.statuses([Reference(f"{arex.url}/rest/1.0/jobs/a")])
    assert time.monotonic() - began < 5
    is_over.set()


def test_half_an_answer_is_none(arex: FakeArex, grid: Grid) -> None:
    half = Reply(200, b'{"job": [{"id": "a"}]}' * 100, is_cut=True)
    arex.interfere = lambda question: half if question.path.endswith("/jobs") else None
    with pytest.raises(ComputingElementUnavailable, match="broke off"):
        a_door(arex, grid).find(["a"])


@pytest.mark.parametrize(
    "body, words",
    [
        (b"<html>", "no JSON"),
        (b"[]", "no object of JSON"),
        (b'{"job": ["a"]}', "no object of JSON"),
        (b'{"job": {"id": "a"}}', "no status-code"),
        (b'{"job": []}', "left 1 of them out"),
        (b'{"job": {"id": "b", "status-code": "200"}}', "left 1 of them out"),
        (b'{"job": {"id": "a", "status-code": "500", "reason": "x"}}', r"status of job a: x \(500"),
    ],
)
def test_nonsense_is_unknown_not_nothing(
    arex: FakeArex, grid: Grid, body: bytes, words: str
) -> None:
    arex.interfere = always(Reply(201, body), "status")
    with pytest.raises(ComputingElementUnavailable, match=words):
        a_door(arex, grid).statuses([Reference(f"{arex.url}/rest/1.0/jobs/a")])


def test_jobs_that_it_forgot_are_absent(
    arex: FakeArex, grid: Grid, job: Callable[..., JobDescription]
) -> None:
    door = a_door(arex, grid)
    one, two = door.submit([job("0"), job("0")])
    arex.forget(one.rpartition("/")[2])
    assert set(door.statuses([one, two])) == {two}


@pytest.mark.parametrize("status", [500, 502, 503])
def test_what_passes_is_asked_again(
    arex: FakeArex, grid: Grid, job: Callable[..., JobDescription], status: int
) -> None:
    arex.interfere = once(Reply(status), at="/session/program")
    (reference,) = a_door(arex, grid).submit([job("0")])
    arex.interfere = once(Reply(status), at="/jobs", method="POST")
    assert set(a_door(arex, grid).statuses([reference])) == {reference}


def test_what_does_not_pass_is_said(arex: FakeArex, grid: Grid) -> None:
    arex.interfere = always(Reply(503, b"maintenance"))
    with pytest.raises(ComputingElementUnavailable, match="it answers 503 maintenance"):
        a_door(arex, grid).find(["a"])
    assert len(arex.questions) == 3


def test_nobody_is_led_elsewhere(arex: FakeArex, grid: Grid) -> None:
    arex.interfere = always(Reply(302, b"", {"Location": "https://evil.example.org/"}))
    with pytest.raises(ComputingElementUnavailable, match="it answers 302"):
        a_door(arex, grid).find(["a"])


def test_what_was_accepted_outside_and_refused_inside_is_refused_and_leaves_nothing(
    arex: FakeArex, grid: Grid, job: Callable[..., JobDescription]
) -> None:
    inner = {"status-code": "500", "reason": "no more jobs allowed"}
    with_one = client(arex, grid)

    def refuse_the_second(question: Question) -> Reply | None:
        if question.query.get("action") != "new":
            return None
        arex.interfere = lambda question: None
        made = arex._create(question._replace(body=question.body), grid.people[0])
        return Reply(201, json.dumps({"job": [made[0], inner]}).encode())

    arex.interfere = refuse_the_second
    with pytest.raises(SubmissionRefused, match=r"site arc refused .*: no more jobs allowed"):
        ArcCE(with_one, "site arc").submit([job(), job()])
    arex.jobs.pop(list(arex.jobs)[-1])  # the one that the site never told of
    assert arex.jobs == {}


def test_a_queue_that_does_not_exist_is_named(
    arex: FakeArex, grid: Grid, job: Callable[..., JobDescription]
) -> None:
    door = ArcCE(client(arex, grid), "site arc", queue="long")
    with pytest.raises(SubmissionRefused, match="Requested queue long does not exist"):
        door.submit([job()])


def test_nothing_runs_of_a_submission_that_broke_off(
    arex: FakeArex, grid: Grid, job: Callable[..., JobDescription]
) -> None:
    """Neither where the answer to the description is lost, nor where files cannot be sent."""

    def lose(question: Question) -> Reply | None:
        if question.query.get("action") == "new":
            arex._create(question, grid.people[0])
            return Reply(201, b'{"job": {"id": "..."}}', is_cut=True)
        return None

    arex.interfere = lose
    door = a_door(arex, grid)
    description = job()
    with pytest.raises(ComputingElementUnavailable, match="broke off"):
        door.submit([description])
    arex.step()
    (lost,) = arex.jobs.values()
    assert lost.process is None
    # It is found, and can be taken back.
    (reference,) = door.find([description.stamp]).values()
    door.remove([reference])
    assert door.statuses([reference])[reference].status is PilotStatus.DELETED

    arex.jobs.clear()
    arex.interfere = lambda question: (
        Reply(507) if question.path.endswith("/session/program") else None
    )
    with pytest.raises(ComputingElementUnavailable, match="it answers 507"):
        door.submit([job(), job()])
    assert arex.jobs == {}


def test_a_job_is_found_before_the_site_describes_it(
    arex: FakeArex, grid: Grid, job: Callable[..., JobDescription]
) -> None:
    arex.is_slow_to_describe = True
    description = job()
    (reference,) = a_door(arex, grid).submit([description])
    door = a_door(arex, grid)
    assert door.find([description.stamp, "nobody"]) == {description.stamp: reference}
    # What was looked at once is not looked at again.
    asked = len(arex.questions)
    door.find([description.stamp])
    paths = {question.query.get("action", question.method) for question in arex.questions[asked:]}
    assert paths == {"GET", "status"}
    door.remove([reference])


def test_the_last_words_are_the_last(arex: FakeArex, grid: Grid, tmp_path: Path) -> None:
    program = tmp_path / "talker"
    program.write_text("#!/bin/sh\nhead -c 9000 /dev/zero | tr '\\0' x >&2; echo end >&2; exit 1\n")
    door = a_door(arex, grid)
    (reference,) = door.submit([JobDescription("talker", program)])
    deadline = time.monotonic() + 30
    while not door.statuses([reference])[reference].has_ended:
        assert time.monotonic() < deadline
    words = door.last_words(reference)
    assert len(words) == 4096
    assert words.endswith("xend\n")
    ranges = [question.headers.get("range") for question in arex.questions if question]
    assert "bytes=4908-" in ranges


@pytest.mark.parametrize("lie", ["../../home/x", "/etc/passwd", "stdout", "a\nb"])
def test_what_a_site_says_a_job_was_to_leave_is_not_believed(
    arex: FakeArex, grid: Grid, job: Callable[..., JobDescription], tmp_path: Path, lie: str
) -> None:
    door = a_door(arex, grid)
    (reference,) = door.submit([job("0", outputs=("innocent",))])
    deadline = time.monotonic() + 30
    while not door.statuses([reference])[reference].has_ended:
        assert time.monotonic() < deadline
    (held,) = arex.jobs.values()
    held.description = held.description.replace("innocent", lie)
    with pytest.raises(NothingToRetrieve, match="is not ours"):
        door.retrieve(reference, tmp_path / "home")


def test_descriptions_go_together_and_name_the_credential() -> None:
    one = '<?xml version="1.0" encoding="UTF-8"?>\n<ActivityDescription><DataStaging/></A>'
    assert in_bulk([one, one]).startswith("<ActivityDescriptions><ActivityDescription>")
    with pytest.raises(ValueError, match="collect"):
        outputs_of(
            '<ActivityDescription xmlns="http://www.eu-emi.eu/es/2010/12/adl"><Application>'
            "<Executable><Path>/bin/sh</Path></Executable></Application></ActivityDescription>"
        )
