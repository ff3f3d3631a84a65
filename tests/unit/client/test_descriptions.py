"""What works take over of jobs, and what they cannot honour."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from desktopgrid.client.descriptions import Program, batches_of, places_of, wanted_of
from desktopgrid.model.objects import Description
from jdl.job import File, Job

ROOT = Path(__file__).resolve().parents[3]


def a_job(**facts: Any) -> Job:
    return replace(Job("greet", ("you",)), **facts)


def described(job: Job) -> Description:
    """The description of a work that honours all of a job."""
    wanted, _, notes = wanted_of(job)
    assert not notes
    return wanted.description


@pytest.mark.parametrize(
    "job, program, arguments",
    [
        pytest.param(a_job(), Program("greet"), ("you",), id="an application"),
        pytest.param(
            a_job(inputs=(File("greet", "bin/greet"),)),
            Program("greet", "bin/greet"),
            ("you",),
            id="a file",
        ),
        pytest.param(
            a_job(executable="/bin/echo"),
            Program("program", is_launched=True),
            ("/bin/echo", "you"),
            id="a program of the host",
        ),
    ],
)
def test_what_runs(job: Job, program: Program, arguments: tuple[str, ...]) -> None:
    wanted, its_arguments, _ = wanted_of(job)
    assert (wanted.program, its_arguments, wanted.inputs) == (program, arguments, ())


@pytest.mark.parametrize(
    "facts, field, value",
    [
        pytest.param({"environment": (("A", "b"),)}, "variables", (("A", "b"),), id="variables"),
        pytest.param({}, "outputs", ("*",), id="all that is new comes back"),
        pytest.param({"outputs": (File("a[1]"),)}, "outputs", ("a[[]1]",), id="names are literal"),
        pytest.param({"outputs": (File("*"),)}, "outputs", ("*",), id="but for all"),
        pytest.param({"name": "probe"}, "label", "probe", id="label"),
        pytest.param({"retries": 0}, "retries", 0, id="retries"),
        pytest.param({}, "retries", 3, id="retries by default"),
        pytest.param({"wall_time": 60}, "wall_time", 60, id="wall time"),
        pytest.param({"memory_mib": 512, "cores": 2}, "memory_mib", 512, id="memory"),
        pytest.param(
            {"cpu": "x86_64", "os": "linux", "requirements": "TARGET.Memory > 1"},
            "requirements",
            '(TARGET.Memory > 1) && (Arch == "x86_64") && (OpSys == "linux")',
            id="platform",
        ),
        pytest.param(
            {"requirements": "TARGET.GlueHostArchitectureSMPSize >= 4 && TARGET.Mips > 9"},
            "requirements",
            "TARGET.Cpus >= 4 && TARGET.Mips > 9",
            id="GLUE's names",
        ),
    ],
)
def test_what_a_work_takes_over(facts: dict[str, Any], field: str, value: object) -> None:
    assert getattr(described(a_job(**facts)), field) == value


@pytest.mark.parametrize(
    "facts, sentence",
    [
        ({"vo": "atlas"}, "vo: works are their user's"),
        ({"queue": "short"}, "queue: a grid has one queue"),
        ({"rank": "TARGET.Mips"}, "rank: the first host"),
        ({"cpu_time": 60}, "cpu_time: processor time"),
        ({"notify": "a@b"}, "notify: nobody"),
        ({"software": ("X",)}, "software: hosts"),
        ({"project": "p"}, "project: works"),
        ({"nodes": 2, "cores": 4}, "nodes: a work runs on one host"),
        ({"stdin": "/etc/motd"}, "stdin: /etc/motd is no input"),
        ({"stdout": "o", "stderr": "o"}, "stderr: it is written behind"),
        ({"outputs": (File("o", "gsiftp://h/o"),)}, "outputs: o comes back, and is not sent"),
        ({"requirements": "TARGET.GlueCEUniqueID == 1"}, "requirements: TARGET.GlueCEUniqueID"),
    ],
)
def test_what_a_work_cannot_honour_is_said(facts: dict[str, Any], sentence: str) -> None:
    _, _, (note,) = wanted_of(a_job(**facts))
    assert note.startswith(sentence)


def test_jobs_that_differ_in_their_arguments_go_together() -> None:
    jobs = [a_job(arguments=(word,)) for word in "abc"] + [a_job(cores=2)]
    batches, notes = batches_of([jobs[0], jobs[3], jobs[1], jobs[2]])
    assert [batch.arguments for batch in batches] == [(("a",), ("b",), ("c",)), (("you",),)]
    assert [job for batch in batches for job in batch.jobs] == jobs
    assert not notes


def test_places() -> None:
    one = a_job(stdout="o1", stderr="e", outputs=(File("r", "d/r1"), File("s", "http://h/s")))
    two = a_job(stdout="o2", stderr="e", outputs=(File("r", "d/r2"), File("*")))
    assert places_of([one, two], Path("/here")) == [
        {"stdout": Path("/here/o1"), "r": Path("/here/d/r1"), "s": Path("/here/s")},
        {"stdout": Path("/here/o2"), "r": Path("/here/d/r2")},
    ]


def test_who_has_no_description_loads_no_language() -> None:
    source = "import sys, desktopgrid.client.cli; print('jdl' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
