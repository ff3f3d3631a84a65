"""JSDL 1.0 (GFD.56, GFD.136) with its POSIX extension: one job a document.

Ranges: of a size or a number of processors the least that is asked for counts, of a time the most.
Sizes are bytes, times seconds. A file whose source or target has no URI is the submitter's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import quote, unquote

from jdl import xml
from jdl.errors import BadDescription, Unsayable
from jdl.given import MIB, Said, mib, whole
from jdl.job import EVERYTHING, Draft, File, Job, Read, file, only_one, refuse, with_streams
from jdl.xml import Node, Tree, element

NAME = "JSDL"
JSDL = "http://schemas.ggf.org/jsdl/2005/11/jsdl"
POSIX = "http://schemas.ggf.org/jsdl/2005/11/jsdl-posix"

UNSAYABLE = {
    "software": "it has no element for installed software",
    "queue": "it has no element for a queue",
    "vo": "it has no element for a virtual organisation",
    "requirements": "it has no expressions",
    "rank": "it has no expressions",
    "retries": "it has no element for trying again",
    "notify": "it has no element for notifying",
    "notify_on": "it has no element for notifying",
}
NOT_MAPPED = {
    "Description": "descriptions for people are not kept",
    "JobAnnotation": "annotations are not kept",
    "ApplicationVersion": "an application has no version here",
    "CandidateHosts": "hosts are not chosen by their names",
    "ExclusiveExecution": "hosts are not asked for alone",
    "FileSystem": "a job has one directory, and no other file systems",
    "FilesystemName": "a job has one directory, and no other file systems",
    "IndividualCPUSpeed": "the speed of processors is not known",
    "IndividualNetworkBandwidth": "the network of hosts is not known",
    "IndividualVirtualMemory": "memory is asked for as physical memory",
    "TotalVirtualMemory": "memory is asked for as physical memory",
    "OperatingSystemVersion": "systems are told by their name only",
    "WorkingDirectory": "a job has a directory of its own",
    "DeleteOnTermination": "what is left behind is removed anyhow",
    "UserName": "the user's identity says who runs it",
    "GroupName": "the user's identity says who runs it",
}
# JSDL's own spelling (5.2.2, 5.2.3) -> what hosts call it. Others are taken in small letters.
CPUS = {"x86_32": "i686", "x86": "i686", "x86_64": "x86_64", "arm": "armv7l", "powerpc": "ppc"}
SYSTEMS = {"LINUX": "linux", "MACOS": "darwin", "WINNT": "windows", "FreeBSD": "freebsd"}
_CPU_NAMES = {"i686": "x86_32", "x86_64": "x86_64", "armv7l": "arm", "ppc": "powerpc"}
_SYSTEM_NAMES = {name: word for word, name in SYSTEMS.items()}
_BOUNDS = {"least": ("Exact", "LowerBoundedRange", "LowerBound", "UpperBoundedRange", "UpperBound")}
_BOUNDS["most"] = ("UpperBoundedRange", "UpperBound", "Exact", "LowerBoundedRange", "LowerBound")
_VARIABLE = re.compile(r"[A-Za-z_][\w.-]*", re.ASCII)


def read(text: str) -> Read:
    """The job of a document; raises BadDescription."""
    root = xml.parse(text)
    if (root.namespace, root.name) != (JSDL, "JobDefinition"):
        expected = f"expected a JobDefinition of {JSDL}"
        raise BadDescription(f"{expected}, found {root.name} of {root.namespace!r}", line=root.line)
    draft = Draft()
    description = root.take("JobDescription")
    if description is None:
        raise BadDescription("there is none", "JobDescription", root.line)
    root.leftovers(draft, NOT_MAPPED)
    if found := description.take("JobIdentification"):
        _read_identification(draft, found)
    if found := description.take("Application"):
        _read_application(draft, found)
    if found := description.take("Resources"):
        _read_resources(draft, found)
    for found in description.take_all("DataStaging"):
        _read_staging(draft, found)
    description.leftovers(draft, NOT_MAPPED)
    return Read((draft.job(),), tuple(draft.notices))


def _read_identification(draft: Draft, node: Node) -> None:
    if found := node.take("JobName"):
        draft.fields["name"] = found.text
    projects = node.take_all("JobProject")
    if projects:
        draft.fields["project"] = projects[0].text
    for found in projects[1:]:
        draft.note(found.name, f"only the first is kept, not {found.text!r}", found.line)
    node.leftovers(draft, NOT_MAPPED)


def _read_application(draft: Draft, node: Node) -> None:
    fields = draft.fields
    application = node.take("ApplicationName")
    if posix := node.take("POSIXApplication", POSIX):
        for name, key in (
            ("Executable", "executable"),
            ("Input", "stdin"),
            ("Output", "stdout"),
            ("Error", "stderr"),
        ):
            if found := posix.take(name):
                fields[key] = _text(draft, found)
        fields["arguments"] = tuple(_text(draft, each) for each in posix.take_all("Argument"))
        variables = posix.take_all("Environment")
        fields["environment"] = tuple((_name(each), _text(draft, each)) for each in variables)
        if found := posix.take("WallTimeLimit"):
            fields["wall_time"] = whole(Said(found.name, found.text, found.line))
        if found := posix.take("CPUTimeLimit"):
            fields["cpu_time"] = whole(Said(found.name, found.text, found.line))
        if found := posix.take("MemoryLimit"):
            fields["memory_mib"] = mib(whole(Said(found.name, found.text, found.line)))
        posix.leftovers(draft, NOT_MAPPED)
    if application is not None:
        if fields.get("executable"):
            text = f"{application.text!r} is not kept beside an Executable"
            draft.note(application.name, text, application.line)
        else:
            fields["executable"] = application.text
    node.leftovers(draft, NOT_MAPPED)


def _read_resources(draft: Draft, node: Node) -> None:
    fields = draft.fields
    for names, key, unit, bound in (
        (("TotalCPUCount",), "cores", 1, "least"),
        (("TotalResourceCount",), "nodes", 1, "least"),
        (("IndividualPhysicalMemory",), "memory_mib", MIB, "least"),
        (("IndividualDiskSpace",), "disk_mib", MIB, "least"),
        (("TotalCPUTime", "IndividualCPUTime"), "cpu_time", 1, "most"),
    ):
        for name in names:
            if found := node.take(name):
                fields[key] = -(-_range(draft, found, bound) // unit)
    nodes = fields.get("nodes", 1)
    if found := node.take("IndividualCPUCount"):
        fields.setdefault("cores", _range(draft, found, "least") * nodes)
    for name, key in (("TotalPhysicalMemory", "memory_mib"), ("TotalDiskSpace", "disk_mib")):
        if found := node.take(name):
            fields.setdefault(key, -(-_range(draft, found, "least") // (MIB * nodes)))
    if found := node.take("CPUArchitecture"):
        if name_ := found.take("CPUArchitectureName"):
            fields["cpu"] = CPUS.get(name_.text, name_.text)
        found.leftovers(draft, NOT_MAPPED)
    if found := node.take("OperatingSystem"):
        if kind := found.take("OperatingSystemType"):
            if name_ := kind.take("OperatingSystemName"):
                fields["os"] = SYSTEMS.get(name_.text, name_.text.lower())
            kind.leftovers(draft, NOT_MAPPED)
        found.leftovers(draft, NOT_MAPPED)
    node.leftovers(draft, NOT_MAPPED)


def _range(draft: Draft, node: Node, bound: str) -> int:
    values: dict[str, int] = {}
    exact = [*node.take_all("Exact")]
    for range_ in node.take_all("Range"):
        exact += [*range_.take_all("LowerBound"), *range_.take_all("UpperBound")]
    for each in (*node.take_all("LowerBoundedRange"), *node.take_all("UpperBoundedRange"), *exact):
        # They are doubles in the schema, and whole numbers by what they count.
        if not re.fullmatch(r"\s*\d{1,15}(\.0*)?([eE]\+?\d{1,2})?\s*", each.text):
            raise Said(node.name, each.text, each.line).wrong("a whole number in a range")
        number = int(float(each.text))
        if number >= 1 << 63:
            raise Said(node.name, each.text, each.line).wrong("a number of 63 bits")
        keeps = min if bound == "least" else max
        values[each.name] = keeps(values.get(each.name, number), number)
    if not values:
        raise BadDescription("expected a range of numbers", node.name, node.line)
    chosen = next(name for name in _BOUNDS[bound] if name in values)
    if len(values) > 1:
        draft.note(node.name, f"{values[chosen]} is asked for of the range", node.line)
    node.leftovers(draft, NOT_MAPPED)
    return values[chosen]


def _read_staging(draft: Draft, node: Node) -> None:
    name = node.take("FileName")
    if name is None or not name.text:
        raise BadDescription("there is no FileName", "DataStaging", node.line)
    flag = node.take("CreationFlag")
    if flag is not None and flag.text.strip() != "overwrite":
        draft.note(flag.name, f"{name.text} is written over, not {flag.text}", flag.line)
    ends = {key: node.take(tag) for key, tag in (("inputs", "Source"), ("outputs", "Target"))}
    if ends == {"inputs": None, "outputs": None}:
        draft.note("DataStaging", f"{name.text} comes from nowhere and goes nowhere", node.line)
    for key, end in ends.items():
        if end is not None:
            uri = end.take("URI")
            end.leftovers(draft, NOT_MAPPED)
            staged = file(name.text, _place(uri.text.strip()) if uri else "")
            draft.fields[key] = (*draft.fields.get(key, ()), staged)
    if (deleted := node.take("DeleteOnTermination")) and deleted.text.strip() in ("false", "0"):
        draft.note(deleted.name, NOT_MAPPED[deleted.name], deleted.line)
    node.leftovers(draft, NOT_MAPPED)


def _text(draft: Draft, node: Node) -> str:
    if "filesystemName" in node.attributes:
        draft.note(node.name, NOT_MAPPED["FilesystemName"], node.line)
    return node.text


def _name(node: Node) -> str:
    name = node.attributes.get("name", "")
    if not name:
        raise BadDescription("a variable has a name", node.name, node.line)
    return name


def _place(uri: str) -> str:
    """A URI, or the path that a reference without scheme stands for."""
    return uri if "://" in uri else unquote(uri)


def write(jobs: Sequence[Job]) -> str:
    """The document of the one job of ``jobs``; raises Unsayable."""
    job = only_one(NAME, jobs)
    refuse(NAME, job, UNSAYABLE)
    parts = [_identification(job), _application(job), _resources(job)]
    description = [part for part in parts if part[2]]
    description += [_staging(each, "Source") for each in job.inputs]
    description += [_staging(each, "Target") for each in with_streams(job)]
    root = element(
        "jsdl:JobDefinition",
        [element("jsdl:JobDescription", description)],
        **{"xmlns:jsdl": JSDL, "xmlns:jsdl-posix": POSIX},
    )
    return xml.write(NAME, root)


def _identification(job: Job) -> Tree:
    pairs = (("JobName", job.name), ("JobProject", job.project))
    return element("jsdl:JobIdentification", [element(f"jsdl:{n}", v) for n, v in pairs if v])


def _application(job: Job) -> Tree:
    content = [_posix("Executable", job.executable)]
    for argument in job.arguments:
        # Its type is normalizedString: a reader makes spaces of these.
        if any(each in argument for each in "\t\n\r"):
            raise Unsayable(NAME, "arguments", f"{argument!r} holds a tab or a line's end")
        content.append(_posix("Argument", argument))
    pairs = (("Input", job.stdin), ("Output", job.stdout), ("Error", job.stderr))
    content += [_posix(name, text) for name, text in pairs if text]
    for name, value in job.environment:
        if not _VARIABLE.fullmatch(name):
            raise Unsayable(NAME, "environment", f"{name!r} is no name in XML")
        content.append(element("jsdl-posix:Environment", value, name=name))
    if job.wall_time:
        content.append(_posix("WallTimeLimit", str(job.wall_time)))
    return element("jsdl:Application", [element("jsdl-posix:POSIXApplication", content)])


def _resources(job: Job) -> Tree:
    content: list[Tree] = []
    if job.os:
        name = element("jsdl:OperatingSystemName", _word(job.os, _SYSTEM_NAMES, "os"))
        kind = element("jsdl:OperatingSystemType", [name])
        content.append(element("jsdl:OperatingSystem", [kind]))
    if job.cpu:
        name = element("jsdl:CPUArchitectureName", _word(job.cpu, _CPU_NAMES, "cpu"))
        content.append(element("jsdl:CPUArchitecture", [name]))
    for tag, number, bound in (
        ("IndividualPhysicalMemory", job.memory_mib * MIB, "LowerBoundedRange"),
        ("IndividualDiskSpace", job.disk_mib * MIB, "LowerBoundedRange"),
        ("TotalCPUTime", job.cpu_time, "UpperBoundedRange"),
        ("TotalCPUCount", job.cores if job.cores > 1 or job.nodes > 1 else 0, "Exact"),
        ("TotalResourceCount", job.nodes if job.nodes > 1 else 0, "Exact"),
    ):
        if number:
            content.append(element(f"jsdl:{tag}", [element(f"jsdl:{bound}", str(number))]))
    return element("jsdl:Resources", content)


def _word(word: str, words: dict[str, str], field: str) -> str:
    if word not in words:
        raise Unsayable(NAME, field, f"{word!r} is none of {', '.join(sorted(words))}")
    return words[word]


def _staging(each: File, end: str) -> Tree:
    if each.name == EVERYTHING:
        raise Unsayable(NAME, "outputs", "files are named one by one")
    uri = each.uri if each.is_remote else quote(each.uri)
    place = [element("jsdl:URI", uri)] if uri else ""
    content = [
        element("jsdl:FileName", each.name),
        element("jsdl:CreationFlag", "overwrite"),
        element(f"jsdl:{end}", place),
    ]
    return element("jsdl:DataStaging", content)


def _posix(name: str, text: str) -> Tree:
    return element(f"jsdl-posix:{name}", text)
