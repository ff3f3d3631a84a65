"""gLite's JDL (EGEE-JRA1-TEC-590869, and CREAM's guide): single, parametric and collection jobs.

``Arguments`` is a piece of a shell's command line. ``Parameters`` is the list that ``_PARAM_`` runs
through, or the number below which it stays. The nodes of a collection inherit what they do not say.
DAGs are refused: nothing here keeps an order between jobs.
"""

from __future__ import annotations

import math
import posixpath
import re
from collections.abc import Iterator, Sequence

from condor import ads
from condor.errors import AdError, AdSyntaxError
from jdl import glue
from jdl.errors import BadDescription, Unsayable
from jdl.given import Given, Said
from jdl.job import (
    EVERYTHING,
    MOST_JOBS,
    Draft,
    File,
    Job,
    Notice,
    Read,
    file,
    refuse,
    with_streams,
)
from jdl.words import BadWords, join_shell, split_shell

NAME = "JDL"
PARAMETER = "_PARAM_"

UNSAYABLE = {
    "project": "it has no attribute for a project",
    "disk_mib": "the GLUE schema knows no disk of a worker node",
    "notify": "it has no attribute for notifying",
    "notify_on": "it has no attribute for notifying",
}
NOT_MAPPED = {
    "allowzippedisb": "files are sent as they are",
    "batchsystem": "which batch system is not chosen here",
    "brokerinfo": "there is no broker",
    "cerequirements": "it is for the computing element's batch system",
    "dataaccessprotocol": "files are inputs, by their names",
    "datarequirements": "files are inputs, by their names",
    "enablezippedisb": "files are sent as they are",
    "epilogue": "one program is run",
    "epiloguearguments": "one program is run",
    "expirytime": "a job has no time to expire",
    "fuzzyrank": "the best is taken, not one by chance",
    "hlrlocation": "accounting services are not told",
    "inputdata": "files are inputs, by their names",
    "jobprovenance": "where it is recorded is not chosen here",
    "lbaddress": "where it is recorded is not chosen here",
    "myproxyserver": "credentials are not renewed from there",
    "nodescollocation": "where nodes run is not tied together",
    "outputdata": "files are outputs, by their names",
    "outputse": "files are outputs, by their names",
    "perusalfileenable": "outputs are looked at when the job has ended",
    "perusalfilesdesturi": "outputs are looked at when the job has ended",
    "perusallistfileuri": "outputs are looked at when the job has ended",
    "perusaltimeinterval": "outputs are looked at when the job has ended",
    "prologue": "one program is run",
    "prologuearguments": "one program is run",
    "storageindex": "files are inputs, by their names",
    "usertags": "tags are not kept",
    "virtualorganization": "its spelling is VirtualOrganisation",
    "wholenodes": "hosts are not asked for alone",
    "zippedisb": "files are sent as they are",
}
_ROOT = re.compile(r"root\.(\w+)(?:\[(\d{1,6})\])?", re.IGNORECASE)
_KINDS = ("normal", "parametric")

Attribute = Said["ads.Value"]


def read(text: str) -> Read:
    """The jobs of a description; raises BadDescription."""
    try:
        attributes = _parse(text)
        jobs, notices = [], list[Notice]()
        for each in _expanded(attributes):
            draft = Draft()
            given = Given(draft, each)
            _read(draft, given)
            given.finish(NOT_MAPPED, "this attribute is not known in JDL")
            jobs.append(draft.job())
            notices += draft.notices
            if len(jobs) > MOST_JOBS:
                raise BadDescription(f"it makes more than {MOST_JOBS} jobs")
    except AdSyntaxError as error:
        raise BadDescription(error.reason, line=error.line) from None
    return Read(tuple(jobs), tuple(dict.fromkeys(notices)))


def _parse(text: str) -> list[Attribute]:
    if not re.match(r"(?:\s|//[^\n]*|#[^\n]*|/\*.*?\*/)*\[", text, re.DOTALL):
        # gLite's commands take a description without its brackets, too.
        text = f"[{text}\n]"
    return [Said(each.name, each.value, each.line) for each in ads.parse(text)]


_DEFAULTS: dict[str, Attribute] = {
    "type": Said("Type", "Job"),
    "parameters": Said("Parameters", None),
    "parameterstart": Said("ParameterStart", 0),
    "parameterstep": Said("ParameterStep", 1),
}


# One description, several jobs


def _expanded(attributes: list[Attribute]) -> Iterator[list[Attribute]]:
    """The attributes of each job."""
    by_name = {each.name.lower(): each for each in attributes}
    kind = by_name.pop("type", _DEFAULTS["type"])
    word = _string(kind).lower()
    nodes = by_name.pop("nodes", None)
    if word not in ("job", "collection") or (word == "collection" and nodes is None):
        raise kind.wrong('"Job", or "Collection" with Nodes')
    if word == "job" and nodes is not None:
        raise nodes.wrong('Type = "Collection" beside it')
    if nodes is None:
        yield from _parameters(list(by_name.values()))
    else:
        yield from _nodes(list(by_name.values()), nodes)


def _nodes(shared: list[Attribute], nodes: Attribute) -> Iterator[list[Attribute]]:
    root = {each.name.lower(): each for each in shared}
    if not isinstance(nodes.value, list) or not nodes.value:
        raise nodes.wrong("a list of descriptions { [...], [...] }")
    for node in nodes.value:
        if not isinstance(node, dict):
            raise nodes.wrong("a list of descriptions { [...], [...] }")
        own = {name.lower(): Said(name, value, nodes.line) for name, value in node.items()}
        for wrong in ("file", "nodes", "type"):
            if wrong in own:
                raise own[wrong].wrong("a node that is written out")
        if (name := own.pop("nodename", None)) and "jobname" not in own:
            own["jobname"] = Said("JobName", name.value, name.line)
        resolved = [Said(n.name, _resolved(n, n.value, root), n.line) for n in own.values()]
        inherited = [each for key, each in root.items() if key not in own]
        yield from _parameters([*resolved, *inherited])


def _resolved(said: Attribute, value: ads.Value, root: dict[str, Attribute]) -> ads.Value:
    """A value in which ``root.Name`` and ``root.Name[3]`` are what they stand for."""
    if isinstance(value, list):
        return [_resolved(said, each, root) for each in value]
    if isinstance(value, ads.Expression) and (match := _ROOT.fullmatch(value.text)):
        found = root.get(match[1].lower())
        if found is None:
            raise said.wrong(f"an attribute of the collection, and {match[1]} is none")
        if match[2] is None:
            return found.value
        if not isinstance(found.value, list) or int(match[2]) >= len(found.value):
            raise said.wrong(f"a value of {match[1]}")
        return found.value[int(match[2])]
    return value


def _parameters(attributes: list[Attribute]) -> Iterator[list[Attribute]]:
    by_name = {each.name.lower(): each for each in attributes}
    kind = by_name.pop("jobtype", None)
    kinds = [text.lower() for text in _strings(kind)] if kind else []
    if kind and not set(kinds) <= set(_KINDS):
        raise kind.wrong('"Normal" or "Parametric"')
    names = ("parameters", "parameterstart", "parameterstep")
    if "parametric" not in kinds:
        for name in names:
            if name in by_name:
                raise by_name[name].wrong('JobType = "Parametric" beside it')
        yield list(by_name.values())
        return
    parameters, start, step = (by_name.pop(name, _DEFAULTS[name]) for name in names)
    if isinstance(parameters.value, list):
        values = [_plain(parameters, each) for each in parameters.value]
    else:
        first, width, end = (_whole(each, -(1 << 62)) for each in (start, step, parameters))
        if width == 0:
            raise step.wrong("a step that leads somewhere")
        numbers = range(first, end, width)
        # A range of more than 2^63 numbers has no len().
        if numbers and (numbers[-1] - numbers[0]) // width >= MOST_JOBS:
            raise parameters.wrong(f"at most {MOST_JOBS} jobs")
        values = [str(number) for number in numbers]
    if not 0 < len(values) <= MOST_JOBS:
        raise parameters.wrong(f"between 1 and {MOST_JOBS} parameters")
    for value in values:
        yield [Said(n.name, _filled(n.value, value), n.line) for n in by_name.values()]


def _plain(said: Attribute, value: ads.Value) -> str:
    """A parameter as text; one that is a bare word is meant as the word."""
    if isinstance(value, ads.Expression) and re.fullmatch(r"[\w.]+", value.text):
        return value.text
    if isinstance(value, str) or (isinstance(value, int | float) and not isinstance(value, bool)):
        return str(value)
    raise said.wrong("a list of texts or numbers")


def _filled(value: ads.Value, parameter: str) -> ads.Value:
    if isinstance(value, str):
        return value.replace(PARAMETER, parameter)
    if isinstance(value, list):
        return [_filled(each, parameter) for each in value]
    if isinstance(value, ads.Expression):
        return ads.Expression(value.text.replace(PARAMETER, parameter))
    return value


# One job


def _read(draft: Draft, given: Given[ads.Value]) -> None:
    fields = draft.fields
    for name, key in (
        ("Executable", "executable"),
        ("StdInput", "stdin"),
        ("StdOutput", "stdout"),
        ("StdError", "stderr"),
        ("VirtualOrganisation", "vo"),
        ("QueueName", "queue"),
        ("JobName", "name"),
    ):
        if said := given.take(name):
            fields[key] = _string(said)
    if said := given.take("Arguments"):
        fields["arguments"] = _arguments(draft, said)
    if said := given.take("Environment"):
        fields["environment"] = tuple(_variable(said, text) for text in _strings(said))
    if said := given.take("CpuNumber", "NodeNumber"):
        fields["cores"] = _whole(said, 1)
    if said := given.take("HostNumber"):
        fields["nodes"] = _whole(said, 1)
    if said := given.take("SMPGranularity"):
        fields.setdefault("nodes", math.ceil(fields.get("cores", 1) / _whole(said, 1)))
    deep, shallow = given.take("RetryCount"), given.take("ShallowRetryCount")
    counts = [_whole(said, -1) for said in (deep, shallow) if said]
    if counts:
        # gLite's -1 is "not even the other kind".
        fields["retries"] = max(0, *counts)
    _read_files(draft, given)
    if said := given.take("Requirements"):
        lifted, left = glue.lift(_expression(said))
        fields.update(lifted, requirements=left)
    if said := given.take("Rank"):
        fields["rank"] = glue.expression(_expression(said))


def _read_files(draft: Draft, given: Given[ads.Value]) -> None:
    inputs, outputs = list[File](), list[File]()
    base = given.take("InputSandboxBaseURI")
    if said := given.take("InputSandbox"):
        for place in _strings(said):
            if base and "://" not in place:
                place = f"{_string(base).rstrip('/')}/{place.lstrip('/')}"
            place = place.removeprefix("file://")
            if any(mark in place for mark in "*?["):
                draft.note(
                    said.name, f"{place!r} is one file; patterns are not replaced", said.line
                )
            name = posixpath.basename(place)
            if not name:
                raise said.wrong("files' names")
            inputs.append(file(name, place))
    names = _strings(said) if (said := given.take("OutputSandbox")) else []
    targets, base = given.take("OutputSandboxDestURI"), given.take("OutputSandboxBaseDestURI")
    uris = _strings(targets) if targets else [""] * len(names)
    if targets and len(uris) != len(names):
        raise targets.wrong(f"as many as there are in OutputSandbox, {len(names)}")
    for name, uri in zip(names, uris, strict=True):
        if base and "://" not in uri:
            uri = f"{_string(base).rstrip('/')}/{uri or name}"
        outputs.append(file(name, uri))
    draft.fields.update(inputs=tuple(inputs), outputs=tuple(outputs))


def _arguments(draft: Draft, said: Attribute) -> tuple[str, ...]:
    if isinstance(said.value, int | float) and not isinstance(said.value, bool):
        return (str(said.value),)
    try:
        words, expanded = split_shell(_string(said))
    except BadWords as error:
        raise said.wrong(f"a command line, and {error}") from None
    if expanded:
        text = f"{expanded!r} is passed as it is; a shell would have replaced something in it"
        draft.note(said.name, text, said.line)
    return tuple(words)


def _variable(said: Attribute, text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise said.wrong("a list of NAME=VALUE")
    return name.strip(), value


def _string(said: Attribute) -> str:
    if not isinstance(said.value, str):
        raise said.wrong("a string")
    return said.value


def _strings(said: Attribute) -> list[str]:
    """The strings of a list; one string is a list of one."""
    values = said.value if isinstance(said.value, list) else [said.value]
    flat = [inner for each in values for inner in (each if isinstance(each, list) else [each])]
    strings = [each for each in flat if isinstance(each, str)]
    if len(strings) != len(flat):
        raise said.wrong("a list of strings")
    return strings


def _whole(said: Attribute, least: int) -> int:
    value = said.value
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise said.wrong(f"a whole number of at least {least}" if least > -2 else "a whole number")
    return value


def _expression(said: Attribute) -> str:
    if isinstance(said.value, ads.Expression):
        return said.value.text
    if isinstance(said.value, bool | int | float):
        return ads.literal(said.value)
    raise said.wrong("an expression")


# Writing


def write(jobs: Sequence[Job]) -> str:
    """The description of ``jobs``, several as a collection; raises Unsayable."""
    try:
        if len(jobs) == 1:
            text = _ad(jobs[0], "")
        else:
            nodes = ",\n".join(_ad(job, "    ").rstrip() for job in jobs)
            text = f'[\n  Type = "Collection";\n  Nodes = {{\n{nodes}\n  }};\n]\n'
        ads.parse(text)
    except (AdError, AdSyntaxError) as error:
        raise Unsayable(NAME, "jobs", str(error)) from None
    return text


def _ad(job: Job, indent: str) -> str:
    refuse(NAME, job, UNSAYABLE)
    lines = [f"{name} = {text};" for name, text in _attributes(job)]
    return f"{indent}[\n" + "".join(f"{indent}  {line}\n" for line in lines) + f"{indent}]\n"


def _attributes(job: Job) -> Iterator[tuple[str, str]]:
    for name, text in (
        ("JobName", job.name),
        ("Executable", job.executable),
        ("Arguments", join_shell(job.arguments)),
        ("StdInput", job.stdin),
        ("StdOutput", job.stdout),
        ("StdError", job.stderr),
    ):
        if text:
            yield name, ads.quote(text)
    if job.environment:
        yield "Environment", _list(f"{name}={value}" for name, value in job.environment)
    if job.inputs:
        yield "InputSandbox", _list(map(_source, job.inputs))
    if outputs := with_streams(job):
        if any(each.name == EVERYTHING for each in outputs):
            raise Unsayable(NAME, "outputs", "files are named one by one")
        yield "OutputSandbox", _list(each.name for each in outputs)
        if any(each.uri for each in outputs):
            yield "OutputSandboxDestURI", _list(map(_target, outputs))
    if job.vo:
        yield "VirtualOrganisation", ads.quote(job.vo)
    if job.queue:
        yield "QueueName", ads.quote(job.queue)
    if job.cores > 1 or job.nodes > 1:
        yield "CpuNumber", str(job.cores)
    if job.nodes > 1:
        yield "HostNumber", str(job.nodes)
    if job.retries is not None:
        yield "RetryCount", str(job.retries)
    if requirements := glue.said_in_requirements(job):
        yield "Requirements", requirements
    if job.rank:
        yield "Rank", glue.to_glite(job.rank)


def _list(texts: Iterator[str]) -> str:
    return f"{{{', '.join(map(ads.quote, texts))}}}"


def _source(each: File) -> str:
    if posixpath.basename(each.place) != each.name:
        raise Unsayable(NAME, "inputs", f"{each.place!r} cannot be called {each.name!r}")
    return each.place


def _target(each: File) -> str:
    if each.uri and not each.is_remote:
        raise Unsayable(NAME, "outputs", f"{each.uri!r} is no URI")
    return each.uri or each.name
