"""The command `jdl`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from jdl.cli import main
from jdl.languages import LANGUAGES, read_file

TEXT = """[
 Executable = "/bin/echo";
 Arguments = "a b";
 Rank = other.Load;
 MyProxyServer = "h";
]
"""


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments])


@pytest.fixture
def description(tmp_path: Path) -> Path:
    path = tmp_path / "a.jdl"
    path.write_text(TEXT)
    return path


@pytest.mark.parametrize("name", LANGUAGES)
def test_a_description_is_converted(description: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / f"out{LANGUAGES[name].extensions[0]}"
    done = run("convert", description, "--to", name, "--without", "rank", "--out", out)
    assert done.exit_code == 0, done.output
    _, found = read_file(out)
    assert found.jobs[0].arguments == ("a", "b")
    assert "a.jdl: line 5: MyProxyServer: credentials are not renewed" in done.stderr


def test_what_the_other_language_cannot_say_is_refused(description: Path) -> None:
    done = run("convert", description, "--to", "jsdl")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "jdl: JSDL cannot say rank: it has no expressions" in done.stderr


def test_a_field_that_there_is_not_cannot_be_left_out(description: Path) -> None:
    done = run("convert", description, "--to", "jsdl", "--without", "color")
    assert done.exit_code == 1
    assert "a job has no 'color'; it has arguments" in done.stderr


def test_strict_refuses_what_was_not_understood(description: Path) -> None:
    done = run("convert", description, "--to", "jdl", "--strict")
    assert (done.exit_code, done.stdout) == (1, "")
    assert run("check", description, "--strict").exit_code == 1
    assert run("check", description).exit_code == 0


def test_several_jobs_become_files_where_a_description_holds_one(tmp_path: Path) -> None:
    path = tmp_path / "many.sub"
    path.write_text("executable = /bin/echo\ntransfer_executable = false\nqueue 2\n")
    done = run("convert", path, "--to", "jsdl")
    assert done.exit_code == 1
    assert "name a directory by --out" in done.stderr
    done = run("convert", path, "--to", "jsdl", "--out", tmp_path)
    assert done.exit_code == 0
    assert sorted(each.name for each in tmp_path.glob("*.jsdl")) == ["many-0.jsdl", "many-1.jsdl"]
    assert run("convert", path, "--to", "xrsl").stdout.count("executable") == 2


def test_gram_gets_whole_paths(tmp_path: Path) -> None:
    path = tmp_path / "a.jdl"
    path.write_text('[Executable = "run.sh"; InputSandbox = {"run.sh"};]')
    done = run("convert", path, "--to", "rsl")
    assert f'$(GLOBUSRUN_GASS_URL) # "{tmp_path.resolve()}/run.sh"' in done.stdout


def test_a_description_is_checked(description: Path) -> None:
    done = run("check", description, "--format", "json")
    found = json.loads(done.stdout)
    assert found["language"] == "jdl"
    assert found["jobs"] == [
        {"executable": "/bin/echo", "arguments": ["a", "b"], "rank": "TARGET.Load"}
    ]
    assert [each["attribute"] for each in found["warnings"]] == ["MyProxyServer"]
    assert 'arguments = ["a", "b"]' in run("check", description).stdout


def test_a_wrong_description_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.jdl"
    path.write_text("[\n Executable = 3;\n]")
    done = run("check", path)
    assert done.exit_code == 1
    assert done.stderr == f"jdl: {path}:2: Executable: expected a string, found 3\n"
    assert run("check", path, "--from", "xrsl").exit_code == 1
    path = tmp_path / "README"
    path.write_text("Read me.")
    assert "no language that is known" in run("check", path).stderr


def test_the_languages_are_listed() -> None:
    assert [
        each["name"] for each in json.loads(run("languages", "--format", "json").stdout)
    ] == list(LANGUAGES)
    assert "gLite JDL" in run("languages").stdout


@pytest.mark.parametrize("name", LANGUAGES)
def test_a_pilot_is_printed(name: str) -> None:
    done = run("pilot", "--to", name)
    assert done.exit_code == 0
    (job,) = LANGUAGES[name].read(done.stdout).jobs
    assert job.executable == "pilot.pyz"
