"""`xwbridge report` over a grid in memory: everybody's use, and what is put where for APEL."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bridge.report import report
from desktopgrid.client.commands.shell import Shell
from desktopgrid.client.fake import FakeGrid
from desktopgrid.model.rights import UserLevel
from tests.apel import records_in
from tests.unit.bridge.test_apel import a_record, used

Report = Callable[..., Result]
LINES = """[accounting]
site_name = LAL
submit_host = grid:1/x
benchmark_type = HEPSPEC
benchmark_value = 10
"""


@pytest.fixture
def fake(tmp_path: Path) -> FakeGrid:
    fake = FakeGrid(tmp_path / "grid", UserLevel.SUPER)
    fake.used = [used(user="ann", site="lal"), used(user="ben")]
    fake.records = [a_record(1), a_record(2)]
    return fake


@pytest.fixture
def run(fake: FakeGrid, tmp_path: Path) -> Report:
    configuration = tmp_path / "accounting.conf"
    configuration.write_text(LINES)

    def run(*arguments: str, lines: str = LINES) -> Result:
        configuration.write_text(lines)
        shell = Shell(connect=lambda path, patience: fake.open())
        with_file = ("--accounting", str(configuration), *arguments)
        return CliRunner().invoke(report, with_file, obj=shell)

    return run


def test_an_administrator_sees_everybodys_use(run: Report) -> None:
    done = run("--by", "user,site")
    assert done.exit_code == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["user", "ann", "ben", "TOTAL"]


def test_what_is_new_is_put_into_a_directory(run: Report, tmp_path: Path) -> None:
    place = tmp_path / "outgoing"
    done = run("--apel", str(place), lines=LINES + "form = individual\n")
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == f"Put 2 records into {place}. Next: ssmsend\n"
    (path,) = place.glob("????????/??????????????")
    _, records = records_in(path.read_text())
    assert [record["LocalJobId"] for record in records] == ["w-1.1", "w-2.1"]
    again = run("--apel", str(place), lines=LINES + "form = individual\n")
    assert again.stderr == "There is no new record to publish.\n"


def test_a_program_is_told_what_was_published(run: Report, tmp_path: Path) -> None:
    place = tmp_path / "outgoing"
    done = run("--apel", str(place), "--format", "json")
    (found,) = json.loads(done.stdout)
    assert found == {
        **{"directory": str(place), "records": 2, "messages": 2},
        **{"left_out": 0, "open": 0},
    }


@pytest.mark.parametrize(
    ("arguments", "lines", "said"),
    [
        (("--by", "user"), LINES, "--by divides a report"),
        (("--from", "2026-11-01"), LINES + "form = individual\n", "leave --from and --to"),
        ((), "[accounting]\n", "[accounting] lacks the key 'site_name'"),
        ((), "[account]\n", "unknown section [account]; known sections are [accounting]"),
    ],
)
def test_what_cannot_be_published_is_said_in_a_sentence(
    run: Report, tmp_path: Path, arguments: tuple[str, ...], lines: str, said: str
) -> None:
    done = run("--apel", str(tmp_path / "outgoing"), *arguments, lines=lines)
    assert (done.exit_code, said in done.stderr) == (1, True), done.stderr


def test_where_no_site_is_described_it_says_what_to_do(run: Report, tmp_path: Path) -> None:
    missing = tmp_path / "none.conf"
    done = run("--apel", str(tmp_path / "outgoing"), "--accounting", str(missing))
    assert done.exit_code == 1
    assert f"there is no {missing}" in done.stderr
    assert "copy conf/accounting.conf there" in done.stderr
    assert not (tmp_path / "outgoing").exists()


def test_a_directory_that_cannot_be_written_to_is_named(run: Report, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run("--apel", str(tmp_path / "file" / "outgoing"))
    assert done.exit_code == 1
    assert "cannot be written to: Not a directory" in done.stderr


def test_who_is_no_super_user_publishes_nobodys_records(
    run: Report, fake: FakeGrid, tmp_path: Path
) -> None:
    fake.level = UserLevel.ADVANCED
    done = run("--apel", str(tmp_path / "outgoing"), lines=LINES + "form = individual\n")
    assert (done.exit_code, "may not usagerecords" in done.stderr) == (1, True)
