"""What is written in a language is read from it as the same job, whatever its texts hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from jdl import adl, globus, jsdl
from jdl.errors import BadDescription, JdlError, Unsayable
from jdl.glite import UNSAYABLE as JDL_UNSAYABLE
from jdl.job import EVENTS, File, Job, Read, said
from jdl.languages import LANGUAGES, Directory, without
from jdl.submit import UNSAYABLE as SUBMIT_UNSAYABLE
from jdl.xrsl import UNSAYABLE as XRSL_UNSAYABLE

NASTY = [
    "two words",
    "don't",
    'say "hi"',
    "$HOME",
    "$(DATA)",
    "`id`",
    ")(",
    "(* no comment *)",
    "(*",
    "a\\b",
    "# no comment",
    "// no comment",
    "a&b|c;d<e>f",
    "&amp;<![CDATA[x]]>",
    "[x=1]{y}",
    "_PARAM_",
    "-",
    "*.txt ?",
    "ünï¢ode 中文 🙂",
    "100%",
    "a=b",
    "^x^",
    "~",
    "''",
    '""',
]
"""What some language has to quote. Line ends and empty texts are in the strategies."""

LANGUAGE_NAMES = list(LANGUAGES)
UNSAYABLE = {
    "submit": SUBMIT_UNSAYABLE,
    "jdl": JDL_UNSAYABLE,
    "jsdl": jsdl.UNSAYABLE,
    "xrsl": XRSL_UNSAYABLE,
    "adl": adl.UNSAYABLE,
    "rsl": globus.UNSAYABLE,
}

characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
texts = st.one_of(st.sampled_from(NASTY), st.text(characters, max_size=8))
names = st.one_of(
    st.sampled_from(["a.out", "data set.txt", "o'brien", "x$y", "ä.dat", "a(b).txt"]),
    st.from_regex(r"[a-z][a-z0-9_.]{0,8}", fullmatch=True),
)
places = st.one_of(
    st.just(""),
    names.map("gsiftp://se.example.org/{}".format).map(lambda uri: uri.replace(" ", "%20")),
)


@st.composite
def jobs(
    draw: st.DrawFn,
    texts: st.SearchStrategy[str] = texts,
    places: st.SearchStrategy[str] = places,
) -> Job:
    """Jobs as readers make them: no file twice, the program and standard input first, no stream
    among the outputs.
    """
    variables = st.tuples(st.from_regex(r"[A-Z_][A-Z0-9_]{0,6}", fullmatch=True), texts)
    own = draw(st.lists(names, min_size=5, max_size=8, unique=True))
    executable, stdin, stdout, stderr, *others = own
    sent = [name for name in (executable, stdin) if draw(st.booleans())]
    inputs = [File(name) for name in sent] + [File(name, draw(places)) for name in others[:2]]
    nodes = draw(st.sampled_from([1, 1, 2]))
    cores = nodes * draw(st.integers(1, 4))
    notify = draw(st.sampled_from(["", "ann@example.org"]))
    return Job(
        executable=executable if executable in sent else "/bin/echo",
        arguments=tuple(draw(st.lists(texts, max_size=4))),
        environment=tuple(draw(st.lists(variables, max_size=3, unique_by=lambda pair: pair[0]))),
        stdin=stdin if stdin in sent else draw(st.sampled_from(["", "/etc/motd"])),
        stdout=draw(st.sampled_from(["", stdout])),
        stderr=draw(st.sampled_from(["", stderr, stdout])),
        inputs=tuple(inputs),
        outputs=tuple(File(name, draw(places)) for name in others[2:]),
        name=draw(st.sampled_from(["", "my job", 'j"1"'])),
        cores=cores,
        nodes=nodes,
        memory_mib=draw(st.integers(0, 4)) * cores * 64,
        disk_mib=draw(st.integers(0, 4)) * 100,
        wall_time=draw(st.integers(0, 100)) * 60,
        cpu_time=draw(st.integers(0, 100)) * 60,
        cpu=draw(st.sampled_from(["", "x86_64"])),
        os=draw(st.sampled_from(["", "linux"])),
        software=tuple(draw(st.lists(st.sampled_from(["ENV/PROXY", 'A"B']), unique=True))),
        queue=draw(st.sampled_from(["", "short"])),
        project=draw(st.sampled_from(["", "atlas"])),
        vo=draw(st.sampled_from(["", "testvo"])),
        requirements=draw(
            st.sampled_from(
                [
                    "",
                    "TARGET.Memory >= 512",
                    'TARGET.A >= 1 && (TARGET.B is "x" || TARGET.C < 3)',
                    "TARGET.A ? TARGET.B : TARGET.C",
                ]
            )
        ),
        rank=draw(st.sampled_from(["", "TARGET.Mips * 2"])),
        retries=draw(st.sampled_from([None, 0, 3])),
        notify=notify,
        notify_on=tuple(draw(st.sampled_from([("end",), ("error",), EVENTS]))) if notify else (),
    )


modest_jobs = jobs(st.sampled_from(["two words", "don't", "$HOME", ")("]), st.just(""))
"""Jobs that most languages have words for, however many of them there are."""


def sayable(name: str, job: Job) -> Job:
    """The job without the fields that the language has no words for at all."""
    return without(job, [field for field in said(job) if field in UNSAYABLE[name]])


def written_and_read(name: str, jobs: list[Job]) -> Read:
    """What the language makes of it, and of that; what cannot be said ends the example."""
    language = LANGUAGES[name]
    try:
        text = language.write(jobs)
    except Unsayable:
        assume(False)
    return language.read(text)


@pytest.mark.parametrize("name", LANGUAGE_NAMES)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(job=jobs())
def test_a_job_is_read_as_it_was_written(name: str, job: Job) -> None:
    job = sayable(name, job)
    if name == "rsl":  # its files have whole paths or URIs, and its program's name is the path's
        job = staged_by_gram(job)
    if name == "adl":
        job = without_events(job)
    found = written_and_read(name, [job])
    assert found.jobs == (job,)


def staged_by_gram(job: Job) -> Job:
    """The job as one of RSL: its files have addresses."""

    def addressed(file: File) -> File:
        return file if file.uri else File(file.name, f"/home/ann/{file.name}")

    inputs, outputs = (tuple(map(addressed, files)) for files in (job.inputs, job.outputs))
    return replace(job, inputs=inputs, outputs=outputs)


def without_events(job: Job) -> Job:
    """The job without errors to be told of, which ADL does not know."""
    return replace(job, notify_on=tuple(each for each in job.notify_on if each != "error"))


@pytest.mark.parametrize("name", [name for name, each in LANGUAGES.items() if each.holds_many])
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(several=st.lists(modest_jobs, min_size=2, max_size=3))
def test_several_jobs_are_read_as_they_were_written(name: str, several: list[Job]) -> None:
    several = [sayable(name, job) for job in several]
    if name == "rsl":
        several = [staged_by_gram(job) for job in several]
    if name == "submit":  # in one file they ask for the same
        alike = ("cores", "nodes", "memory_mib", "disk_mib", "wall_time", "retries")
        same = {field: getattr(several[0], field) for field in alike}
        several = [replace(job, **same) for job in several]
    assert written_and_read(name, several).jobs == tuple(several)


@pytest.mark.parametrize("name", LANGUAGE_NAMES)
@pytest.mark.parametrize("text", [*NASTY, "", " ", "two\nlines", "a\tb", "\r\n", "x" * 5000])
def test_an_argument_is_kept_or_refused(name: str, text: str) -> None:
    job = Job("/bin/echo", ("before", text, "behind"), environment=(("X", text),))
    try:
        written = LANGUAGES[name].write([job])
    except Unsayable as refused:
        assert refused.attribute in ("arguments", "environment")
        assert (name, text) in REFUSED
    else:
        assert LANGUAGES[name].read(written).jobs == (job,)
        assert (name, text) not in REFUSED


REFUSED = {
    ("submit", "two\nlines"),
    ("submit", "\r\n"),
    ("jsdl", "two\nlines"),
    ("jsdl", "a\tb"),
    ("jsdl", "\r\n"),
}
"""A submit file's values are one line; JSDL's arguments are normalized strings."""


@pytest.mark.parametrize("name", LANGUAGE_NAMES)
@settings(max_examples=50, deadline=None)
@given(content=st.binary(max_size=200))
def test_rubbish_is_refused_with_a_reason(name: str, content: bytes) -> None:
    read_or_refuse(name, content.decode("latin-1"))


SEEDS = {
    "submit": "executable = a\narguments = \"'x y' $(Process)\"\nqueue 2 x in (a, b)\n",
    "jdl": '[Executable = "a"; Arguments = "x"; Requirements = other.A > 1; Nodes = {[A = 1]};]',
    "jsdl": LANGUAGES["jsdl"].write([Job("a", ("b",), cores=2)]),
    "xrsl": '&(executable="a")(arguments="b" $(X) # "c")(inputFiles=("a" ""))(wallTime="2 h")',
    "adl": LANGUAGES["adl"].write([Job("a", ("b",), cores=2)]),
    "rsl": '+(&(executable=a)(count=2))(&(executable=b)(rsl_substitution=(X "y")))',
}


@pytest.mark.parametrize("name", LANGUAGE_NAMES)
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_text_with_a_slip_is_read_or_refused(name: str, data: st.DataObject) -> None:
    text = SEEDS[name]
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 8)))
    slip = data.draw(st.text(st.sampled_from("()[]{}<>&|+=;,\"'$#\\/* \nqx1-.:^!"), max_size=4))
    read_or_refuse(name, text[:start] + slip + text[end:])


def read_or_refuse(name: str, text: str) -> None:
    """Nothing but a description or a reason may come of it."""
    try:
        assert LANGUAGES[name].read(text, Directory(Path("/nonexistent"))).jobs
    except BadDescription as refused:
        assert refused.reason
    except JdlError as other:
        raise AssertionError("a reader raises BadDescription only") from other
