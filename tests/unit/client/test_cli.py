"""The command `xw` over a grid in memory: what it prints where, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from desktopgrid.client import arrivals
from desktopgrid.client.cli import xw
from desktopgrid.client.commands.shell import Shell
from desktopgrid.client.fake import FakeGrid
from desktopgrid.wire import messages as m

Xw = Callable[..., Result]


@pytest.fixture
def fake(tmp_path: Path) -> FakeGrid:
    """A grid in memory with an application `echo`, which prints its arguments and its input."""
    fake = FakeGrid(tmp_path / "grid")
    script = tmp_path / "echo.sh"
    script.write_text('#!/bin/sh\necho "$@"; cat; ls > seen; [ "$1" != fail ]\n')
    with fake.open() as grid:
        grid.send_application("echo", script)
    return fake


@pytest.fixture
def run(fake: FakeGrid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Xw:
    """Run `xw` with these arguments."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, input: str | bytes = "") -> Result:
        shell = Shell(connect=lambda path, patience: fake.open())
        return CliRunner().invoke(xw, arguments, obj=shell, input=input)

    return run


def last_submission(fake: FakeGrid) -> m.Submit:
    """What was submitted last."""
    return [request for request in fake.requests if isinstance(request, m.Submit)][-1]


def test_submit_prints_the_uid_alone_and_says_what_is_next(run: Xw, fake: FakeGrid) -> None:
    done = run("submit", "echo", "--", "-n", "hello")
    uid = last_submission(fake).uid
    assert (done.exit_code, done.stdout) == (0, f"{uid}\n")
    assert f"Next: xw wait {uid}; xw result {uid}" in done.stderr
    assert "any public worker" in done.stderr
    assert last_submission(fake).arguments == (("-n", "hello"),)


@pytest.mark.feature("XW-JM-3")
def test_submit_and_wait_shows_what_the_work_printed(run: Xw) -> None:
    done = run("submit", "echo", "--stdin", "-", "--wait", "--", "a  b", input=b"from here")
    assert (done.exit_code, done.stdout) == (0, "a  b\nfrom here")
    assert "1 work ended: 1 completed." in done.stderr


@pytest.mark.feature("XW-JM-4")
def test_an_unknown_application_is_refused_in_one_sentence(run: Xw) -> None:
    done = run("submit", "nothing")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "xw: there is no application 'nothing' that you may see\n"


def test_a_failed_work_makes_the_exit_code(run: Xw) -> None:
    done = run("submit", "echo", "--wait", "--format", "json", "--", "fail")
    assert done.exit_code == 1
    (row,) = json.loads(done.stdout)
    assert (row["status"], row["exit_code"]) == ("COMPLETED", 1)
    assert "1 completed with an error" in done.stderr


def test_a_sweep_over_ranges(run: Xw, fake: FakeGrid) -> None:
    done = run(
        *("submit", "echo", "--range", "A=1..3", "--range", "B=0..9:9", "--wait"),
        *("--format", "csv", "--", "{A}-{B:02}"),
    )
    assert done.exit_code == 0
    assert last_submission(fake).arguments == tuple(
        (text,) for text in ("1-00", "1-09", "2-00", "2-09", "3-00", "3-09")
    )
    lines = done.stdout.splitlines()
    assert lines[0] == "work,status,exit_code,host,reason"
    assert len(lines) == 7


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        (["--range", "A=3..1"], "is empty"),
        (["--range", "A=1..2", "--", "{B}"], "swept by nothing"),
        (["--memory", "lots"], "is no size"),
        (["--wall-time", "soon"], "is no time"),
        (["--input", "x"], "NAME=VALUE"),
        (["--cores", "0"], "cores"),
        (["--nonsense"], "--nonsense"),
    ],
)
@pytest.mark.feature("XW-CLI-21")
def test_a_wrong_command_line_asks_the_grid_nothing(
    arguments: list[str], complaint: str, run: Xw, fake: FakeGrid
) -> None:
    before = len(fake.requests)
    done = run("submit", "echo", *arguments)
    assert done.exit_code == 2
    assert complaint in done.stderr
    assert len(fake.requests) == before


def test_one_work_a_line_of_a_list(run: Xw, fake: FakeGrid, tmp_path: Path) -> None:
    (tmp_path / "list").write_text("one 1\n\ntwo {x}\n")
    assert run("submit", "echo", "--file-list", "list", "--", "{line}").exit_code == 0
    assert last_submission(fake).arguments == (("one 1",), ("two {x}",))


def test_one_work_a_file_of_a_list_takes_the_file_along(run: Xw, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    for name in ("a.txt", "b.txt"):
        (tmp_path / "d" / name).write_text(name)
    (tmp_path / "list").write_text("d/a.txt\nd/b.txt\n")
    done = run("submit", "echo", "--file-list", "list", "--", "{file}")
    works = done.stdout.split()
    assert len(works) == 2
    assert run("wait", *works).exit_code == 0
    assert run("result", *works, "-d", "out").exit_code == 0
    seen = [(tmp_path / "out" / f"{work}-0" / "seen").read_text().split() for work in works]
    assert [names[0] for names in seen] == ["a.txt", "b.txt"]


def test_a_list_that_names_no_file_says_where(run: Xw, tmp_path: Path) -> None:
    (tmp_path / "list").write_text("list\nmissing\n")
    done = run("submit", "echo", "--file-list", "list", "--", "{file}")
    assert (done.exit_code, "list:2: there is no file missing" in done.stderr) == (2, True)


@pytest.mark.feature("XW-CLI-10", "XW-CLI-11", "XW-CLI-12", "XW-CLI-14", "XW-CLI-15", "XW-CLI-16")
def test_what_is_asked_for_stands_in_the_description(
    run: Xw, fake: FakeGrid, tmp_path: Path
) -> None:
    (tmp_path / "env").mkdir()
    (tmp_path / "env/lib").write_text("lib")
    (tmp_path / "in").write_text("in")
    done = run(
        *("submit", "echo", "--label", "l", "--session", "s", "--group", "g", "--cores", "2"),
        *("--memory", "2G", "--disk", "1.5k", "--wall-time", "2h", "--priority", "-3"),
        *("--requirements", 'Arch == "x86_64"', "--expected-host", "h", "--retries", "0"),
        *("--env", "env", "--stdin", "in", "--input", "data.txt=in", "--variable", "A=b=c"),
        *("--output", "*.png"),
    )
    assert done.exit_code == 0
    description = last_submission(fake).description
    stdin, env = description.pop("stdin"), description.pop("env")
    assert description == {
        "application": "echo",
        "label": "l",
        "session": "s",
        "group": "g",
        "cores": 2,
        "memory_mib": 2048,
        "disk_mib": 1,
        "wall_time": 7200,
        "priority": -3,
        "requirements": 'Arch == "x86_64"',
        "expected_host": "h",
        "retries": 0,
        "inputs": [["data.txt", stdin]],
        "variables": [["A", "b=c"]],
        "outputs": ["*.png"],
    }
    sent = {r.uid: r.name for r in fake.requests if isinstance(r, m.SendData)}
    assert (sent[stdin], sent[env]) == ("in", "env.zip")


@pytest.mark.feature("XW-JM-1", "XW-RS-1")
def test_works_are_listed_waited_for_and_fetched(run: Xw, fake: FakeGrid, tmp_path: Path) -> None:
    run("submit", "echo", "--range", "N=1..4", "--label", "many", "--", "{N}")
    uid = last_submission(fake).uid
    waited = run("wait", uid)
    assert (waited.exit_code, waited.stdout) == (0, "")
    assert "4 works ended: 4 completed." in waited.stderr
    rows = json.loads(run("works", uid, "--format", "json").stdout)
    assert [(row["uid"], row["label"]) for row in rows] == [
        (f"{uid}-{n}", "many") for n in (3, 2, 1, 0)
    ]
    assert len(json.loads(run("--format", "json", "works").stdout)) == 4
    fetched = run("result", "-", "-d", "out", input=f"{uid}\n")
    assert fetched.exit_code == 0
    assert (tmp_path / f"out/{uid}-2/stdout").read_text() == "3\n"
    assert run("result", f"{uid}-1", "--stdout").stdout == "2\n"


def test_a_result_that_is_not_there_yet_is_said(run: Xw, fake: FakeGrid) -> None:
    fake.pause()
    run("submit", "echo")
    done = run("result", last_submission(fake).uid)
    assert done.exit_code == 1
    assert "1 of 1 works have no result yet" in done.stderr
    fake.resume()


def test_who_waits_for_long_is_told_why(
    run: Xw, fake: FakeGrid, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrivals, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(arrivals, "LOOK_SECONDS", 0.01)
    fake.pause()
    run("submit", "echo", "--range", "N=1..2")
    uid = last_submission(fake).uid
    done = run("wait", uid, "--timeout", "1")
    assert done.exit_code == 1
    assert done.stderr.count(f"No result yet. Work {uid}-0 is WAITING.") == 1
    fake.resume()


def test_works_are_cancelled_explained_and_removed(run: Xw, fake: FakeGrid) -> None:
    fake.pause()
    run("submit", "echo", "--range", "N=1..2")
    uid = last_submission(fake).uid
    assert run("why", f"{uid}-0").stdout == f"Work {uid}-0 is WAITING.\n"
    assert set(run("cancel", uid).stdout.split()) == {"uid", f"{uid}-0", f"{uid}-1"}
    assert run("wait", uid).exit_code == 1
    assert run("rm", f"{uid}-0").exit_code == 0
    assert run("why", f"{uid}-0").exit_code == 1
    fake.resume()


def test_applications_and_datas_are_sent_and_listed(run: Xw, tmp_path: Path) -> None:
    (tmp_path / "tool").write_text("#!/bin/sh\n")
    sent = run("sendapp", "tool", "tool")
    assert sent.exit_code == 0
    assert "Next: xw submit tool" in sent.stderr
    assert [row["name"] for row in json.loads(run("apps", "--format", "json").stdout)] == [
        "echo",
        "tool",
    ]
    data = run("senddata", "tool", "--rights", "private", "--format", "json")
    (record,) = json.loads(data.stdout)
    assert (record["name"], record["size"]) == ("tool", 10)
    assert "tool" in run("datas").stdout
    assert "fake" in run("hosts").stdout
    assert "hosts" in run("stats").stdout


def test_an_application_must_say_what_it_was_made_for(run: Xw, tmp_path: Path) -> None:
    (tmp_path / "tool").write_bytes(b"MZ")
    assert run("sendapp", "tool", "tool").exit_code == 2
    assert run("sendapp", "tool", "tool", "--cpu", "x86_64").exit_code == 2
    assert run("sendapp", "tool", "tool", "--cpu", "x86_64", "--os", "win32").exit_code == 0


def test_a_token_for_a_worker_of_ones_own_is_a_secret_file(run: Xw, tmp_path: Path) -> None:
    done = run("token", "worker.identity")
    assert (done.exit_code, done.stdout) == (0, "worker.identity\n")
    path = tmp_path / "worker.identity"
    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(path.read_text())["kind"] == "worker"
    assert run("token", "worker.identity").exit_code == 2


@pytest.mark.feature("XW-USR-1")
@pytest.mark.parametrize("source", ["prompt", "-", "@secret.txt", "pass word"])
def test_log_in_takes_a_password_and_warns_where_others_can_see_it(
    source: str, run: Xw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[object, ...]] = []

    def ask(*arguments: object) -> dict[str, object]:
        asked.append(arguments)
        return {"token": "t", "secret": "s"}

    monkeypatch.setattr("desktopgrid.client.profile.ask_for_token", ask)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("GLIDEBRIDGE_IDENTITY", raising=False)
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    (tmp_path / "secret.txt").write_text("pass word\n")
    option = [] if source == "prompt" else ["--password", source]
    done = run(
        *("login", "alice", "--server", "https://h:1", "--ca", "ca.pem", "--lifetime", "1d"),
        *option,
        input="pass word\n",
    )
    assert done.exit_code == 0
    assert asked[0][2:5] == ("alice", "pass word", 86_400)
    assert ("seen by everybody" in done.stderr) is (source == "pass word")
    assert "pass word" not in done.output
    assert (tmp_path / "xdg/glidebridge/identity.json").stat().st_mode & 0o777 == 0o600


def test_without_an_identity_one_is_told_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLIDEBRIDGE_IDENTITY", str(tmp_path / "none"))
    done = CliRunner().invoke(xw, ["stats"])
    assert (done.exit_code, done.stdout) == (1, "")
    assert "make one by `xw login --server" in done.stderr


def test_a_list_of_nothing_says_so_and_stays_a_list_for_programs(run: Xw) -> None:
    assert run("sessions").stderr == "There are no sessions to show.\n"
    assert run("sessions", "-q").stderr == ""
    done = run("sessions", "--format", "json")
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_cancelling_says_how_many_works_it_took_back(run: Xw) -> None:
    uid = run("submit", "echo", "-q").stdout.strip()
    assert run("wait", uid).exit_code == 0
    assert "Nothing was cancelled" in run("cancel", uid).stderr


def test_a_sweep_that_was_waited_for_says_how_to_get_its_results(run: Xw) -> None:
    done = run("submit", "echo", "--range", "N=1..2", "--wait")
    assert "Next: xw result " in done.stderr


def test_every_command_has_help_with_the_common_options(run: Xw) -> None:
    for name in sorted(xw.commands):
        text = run(name, "-h").stdout
        assert "--identity" in text and "--format" in text


@pytest.mark.feature("XW-GEN-2", "XW-AR-18")
def test_rights_are_changed_and_shown_as_one_writes_them(run: Xw, tmp_path: Path) -> None:
    (tmp_path / "points").write_text("1 2 3")
    data = run("senddata", "points").stdout.strip()
    bag = run("sendsession", "tuesday").stdout.strip()
    done = run("chmod", "go-rx", data, bag, "--format", "json")
    assert (done.exit_code, done.stderr) == (0, "")
    assert json.loads(done.stdout) == [
        {"uid": data, "rights": "0700"},
        {"uid": bag, "rights": "0700"},
    ]
    listed = json.loads(run("datas", "--format", "json").stdout)
    assert [row["rights"] for row in listed if row["uid"] == data] == ["0700"]


@pytest.mark.feature("XW-AR-18")
def test_what_are_no_rights_is_refused_in_one_sentence(run: Xw) -> None:
    bag = run("sendgroup", "all").stdout.strip()
    done = run("chmod", "rwx", bag)
    assert done.exit_code == 1
    assert done.stderr.startswith("xw: 'rwx' are no access rights; expected private, group")
    assert run("chmod", "700", "nothing").exit_code == 1


@pytest.mark.feature("XW-JM-6")
def test_bags_are_made_and_listed(run: Xw) -> None:
    for kind in ("session", "group"):
        done = run(f"send{kind}", f"my {kind}")
        uid = done.stdout.strip()
        assert f"Next: xw submit APPLICATION --{kind} {uid}" in done.stderr
        (row,) = json.loads(run(f"{kind}s", "--format", "json").stdout)
        assert (row["uid"], row["name"]) == (uid, f"my {kind}")


@pytest.mark.feature("XW-UM-2", "XW-UM-3")
def test_users_are_inserted_with_a_password_that_nobody_sees(
    run: Xw, fake: FakeGrid, tmp_path: Path
) -> None:
    assert run("sendusergroup", "lab").exit_code == 0
    (tmp_path / "secret").write_text("s3cret\n")
    done = run(
        *("senduser", "ann", "--level", "advanced", "--usergroup", "lab"),
        *("--email", "ann@lab", "--password", "@secret"),
    )
    assert done.exit_code == 0, done.stderr
    asked = [request for request in fake.requests if isinstance(request, m.SendUser)][-1]
    assert (asked.login, asked.level, asked.password, asked.group) == (
        "ann",
        "advanced",
        "s3cret",
        "lab",
    )
    assert "s3cret" not in done.output
    (row,) = json.loads(run("users", "--format", "json").stdout)
    assert (row["login"], row["level"], row["usergroup"]) == ("ann", "advanced", "lab")
    assert run("senduser", "bob", "--level", "emperor").exit_code == 2
    changed = run("moduser", "ann", "--level", "standard", "--usergroup", "", "--format", "json")
    assert json.loads(changed.stdout)[0]["level"] == "standard"
    assert run("moduser", "ann").exit_code == 2
    assert run("moduser", "nobody", "--email", "x").exit_code == 1
    assert run("revoke", "ann").exit_code == 0


@pytest.mark.parametrize(
    "words, missing",
    [
        (("none.jdl",), "none.jdl"),
        (("job.sub",), "job.sub"),
        (("echo", "--stdin", "none.txt"), "none.txt"),
        (("echo", "--input", "name=in/none"), "in/none"),
        (("echo", "--env", "none.zip"), "none.zip"),
    ],
)
def test_a_file_that_is_not_there_is_said_to_be_so(
    run: Xw, fake: FakeGrid, words: tuple[str, ...], missing: str
) -> None:
    before = len(fake.requests)
    done = run("submit", *words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"there is no file {missing}" in done.stderr
    assert [r for r in fake.requests[before:] if not isinstance(r, m.ListObjects)] == []


def test_a_work_that_is_not_there_is_an_error(run: Xw, fake: FakeGrid) -> None:
    run("submit", "echo")
    uid = last_submission(fake).uid
    assert run("works", uid).exit_code == 0
    for words in ((uid, "unknown"), ("unknown",)):
        done = run("works", *words)
        assert (done.exit_code, uid in done.stdout) == (1, uid in words)
        assert done.stderr.endswith("there is no work or submission 'unknown' that you may see\n")
    assert run("works", "unknown", "--status", "RUNNING").exit_code == 0, "there are none of it"


def test_tokens_of_a_user_who_is_not_there_are_an_error(run: Xw) -> None:
    run("senduser", "bob", "--password", "-", input="a password\n")
    assert run("tokens", "--user", "bob").exit_code == 0
    done = run("tokens", "--user", "eve")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "xw: there is no user 'eve' that you may see\n"


def test_what_a_user_is_and_may_have_after_a_change_is_shown(run: Xw) -> None:
    run("senduser", "bob", "--password", "-", input="a password\n")
    done = run("moduser", "bob", "--quota", "10G", "--email", "b@example.org", "--format", "json")
    (row,) = json.loads(done.stdout)
    assert (row["login"], row["quota_mib"], row["email"]) == ("bob", 10240, "b@example.org")
