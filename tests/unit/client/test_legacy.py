"""The manual's spelling: what each line means, and that it does the same as `xw`."""

from __future__ import annotations

import csv
import io
import itertools
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from desktopgrid.client import legacy_cli
from desktopgrid.client.fake import FakeGrid
from desktopgrid.client.legacy import ACTIONS, CLIENT, SCRIPTS, WrongWords, meaning_of
from desktopgrid.model.objects import Description
from desktopgrid.wire import messages as m

Run = Callable[..., int]


@pytest.fixture
def fake(tmp_path: Path) -> FakeGrid:
    """A grid in memory with an application `say`, which prints its arguments and its input."""
    fake = FakeGrid(tmp_path / "grid")
    script = tmp_path / "say.sh"
    script.write_text('#!/bin/sh\necho "$@"; cat; echo seen > seen\n')
    with fake.open() as grid:
        grid.send_application("say", script)
    return fake


@pytest.fixture
def run(fake: FakeGrid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run one of the manual's scripts; its exit code."""
    monkeypatch.chdir(tmp_path)
    return lambda program, *words: legacy_cli.run(
        program, words, lambda path, patience: fake.open()
    )


def words_of(line: str, program: str = CLIENT) -> list[str]:
    meaning = meaning_of(program, line.split())
    assert meaning.words[:1] == ["--format"]
    return meaning.words[2:]


@pytest.mark.feature("XW-CLI-23", "XW-CLI-24")
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_is_its_action_of_the_client(script: str) -> None:
    arguments = ["a", "b", "c", "d"] if "send" in script else []
    arguments = ["a"] if script in ("xwsendusergroup", "xwrm") else arguments
    arguments = ["a", "755"] if script == "xwchmod" else arguments
    by_script = meaning_of(f"/usr/bin/{script}", arguments)
    assert by_script == meaning_of(CLIENT, [f"--{SCRIPTS[script]}", *arguments])
    assert by_script == meaning_of(CLIENT, [f"-{SCRIPTS[script]}", *arguments])


@pytest.mark.feature("XW-JM-3", "XW-CLI-10", "XW-CLI-11", "XW-CLI-12", "XW-CLI-14")
@pytest.mark.parametrize(
    "line, words",
    [
        ("--xwsendwork say", "submit say --"),
        ("--xwsendwork say -n --deep x=1", "submit say -- -n --deep x=1"),
        ("--xwsendwork say a < in.txt", "submit say --stdin in.txt -- a"),
        ("--xwlabel night --xwsendwork say a", "submit say --label night -- a"),
        ("-xwsendwork say -xwenv dir b", "submit say --env dir -- b"),
        ("--xwsendwork say --xwsession s --xwgroup g", "submit say --session s --group g --"),
        ("--xwsendwork say --xwexpectedhost h", "submit say --expected-host h --"),
        ("--xwsendwork say --xwstdin u", "submit say --stdin u --"),
        ("--xwsendwork say --help -h", "submit say -- --help -h"),
        ("--xwgetworks", "works"),
        ("--xwgetworks u1 u2", "works u1 u2"),
        ("--xwgettasks u1", "tasks u1"),
        ("--xwremove u1 u2", "rm u1 u2"),
        ("--xwchmod u1 0x755", "chmod 0x755 u1"),
        ("--xwchmod uog+r u1 u2", "chmod uog+r u1 u2"),
        ("--xwchmod u1 u2 go-r", "chmod go-r u1 u2"),
        ("--xwsendapp tool ix86 Linux /bin/tool", "sendapp tool /bin/tool --cpu i686 --os linux"),
        (
            "--xwsendapp t amd64 MacOSX file:///b/t",
            "sendapp t file:///b/t --cpu x86_64 --os darwin",
        ),
        ("--xwsenddata points p.txt", "senddata p.txt --name points --replace"),
        (
            "--xwsenddata points ix86 win32 http://w/p.txt",
            "senddata http://w/p.txt --name points --cpu i686 --os windows --replace",
        ),
        ("--xwsendusergroup lab", "sendusergroup lab"),
    ],
)
def test_what_a_line_means(line: str, words: str) -> None:
    assert words_of(line) == words.split()


@pytest.mark.feature("XW-RS-1", "XW-CLI-17", "XW-CLI-18", "XW-CLI-19")
@pytest.mark.parametrize(
    "flags, archive, is_erased",
    [
        ("", "also", True),
        ("--xwrmzip", "none", True),
        ("--xwnoextract", "only", True),
        ("--xwnoextract --xwrmzip", "only", True),
        ("--xwnoerase", "also", False),
        ("--xwnoerase --xwrmzip", "none", False),
        ("--xwnoerase --xwnoextract", "only", False),
        ("--xwnoerase --xwnoextract --xwrmzip", "only", False),
    ],
)
def test_what_is_left_of_a_result(
    flags: str, archive: str, is_erased: bool, run: Run, fake: FakeGrid, tmp_path: Path
) -> None:
    with fake.open() as grid:
        work = grid.run(Description("say"), ["hello"], timeout=20).work
    assert run("xwresults", *flags.split(), work) == 0
    packed, files = tmp_path / f"{work}.zip", tmp_path / work
    assert packed.exists() is (archive != "none")
    assert files.exists() is (archive != "only")
    if packed.exists():
        with zipfile.ZipFile(packed) as content:
            assert content.namelist() == ["seen", "stderr", "stdout"]
            assert content.read("stdout") == b"hello\n"
    if files.exists():
        assert (files / "stdout").read_bytes() == b"hello\n"
    with fake.open() as grid:
        assert bool(list(grid.objects("works", (work,)))) is not is_erased
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(f".{work}")]


@pytest.mark.feature("XW-CLI-20")
def test_a_file_that_is_there_is_kept_unless_it_is_to_be_replaced(
    run: Run, fake: FakeGrid, tmp_path: Path
) -> None:
    with fake.open() as grid:
        work = grid.run(Description("say"), ["hello"], timeout=20).work
    (tmp_path / work).mkdir()
    (tmp_path / work / "stdout").write_text("mine")
    assert run("xwresults", "--xwnoerase", "--xwrmzip", work) == 0
    assert (tmp_path / work / "stdout").read_text() == "mine"
    assert run("xwresults", "--xwnoerase", "--xwrmzip", "--xwoverride", work) == 0
    assert (tmp_path / work / "stdout").read_text() == "hello\n"


@pytest.mark.feature("XW-CLI-5", "XW-CLI-22")
def test_a_list_reads_the_same_in_every_format(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("xwsendusergroup", 'a<b>&"c,d') == 0
    capsys.readouterr()

    def said(*words: str) -> str:
        assert run("xwusergroups", *words) == 0
        return capsys.readouterr().out

    name = 'a<b>&"c,d'
    assert said() == said("--xwformat", "XML")
    document = ElementTree.fromstring(said())  # noqa: S314 - our own
    texts = [each.text for each in document.iter()] + [
        value for each in document.iter() for value in each.attrib.values()
    ]
    assert name in texts
    (row,) = csv.DictReader(io.StringIO(said("--xwformat", "csv")))
    assert row["name"] == name
    assert json.loads(said("--xwformat", "json"))[0]["name"] == name
    assert "&lt;b&gt;&amp;" in said("--xwformat", "HTML")
    assert name in said("--xwformat", "text")


@pytest.mark.feature("XW-CLI-21")
@pytest.mark.parametrize(
    "line, says",
    [
        ("", "no action"),
        ("--bogus", "--bogus is no action; the actions are"),
        ("--xwgetwork", "--xwgetworks is one"),
        ("--xwgetworks --xwgetapps", "one action at a time"),
        ("--xwlabel", "wants a value"),
        ("--xwsendwork", "takes <application>"),
        ("--xwsendwork say <", "wants a file"),
        ("--xwgetapps extra", "takes no argument"),
        ("--xwsendapp a b c", "takes <name> <CPU> <OS> <URI>"),
        ("--xwsenddata a b c", "together"),
        ("--xwsenduser a b c", "takes <login> <password>"),
        ("--xwformat yaml --xwgetapps", "expected one of XML"),
        ("--xwclientloopdelay soon --xwgetapps", "expected milliseconds"),
        ("--xwchmod u1", "takes <UID>... <rights>"),
        ("--xwremove", "takes <UID>..."),
    ],
)
def test_a_wrong_line_says_what_was_expected(
    line: str, says: str, run: Run, fake: FakeGrid, capsys: pytest.CaptureFixture[str]
) -> None:
    before = len(fake.requests)
    with pytest.raises(WrongWords, match=says.replace("(", r"\(")):
        meaning_of(CLIENT, line.split())
    assert run(CLIENT, *line.split()) == 2
    assert capsys.readouterr().err.startswith(f"{CLIENT}: ")
    assert len(fake.requests) == before


@pytest.mark.feature("XW-CLI-1")
@pytest.mark.parametrize(
    "words", [["--xwhelp", "--xwgetapps"], ["-xwhelp"], ["--help"], ["--xwsendwork", "-h"]]
)
def test_help_is_printed_and_nothing_sent(
    words: list[str], run: Run, fake: FakeGrid, capsys: pytest.CaptureFixture[str]
) -> None:
    before = len(fake.requests)
    assert run(CLIENT, *words) == 0
    said = capsys.readouterr().out
    assert all(f"--{action}" in said for action in ACTIONS)
    assert len(fake.requests) == before


@pytest.mark.feature("XW-UM-2")
@pytest.mark.parametrize("way", ["clear", "file"])
def test_a_password_may_stand_in_the_line_with_a_warning(
    way: str, run: Run, fake: FakeGrid, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "secret").write_text("s3cret\n")
    run("xwsendusergroup", "lab")
    password = "s3cret" if way == "clear" else "@secret"
    assert run("xwsenduser", "ann", password, "ann@lab", "advanced", "lab") == 0
    asked = [request for request in fake.requests if isinstance(request, m.SendUser)][-1]
    assert (asked.login, asked.password, asked.email, asked.level, asked.group) == (
        *("ann", "s3cret", "ann@lab", "advanced", "lab"),
    )
    assert ("seen by everybody" in capsys.readouterr().err) is (way == "clear")


@pytest.mark.feature("XW-UM-2")
@pytest.mark.parametrize("option", ["--xwcert", "-xwcert"])
def test_a_users_certificate_goes_along_without_its_key(
    option: str, run: Run, fake: FakeGrid, tmp_path: Path
) -> None:
    public = "-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----\n"
    key = "-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----\n"
    (tmp_path / "cert").write_text(public + key)
    words = ("xwsenduser", "ann", "correct horse", "ann@lab", "standard", option, "cert")
    assert run(*words) == 0
    asked = [request for request in fake.requests if isinstance(request, m.SendUser)][-1]
    assert (asked.login, asked.password, asked.subjects) == ("ann", "correct horse", (public,))


@pytest.mark.feature("XW-MC-1", "XW-CLI-4")
def test_a_macro_file_runs_line_by_line(
    run: Run, fake: FakeGrid, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "macro").write_text(
        "# two works\n\n--xwsendwork say 'a b'\nxwsendwork say c --xwlabel second\n"
    )
    assert run(CLIENT, "--xwformat", "csv", "--xwmacro", "macro", "--xwremove", "nothing") == 0
    submitted = [request for request in fake.requests if isinstance(request, m.Submit)]
    assert [each.arguments for each in submitted] == [(("a b",),), (("c",),)]
    assert not [request for request in fake.requests if isinstance(request, m.Remove)]
    assert capsys.readouterr().out.count("uid") == 2


@pytest.mark.feature("XW-MC-1")
@pytest.mark.parametrize(
    "line, code, says",
    [
        ("--xwsendwork nothing", 1, "macro:2: this line failed"),
        ("--xwgetwork", 2, "macro:2: --xwgetwork is no parameter"),
        ("--xwmacro macro", 2, "macro:2: a macro file cannot run another one"),
        ("--xwsendwork 'say", 2, "macro:2: No closing quotation"),
    ],
)
def test_a_macro_ends_with_the_line_that_fails(
    line: str,
    code: int,
    says: str,
    run: Run,
    fake: FakeGrid,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "macro").write_text(f"--xwsendwork say 1\n{line}\n--xwsendwork say 3\n")
    assert run(CLIENT, "--xwmacro", "macro") == code
    assert says in capsys.readouterr().err
    submitted = [request for request in fake.requests if isinstance(request, m.Submit)]
    assert [each.arguments for each in submitted if each.arguments[0] != ()][:1] == [(("1",),)]
    assert (("3",),) not in [each.arguments for each in submitted]


def test_every_script_is_installed() -> None:
    text = (Path(__file__).parents[3] / "setup.cfg").read_text()
    for script in itertools.chain(SCRIPTS, [CLIENT]):
        assert f"    {script} = desktopgrid.client.legacy_cli:main\n" in text
    assert "    xtremweb.server = desktopgrid.server.command:main\n" in text
    assert "    xtremweb.worker = pilot.node.cli:main\n" in text
