"""`xwworker` and `pilot.pyz` as they are typed, with no server to be found."""

from __future__ import annotations

import configparser
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from desktopgrid.link.identity import Identity
from desktopgrid.server import pki
from pilot.node import cli, facts
from pilot.node.enrolment import Enrolment
from pilot.node.storage import owner_of
from tests.unit.node.fakes import until

ROOT = Path(__file__).parents[3]
CA = pki.ca_certificate(pki.new_key(), "a grid", datetime.now(UTC)).decode()
TALKS = "from pilot.node.cli import {}; import sys; sys.exit({}())"


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("_CONDOR")}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **more}


def typed(*arguments: object, main: str = "main") -> subprocess.CompletedProcess[str]:
    """A command, run to its end; there is never a trace."""
    done = subprocess.run(
        [sys.executable, "-c", TALKS.format(main, main), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(),
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def an_identity(path: Path, kind: str = "worker") -> Path:
    Identity(("https://127.0.0.1:9",), kind, "me", "a" * 64, CA).write(path)
    return path


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[list[object]]:
    """The options of a worker; what was started with them is ended."""
    yield ["--identity", an_identity(tmp_path / "identity"), "--dir", tmp_path / "w"]
    pid = owner_of(tmp_path / "w")
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_a_worker_is_started_seen_and_stopped(worker: list[object], tmp_path: Path) -> None:
    place = tmp_path / "w"
    done = typed("status", *worker)
    assert (done.returncode, done.stdout) == (1, f"No worker runs in {place}.\n")

    done = typed("start", *worker)
    pid = owner_of(place)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"The worker runs in {place}, process {pid}.\n"

    done = typed("status", *worker)
    assert (done.returncode, done.stdout) == (0, f"A worker runs in {place}, process {pid}.\n")

    for command in ("start", "console"):
        done = typed(command, *worker)
        assert done.returncode == 1
        assert done.stderr == f"xwworker: another worker uses {place}, process {pid}\n"

    done = typed("restart", *worker)
    assert done.returncode == 0
    assert owner_of(place) not in (None, pid)

    done = typed("stop", *worker)
    assert (done.returncode, done.stdout) == (0, f"The worker in {place} has stopped.\n")
    done = typed("stop", *worker)
    assert (done.returncode, done.stdout) == (0, f"No worker runs in {place}.\n")
    log = (place / "worker.log").read_text()
    assert "No connection to https://127.0.0.1:9" in log
    assert "Left: the worker was told to go (SIGTERM)" in log


def test_options_may_stand_before_the_command(worker: list[object]) -> None:
    assert typed(*worker, "status").stdout == typed("status", *worker).stdout


def test_a_worker_in_the_foreground_ends_at_a_signal(worker: list[object], tmp_path: Path) -> None:
    command = [sys.executable, "-c", TALKS.format("main", "main"), "console", *map(str, worker)]
    console = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment())
    until(lambda: owner_of(tmp_path / "w") == console.pid)
    until(lambda: (tmp_path / "w" / "slots").exists())
    console.send_signal(signal.SIGINT)
    _, log = console.communicate(timeout=30)
    assert console.returncode == 4, "it had never reached a server"
    assert "told to go (SIGINT)" in log
    assert "Traceback" not in log


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["console"], "xwworker: --identity FILE is missing: who is this worker to the grid? (or"),
        (
            ["console", "--identity", "/no/such/file"],
            "xwworker: /no/such/file:1: No such file or directory\n",
        ),
        (["console", "--config", "/no/such/file"], "xwworker: /no/such/file: cannot be read"),
        (["console", "--slots", "0"], "argument --slots: must be at least 1"),
        (["console", "--slots", "two"], "argument --slots: must be at least 1"),
        (["destroy"], "invalid choice: 'destroy'"),
        ([], "the following arguments are required: COMMAND"),
    ],
)
def test_a_wrong_command_says_what_is_wrong(arguments: list[str], message: str) -> None:
    done = typed(*arguments)
    assert done.returncode == 2
    assert message in done.stderr


def test_an_identity_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = an_identity(tmp_path / "identity")
    path.chmod(0o644)
    done = typed("start", "--identity", path, "--dir", tmp_path / "w")
    assert done.returncode == 2
    assert "others can read this secret (mode 644); chmod 600 it" in done.stderr


def test_an_identity_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = an_identity(tmp_path / "identity", "client")
    done = typed("console", "--identity", path, "--dir", tmp_path / "w")
    assert done.returncode == 2
    assert done.stderr == f"xwworker: {path}:1: is the identity of a client, not of a worker\n"


def test_a_directory_that_cannot_be_is_said_so(tmp_path: Path) -> None:
    path = an_identity(tmp_path / "identity")
    done = typed("start", "--identity", path, "--dir", path / "below")
    assert done.returncode == 1
    assert done.stderr == f"xwworker: {path}/below cannot be used: Not a directory\n"


def test_the_file_says_what_the_command_line_does_not(tmp_path: Path) -> None:
    identity = an_identity(tmp_path / "identity")
    path = tmp_path / "worker.conf"
    path.write_text(
        f"[worker]\nidentity = {identity}\ndirectory = {tmp_path}/w\nidle_time = 0.1 s\n"
    )
    done = typed("console", "--config", path)
    assert done.returncode == 4
    assert "it had no task for 0.1 s" in done.stderr
    assert (tmp_path / "w" / "host").exists()


@pytest.mark.feature("XW-WCF-14")
def test_a_pilot_leaves_when_it_has_nothing_to_do(tmp_path: Path) -> None:
    identity = an_identity(tmp_path / "identity", "pilot")
    options = ["--identity", identity, "--dir", tmp_path / "p", "--idle", "0.1"]
    done = typed(*options, main="pilot_main")
    assert done.returncode == 4
    assert identity.exists(), "no server has taken its secret"


def test_a_pilot_keeps_its_things_in_its_scratch_directory(tmp_path: Path) -> None:
    identity = an_identity(tmp_path / "identity", "pilot")
    command = [sys.executable, "-c", TALKS.format("pilot_main", "pilot_main")]
    done = subprocess.run(
        [*command, "--identity", str(identity), "--idle", "0.1"],
        env=environment(_CONDOR_SCRATCH_DIR=str(tmp_path)),
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 4
    assert (tmp_path / "glidebridge-pilot" / "host").exists()


def test_a_wrong_number_of_seconds_is_refused() -> None:
    done = typed("--lifetime", "-1", main="pilot_main")
    assert done.returncode == 2
    assert "argument --lifetime: must not be negative" in done.stderr


def test_a_pilot_enrols_once(tmp_path: Path) -> None:
    path = an_identity(tmp_path / "identity", "pilot")
    identity = Identity.read(path)
    enrolment = Enrolment(identity, path)
    fields = enrolment.fields()
    assert fields["proved_by"] == "enrolment"
    assert enrolment.fields() == fields, "the same hello again is the same pilot"
    own = enrolment.complete()
    assert not path.exists()
    assert own.secret != identity.secret
    assert enrolment.fields() == {}
    assert enrolment.complete() is own
    assert json.dumps(fields).count(own.secret) == 0


def test_an_attribute_is_a_classad_literal() -> None:
    values = [facts.value_of(text) for text in ("12", "1.5", "true", '"12"', "physics")]
    assert values == [12, 1.5, True, "12", "physics"]


def test_the_worker_names_the_version_that_is_shipped() -> None:
    shipped = configparser.ConfigParser()
    shipped.read(ROOT / "setup.cfg")
    assert shipped["metadata"]["version"] == cli.VERSION
