"""What readers understand of each language, what they name, and what they refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jdl.errors import BadDescription, UnknownLanguage
from jdl.job import File, Job, said
from jdl.languages import LANGUAGES, Directory, language_of, read_file


def read(name: str, text: str) -> Job:
    """The one job of a text, which is understood whole."""
    found = LANGUAGES[name].read(text)
    assert not found.warnings
    (job,) = found.jobs
    return job


def posix(inside: str, around: str = "") -> str:
    return (
        '<JobDefinition xmlns="http://schemas.ggf.org/jsdl/2005/11/jsdl" xmlns:p='
        '"http://schemas.ggf.org/jsdl/2005/11/jsdl-posix"><JobDescription><Application>'
        f"<p:POSIXApplication><p:Executable>a</p:Executable>{inside}</p:POSIXApplication>"
        f"</Application>{around}</JobDescription></JobDefinition>"
    )


def activity(inside: str, around: str = "") -> str:
    return (
        '<ActivityDescription xmlns="http://www.eu-emi.eu/es/2010/12/adl"><Application>'
        f"<Executable><Path>a</Path></Executable>{inside}</Application>{around}"
        "</ActivityDescription>"
    )


def ranged(name: str, inside: str) -> str:
    return posix("", f"<Resources><{name}>{inside}</{name}></Resources>")


@pytest.mark.parametrize(
    "name, text, expected",
    [
        pytest.param("jdl", 'Executable = "a";', {}, id="jdl without brackets"),
        pytest.param("jdl", '# c\n[ EXECUTABLE = "a"; // c\n /* c */ ]', {}, id="jdl comments"),
        pytest.param(
            "jdl",
            '[Executable="a"; Arguments="-i \\"my name\\" x";]',
            {"arguments": ("-i", "my name", "x")},
            id="jdl arguments are a shell's",
        ),
        pytest.param(
            "jdl",
            '[Executable="a"; InputSandbox={"a","/x/b","gsiftp://h/c"};]',
            {"inputs": (File("a"), File("b", "/x/b"), File("c", "gsiftp://h/c"))},
            id="jdl inputs",
        ),
        pytest.param(
            "jdl",
            '[Executable="a"; InputSandbox={"b"}; InputSandboxBaseURI="gsiftp://h/d";]',
            {"inputs": (File("b", "gsiftp://h/d/b"),)},
            id="jdl base of inputs",
        ),
        pytest.param(
            "jdl",
            '[Executable="a"; OutputSandbox={"x","y"};'
            ' OutputSandboxDestURI={"gsiftp://h/x1","gsiftp://h/y1"};]',
            {"outputs": (File("x", "gsiftp://h/x1"), File("y", "gsiftp://h/y1"))},
            id="jdl destinations",
        ),
        pytest.param(
            "jdl",
            '[Executable="a"; Requirements = (other.GlueHostMainMemoryRAMSize >= 512) &&'
            " other.GlueCEPolicyMaxWallClockTime >= 60 && (other.A > 1 || other.B);"
            " Rank = -other.Load;]",
            {
                "memory_mib": 512,
                "wall_time": 3600,
                "requirements": "TARGET.A > 1 || TARGET.B",
                "rank": "-TARGET.Load",
            },
            id="jdl requirements are taken apart",
        ),
        pytest.param(
            "jdl",
            '[Executable="a"; Requirements = Member("X-1",'
            " other.GlueHostApplicationSoftwareRunTimeEnvironment);]",
            {"software": ("X-1",)},
            id="jdl software",
        ),
        pytest.param(
            "jdl",
            '[Executable="a"; RetryCount=0; ShallowRetryCount=2; CpuNumber=4; SMPGranularity=2;]',
            {"retries": 2, "cores": 4, "nodes": 2},
            id="jdl numbers",
        ),
        pytest.param(
            "jsdl", ranged("TotalCPUCount", "<Exact>4.0</Exact>"), {"cores": 4}, id="jsdl"
        ),
        pytest.param(
            "jsdl",
            ranged("TotalPhysicalMemory", "<LowerBoundedRange>1048577</LowerBoundedRange>"),
            {"memory_mib": 2},
            id="jsdl memory is rounded up",
        ),
        pytest.param(
            "jsdl",
            posix(
                "<p:WallTimeLimit>60</p:WallTimeLimit><p:Environment name='A'> b </p:Environment>"
            ),
            {"wall_time": 60, "environment": (("A", " b "),)},
            id="jsdl posix",
        ),
        pytest.param(
            "jsdl",
            posix(
                "",
                "<DataStaging><FileName>x</FileName><CreationFlag>overwrite</CreationFlag>"
                "<Source><URI>my%20file</URI></Source><Target/></DataStaging>",
            ),
            {"inputs": (File("x", "my file"),), "outputs": (File("x"),)},
            id="jsdl staging both ways",
        ),
        pytest.param(
            "jsdl",
            posix("")
            .replace("<p:Executable>a</p:Executable>", "")
            .replace("<Application>", "<Application><ApplicationName>a</ApplicationName>"),
            {},
            id="jsdl application by its name",
        ),
        pytest.param(
            "xrsl",
            "&(executable=/bin/a)(join=yes)(stdout=o)",
            {"stdout": "o", "stderr": "o"},
            id="xrsl",
        ),
        pytest.param(
            "xrsl",
            '&(executable=/bin/a)(wallTime="1 hour 30 minutes")(cpuTime=2)',
            {"wall_time": 5400, "cpu_time": 120},
            id="xrsl times",
        ),
        pytest.param(
            "xrsl",
            "&(executable=/bin/a)(count=4)(countPerNode=2)(memory=100)",
            {"cores": 4, "nodes": 2, "memory_mib": 200},
            id="xrsl memory is a slot's",
        ),
        pytest.param(
            "xrsl",
            '(* c *)&(executable=/bin/a)(rsl_substitution=(D "/data"))(inputFiles=("x" $(D)/x))',
            {"inputs": (File("x", "/data/x"),)},
            id="xrsl variables and comments",
        ),
        pytest.param(
            "xrsl",
            '&(executable=a)(notify="be ann@x.org")',
            {"inputs": (File("a"),), "notify": "ann@x.org", "notify_on": ("start", "end")},
            id="xrsl sends a relative executable",
        ),
        pytest.param(
            "rsl",
            '&(executable=$(GLOBUSRUN_GASS_URL)#"/home/x/a")(maxTime=5)(count=2)(jobType=single)',
            {"inputs": (File("a", "/home/x/a"),), "wall_time": 300, "cores": 2},
            id="rsl",
        ),
        pytest.param(
            "rsl",
            "&(executable=/bin/a)(arguments='don''t' ^%100%%% \"a\"\"b\")",
            {"arguments": ("don't", "100%", 'a"b')},
            id="rsl quotes",
        ),
        pytest.param(
            "adl",
            activity(
                "",
                "<Resources><SlotRequirement><NumberOfSlots>4</NumberOfSlots></SlotRequirement>"
                "<IndividualPhysicalMemory>1048576</IndividualPhysicalMemory></Resources>",
            ),
            {"cores": 4, "memory_mib": 4},
            id="adl",
        ),
        pytest.param(
            "submit",
            "executable=/bin/a\ntransfer_executable=no\nenvironment=A=1;B=2\nrequest_memory=2G\n"
            "request_disk=2048\nqueue",
            {"environment": (("A", "1"), ("B", "2")), "memory_mib": 2048, "disk_mib": 2},
            id="submit",
        ),
        pytest.param(
            "submit",
            "executable = a \\\n\ninitialdir = d\ninput = in\noutput = o\n"
            "transfer_input_files = x, /y/z\ntransfer_output_files = r\n"
            'transfer_output_remaps = "r = q"\nqueue',
            {
                "inputs": (File("a"), File("in", "d/in"), File("x", "d/x"), File("z", "/y/z")),
                "stdin": "in",
                "stdout": "d/o",
                "outputs": (File("r", "d/q"),),
            },
            id="submit initialdir",
        ),
    ],
)
def test_it_is_understood(name: str, text: str, expected: dict[str, Any]) -> None:
    found = said(read(name, text))
    assert found.pop("executable") in ("a", "/bin/a")
    if name == "submit" and "inputs" not in expected:
        assert not found.pop("inputs", ())
    assert found == expected


@pytest.mark.parametrize(
    "name, text, attribute, line",
    [
        pytest.param("jdl", '[Executable="a";\nMyProxyServer="h";]', "MyProxyServer", 2, id="jdl"),
        pytest.param("jdl", '[Executable="a";\nFoo=1;]', "Foo", 2, id="jdl unknown"),
        pytest.param(
            "jdl", '[Executable="a"; Arguments="*.txt";]', "Arguments", 1, id="jdl pattern"
        ),
        pytest.param("jsdl", posix("\n<p:UserName>x</p:UserName>"), "UserName", 2, id="jsdl"),
        pytest.param("jsdl", posix("", "<x:y xmlns:x='u'/>"), "y", 1, id="jsdl extension"),
        pytest.param("xrsl", "&(executable=/a)\n(gmlog=x)", "gmlog", 2, id="xrsl"),
        pytest.param("xrsl", "&(executable=/a)(queue!=x)", "queue", 1, id="xrsl operator"),
        pytest.param("xrsl", "&(executable=/a)(what=x)", "what", 1, id="xrsl unknown"),
        pytest.param("rsl", "&(executable=/a)\n(two_phase=1)", "twophase", 2, id="rsl"),
        pytest.param("rsl", "&(executable=/a)(count=2)", "count", 1, id="rsl starts many"),
        pytest.param("adl", activity("<RemoteLogging/>"), "RemoteLogging", 1, id="adl"),
        pytest.param("submit", "executable=a\nlog=x\nqueue", "log", 2, id="submit"),
        pytest.param("submit", "executable=a\n+Foo=1\nqueue", "+Foo", 2, id="submit attribute"),
        pytest.param("submit", "executable=a\nhold=true\nqueue", "hold", 2, id="submit hold"),
        pytest.param("submit", "executable=a\nx=1\nqueue", "x", 2, id="submit unused macro"),
        pytest.param("submit", "executable=a$(X)\nqueue", "$(X)", None, id="submit no macro"),
        pytest.param("submit", "executable=a.$(Cluster)\nqueue", "$(Cluster)", None, id="cluster"),
    ],
)
def test_what_is_not_mapped_is_named(
    name: str, text: str, attribute: str, line: int | None
) -> None:
    (notice, *others) = LANGUAGES[name].read(text).warnings
    assert not others
    assert notice.attribute == attribute
    assert notice.line == line


DEEP = "(" * 40


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("jdl", "", "executable: there is nothing to run"),
        ("jdl", "[", ":1: [ is not closed"),
        ("jdl", '[Executable="a]', ":1: a string does not end"),
        ("jdl", '[Executable="a"]]', "] closes nothing"),
        ("jdl", '[Executable="a"] [x=1]', "there is more behind the ad"),
        (
            "jdl",
            '[Executable="a";\nexecutable="b"]',
            ":2: executable is said twice, first on line 1",
        ),
        ("jdl", "[Executable=a]", "Executable: expected a string"),
        ("jdl", '[Executable="a"; CpuNumber="4"]', "CpuNumber: expected a whole number"),
        (
            "jdl",
            '[Executable="a"; Environment={"A"}]',
            "Environment: expected a list of NAME=VALUE",
        ),
        ("jdl", '[Executable="a"; Arguments="\'x"]', "Arguments: expected a command line"),
        ("jdl", '[Executable="a"; Type="DAG"]', 'Type: expected "Job"'),
        ("jdl", '[Executable="a"; JobType="Interactive"]', 'JobType: expected "Normal"'),
        ("jdl", '[Executable="a"; Parameters=3]', "Parameters: expected JobType"),
        ("jdl", '[JobType="Parametric"; Executable="a"]', "Parameters: expected a whole number"),
        (
            "jdl",
            '[JobType="Parametric"; Executable="a"; Parameters=9; ParameterStep=0]',
            "ParameterStep: expected a step",
        ),
        (
            "jdl",
            '[JobType="Parametric"; Executable="a"; Parameters=4000000000000000000]',
            "Parameters: expected at most 100000 jobs",
        ),
        ("jdl", '[Type="Collection"; Nodes={}]', "Nodes: expected a list of descriptions"),
        ("jdl", '[Type="Collection"; Nodes={[file="x"]}]', "file: expected a node"),
        ("jdl", f'[Executable="a"; Rank={DEEP}', "nested deeper than 32"),
        ("jdl", f'[Executable="a"; Rank=a{".a" * 2000}]', "more than 1000 operators"),
        ("jdl", f'[Executable="{"a" * 70_000}"]', "at most 65536"),
        ("jdl", '[Executable="a"; CpuNumber=99999999999999999999]', "no number of 64 bits"),
        ("jsdl", "", "no well-formed XML"),
        ("jsdl", "<a/>", "expected a JobDefinition"),
        ("jsdl", "<!DOCTYPE a><a/>", "a document type is not allowed"),
        ("jsdl", '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "a document type is not allowed"),
        ("jsdl", "<a>" * 40, "nested deeper than 32"),
        (
            "jsdl",
            posix("\n<p:WallTimeLimit>x</p:WallTimeLimit>"),
            ":2: WallTimeLimit: expected a whole",
        ),
        ("jsdl", posix("<p:Input/><p:Input/>"), "Input: it is said twice"),
        ("jsdl", posix("<p:Environment>x</p:Environment>"), "Environment: a variable has a name"),
        (
            "jsdl",
            ranged("TotalCPUCount", "<Exact>many</Exact>"),
            "TotalCPUCount: expected a whole number",
        ),
        ("jsdl", ranged("TotalCPUCount", ""), "TotalCPUCount: expected a range"),
        ("jsdl", posix("", "<DataStaging/>"), "DataStaging: there is no FileName"),
        ("adl", "<a/>", "expected an ActivityDescription"),
        ("adl", activity("<Environment/>"), "Environment: a variable has a Name"),
        (
            "adl",
            activity("", "<DataStaging><InputFile/></DataStaging>"),
            "InputFile: there is no Name",
        ),
        ("xrsl", "", "expected relations"),
        ("xrsl", "&(executable=a", "expected ')', found the end"),
        ("xrsl", "&(executable='a)", "a quote does not close"),
        ("xrsl", "&(executable=a)x", "expected the end, found 'x'"),
        ("xrsl", "&(executable)", "expected = behind 'executable'"),
        ("xrsl", "|(executable=a)(executable=b)", "alternatives (|) are not read"),
        ("xrsl", "&(executable=$(HOME)/a)", "the variable HOME has no value here"),
        ("xrsl", "&(executable=a b)", "executable: expected one value"),
        ("xrsl", "&(executable=a)(executable=b)", "executable: it is said twice"),
        ("xrsl", "&(executable=/a)(wallTime=soon)", "walltime: expected a time"),
        ("xrsl", "&(executable=/a)(count=0)", "count: expected a whole number of at least 1"),
        ("xrsl", "&(executable=/a)(inputFiles=x)", "inputfiles: expected pairs"),
        ("xrsl", "&(executable=/a)(join=yes)", "join: expected stdout"),
        ("xrsl", "&(executable=/a)(notify=be)", "notify: expected an address"),
        ("xrsl", f"&{DEEP}", "nested deeper than 16"),
        ("rsl", "+", "there is no request behind +"),
        ("rsl", "&(count=1)", "executable: there is nothing to run"),
        ("submit", "", "nothing is queued"),
        ("submit", "queue", ":1: executable: there is nothing to run"),
        ("submit", "executable=a\nfoo\nqueue", ":2: expected NAME = value or queue"),
        ("submit", "executable=a\nif $(x)\nqueue", ":2: if: this statement is not read"),
        ("submit", "include : x\nqueue", ":1: include: this statement is not read"),
        ("submit", "universe=grid\nexecutable=a\nqueue", ":1: universe: expected vanilla"),
        ("submit", "executable=$(executable)\nqueue", "its macros never end"),
        ("submit", "executable=a$(executable)b\nqueue", "executable: "),
        ("submit", "executable=a\narguments=$ENV(HOME)\nqueue", "arguments: expected no $$ and no"),
        (
            "submit",
            'executable=a\narguments="x\nqueue',
            "arguments: expected arguments, and a double",
        ),
        ("submit", "executable=a\nrequest_memory=lots\nqueue", "request_memory: expected a size"),
        ("submit", "executable=a\nrequirements=(a\nqueue", "requirements: expected a ClassAd"),
        ("submit", "executable=a\nqueue many", "queue: expected queue [COUNT]"),
        ("submit", "executable=a\nqueue x in (a", "queue: the list is not closed"),
        ("submit", "executable=a\nqueue x from list.txt", "queue: the list list.txt is a file"),
        ("submit", "executable=a\nqueue x from make |", "queue: 'make |' is no file"),
        ("submit", "executable=a\nqueue x in [::0] (a)", "queue: [::0] has step 0"),
        ("submit", "executable=a\nqueue 200000", "queue: it makes more than 100000 jobs"),
        ("submit", "executable=a\nnotification=x\nqueue", "notification: expected Always"),
    ],
)
def test_what_is_wrong_is_refused(name: str, text: str, message: str) -> None:
    with pytest.raises(BadDescription) as raised:
        LANGUAGES[name].read(text)
    assert message in str(raised.value)


# Several jobs


def test_parametric_jobs_run_through_numbers_or_words() -> None:
    head = (
        '[JobType = "Parametric"; Executable = "a";'
        ' Arguments = "-n _PARAM_"; StdOutput = "o_PARAM_";'
    )
    numbers = LANGUAGES["jdl"].read(
        f"{head} Parameters = 10; ParameterStart = 1; ParameterStep = 3;]"
    )
    assert [job.arguments for job in numbers.jobs] == [("-n", "1"), ("-n", "4"), ("-n", "7")]
    words = LANGUAGES["jdl"].read(f'{head} Parameters = {{"x", y, 3}};]')
    assert [job.stdout for job in words.jobs] == ["ox", "oy", "o3"]


def test_nodes_of_a_collection_inherit() -> None:
    found = LANGUAGES["jdl"].read(
        '[Type = "Collection"; InputSandbox = {"a", "b"}; RetryCount = 2; Nodes = {'
        ' [NodeName = "one"; Executable = "a"; InputSandbox = {root.InputSandbox[0]}],'
        ' [Executable = "b"; RetryCount = 0] };]'
    )
    assert not found.warnings
    one, two = found.jobs
    assert (one.name, one.inputs, one.retries) == ("one", (File("a"),), 2)
    assert (two.inputs, two.retries) == ((File("a"), File("b")), 0)


def test_requests_of_several_jobs() -> None:
    for name in ("xrsl", "rsl"):
        found = LANGUAGES[name].read("+(&(executable=/bin/a))(&(executable=/bin/b))")
        assert [job.executable for job in found.jobs] == ["/bin/a", "/bin/b"]


@pytest.mark.parametrize(
    "queue, arguments",
    [
        pytest.param("queue", ["0"], id="once"),
        pytest.param("queue 3", ["0", "1", "2"], id="a count"),
        pytest.param("queue $(N)", ["0", "1"], id="a count by a macro"),
        pytest.param("queue Item in (x y, z)", ["x0", "y1", "z2"], id="in"),
        pytest.param("queue in [1:] (x y, z)", ["y0", "z1"], id="a slice"),
        pytest.param("queue in [1] (x y, z)", ["y0", "z1"], id="a slice of one number"),
        pytest.param("queue 2 Item in (x y)", ["x0", "x1", "y2", "y3"], id="a count of each"),
        pytest.param("queue Item,B from (\nx, 1 1\ny 2\n)", ["x1 10", "y21"], id="from a list"),
        pytest.param("queue Item from list.txt", ["p q0", "r1"], id="from a file"),
        pytest.param("queue Item matching files *.dat", ["1.dat0", "2.dat1"], id="matching"),
        pytest.param("queue\nB = !\nqueue 2", ["0", "!1", "!2"], id="again, with what changed"),
    ],
)
def test_queue(tmp_path: Path, queue: str, arguments: list[str]) -> None:
    (tmp_path / "list.txt").write_text("p q\nr\n")
    for name in ("2.dat", "1.dat", "3.txt"):
        (tmp_path / name).touch()
    text = f"executable = a\nN = 2\narguments = \"'$(Item:)$(B:)$(Process)'\"\n{queue}\n"
    found = LANGUAGES["submit"].read(text, Directory(tmp_path))
    assert [job.arguments for job in found.jobs] == [(each,) for each in arguments]


# Which language


@pytest.mark.parametrize(
    "path, text, name",
    [
        ("a.sub", "", "submit"),
        ("a.JDL", "", "jdl"),
        ("a", "<j:JobDefinition", "jsdl"),
        ("a", "<?xml?><ActivityDescription", "adl"),
        ("a", "&(executable=a)(jobName=x)", "xrsl"),
        ("a", "(* c *) &(executable=a)(max_time=x)", "rsl"),
        ("a", "x = 1\nqueue 4\n", "submit"),
        ("a", '# c\n[\n Executable = "a";\n]', "jdl"),
        ("a", 'Executable = "a";', "jdl"),
    ],
)
def test_the_language_is_found(path: str, text: str, name: str) -> None:
    assert language_of(path, text).name == name


def test_files_that_are_no_descriptions_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("hello")
    with pytest.raises(UnknownLanguage, match="no language that is known"):
        read_file(path)
    path.write_bytes(b"ok\n\xff")
    with pytest.raises(BadDescription, match=r"a:2: it is no text in UTF-8"):
        read_file(path)
    path.write_bytes(b"x" * (1 << 20) + b"x")
    with pytest.raises(BadDescription, match="larger than"):
        read_file(path)
    with pytest.raises(BadDescription, match="No such file"):
        read_file(tmp_path / "b")
    path = tmp_path / "c.jdl"
    path.write_text("[\n Executable = 3\n]")
    with pytest.raises(BadDescription, match=r"c\.jdl:2: Executable: expected a string"):
        read_file(path)
