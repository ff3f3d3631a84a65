"""Globus RSL as GRAM5's job managers take it (rsl(5), GRAM5 RSL Attributes).

Times are minutes, memory is MB. By default GRAM starts the program ``count`` times; a job here is
one program with that many cores, which is ``jobType = single``. What a job leaves in its directory
stays at the computing element, unless it is staged out to a URI. A file of the submitter's is
fetched from the server that ``globusrun`` starts beside itself, GLOBUSRUN_GASS_URL.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence

from jdl import rsl
from jdl.errors import Unsayable
from jdl.given import Given, Said, minutes, whole
from jdl.job import Draft, File, Job, Read, file, refuse

NAME = "RSL"

UNSAYABLE = {
    "name": "GRAM numbers jobs, and does not name them",
    "disk_mib": "GRAM knows no disk space",
    "cpu": "GRAM does not choose machines",
    "os": "GRAM does not choose machines",
    "software": "GRAM knows no software",
    "vo": "it is in the user's proxy",
    "requirements": "it has no expressions",
    "rank": "it has no expressions",
    "retries": "GRAM does not try again",
}
NOT_MAPPED = {
    "directory": "a job has a directory of its own",
    "dryrun": "the job is described, and not tried",
    "expiration": "how long a failed job is kept is the grid's business",
    "filecleanup": "what is left behind is removed anyhow",
    "gasscache": "caching is the grid's business",
    "grammyjob": "GRAM itself ignores it",
    "jobtype": "how parallel programs are started is not known here",
    "librarypath": "say LD_LIBRARY_PATH in the environment",
    "loglevel": "GRAM's own log",
    "logpattern": "GRAM's own log",
    "proxytimeout": "GRAM's own credentials",
    "remoteiourl": "files are staged, not reached while the job runs",
    "restart": "GRAM's own recovery",
    "resourcemanagercontact": "which computing element is not chosen here",
    "savejobdescription": "GRAM's own recovery",
    "savestate": "GRAM's own recovery",
    "scratchdir": "a job has a directory of its own",
    "stderrposition": "GRAM's own recovery",
    "stdoutposition": "GRAM's own recovery",
    "twophase": "GRAM's own protocol",
    "username": "the user's identity says who runs it",
}
GASS = "gass://here"
"""What the address of the submitter's server is read as."""
_GASS_VARIABLE = "$(GLOBUSRUN_GASS_URL)"
_EVENTS = {"emailonexecution": "start", "emailontermination": "end", "emailonabort": "error"}
_EVENT_NAMES = {
    "start": "email_on_execution",
    "end": "email_on_termination",
    "error": "email_on_abort",
}


def read(text: str) -> Read:
    """The jobs of a description; raises BadDescription."""
    jobs, notices = [], []
    for relations in rsl.parse(text, {"GLOBUSRUN_GASS_URL": GASS}):
        draft = Draft()
        given = rsl.given(draft, relations)
        _read(draft, given)
        given.finish(NOT_MAPPED, "this attribute is not known in RSL")
        jobs.append(draft.job())
        notices += draft.notices
    return Read(tuple(jobs), tuple(dict.fromkeys(notices)))


def _read(draft: Draft, given: Given[list[rsl.Value]]) -> None:
    fields = draft.fields
    inputs: list[File] = []
    for name in ("executable", "stdin"):
        if said := given.take(name):
            fields[name] = _sent(rsl.text_of(said), inputs)
    for name in ("stdout", "stderr"):
        if said := given.take(name):
            fields[name] = _place(rsl.text_of(said))
    for name in ("queue", "project"):
        if said := given.take(name):
            fields[name] = rsl.text_of(said)
    if said := given.take("arguments"):
        fields["arguments"] = tuple(rsl.texts_of(said))
    if said := given.take("environment"):
        fields["environment"] = tuple((pair[0], pair[1]) for pair in rsl.pairs_of(said))
    count, hosts, kind = (given.take(name) for name in ("count", "hostcount", "jobtype"))
    if count:
        fields["cores"] = _whole(count, 1)
        if fields["cores"] > 1 and (kind is None or rsl.text_of(kind) != "single"):
            text = f"GRAM starts {fields['cores']} programs; here one has {fields['cores']} cores"
            draft.note(count.name, text, count.line)
    if kind and rsl.text_of(kind) not in ("single", "multiple"):
        draft.note(kind.name, NOT_MAPPED["jobtype"], kind.line)
    if hosts:
        fields["nodes"] = _whole(hosts, 1)
    wall, either = given.take("maxwalltime"), given.take("maxtime")
    if said := wall or either:
        fields["wall_time"] = 60 * _whole(said, 0)
    if said := given.take("maxcputime"):
        fields["cpu_time"] = 60 * _whole(said, 0)
    least, most = given.take("minmemory"), given.take("maxmemory")
    if said := least or most:
        fields["memory_mib"] = _whole(said, 0)
    if least and most:
        draft.note(
            most.name, f"the least memory is asked for, {fields['memory_mib']} MB", most.line
        )
    for name in ("filestagein", "filestageinshared"):
        if said := given.take(name):
            inputs += [file(_remote(pair[1]), _place(pair[0])) for pair in rsl.pairs_of(said)]
    if said := given.take("filestageout"):
        pairs = rsl.pairs_of(said)
        fields["outputs"] = tuple(file(_remote(pair[0]), _place(pair[1])) for pair in pairs)
    if said := given.take("emailaddress"):
        fields["notify"] = rsl.text_of(said)
    events = [event for name, event in _EVENTS.items() if _is_yes(given.take(name))]
    fields["notify_on"] = tuple(events)
    fields["inputs"] = tuple(inputs)


def _sent(text: str, inputs: list[File]) -> str:
    """The name of a program or standard input; one with a URI comes along and is an input."""
    place = _place(text)
    if place == text and "://" not in text:
        return text
    name = posixpath.basename(place)
    inputs.append(file(name, place))
    return name


def _place(text: str) -> str:
    """A path at the submitter's server as a path."""
    return text.removeprefix(GASS) if text.startswith(f"{GASS}/") else text


def _remote(text: str) -> str:
    return text.removeprefix("file://")


def _whole(said: Said[list[rsl.Value]], least: int) -> int:
    return whole(Said(said.name, rsl.text_of(said), said.line), least)


def _is_yes(said: Said[list[rsl.Value]] | None) -> bool:
    return said is not None and rsl.text_of(said).lower() == "yes"


def write(jobs: Sequence[Job]) -> str:
    """The description of ``jobs``, several as a multi-request; raises Unsayable."""
    return rsl.request([_relations(job) for job in jobs])


def _relations(job: Job) -> list[str]:
    refuse(NAME, job, UNSAYABLE)
    staged = list(job.inputs)
    written = []
    for key in ("executable", "stdin"):
        name = getattr(job, key)
        sent = next((each for each in staged if each.name == name), None)
        if sent and posixpath.basename(sent.place) == name:
            # GRAM fetches these two by themselves, and finds no others by a relative name.
            staged.remove(sent)
            written.append(rsl.relation(key, _source(sent)))
        elif name:
            written.append(rsl.relation(key, rsl.literal(name)))
    if job.arguments:
        written.append(rsl.relation("arguments", *map(rsl.literal, job.arguments)))
    if job.environment:
        written.append(rsl.relation("environment", *map(rsl.sequence, job.environment)))
    for name, text in (
        ("stdout", job.stdout),
        ("stderr", job.stderr),
        ("queue", job.queue),
        ("project", job.project),
        ("email_address", job.notify),
    ):
        if text:
            written.append(rsl.relation(name, rsl.literal(text)))
    for event in job.notify_on:
        written.append(rsl.relation(_EVENT_NAMES[event], "yes"))
    if job.cores > 1:
        written += [rsl.relation("jobType", "single"), rsl.relation("count", str(job.cores))]
    if job.nodes > 1:
        written.append(rsl.relation("hostCount", str(job.nodes)))
    for name, number in (
        ("maxWallTime", minutes(job.wall_time)),
        ("maxCpuTime", minutes(job.cpu_time)),
        ("minMemory", job.memory_mib),
    ):
        if number:
            written.append(rsl.relation(name, str(number)))
    if staged:
        pairs = [f"({_source(each)} {rsl.literal(each.name)})" for each in staged]
        written.append(rsl.relation("file_stage_in", *pairs))
    if job.outputs:
        pairs = [f"({rsl.literal(each.name)} {_target(each)})" for each in job.outputs]
        written.append(rsl.relation("file_stage_out", *pairs))
    return written


def _source(each: File) -> str:
    return _address("inputs", each)


def _target(each: File) -> str:
    return _address("outputs", each)


def _address(field: str, each: File) -> str:
    if each.is_remote:
        return rsl.literal(each.uri)
    if not each.place.startswith("/"):
        raise Unsayable(NAME, field, f"{each.place!r} is neither a URI nor an absolute path")
    return f"{_GASS_VARIABLE} # {rsl.literal(each.place)}"
