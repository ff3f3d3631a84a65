"""Job descriptions against a real server and a real worker: submitted as they are, and what came
of them written where they say.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from desktopgrid.client.grid import Grid
from desktopgrid.model.objects import ANY_PLATFORM
from tests.system.processes import ServerUnderTest, a_grid, environment, until

Xw = Callable[..., subprocess.CompletedProcess[str]]

RUN = """#!/bin/sh
echo "$1|$2|$GREETING"
cat
cat data.txt >&2
echo result > out.dat
echo more > other.dat
"""

DESCRIPTIONS = {
    "job.sub": """
executable = run.sh
arguments = "'two words' $(Process)"
environment = "'GREETING=hi there'"
input = in.txt
output = std.out
error = std.err
transfer_input_files = data.txt
transfer_output_files = out.dat
transfer_output_remaps = "out.dat = results/out.dat"
request_memory = 16
queue
""",
    "job.jdl": """[
  Type = "Job";
  Executable = "run.sh";
  Arguments = "'two words' 0";
  Environment = {"GREETING=hi there"};
  StdInput = "in.txt";
  StdOutput = "std.out";
  StdError = "std.err";
  InputSandbox = {"run.sh", "in.txt", "data.txt"};
  OutputSandbox = {"std.out", "std.err", "out.dat"};
  Requirements = other.GlueHostMainMemoryRAMSize >= 16;
]
""",
    "job.jsdl": """<?xml version="1.0"?>
<j:JobDefinition xmlns:j="http://schemas.ggf.org/jsdl/2005/11/jsdl"
 xmlns:p="http://schemas.ggf.org/jsdl/2005/11/jsdl-posix"><j:JobDescription>
 <j:Application><p:POSIXApplication>
  <p:Executable>run.sh</p:Executable><p:Argument>two words</p:Argument><p:Argument>0</p:Argument>
  <p:Input>in.txt</p:Input><p:Output>std.out</p:Output><p:Error>std.err</p:Error>
  <p:Environment name="GREETING">hi there</p:Environment>
 </p:POSIXApplication></j:Application>
 <j:DataStaging><j:FileName>run.sh</j:FileName><j:CreationFlag>overwrite</j:CreationFlag>
  <j:Source/></j:DataStaging>
 <j:DataStaging><j:FileName>in.txt</j:FileName><j:CreationFlag>overwrite</j:CreationFlag>
  <j:Source/></j:DataStaging>
 <j:DataStaging><j:FileName>data.txt</j:FileName><j:CreationFlag>overwrite</j:CreationFlag>
  <j:Source/></j:DataStaging>
 <j:DataStaging><j:FileName>out.dat</j:FileName><j:CreationFlag>overwrite</j:CreationFlag>
  <j:Target/></j:DataStaging>
</j:JobDescription></j:JobDefinition>
""",
    "job.xrsl": """&(executable = "run.sh")(arguments = "two words" "0")
(environment = ("GREETING" "hi there"))(stdin = "in.txt")(stdout = "std.out")(stderr = "std.err")
(inputFiles = ("data.txt" ""))(outputFiles = ("out.dat" ""))(memory = "16")
""",
    "job.adl": """<?xml version="1.0"?>
<ActivityDescription xmlns="http://www.eu-emi.eu/es/2010/12/adl"><Application>
 <Executable><Path>run.sh</Path><Argument>two words</Argument><Argument>0</Argument></Executable>
 <Input>in.txt</Input><Output>std.out</Output><Error>std.err</Error>
 <Environment><Name>GREETING</Name><Value>hi there</Value></Environment></Application>
 <DataStaging>
  <InputFile><Name>run.sh</Name><IsExecutable>true</IsExecutable></InputFile>
  <InputFile><Name>in.txt</Name></InputFile><InputFile><Name>data.txt</Name></InputFile>
  <OutputFile><Name>out.dat</Name></OutputFile>
 </DataStaging></ActivityDescription>
""",
    "job.rsl": """&(executable = $(GLOBUSRUN_GASS_URL) # "HERE/run.sh")(arguments = "two words" "0")
(environment = ("GREETING" "hi there"))(stdin = $(GLOBUSRUN_GASS_URL) # "HERE/in.txt")
(stdout = std.out)(stderr = std.err)
(file_stage_in = ($(GLOBUSRUN_GASS_URL) # "HERE/data.txt" data.txt))
(file_stage_out = (out.dat $(GLOBUSRUN_GASS_URL) # "HERE/out.dat"))
""",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerUnderTest]:
    """A grid with one public worker."""
    with a_grid(tmp_path_factory.mktemp("descriptions")) as server:
        server.worker("public")
        yield server


@pytest.fixture(scope="module")
def grid(server: ServerUnderTest) -> Grid:
    """Its administrator."""
    grid = server.client()
    until(lambda: list(grid.objects("hosts")), "the worker is there")
    return grid


@pytest.fixture
def xw(server: ServerUnderTest, grid: Grid, tmp_path: Path) -> Xw:
    """The command, as the administrator and away from the descriptions."""
    identity = tmp_path / "admin.identity"
    server.identity().write(identity)
    (tmp_path / "elsewhere").mkdir()

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "desktopgrid.client.cli", *map(str, arguments)],
            cwd=tmp_path / "elsewhere",
            env={**environment(), "GLIDEBRIDGE_IDENTITY": str(identity)},
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A directory with a program and its files."""
    directory = tmp_path / "here"
    directory.mkdir()
    (directory / "run.sh").write_text(RUN)
    (directory / "in.txt").write_text("from standard input\n")
    (directory / "data.txt").write_text("from a file\n")
    return directory


def describe(here: Path, name: str, text: str) -> Path:
    path = here / name
    path.write_text(text.replace("HERE", str(here)))
    return path


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_a_description_is_submitted_and_its_outputs_are_where_it_says(
    xw: Xw, here: Path, name: str
) -> None:
    path = describe(here, name, DESCRIPTIONS[name])
    done = xw("submit", path, "--wait", "--rights", "public", "--strict")
    assert done.returncode == 0, done.stderr
    assert (here / "std.out").read_text() == "two words|0|hi there\nfrom standard input\n"
    assert (here / "std.err").read_text() == "from a file\n"
    out = here / ("results/out.dat" if name == "job.sub" else "out.dat")
    assert out.read_text() == "result\n"
    assert not (here / "other.dat").exists(), "only what is named comes back"


def test_a_program_is_registered_once(xw: Xw, grid: Grid, here: Path) -> None:
    (here / "run.sh").write_text(RUN + "# this one\n")
    path = describe(here, "job.jdl", DESCRIPTIONS["job.jdl"])
    before = {row["uid"] for row in grid.objects("apps")}
    for _ in range(2):
        assert xw("submit", path, "--wait", "--rights", "public").returncode == 0
    (new,) = [row for row in grid.objects("apps") if row["uid"] not in before]
    assert new["name"].startswith("run.sh-")
    assert xw("submit", path).returncode == 0, "for its user alone it is another application"
    assert len({row["uid"] for row in grid.objects("apps")} - before) == 2


def test_what_is_queued_is_a_sweep(xw: Xw, grid: Grid, here: Path) -> None:
    path = describe(
        here,
        "many.sub",
        "executable = run.sh\narguments = $(Word) $(Process)\noutput = out.$(Process)\n"
        "error = shared\ntransfer_input_files = data.txt\nqueue Word in (a, b, c)\n",
    )
    done = xw("submit", path, "--rights", "public", "--label", "many", "--quiet")
    assert done.returncode == 0, done.stderr
    uid = done.stdout.strip()
    assert xw("wait", uid).returncode == 0
    brought = xw("result", "--description", path, uid, "--format", "csv")
    assert brought.returncode == 0, brought.stderr
    said = [(here / f"out.{n}").read_text().splitlines()[0] for n in range(3)]
    assert said == ["a|0|", "b|1|", "c|2|"]
    assert not (here / "shared").exists(), "nobody's error is another's"
    assert [(here / f"{uid}-{n}/shared").read_text() for n in range(3)] == ["from a file\n"] * 3
    assert (here / f"{uid}-0/other.dat").read_text() == "more\n"
    assert {row["label"] for row in grid.objects("works", (uid,))} == {"many"}


def test_programs_of_the_host_and_applications_of_the_grid(xw: Xw, grid: Grid, here: Path) -> None:
    path = describe(here, "a.jdl", '[Executable = "/bin/sh"; Arguments = "-c \'echo $0 $1\' x y";]')
    done = xw("submit", path, "--wait", "--rights", "public")
    assert (done.returncode, done.stdout) == (0, "x y\n")
    grid.send_application("greet", b"#!/bin/sh\necho hello $1\n", ANY_PLATFORM)
    for name, text in (
        ("b.jdl", '[Executable = "greet"; Arguments = "you";]'),
        ("b.xrsl", '&(executable = "greet")(arguments = "you")'),
    ):
        done = xw("submit", describe(here, name, text), "--wait")
        assert (done.returncode, done.stdout) == (0, "hello you\n"), done.stderr


def test_what_a_work_cannot_honour_is_told_or_refused(xw: Xw, here: Path) -> None:
    path = describe(
        here,
        "a.jdl",
        '[\n Executable = "/bin/true";\n VirtualOrganisation = "atlas";\n MyProxyServer = "h";\n'
        " Requirements = other.GlueCEStateFreeCPUs > 3;\n]",
    )
    done = xw("submit", path, "--wait", "--rights", "public")
    assert done.returncode == 0, done.stderr
    for sentence in (
        "a.jdl: line 4: MyProxyServer: credentials are not renewed from there",
        "a.jdl: vo: works are their user's, and no virtual organisation's",
        "a.jdl: requirements: TARGET.GlueCEStateFreeCPUs > 3 is about no host",
    ):
        assert sentence in done.stderr
    strict = xw("submit", path, "--strict")
    assert (strict.returncode, strict.stdout) == (1, "")
    assert "MyProxyServer" in strict.stderr


@pytest.mark.parametrize(
    "text, message",
    [
        pytest.param("[ Executable = 3; ]", "a.jdl:1: Executable: expected a string", id="wrong"),
        pytest.param(
            '[Executable = "run.sh"; InputSandbox = {"run.sh", "no.txt"};]',
            "there is no file",
            id="no such input",
        ),
        pytest.param('[Executable = "no-such";]', "no-such", id="no such application"),
    ],
)
def test_a_description_that_cannot_be_submitted_leaves_nothing(
    xw: Xw, grid: Grid, here: Path, text: str, message: str
) -> None:
    def everything() -> list[str]:
        return [row["uid"] for kind in ("apps", "datas", "works") for row in grid.objects(kind)]

    before = everything()
    done = xw("submit", describe(here, "a.jdl", text))
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert everything() == before


def test_the_command_line_does_not_say_it_twice(xw: Xw, here: Path) -> None:
    path = describe(here, "a.jdl", '[Executable = "/bin/true";]')
    done = xw("submit", path, "--variable", "A=1", "--", "x")
    assert done.returncode == 2
    assert "a job description says this itself" in done.stderr
    assert xw("submit", "greet", "--strict").returncode == 2
