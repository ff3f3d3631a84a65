"""EMI-ES ADL, the activity description language of the EMI execution service, as A-REX takes it:
one job a document.

Sizes are bytes, times seconds; memory is that of one slot. A file without source or target is moved
by the client, under its own name.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from jdl import xml
from jdl.errors import BadDescription, Unsayable
from jdl.given import MIB, Said, mib, whole
from jdl.job import EVERYTHING, Draft, File, Job, Read, file, only_one, refuse, with_streams
from jdl.xml import Node, Tree, element

NAME = "ADL"
ADL = "http://www.eu-emi.eu/es/2010/12/adl"

UNSAYABLE = {
    "project": "it has no element for a project",
    "vo": "it is in the user's proxy",
    "requirements": "it has no expressions",
    "rank": "it has no expressions",
    "retries": "it has no element for trying again",
}
NOT_MAPPED = {
    "Annotation": "annotations are not kept",
    "Benchmark": "benchmarks are not known here",
    "ClientDataPush": "files are named one by one",
    "Coprocessor": "coprocessors are not known here",
    "DelegationID": "credentials are not delegated",
    "Description": "descriptions for people are not kept",
    "ExclusiveExecution": "hosts are not asked for alone",
    "ExpirationTime": "a job has no time to expire",
    "FailIfExitCodeNotEqualTo": "success is exit code 0",
    "IndividualVirtualMemory": "memory is asked for as physical memory",
    "Mandatory": "an output that is not there is told at the end",
    "NetworkInfo": "the network of hosts is not known",
    "NodeAccess": "the network of hosts is not known",
    "Option": "options are not kept",
    "ParallelEnvironment": "how parallel programs are started is not known here",
    "PostExecutable": "one program is run",
    "PreExecutable": "one program is run",
    "RemoteLogging": "accounting services are not told",
    "RemoteSessionAccess": "a job's directory is not reached while it runs",
    "Type": "a job is a single one",
    "Version": "systems are told by their name only",
    "WipeTime": "results stay until they are fetched",
}
CPUS = {"amd64": "x86_64", "i386": "i686", "itanium": "ia64", "powerpc": "ppc", "sparc": "sparc"}
SYSTEMS = {"linux": "linux", "macosx": "darwin", "solaris": "solaris", "windows": "windows"}
_CPU_NAMES = {name: word for word, name in CPUS.items()}
_SYSTEM_NAMES = {name: word for word, name in SYSTEMS.items()}
_STATES = {
    "PREPROCESSING": "start",
    "PROCESSING": "start",
    "POSTPROCESSING": "end",
    "TERMINAL": "end",
}
_STATE = {"start": "PREPROCESSING", "end": "TERMINAL"}


def read(text: str) -> Read:
    """The job of a document; raises BadDescription."""
    root = xml.parse(text)
    if (root.namespace, root.name) != (ADL, "ActivityDescription"):
        expected = f"expected an ActivityDescription of {ADL}"
        raise BadDescription(f"{expected}, found {root.name} of {root.namespace!r}", line=root.line)
    draft = Draft()
    if found := root.take("ActivityIdentification"):
        if name := found.take("Name"):
            draft.fields["name"] = name.text
        found.leftovers(draft, NOT_MAPPED)
    if found := root.take("Application"):
        _read_application(draft, found)
    if found := root.take("Resources"):
        _read_resources(draft, found)
    if found := root.take("DataStaging"):
        for tag, end, key in (
            ("InputFile", "Source", "inputs"),
            ("OutputFile", "Target", "outputs"),
        ):
            draft.fields[key] = tuple(_read_file(draft, each, end) for each in found.take_all(tag))
        found.leftovers(draft, NOT_MAPPED)
    root.leftovers(draft, NOT_MAPPED)
    return Read((draft.job(),), tuple(draft.notices))


def _read_application(draft: Draft, node: Node) -> None:
    fields = draft.fields
    if executable := node.take("Executable"):
        path = executable.take("Path")
        fields["executable"] = path.text if path else ""
        fields["arguments"] = tuple(each.text for each in executable.take_all("Argument"))
        code = executable.take("FailIfExitCodeNotEqualTo")
        if code is not None and code.text.strip() != "0":
            draft.note(code.name, NOT_MAPPED[code.name], code.line)
        executable.leftovers(draft, NOT_MAPPED)
    for name, key in (("Input", "stdin"), ("Output", "stdout"), ("Error", "stderr")):
        if found := node.take(name):
            fields[key] = found.text
    fields["environment"] = tuple(_variable(each) for each in node.take_all("Environment"))
    for found in node.take_all("Notification"):
        _read_notification(draft, found)
    node.leftovers(draft, NOT_MAPPED)


def _variable(node: Node) -> tuple[str, str]:
    name, value = node.take("Name"), node.take("Value")
    if name is None or not name.text:
        raise BadDescription("a variable has a Name", node.name, node.line)
    return name.text, value.text if value else ""


def _read_notification(draft: Draft, node: Node) -> None:
    protocol, recipients = node.take("Protocol"), node.take_all("Recipient")
    states = [each.text.strip().upper() for each in node.take_all("OnState")]
    node.leftovers(draft, NOT_MAPPED)
    if protocol is None or protocol.text.strip() != "email" or not recipients:
        draft.note(node.name, "only email to a Recipient is kept", node.line)
        return
    if draft.fields.get("notify") or len(recipients) > 1:
        draft.note(node.name, "only the first recipient is kept", node.line)
    if not draft.fields.get("notify"):
        draft.fields["notify"] = recipients[0].text
        unknown = [state for state in states if state not in _STATES]
        if unknown:
            draft.note("OnState", f"not told of {', '.join(unknown)}", node.line)
        events = [_STATES[state] for state in states if state in _STATES]
        draft.fields["notify_on"] = tuple(dict.fromkeys(events))


def _read_resources(draft: Draft, node: Node) -> None:
    fields = draft.fields
    if found := node.take("OperatingSystem"):
        family, name = found.take("Family"), found.take("Name")
        chosen = family or name
        if chosen:
            fields["os"] = SYSTEMS.get(chosen.text, chosen.text)
        if family and name and name.text != family.text:
            draft.note(name.name, f"{family.text} is asked for, not {name.text}", name.line)
        found.leftovers(draft, NOT_MAPPED)
    if found := node.take("Platform"):
        fields["cpu"] = CPUS.get(found.text, found.text)
    fields["software"] = tuple(
        _software(draft, each) for each in node.take_all("RuntimeEnvironment")
    )
    if found := node.take("QueueName"):
        fields["queue"] = found.text
    if found := node.take("SlotRequirement"):
        if slots := found.take("NumberOfSlots"):
            fields["cores"] = whole(Said(slots.name, slots.text, slots.line), 1)
        if slots := found.take("SlotsPerHost"):
            is_all = slots.attributes.get("useNumberOfSlots") in ("true", "1")
            per_host = Said(slots.name, slots.text, slots.line)
            if not is_all:
                fields["nodes"] = math.ceil(fields.get("cores", 1) / whole(per_host, 1))
        found.leftovers(draft, NOT_MAPPED)
    cores, nodes = fields.get("cores", 1), fields.get("nodes", 1)
    if found := node.take("IndividualPhysicalMemory"):
        size = whole(Said(found.name, found.text, found.line))
        fields["memory_mib"] = mib(size * cores / nodes)
    if found := node.take("DiskSpaceRequirement"):
        fields["disk_mib"] = mib(whole(Said(found.name, found.text, found.line)))
    for names, key in (
        (("WallTime", "IndividualWallTime"), "wall_time"),
        (("TotalCPUTime", "IndividualCPUTime"), "cpu_time"),
    ):
        for name_ in names:
            if found := node.take(name_):
                fields[key] = whole(Said(found.name, found.text, found.line))
    node.leftovers(draft, NOT_MAPPED)


def _software(draft: Draft, node: Node) -> str:
    name, version = node.take("Name"), node.take("Version")
    node.leftovers(draft, NOT_MAPPED)
    if name is None:
        raise BadDescription("there is no Name", node.name, node.line)
    return f"{name.text}-{version.text}" if version and version.text else name.text


def _read_file(draft: Draft, node: Node, end: str) -> File:
    name = node.take("Name")
    if name is None or not name.text:
        raise BadDescription("there is no Name", node.name, node.line)
    node.take("IsExecutable")
    places = node.take_all(end)
    uris = [place.take("URI") for place in places]
    for flag in ("CreationFlag", "UseIfFailure", "UseIfCancel", "UseIfSuccess", "Mandatory"):
        for place in places[:1]:
            if (found := place.take(flag)) and found.text.strip() not in _USUAL[flag]:
                draft.note(flag, f"{name.text} is moved however the job ends", found.line)
    for place in places:
        place.leftovers(draft, NOT_MAPPED)
    if len(places) > 1:
        draft.note(node.name, f"only the first {end} of {name.text} is kept", node.line)
    node.leftovers(draft, NOT_MAPPED)
    uri = uris[0] if uris else None
    return file(EVERYTHING if name.text == "/" else name.text, uri.text.strip() if uri else "")


_USUAL = {
    "CreationFlag": ("overwrite",),
    "UseIfFailure": ("true", "1"),
    "UseIfCancel": ("true", "1"),
    "UseIfSuccess": ("true", "1"),
    "Mandatory": ("false", "0"),
}


def write(jobs: Sequence[Job]) -> str:
    """The document of the one job of ``jobs``; raises Unsayable."""
    job = only_one(NAME, jobs)
    refuse(NAME, job, UNSAYABLE)
    parts = [
        element("ActivityIdentification", _texts(("Name", job.name))),
        element("Application", _application(job)),
        element("Resources", _resources(job)),
        element("DataStaging", _staging(job)),
    ]
    children = [part for part in parts if part[2]]
    return xml.write(NAME, element("ActivityDescription", children, xmlns=ADL))


def _application(job: Job) -> list[Tree]:
    content = _texts(("Path", job.executable))
    content += [element("Argument", argument) for argument in job.arguments]
    written = [element("Executable", content)]
    written += _texts(("Input", job.stdin), ("Output", job.stdout), ("Error", job.stderr))
    for name, value in job.environment:
        written.append(element("Environment", [element("Name", name), element("Value", value)]))
    if job.notify_on and not job.notify:
        raise Unsayable(NAME, "notify_on", "there is no address to notify")
    if job.notify:
        if "error" in job.notify_on:
            raise Unsayable(NAME, "notify_on", "it tells of states, and an error is none")
        states = _texts(*(("OnState", _STATE[event]) for event in job.notify_on))
        pairs = _texts(("Protocol", "email"), ("Recipient", job.notify))
        written.append(element("Notification", [*pairs, *states]))
    return written


def _resources(job: Job) -> list[Tree]:
    written: list[Tree] = []
    if job.os:
        if job.os not in _SYSTEM_NAMES:
            raise Unsayable(NAME, "os", f"{job.os!r} is none of {', '.join(_SYSTEM_NAMES)}")
        # A name is required. With a family beside it ARC would look for "linux-linux".
        written.append(element("OperatingSystem", _texts(("Name", _SYSTEM_NAMES[job.os]))))
    if job.cpu:
        if job.cpu not in _CPU_NAMES:
            raise Unsayable(NAME, "cpu", f"{job.cpu!r} is none of {', '.join(_CPU_NAMES)}")
        written += _texts(("Platform", _CPU_NAMES[job.cpu]))
    written += [element("RuntimeEnvironment", _texts(("Name", name))) for name in job.software]
    if job.memory_mib:
        memory = math.ceil(job.memory_mib * MIB * job.nodes / job.cores)
        written += _texts(("IndividualPhysicalMemory", str(memory)))
    if job.disk_mib:
        written += _texts(("DiskSpaceRequirement", str(job.disk_mib * MIB)))
    if job.cores > 1 or job.nodes > 1:
        if job.cores % job.nodes:
            raise Unsayable(
                NAME, "nodes", f"{job.cores} cores are not the same on each of {job.nodes}"
            )
        per_host = ("SlotsPerHost", str(job.cores // job.nodes) if job.nodes > 1 else "")
        slots = _texts(("NumberOfSlots", str(job.cores)), per_host)
        written.append(element("SlotRequirement", slots))
    written += _texts(
        ("QueueName", job.queue),
        ("TotalCPUTime", str(job.cpu_time or "")),
        ("WallTime", str(job.wall_time or "")),
    )
    return written


def _staging(job: Job) -> list[Tree]:
    written = []
    for each in job.inputs:
        executable = ("IsExecutable", "true" if each.name == job.executable else "")
        written.append(_file("InputFile", "Source", each, executable))
    for each in with_streams(job):
        written.append(_file("OutputFile", "Target", each, ("", "")))
    return written


def _file(tag: str, end: str, each: File, more: tuple[str, str]) -> Tree:
    field = "inputs" if end == "Source" else "outputs"
    if each.uri and not each.is_remote:
        raise Unsayable(NAME, field, f"{each.name} has a path, {each.uri!r}; only URIs can be said")
    name = "/" if each.name == EVERYTHING else each.name
    place = [element(end, [element("URI", each.uri)])] if each.uri else []
    return element(tag, [element("Name", name), *place, *_texts(more)])


def _texts(*pairs: tuple[str, str]) -> list[Tree]:
    return [element(name, text) for name, text in pairs if text]
