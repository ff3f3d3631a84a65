"""What a description of jobs says in HTCondor's submit language."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from condor.errors import AdError, DescriptionRefused
from condor.quoting import quote_list
from condor.submit import JobDescription, as_cluster, require_files, submit_lines


def a_job(*arguments: str, **facts: object) -> JobDescription:
    return JobDescription(Path("/opt/pilot.pyz"), arguments, **facts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "words, text",
    [
        pytest.param([], '""', id="no words"),
        pytest.param(["--id", "7"], '"--id 7"', id="plain words"),
        pytest.param(["two words"], "\"'two words'\"", id="a space"),
        pytest.param(["a\tb"], "\"'a\tb'\"", id="a tab"),
        pytest.param(["don't"], "\"'don''t'\"", id="a single quote"),
        pytest.param([""], "\"''\"", id="an empty word"),
        pytest.param(['say "hi"'], '"\'say ""hi""\'"', id="double quotes"),
        pytest.param(["X=1", "Y=two words"], "\"X=1 'Y=two words'\"", id="assignments"),
        pytest.param(["$HOME"], '"$(DOLLAR)HOME"', id="a dollar"),
        pytest.param(["\\"], '"\\"', id="a backslash"),
    ],
)
def test_words_are_quoted(words: list[str], text: str) -> None:
    assert quote_list("arguments", words) == text


@pytest.mark.parametrize(
    "word", ["a\nb", "a\rb", "a\0b", "a\x1fb", "$$(Name)", "$(DOLLAR)", "$(dollar)", "\ud800"]
)
def test_what_cannot_be_said_is_refused(word: str) -> None:
    with pytest.raises(DescriptionRefused) as raised:
        submit_lines(a_job(word))
    assert raised.value.field == "arguments"


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param({"environment": {"A B": "1"}}, id="a variable's name with a space"),
        pytest.param({"environment": {"": "1"}}, id="a variable without a name"),
        pytest.param({"environment": {"A=B": "1"}}, id="a variable's name with ="),
        pytest.param({"input_files": (Path("a,b"),)}, id="a comma in a file's name"),
        pytest.param({"output_files": ("",)}, id="a file without a name"),
        pytest.param({"directory": Path("/tmp/x ")}, id="a space at the end"),
        pytest.param({"directory": Path("/tmp/x\\")}, id="a continued line"),
        pytest.param({"requirements": "true\nqueue 9"}, id="a second line"),
    ],
)
def test_bad_fields_are_refused(facts: Mapping[str, object]) -> None:
    with pytest.raises(DescriptionRefused):
        submit_lines(a_job(**facts))


def test_an_attribute_s_name_must_be_one() -> None:
    with pytest.raises(AdError):
        submit_lines(a_job(attributes={"A = 1\n+B": 1}))


def test_a_pilot_s_description() -> None:
    job = a_job(
        "--server",
        "grid.example",
        input_files=(Path("enrolment"), Path("ca.pem")),
        directory=Path("/var/pilots/7"),
        output="out",
        cores=2,
        memory_mib=1000,
        attributes={"GlidebridgeStamp": 'a"b', "GlidebridgeSite": 3},
        vacate_time=timedelta(minutes=2),
    )
    assert submit_lines(job) == {
        "universe": "vanilla",
        "executable": "/opt/pilot.pyz",
        "arguments": '"--server grid.example"',
        "environment": '"PATH=/usr/local/bin:/usr/bin:/bin"',
        "should_transfer_files": "YES",
        "when_to_transfer_output": "ON_EXIT",
        "transfer_input_files": "enrolment, ca.pem",
        "request_cpus": "2",
        "request_memory": "1000MB",
        "request_disk": "128MB",
        "job_max_vacate_time": "120",
        "job_lease_duration": "300",
        "periodic_remove": "(JobStatus == 1 && time() - QDate > 86400) || "
        "(JobStatus == 5 && time() - EnteredCurrentStatus > 3600)",
        "leave_in_queue": "False",
        "initialdir": "/var/pilots/7",
        "output": "out",
        "+GlidebridgeStamp": '"a\\"b"',
        "+GlidebridgeSite": "3",
    }


def test_equal_jobs_need_no_items() -> None:
    submit, items = as_cluster([a_job("x"), a_job("x")])
    assert items == [{}, {}]
    assert submit["arguments"] == '"x"'


def test_jobs_that_differ_share_what_they_have_in_common() -> None:
    first = a_job("--stamp", "a", attributes={"Stamp": "a"})
    second = a_job("--stamp", "b", attributes={"Stamp": "b"}, input_files=(Path("b"),))
    submit, items = as_cluster([first, second])
    assert submit["arguments"] == "$(glidebridge_arguments)"
    assert submit["request_cpus"] == "1"
    assert items == [
        {
            "glidebridge_arguments": '"--stamp a"',
            "glidebridge_transfer_input_files": "",
            "glidebridge_my_Stamp": '"a"',
        },
        {
            "glidebridge_arguments": '"--stamp b"',
            "glidebridge_transfer_input_files": "b",
            "glidebridge_my_Stamp": '"b"',
        },
    ]


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    (tmp_path / "here").write_text("")
    job = JobDescription(
        Path("/bin/sh"), input_files=(Path("here"), Path("gone")), directory=tmp_path
    )
    with pytest.raises(DescriptionRefused, match="gone"):
        require_files([job])
