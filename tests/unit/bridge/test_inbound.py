"""What was handed in, as what a grid needs to know."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.inbound import Handed, Inbound, inbound, literals, split
from condor import quoting
from condor.errors import DescriptionRefused
from desktopgrid.model.errors import BadRequest
from desktopgrid.model.origins import Origin

AD = r"""
ClusterId = 12
ProcId = 3
GlobalJobId = "schedd@lal#12.3#1795176000"
User = "ann@lal.example"
Owner = "ann"
In = "/dev/null"
Environment = "A=1 'B=two  words' 'C=it''s \"quoted\"'"
RequestMemory = 512
RequestDisk = 2049
CpusProvisioned = 4
RequestCpus = ifthenelse(false, 1, 2)
NumJobCompletions = 0
"""


def condor(ad: str = AD, **facts: Any) -> Inbound:
    """The job of a starter in /sandbox."""
    default: dict[str, Any] = {
        "kind": "condor",
        "ad": ad,
        "command": ["/sandbox/job.sh", "one", "two words"],
        "directory": "/sandbox",
        "files": [["job.sh", 10, 0o755], ["input", 20, 0o644]],
    }
    return inbound({**default, **facts})


def test_a_job_is_what_its_ad_says() -> None:
    job = condor()
    assert (job.job, job.user) == ("schedd@lal#12.3#1795176000", "ann@lal.example")
    assert (job.program, job.is_carried, job.arguments) == ("job.sh", True, ("one", "two words"))
    assert [each.name for each in job.inputs] == ["input"]
    assert not job.packed
    assert not job.has_stdin
    said = job.description
    assert (said.cores, said.memory_mib, said.disk_mib) == (4, 512, 3)
    assert said.variables == (("A", "1"), ("B", "two  words"), ("C", 'it\'s "quoted"'))
    assert said.label == "ann@lal.example 12.3"
    assert said.outputs == ("*",)


def test_a_run_that_follows_an_end_is_another_work_and_one_that_follows_none_the_same() -> None:
    first, again = condor(), condor(AD.replace("Completions = 0", "Completions = 1"))
    assert first.origin("pool", 0) == Origin(("pool",), "schedd@lal#12.3#1795176000", 0)
    assert condor().origin("pool", 0) == first.origin("pool", 0)
    assert again.origin("pool", 0).job == "schedd@lal#12.3#1795176000.1"


def test_a_program_that_does_not_travel_is_a_path_there() -> None:
    job = condor(command=["/bin/echo", "x"])
    assert (job.program, job.is_carried) == ("/bin/echo", False)
    assert [each.name for each in job.inputs] == ["input"]
    assert [each.name for each in job.packed] == ["job.sh"]


def test_programs_and_trees_travel_as_they_lie_there() -> None:
    files = [
        *(["job.sh", 1, 0o755], ["tool", 1, 0o755], ["empty", -1, 0o755]),
        *(["deep", -1, 0o755], ["deep/data", 1, 0o644], ["deep/tool", 1, 0o755]),
    ]
    job = condor(files=files)
    assert [each.name for each in job.packed] == ["tool", "empty", "deep/tool"]
    assert [each.name for each in job.inputs] == ["deep/data"]


def test_a_proxy_does_not_leave_the_gateway() -> None:
    job = condor(f'{AD}x509userproxy = "/home/ann/proxy.pem"\n', files=[["proxy.pem", 1, 0o600]])
    assert job.files == ()


@pytest.mark.parametrize(
    ("said", "patterns"),
    [
        ('"a.txt,dir"', ("a.txt", "a.txt/*", "dir", "dir/*")),
        ('"[1].txt"', ("[[]1].txt", "[[]1].txt/*")),
        ('""', ()),
        ('"../x"', ("*",)),
        ("undefined", ("*",)),
    ],
)
def test_what_comes_back_is_what_the_user_named(said: str, patterns: tuple[str, ...]) -> None:
    assert condor(f"{AD}TransferOutput = {said}\n").description.outputs == patterns


def test_only_plain_values_of_an_ad_count() -> None:
    text = (
        'A = 1\nB = "x \\"y\\" \\\\z"\nC = TRUE\nD = 2.5\nE = 1 + 1\nF = time()\nnonsense\nG = -3'
    )
    assert literals(text) == {"a": 1, "b": 'x "y" \\z', "c": True, "d": 2.5, "g": -3}


@given(st.lists(st.text(min_size=1)))
def test_a_list_is_split_as_it_was_quoted(words: list[str]) -> None:
    try:
        quoted = quoting.quote_list("arguments", words)
    except DescriptionRefused:
        return
    # What condor_submit makes of it: no quotes around it, one where there were two, and the dollar.
    written = quoted[1:-1].replace('""', '"').replace("$(DOLLAR)", "$")
    assert split(written) == words


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"kind": "condor", "ad": "", "command": ["x"], "directory": "/", "files": []},
        {"kind": "condor", "ad": AD, "command": [], "directory": "/", "files": []},
        {"kind": "spec", "files": [["a"]]},
    ],
)
def test_wrong_facts_are_refused(facts: dict[str, Any]) -> None:
    with pytest.raises(BadRequest, match="a job's facts are wrong"):
        inbound(facts)


def test_a_job_that_a_batch_system_described(tmp_path: object) -> None:
    facts = {
        **{"kind": "spec", "job": "lrms-7", "user": "ann", "command": ["run.sh", "-v"]},
        **{"files": [["run.sh", 3, 0o755]], "variables": [["A", "1"]], "cores": 2},
        **{"passed": ["grid-a"], "has_stdin": True},
    }
    job = inbound(facts)
    assert job.is_its_program(Handed("run.sh", 3, 0o755))
    assert job.is_carried
    assert job.has_stdin
    assert job.origin("here", 3) == Origin(("grid-a", "here"), "lrms-7", 3)
    assert job.description.cores == 2
