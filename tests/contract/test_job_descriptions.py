"""Job descriptions before those who will read them: HTCondor's condor_submit, the parser of
ARC's clients and A-REX, and that of Globus. What they make of a text is what we make of it.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jdl.job import File, Job
from jdl.languages import LANGUAGES, read_file
from jdl.words import split_condor
from tests.grid_box import GridClients
from tests.real import real_part
from tests.unit.jdl.test_round_trips import NASTY

COMMANDS = """
executable = program
N = 2
arguments = "'$(Item:none)$(B:)$(Process)' $(ItemIndex)$(Step)"
"""
STATEMENTS = [
    "queue",
    "queue 3",
    "queue $(N)",
    "queue Item in (x y, z)",
    "queue Item in [1:] (x y, z)",
    "queue 2 Item in (x y)",
    "queue Item, B from (\nx, 1 1\ny 2\n)",
    "queue $(N) Item in [::2] (a b c)",
    "queue Item in [-1:] (a b c)",
    "queue Item in [1] (a b c)",
    "queue Item from list.txt",
    "queue Item matching files *.dat",
    "queue Item in (x y)\nqueue 2 Item in (z)",
]


@pytest.fixture(scope="session")
def condor_submit() -> Path:
    """HTCondor's own command."""
    return real_part("GLIDEBRIDGE_HTCONDOR", "HTCondor") / "usr/bin/condor_submit"


def dry_run(command: Path, path: Path) -> list[dict[str, str]]:
    """The ads of the jobs that condor_submit would make of a file."""
    here = path.parent
    release = command.parents[1]
    (here / "condor_config").write_text(
        f"RELEASE_DIR = {release}\nLOCAL_DIR = {here}\nSPOOL = {here}\nLOG = {here}\n"
        "CONDOR_HOST = 127.0.0.1\n"
    )
    libraries = {str(each.parent) for each in release.glob("lib/**/libcondor_utils*")}
    done = subprocess.run(
        [command, "-dry-run", "ads", path.name],
        cwd=here,
        env={
            **os.environ,
            "CONDOR_CONFIG": str(here / "condor_config"),
            "LD_LIBRARY_PATH": ":".join(libraries),
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    # What is the same for a cluster is said with its first job.
    ads: list[dict[str, str]] = []
    for block in (here / "ads").read_text().split("\n\n"):
        pairs = (line.split("=", 1) for line in block.splitlines() if "=" in line)
        ad = {name.strip(): value.strip() for name, value in pairs}
        if ad:
            ads.append({**(ads[0] if ads else {}), **ad})
    return ads


def a_program(here: Path) -> None:
    (here / "program").write_text("#!/bin/sh\n")
    (here / "program").chmod(0o755)


@pytest.mark.parametrize("statement", STATEMENTS)
def test_queue_makes_the_jobs_that_condor_submit_makes(
    condor_submit: Path, tmp_path: Path, statement: str
) -> None:
    a_program(tmp_path)
    (tmp_path / "list.txt").write_text("p q\n# an item\n\nr\n")
    for name in ("2.dat", "1.dat", "3.txt"):
        (tmp_path / name).write_text("x")
    path = tmp_path / "many.sub"
    path.write_text(f"{COMMANDS}{statement}\n")
    theirs = [split_condor(new_syntax(ad["Arguments"])) for ad in dry_run(condor_submit, path)]
    _, found = read_file(path)
    assert [list(job.arguments) for job in found.jobs] == theirs


@pytest.mark.parametrize("text", [text for text in NASTY if "$$" not in text])
def test_condor_submit_reads_the_arguments_that_were_written(
    condor_submit: Path, tmp_path: Path, text: str
) -> None:
    a_program(tmp_path)
    job = Job("program", ("before", text), (("X", text),), inputs=(File("program"),))
    path = tmp_path / "one.sub"
    path.write_text(LANGUAGES["submit"].write([job]))
    (ad,) = dry_run(condor_submit, path)
    assert split_condor(new_syntax(ad["Arguments"])) == ["before", text]
    assert split_condor(new_syntax(ad["Environment"])) == [f"X={text}"]


def test_condor_submit_asks_for_what_was_written(condor_submit: Path, tmp_path: Path) -> None:
    a_program(tmp_path)
    for name in ("in.txt", "data set"):
        (tmp_path / name).write_text("x")
    (tmp_path / "results").mkdir()
    job = Job(
        "program",
        stdin="in.txt",
        stdout="std.out",
        stderr="std.err",
        inputs=(File("program"), File("in.txt"), File("data set")),
        outputs=(File("out.dat", "results/out.dat"), File("more.dat")),
        name="my job",
        cores=4,
        memory_mib=100,
        disk_mib=2,
        wall_time=60,
        requirements='TARGET.Mips > 3 && TARGET.Name != "a\\"b"',
        rank="TARGET.Mips",
        retries=2,
        project="atlas.higgs",
        notify="ann@example.org",
        notify_on=("error",),
    )
    path = tmp_path / "one.sub"
    path.write_text(LANGUAGES["submit"].write([job]))
    (ad,) = dry_run(condor_submit, path)
    asked = {
        "In": '"in.txt"',
        "Out": '"std.out"',
        "Err": '"std.err"',
        "TransferInput": '"data set"',
        "TransferOutput": '"out.dat,more.dat"',
        "TransferOutputRemaps": '"out.dat = results/out.dat"',
        "JobBatchName": '"my job"',
        "RequestCpus": "4",
        "RequestMemory": "100",
        "RequestDisk": "2048",
        "AllowedExecuteDuration": "60",
        "Rank": "TARGET.Mips",
        "JobMaxRetries": "2",
        "AcctGroup": '"atlas.higgs"',
        "NotifyUser": '"ann@example.org"',
        "JobNotification": "3",
    }
    assert {name: ad.get(name) for name in asked} == asked
    assert 'TARGET.Mips > 3 && TARGET.Name != "a\\"b"' in ad["Requirements"]


def new_syntax(value: str) -> str:
    """A string of an ad as it would stand in a submit file. The dry run escapes quotes only."""
    return '"{}"'.format(value[1:-1].replace('\\"', '""'))


ARC = """
import json, sys, arc
found = arc.JobDescriptionList()
assert arc.JobDescription.Parse(open(sys.argv[1]).read(), found)
(job,) = found
a, r, d = job.Application, job.Resources, job.DataStaging
print(json.dumps({
    "executable": a.Executable.Path,
    "arguments": list(a.Executable.Argument),
    "environment": [[each[0], each[1]] for each in a.Environment],
    "streams": [a.Input, a.Output, a.Error],
    "name": job.Identification.JobName,
    "inputs": [[f.Name, f.IsExecutable] for f in d.InputFiles],
    "outputs": [f.Name for f in d.OutputFiles],
    "times": [r.TotalWallTime.range.max, r.TotalCPUTime.range.max],
    "memory": r.IndividualPhysicalMemory.max,
    "slots": [r.SlotRequirement.NumberOfSlots, r.SlotRequirement.SlotsPerHost],
    "queue": r.QueueName,
    "os": [str(each) for each in r.OperatingSystem.getSoftwareList()],
    "software": [str(each) for each in r.RunTimeEnvironment.getSoftwareList()],
    "notify": [n.Email for n in a.Notification],
}))
"""


def arc_reads(path: Path) -> dict[str, Any]:
    """What ARC's parser makes of a description."""
    usr = real_part("GLIDEBRIDGE_GRID_CLIENTS", "ARC's library")
    plugins = next(usr.glob("lib/**/libaccJobDescriptionParser.so")).parent
    done = subprocess.run(
        [usr / "bin/python3.11", "-c", ARC, path],
        env={
            "ARC_PLUGIN_PATH": str(plugins),
            "ARC_LOCATION": str(usr),
            "PYTHONPATH": f"{usr}/lib/python3/dist-packages",
            "LC_ALL": "C.UTF-8",
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", ["xrsl", "adl"])
def test_arc_reads_what_was_written(name: str, tmp_path: Path) -> None:
    job = Job(
        executable="run.sh",
        arguments=(*NASTY, "two\nlines", "", "a\tb"),
        environment=tuple((f"V{n}", text) for n, text in enumerate(NASTY)),
        stdin="in.txt",
        stdout="std.out",
        stderr="std.err",
        inputs=(File("run.sh"), File("in.txt"), File("data", "https://se.example.org/data")),
        outputs=(File("out.dat"),),
        name="my job",
        cores=4,
        nodes=2,
        memory_mib=2048,
        wall_time=7210,
        cpu_time=3600,
        os="linux",
        software=("ENV/PROXY",),
        queue="short",
        notify="ann@example.org",
        notify_on=("start", "end"),
    )
    path = tmp_path / f"a.{name}"
    path.write_text(LANGUAGES[name].write([job]))
    assert arc_reads(path) == {
        "executable": "run.sh",
        "arguments": list(job.arguments),
        "environment": [list(pair) for pair in job.environment],
        "streams": ["in.txt", "std.out", "std.err"],
        "name": "my job",
        "inputs": [["run.sh", True], ["in.txt", False], ["data", False]],
        "outputs": ["std.out", "std.err", "out.dat"],
        "times": [7210, 3600],
        "memory": 1024,
        "slots": [4, 2],
        "queue": "short",
        "os": ["linux"],
        "software": ["ENV/PROXY"],
        "notify": ["ann@example.org"],
    }


@pytest.mark.parametrize(
    "text",
    [
        "&(executable=/bin/a)(arguments='don''t' ^%100%%% \"a\"\"b\" x#y)",
        '(* c *)&(executable=/bin/a)(rsl_substitution=(D "/data"))(arguments=$(D)/x $(D)#"y")',
        '&(executable=/bin/a)(wall_time="1 hour, 30 minutes")(CPUTime=2)(jobName=" n ")',
        '&(executable=/bin/a)(&(count=4)(countPerNode=2))(environment=("A" "b c")("D" ""))',
    ],
)
def test_we_read_what_arc_reads(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.xrsl"
    path.write_text(text)
    theirs = arc_reads(path)
    (job,) = LANGUAGES["xrsl"].read(text).jobs
    unsaid = replace(job, wall_time=job.wall_time or -1, cpu_time=job.cpu_time or -1)
    assert theirs["arguments"] == list(job.arguments)
    assert theirs["environment"] == [list(pair) for pair in job.environment]
    assert theirs["times"] == [unsaid.wall_time, unsaid.cpu_time]
    assert theirs["name"] == job.name
    assert max(1, theirs["slots"][0]) == job.cores


GLOBUS = """
import ctypes, json, sys
library = ctypes.CDLL("libglobus_rsl.so.2")
texts = ctypes.POINTER(ctypes.c_char_p)
library.globus_rsl_parse.restype = ctypes.c_void_p
library.globus_rsl_parse.argtypes = [ctypes.c_char_p]
library.globus_rsl_param_get.argtypes = [
    ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(texts)
]
parsed = library.globus_rsl_parse(open(sys.argv[1], "rb").read())
assert parsed, "no RSL"
found = {}
for name, kind in (("arguments", 2), ("environment", 3), ("stdout", 1), ("maxwalltime", 1)):
    values, n = texts(), 0
    assert library.globus_rsl_param_get(parsed, kind, name.encode(), ctypes.byref(values)) == 0
    found[name] = []
    while values and values[n] is not None:
        found[name].append(values[n].decode())
        n += 1
print(json.dumps(found))
"""


def test_globus_reads_what_was_written(tmp_path: Path) -> None:
    usr = real_part("GLIDEBRIDGE_GRID_CLIENTS", "Globus' library")
    # A comment's beginning is written as two texts, which only evaluating puts together.
    texts = [*(text for text in NASTY if "(*" not in text), "two\nlines", "", "a\tb"]
    variables = tuple((f"V{n}", text) for n, text in enumerate(texts))
    job = Job("/bin/echo", tuple(texts), variables, stdout="std.out", wall_time=61)
    path = tmp_path / "a.rsl"
    path.write_text(LANGUAGES["rsl"].write([job]))
    done = subprocess.run(
        [usr / "bin/python3.11", "-c", GLOBUS, path],
        env={"LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "arguments": texts,
        "environment": [text for pair in variables for text in pair],
        "stdout": ["std.out"],
        "maxwalltime": ["2"],
    }


def test_gram_runs_what_was_written(grid_clients: GridClients, tmp_path: Path) -> None:
    grid_clients.box.start("gram")
    texts = [text for text in NASTY if "(*" not in text and text.isprintable()]
    job = Job("/usr/bin/printf", ("%s|", *texts), (("COLOUR", "deep  blue"),))
    (tmp_path / "a.rsl").write_text(LANGUAGES["rsl"].write([job]))
    contact = grid_clients.box.gram["fork"]
    ask = ("globusrun", "-s", "-r", contact, "-f", "a.rsl")
    done = grid_clients.run("alice", *ask, directory=tmp_path)
    assert done.stdout == "".join(f"{text}|" for text in texts), done.stderr
