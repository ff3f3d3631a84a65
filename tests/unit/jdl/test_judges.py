"""What is written is accepted by judges that we did not write: classad2, HTCondor's own submit
parser and the schemas of JSDL.
"""

from __future__ import annotations

import functools
import os
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import classad2
import htcondor2
import pytest
from hypothesis import HealthCheck, assume, given, settings

from jdl.errors import Unsayable
from jdl.job import DEFAULTS, File, Job
from jdl.languages import EXTENSIONS, LANGUAGES, absolute, read_file
from jdl.pilot import pilot_job
from tests.unit.jdl.test_round_trips import jobs, sayable

# The schemas of JSDL are their publisher's: who has them names the directory. Descriptions that
# were taken by real grids may lie beside them.
SCHEMAS = Path(os.environ.get("GLIDEBRIDGE_JSDL", "/nonexistent"))
ROOT = Path(__file__).resolve().parents[3]
TEMPLATES = ROOT / "jdl/templates"
NONE = "\N{EN DASH}"
PAGE = ROOT / "docs/jdl.md"

FULL = Job(
    executable="run.sh",
    arguments=("two words", "don't", 'say "hi"', "$HOME", ")(", "<&>"),
    environment=(("GREETING", "hello  world"), ("EMPTY", "")),
    stdin="in.txt",
    stdout="std.out",
    stderr="std.err",
    inputs=(File("run.sh"), File("in.txt"), File("data", "gsiftp://se.example.org/data")),
    outputs=(File("out.dat"), File("more.dat", "https://se.example.org/more")),
    name="probe",
    cores=4,
    nodes=2,
    memory_mib=2048,
    wall_time=7200,
    cpu_time=3600,
    cpu="x86_64",
    os="linux",
)


def test_classad2_takes_what_is_written_as_jdl() -> None:
    job = replace(FULL, requirements="TARGET.GlueCEStateFreeCPUs > 3", rank="-TARGET.Load")
    ad = classad2.ClassAd(LANGUAGES["jdl"].write([job]))
    assert ad["Executable"] == "run.sh"
    assert ad["InputSandbox"] == ["run.sh", "in.txt", "gsiftp://se.example.org/data"]
    assert ad["Environment"] == ["GREETING=hello  world", "EMPTY="]


@pytest.mark.parametrize(
    "memory, free, fits",
    [
        pytest.param(4096, 8, True, id="enough"),
        pytest.param(1024, 8, False, id="too little memory"),
        pytest.param(4096, 0, False, id="no free processors"),
    ],
)
def test_classad2_matches_what_is_written_with_a_computing_element(
    memory: int, free: int, fits: bool
) -> None:
    job = Job(
        "/bin/true", memory_mib=2048, requirements="TARGET.FreeCPUs > 0", rank="TARGET.FreeCPUs"
    )
    written = LANGUAGES["jdl"].write([job])
    element = classad2.ClassAd(
        f"[GlueHostMainMemoryRAMSize = {memory}; FreeCPUs = {free}; Requirements = true]"
    )
    # The library's own matchmaking calls the other side TARGET; gLite's matchmaker calls it other.
    ad = classad2.ClassAd(written.replace("other.", "TARGET."))
    assert ad.symmetricMatch(element) is fits
    around = classad2.ClassAd()
    around["other"] = element
    around.update(classad2.ClassAd(written))
    assert around.eval("Requirements") is fits
    assert around.eval("Rank") == free


def test_htcondor_takes_what_is_written_as_a_submit_file() -> None:
    job = replace(FULL, cpu_time=0, cpu="", os="", retries=2, requirements="TARGET.Memory > 1")
    submit = htcondor2.Submit(LANGUAGES["submit"].write([job]))
    assert submit.expand("arguments") == ("\"'two words' 'don''t' 'say \"\"hi\"\"' $HOME )( <&>\"")
    assert submit.expand("transfer_input_files") == "gsiftp://se.example.org/data"
    assert submit.expand("request_cpus") == "2"


@functools.cache
def schema() -> object:
    """JSDL and its POSIX extension, checked together: alone the first lets the second pass."""
    xmlschema = pytest.importorskip("xmlschema")
    if not (SCHEMAS / "jsdl.xsd").exists():
        pytest.skip("the schemas of JSDL are not here: GLIDEBRIDGE_JSDL does not name them")
    wrapper = """<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">
    <xs:import namespace="http://schemas.ggf.org/jsdl/2005/11/jsdl" schemaLocation="jsdl.xsd"/>
    <xs:import namespace="http://schemas.ggf.org/jsdl/2005/11/jsdl-posix"
        schemaLocation="jsdl-posix.xsd"/></xs:schema>"""
    return xmlschema.XMLSchema(wrapper, base_url=SCHEMAS.as_uri())


def test_the_schemas_take_what_is_written_as_jsdl() -> None:
    judge = schema()
    judge.validate(LANGUAGES["jsdl"].write([FULL]))  # type: ignore[attr-defined]
    judge.validate((TEMPLATES / "pilot.jsdl").read_text())  # type: ignore[attr-defined]


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(job=jobs())
def test_the_schemas_take_any_job(job: Job) -> None:
    judge = schema()
    try:
        text = LANGUAGES["jsdl"].write([sayable("jsdl", job)])
    except Unsayable:
        assume(False)
    judge.validate(text)  # type: ignore[attr-defined]


def test_the_schemas_would_see_a_mistake() -> None:
    judge = schema()
    text = LANGUAGES["jsdl"].write([FULL])
    for wrong in (
        text.replace("CreationFlag", "CreatingFlag"),
        text.replace("posix:Output", "posix:Out"),
    ):
        assert not judge.is_valid(wrong)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["t.jdl", "t.jsdl", "t.xrsl", "t.adl"])
def test_descriptions_that_grids_have_taken_are_read(name: str) -> None:
    if not (SCHEMAS / name).exists():
        pytest.skip("they are not here: GLIDEBRIDGE_JSDL does not name them")
    language, found = read_file(SCHEMAS / name)
    (job,) = found.jobs
    assert language is EXTENSIONS[Path(name).suffix]
    assert (job.executable, job.arguments) == ("/bin/sh", ("run.sh", "10"))
    assert "out.dat" in {each.name for each in job.outputs}


@pytest.mark.parametrize("name", LANGUAGES)
def test_the_templates_are_what_the_writers_make_of_a_pilot(name: str) -> None:
    language, job = LANGUAGES[name], pilot_job()
    if language.wants_absolute:
        job = absolute(job, Path("/opt/glidebridge"))
    path = TEMPLATES / f"pilot{language.extensions[0]}"
    assert path.read_text() == language.write([job])
    chosen, found = read_file(path)
    assert (chosen, found.jobs, found.warnings) == (language, (job,), ())


def test_the_page_says_which_fields_a_language_has_no_words_for() -> None:
    lines = PAGE.read_text().splitlines()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines if "| `" in line
    ]
    names = [cell.strip() for cell in next(x for x in lines if x.startswith("| field")).split("|")]
    columns = names[2:-1]
    assert columns == list(LANGUAGES)
    table = {row[0].strip("`"): dict(zip(columns, row[1:], strict=True)) for row in rows}
    assert list(table) == ["executable", *DEFAULTS]
    for field, cells in table.items():
        for name, cell in cells.items():
            unsayable = import_module(LANGUAGES[name].module).UNSAYABLE
            assert (cell == NONE) is (field in unsayable), f"{field} in {name}"
