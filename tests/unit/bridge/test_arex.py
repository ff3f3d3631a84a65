"""What A-REX writes of a job, as the bridge takes it; and a job's end, as A-REX reads it."""

import fcntl
import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bridge.arex.backend import Backend, install
from bridge.arex.jobs import Unfit, assignments, diagnosis, done, specification
from bridge.inbound import inbound

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
GRAMI = r"""
joboption_directory='/session/ID'
joboption_arg_0='./run.sh'
joboption_arg_1='a '\''b $c'
joboption_arg_2='two
lines'
joboption_arg_3=''
joboption_stdin='in.txt'
joboption_stdout='/session/ID/o ut'
joboption_stderr='/session/ID/err'
joboption_env_0='A=b  '\''c'
joboption_env_1=GRID_GLOBAL_JOBID='ID'
joboption_cputime=300
joboption_walltime=600
joboption_memory=100
joboption_count=2
joboption_disk=
joboption_jobname='t t'
joboption_gridid='ID'
joboption_outputfile_0='/out[1].dat'
joboption_outputfile_1='/d/'
joboption_outputfile_2='/o ut'
"""
FILES = ("in.txt", "run.sh", "sub/more.txt")


def spec(text: str = GRAMI) -> dict:  # type: ignore[type-arg]
    return specification(assignments(text), FILES, "alice", "/spool/ID.state")


def test_a_job_is_taken_over_with_all_that_it_asks_for() -> None:
    found = spec()
    assert (found["stdin"], found["streams"]) == ("in.txt", {"stdout": "o ut", "stderr": "err"})
    facts = {"kind": "spec", **found["job"], "files": [[name, 1, 0o700] for name in FILES]}
    job = inbound(facts)
    assert (job.job, job.user, job.label) == ("ID", "alice", "t t")
    assert (job.program, job.is_carried) == ("run.sh", True)
    assert job.arguments == ("a 'b $c", "two\nlines", "")
    asked = job.description
    assert asked.variables == (("A", "b  'c"), ("GRID_GLOBAL_JOBID", "ID"))
    assert (asked.cores, asked.memory_mib, asked.wall_time) == (2, 200, 600)
    assert asked.outputs == ("out[[]1].dat", "d/*")


@pytest.mark.parametrize("name", ["/", "/@list"])
def test_what_cannot_be_known_before_comes_back_whole(name: str) -> None:
    assert "*" in spec(f"{GRAMI}joboption_outputfile_3='{name}'\n")["job"]["outputs"]


def test_a_runtime_environment_is_refused_by_name() -> None:
    with pytest.raises(Unfit, match="ENV/PROXY"):
        spec(f"{GRAMI}joboption_runtime_0='ENV/PROXY'\n")


@pytest.mark.parametrize(
    "said, text",
    [
        ({"do": "end", "code": 0}, "0\n"),
        ({"do": "end", "code": 7}, "7 The job ended with 7\n"),
        ({"do": "end", "signal": 9}, "265 The job ended with 265\n"),
        ({"do": "end", "hold": "no\nplatform"}, "-1 no platform\n"),
    ],
)
def test_the_end_is_one_line(said: dict[str, object], text: str) -> None:
    assert done(said) == text


def test_what_was_used_is_said_in_the_words_of_arc() -> None:
    attributes = {"ChirpGlidebridgeWallTime": "60.2", "ChirpGlidebridgeHost": '"desk"'}
    said = {"code": 3, "attributes": attributes}
    assert diagnosis(said, NOON).splitlines() == [
        "WallTime=60s",
        "nodename=desk",
        "LRMSStartTime=20261125115859Z",
        "LRMSEndTime=20261125120000Z",
        "exitcode=3",
    ]


@pytest.fixture
def control(tmp_path: Path) -> Path:
    """A control directory with one job in it, and the spool beside it."""
    directory = tmp_path / "control"
    (directory / "processing").mkdir(parents=True)
    (directory / "processing/job.ID.status").write_text("INLRMS")
    (directory / "job.ID.local").write_text(f"sessiondir={tmp_path}/ID\n")
    (tmp_path / "ID.diag").write_text("runtimeenvironments=\n")
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool/ID.spec").write_text("{}")
    return directory


def test_an_end_is_told_once_and_nothing_is_left(control: Path) -> None:
    spool = control.with_name("spool")
    (spool / "ID.state").write_text(json.dumps({"do": "end", "code": 7}))
    Backend(Path("/nowhere/counter"), spool).scan([control])
    assert (control / "job.ID.lrms_done").read_text() == "7 The job ended with 7\n"
    assert control.with_name("ID.diag").read_text() == "runtimeenvironments=\nexitcode=7\n"
    assert list(spool.iterdir()) == []


def test_a_job_that_is_carried_is_left_alone(control: Path) -> None:
    spool = control.with_name("spool")
    with (spool / "ID.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        Backend(Path("/nowhere/counter"), spool).scan([control])
        assert (spool / "ID.lock").read_text() == ""
    assert not (control / "job.ID.lrms_done").exists()


def test_what_arex_has_given_up_is_forgotten(control: Path) -> None:
    (control / "processing/job.ID.status").unlink()
    Backend(Path("/nowhere/counter"), control.with_name("spool")).scan([control])
    assert list(control.with_name("spool").iterdir()) == []


def test_a_planted_link_is_not_followed(control: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(json.dumps({"do": "end", "code": 0}))
    (tmp_path / "spool/ID.state").symlink_to(secret)
    with (tmp_path / "spool/ID.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        Backend(Path("/nowhere/counter"), tmp_path / "spool").scan([control])
    assert not (control / "job.ID.lrms_done").exists()


def test_its_commands_are_put_where_arex_looks(tmp_path: Path) -> None:
    install(Backend(tmp_path / "counter", tmp_path / "spool"), tmp_path, slots=12)
    assert os.access(tmp_path / "submit-desktopgrid-job", os.X_OK)
    assert "my $slots = 12;" in (tmp_path / "DESKTOPGRIDmod.pm").read_text()
    assert (tmp_path / "spool").stat().st_mode & 0o7777 == 0o1777
