"""GRAM's door before a site that hangs, lies, forgets and refuses; what its words mean."""

import http.client
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from desktopgrid.credentials.subjects import text_of
from desktopgrid.model.lifecycle import PilotStatus
from pilot.ce import tls
from pilot.ce.base import (
    ComputingElementUnavailable,
    JobDescription,
    JobState,
    NothingToRetrieve,
    Reference,
    SubmissionRefused,
)
from pilot.ce.fake_globus import FakeGlobus
from pilot.ce.gass import Gass
from pilot.ce.globus import Globus, GramSilent
from pilot.ce.gram import GramCE, Trace, state_of
from pilot.ce.gram_errors import MEANINGS, meaning_of
from pilot.ce.parcel import pack
from tests.builders import seconds
from tests.grid_ca import LIMITED, NOW, a_ca, a_person, a_proxy, name, proxy_info, write_proxy
from tests.grid_doors import a_door_to_globus
from tests.grid_site import Grid


@pytest.fixture
def site(tmp_path: Path) -> Iterator[FakeGlobus]:
    built = FakeGlobus(tmp_path / "site").build()
    yield built
    built.end()


def ended(door: GramCE, reference: Reference) -> JobState:
    deadline = time.monotonic() + 60
    while not (state := door.statuses([reference])[reference]).has_ended:
        assert time.monotonic() < deadline
    return state


# What it says of jobs

CONTACT = "https://ce:1/2/3/"


@pytest.mark.parametrize(
    "state, trace, expected",
    [
        pytest.param("PENDING", None, JobState(PilotStatus.WAITING), id="in the batch system"),
        pytest.param("STAGE_IN", None, JobState(PilotStatus.WAITING), id="gets its program"),
        pytest.param("ACTIVE", None, JobState(PilotStatus.RUNNING), id="runs"),
        pytest.param("DONE", Trace(), None, id="nobody ever knew it"),
        pytest.param("DONE", Trace(True, 0), JobState(PilotStatus.DONE, "", 0), id="well"),
        pytest.param(
            "FAILED",
            Trace(True, 3),
            JobState(PilotStatus.FAILED, "ended with exit code 3", 3),
            id="badly",
        ),
        pytest.param(
            "DONE",
            Trace(True, None, True),
            JobState(PilotStatus.DELETED, "taken back"),
            id="taken back",
        ),
        pytest.param(
            "DONE",
            Trace(True),
            JobState(PilotStatus.ABORTED, "it was killed at the site, and left no exit code"),
            id="killed there",
        ),
        pytest.param(
            "FAILED",
            Trace(),
            JobState(PilotStatus.FAILED, "it failed at the site before it started"),
            id="never ran",
        ),
        pytest.param(
            "DONE",
            Trace(True, contact=CONTACT, state="ACTIVE"),
            JobState(PilotStatus.RUNNING),
            id="its job manager is down",
        ),
    ],
)
def test_a_state_of_gram_s_means(
    state: str, trace: Trace | None, expected: JobState | None
) -> None:
    assert state_of(state, trace) == expected


def test_a_state_that_nobody_knows_is_unknown() -> None:
    with pytest.raises(GramSilent, match="of which we know nothing"):
        state_of("UNKNOWN", None)


@pytest.mark.parametrize(
    "said, words",
    [
        ("GRAM Job failed because the queue (error code 37)", "there is no such queue"),
        ("GRAM Job submission failed because x (error code 12)", "cannot be reached"),
        ("... GSS: Proxy certificate has expired (error code 7)", "has expired"),
        ("... not in gridmap file (error code 7)", "mapped to no account"),
        ("... limited proxy (errorcode 7)", "limited proxy may not start jobs"),
        ("... something else (error code 7)", "did not agree on who they are"),
        ("because it says so (error code 999)", "GRAM error 999: because it says so"),
        ("Error, argument #2", "Error, argument #2"),
        ("", "did not say why"),
    ],
)
def test_a_number_of_gram_s_is_told_in_words(said: str, words: str) -> None:
    assert words in meaning_of(said)


def test_numbers_have_one_meaning_each() -> None:
    assert all(0 < number < 168 and meaning for number, meaning in MEANINGS.items())


@pytest.mark.parametrize(
    "contact, fork",
    [
        ("ce/jobmanager-slurm", "ce/jobmanager-fork"),
        ("ce:2119/jobmanager", "ce:2119/jobmanager-fork"),
        ("ce:2119/jobmanager-x:/DC=org/CN=ce", "ce:2119/jobmanager-fork:/DC=org/CN=ce"),
        ("ce:2119", "ce:2119/jobmanager-fork"),
    ],
)
def test_small_things_are_asked_of_the_fork_service(contact: str, fork: str) -> None:
    assert Globus(contact, Path("/proxy")).fork_service == fork


# What goes wrong


def test_a_command_that_is_not_there_is_named(grid: Grid, tmp_path: Path) -> None:
    globus = Globus("ce", grid.proxy(), grid.authorities, tmp_path)
    with pytest.raises(ComputingElementUnavailable, match=f"globusrun is not in {tmp_path}"):
        GramCE(globus, grid.authorities, "site gram").find(["a"])


@pytest.mark.parametrize("command", ["-status", "-o"])
def test_one_that_hangs_is_given_up(site: FakeGlobus, grid: Grid, command: str) -> None:
    site.fail(command, "hang")
    door = a_door_to_globus(site, grid, answer_within=seconds(1))
    with pytest.raises(ComputingElementUnavailable, match=r"site gram .*within 1 s"):
        door.statuses([Reference(f"{CONTACT}#a")])


def test_a_gatekeeper_that_cannot_be_reached_is_unknown_not_empty(
    site: FakeGlobus, grid: Grid, job: Callable[..., JobDescription]
) -> None:
    site.fail("-b", "12 GRAM Job submission failed because x (error code 12)")
    with pytest.raises(ComputingElementUnavailable, match="the gatekeeper cannot be reached"):
        a_door_to_globus(site, grid).submit([job()])
    site.fail("-o", "12 GRAM Job submission failed because x (error code 12)")
    with pytest.raises(ComputingElementUnavailable, match="the gatekeeper cannot be reached"):
        a_door_to_globus(site, grid).find(["a"])


def test_an_answer_without_an_end_is_none(site: FakeGlobus, grid: Grid) -> None:
    site.fail("-o", "0 ")
    with pytest.raises(ComputingElementUnavailable, match="answer has no end"):
        a_door_to_globus(site, grid).find(["a"])


def test_a_queue_that_does_not_exist_is_named_and_nothing_is_left(
    site: FakeGlobus, grid: Grid, job: Callable[..., JobDescription]
) -> None:
    door = a_door_to_globus(site, grid, "long")
    with pytest.raises(SubmissionRefused, match=r"there is no such queue \(GRAM error 37\)"):
        door.submit([job(), job()])
    assert list(site.jobs.iterdir()) == []


def test_what_was_killed_at_the_site_is_told(
    site: FakeGlobus, grid: Grid, job: Callable[..., JobDescription]
) -> None:
    door = a_door_to_globus(site, grid)
    (reference,) = door.submit([job()])
    while door.statuses([reference])[reference].status is not PilotStatus.RUNNING:
        pass
    (place,) = (site.home / ".glidebridge").iterdir()
    while not (place / "contact").exists():
        pass
    site.end()
    (held,) = site.jobs.iterdir()
    for file in held.iterdir():
        file.unlink()
    held.rmdir()
    state = door.statuses([reference])[reference]
    assert state == JobState(
        PilotStatus.ABORTED, "it was killed at the site, and left no exit code"
    )


@pytest.mark.parametrize("lie", ["../../x", "/etc/passwd", "stdout"])
def test_what_a_site_says_a_job_was_to_leave_is_not_believed(
    site: FakeGlobus, grid: Grid, job: Callable[..., JobDescription], tmp_path: Path, lie: str
) -> None:
    door = a_door_to_globus(site, grid)
    (reference,) = door.submit([job("0", outputs=("innocent",))])
    ended(door, reference)
    (outputs,) = site.home.glob(".glidebridge/*/outputs")
    outputs.write_text(f"{lie}\n")
    home = tmp_path / "mine"
    home.mkdir()
    with pytest.raises(NothingToRetrieve, match="is not ours"):
        door.retrieve(reference, home)
    assert list(home.iterdir()) == []


def test_a_proxy_that_gram_will_not_have_is_told_before_it_is_asked(
    site: FakeGlobus, grid: Grid, job: Callable[..., JobDescription], tmp_path: Path
) -> None:
    for info, ends, words in (
        (proxy_info(LIMITED), NOW.replace(year=NOW.year + 1), "is limited"),
        (None, NOW.replace(year=NOW.year - 1), "expired at"),
    ):
        starts = NOW.replace(year=NOW.year - 2)
        proxy = a_proxy(grid.ann, info, starts=starts, ends=ends)
        file = write_proxy(tmp_path / words.replace(" ", "-"), proxy, grid.ann)
        door = a_door_to_globus(site, grid, proxy=file)
        with pytest.raises(ComputingElementUnavailable, match=words):
            door.submit([job()])
        with pytest.raises(ComputingElementUnavailable, match=words):
            door.find(["a"])


# Files on their way


def test_a_parcel_runs_whatever_its_command_says(tmp_path: Path) -> None:
    words = ["two words", "it's", '"', "$HOME `id`", "a\nb", "\\", "@STAMP@", "*", "", "ü"]
    program = tmp_path / "program"
    program.write_text('#!/bin/sh\nfor word; do printf "%s\\0" "$word"; done\npwd; exit 5\n')
    parcel = tmp_path / "parcel"
    parcel.write_bytes(pack(JobDescription("stamp-1", program, tuple(words))))
    parcel.chmod(0o700)
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "GLOBUS_GRAM_JOB_CONTACT": "c"}
    assert subprocess.run([parcel], env=environment, check=False).returncode == 5
    place = tmp_path / ".glidebridge" / "stamp-1"
    *said, rest = (place / "out").read_text().split("\0")
    assert said == words
    assert rest == f"{place}/work\n"
    assert {path.name for path in place.iterdir()} == {
        *("contact", "out", "err", "outputs", "kept", "exit")
    }
    # Nor does it run a second time.
    assert subprocess.run([parcel], env=environment, check=False, stderr=-3).returncode == 71


def fetched(url: str, proxy: Path, authorities: Path) -> tuple[int, bytes]:
    parts = urlsplit(url)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VerifyFlags.VERIFY_ALLOW_PROXY_CERTS
    context.load_verify_locations(capath=str(authorities))
    context.load_cert_chain(proxy)
    connection = http.client.HTTPSConnection("localhost", parts.port, timeout=30, context=context)
    try:
        connection.request("GET", parts.path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_a_file_is_given_to_ourselves_only_and_not_before_it_is_released(
    grid: Grid, tmp_path: Path
) -> None:
    subject = text_of(grid.ann.certificate.subject)
    context = tls.server_context(grid.authorities, grid.proxy())
    first = a_proxy(grid.ann)
    delegated = write_proxy(
        tmp_path / "limited", a_proxy(first, proxy_info(LIMITED)), first, grid.ann
    )
    bob = a_person(grid.ca, name("DC=org", "DC=grid", "OU=people", "CN=Bob"))
    with Gass(context, subject, "localhost") as gass:
        address = gass.offer("stamp-1", b"parcel")
        assert "/stamp-1/" in address
        got: list[tuple[int, bytes]] = []
        waiting = threading.Thread(
            target=lambda: got.append(fetched(address, delegated, grid.authorities))
        )
        waiting.start()
        waiting.join(0.3)
        assert got == []
        gass.release()
        waiting.join(30)
        assert got == [(200, b"parcel")]
        proxy = write_proxy(tmp_path / "bob", a_proxy(bob), bob)
        assert fetched(address, proxy, grid.authorities)[0] == 403
        other = address.replace("/stamp-1/", "/stamp-2/")
        assert fetched(other, delegated, grid.authorities)[0] == 404
        assert fetched(address + "/..", delegated, grid.authorities)[0] == 404


def test_a_stranger_gets_nothing(grid: Grid, tmp_path: Path) -> None:
    subject = text_of(grid.ann.certificate.subject)
    context = tls.server_context(grid.authorities, grid.proxy())
    ca = a_ca(called=name("DC=org", "DC=other", "CN=Other CA"))
    mallory = a_person(ca)  # of the same name
    proxy = write_proxy(tmp_path / "proxy", a_proxy(mallory), mallory)
    with Gass(context, subject, "localhost") as gass:
        address = gass.offer("stamp-1", b"parcel")
        gass.release()
        with pytest.raises(OSError, match=r"."):
            fetched(address, proxy, grid.authorities)
