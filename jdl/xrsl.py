"""xRSL, ARC's extended resource specification language, as its clients take it
(NORDUGRID-MANUAL-4).

``memory`` is that of one slot; times are minutes unless a unit stands behind them. A relative
executable, and a relative standard input, is a file that the client sends along.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from jdl import rsl
from jdl.errors import Unsayable
from jdl.given import Given, Said, whole
from jdl.job import EVERYTHING, Draft, File, Job, Read, file, refuse, with_streams

NAME = "xRSL"

UNSAYABLE = {
    "project": "ARC ignores this Globus attribute",
    "vo": "it is in the user's proxy",
    "requirements": "it has no expressions",
    "rank": "the client's broker ranks",
}
NOT_MAPPED = {
    "action": "it is between client and server",
    "acl": "who may see the job is not kept",
    "benchmarks": "benchmarks are not known here",
    "cache": "caching is the grid's business",
    "cluster": "which cluster is not chosen here",
    "credentialserver": "credentials are not renewed from there",
    "dryrun": "the job is described, and not tried",
    "exclusiveexecution": "nodes are not asked for alone",
    "ftpthreads": "how files are moved is the grid's business",
    "gmlog": "there is no directory of logs",
    "gridtime": "times on a 2.8 GHz processor are not known here; say wallTime",
    "jobreport": "accounting services are not told",
    "lifetime": "results stay until they are fetched",
    "middleware": "which middleware is not chosen here",
    "nodeaccess": "the network of the nodes is not known",
    "priority": "ARC's scale of priorities is another one",
    "starttime": "it is not held back",
}
_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400, "week": 604_800}
_PERIOD = re.compile(
    r"(\d{1,12})\s*(seconds?|minutes?|hours?|days?|weeks?|s|m|h|d|w)?", re.IGNORECASE
)
_SIZE = re.compile(r"\d+(\.\w*)?|\.\w*")
_FLAGS = {"b": "start", "q": "start", "f": "end", "e": "end", "c": "error", "d": "error"}
_FLAG = {"start": "b", "end": "e", "error": "c"}


def read(text: str) -> Read:
    """The jobs of a description; raises BadDescription."""
    jobs, notices = [], []
    for relations in rsl.parse(text, {}):
        draft = Draft()
        software = [each for each in relations if each.name == "runtimeenvironment"]
        draft.fields["software"] = tuple(
            rsl.text_of(Said(each.name, each.values, each.line)) for each in software
        )
        for each in software:
            if each.operator not in ("=", ">="):
                draft.note(each.name, f"{each.operator} is read as =", each.line)
        given = rsl.given(draft, [each for each in relations if each not in software])
        _read(draft, given)
        given.finish(NOT_MAPPED, "this attribute is not known in xRSL")
        jobs.append(draft.job())
        notices += draft.notices
    return Read(tuple(jobs), tuple(dict.fromkeys(notices)))


def _read(draft: Draft, given: Given[list[rsl.Value]]) -> None:
    fields = draft.fields
    for name, key in (
        ("executable", "executable"),
        ("stdin", "stdin"),
        ("stdout", "stdout"),
        ("stderr", "stderr"),
        ("jobname", "name"),
        ("queue", "queue"),
        ("architecture", "cpu"),
        ("opsys", "os"),
    ):
        if said := given.take(name):
            fields[key] = rsl.text_of(said)
    if said := given.take("arguments"):
        fields["arguments"] = tuple(rsl.texts_of(said))
    if said := given.take("environment"):
        fields["environment"] = tuple((pair[0], pair[1]) for pair in rsl.pairs_of(said))
    for name, key in (("walltime", "wall_time"), ("cputime", "cpu_time")):
        if said := given.take(name):
            fields[key] = _seconds(said)
    for name, key, least in (
        ("count", "cores", 1),
        ("disk", "disk_mib", 0),
        ("rerun", "retries", 0),
    ):
        if said := given.take(name):
            fields[key] = _whole(said, least)
    cores = fields.get("cores", 1)
    if said := given.take("countpernode"):
        fields["nodes"] = math.ceil(cores / _whole(said, 1))
    if said := given.take("memory"):
        fields["memory_mib"] = _whole(said, 0) * cores // fields.get("nodes", 1)
    if (said := given.take("join")) and rsl.text_of(said).lower() in ("yes", "true"):
        if not fields.get("stdout"):
            raise said.wrong("stdout beside it")
        fields["stderr"] = fields["stdout"]
    if said := given.take("notify"):
        _read_notify(draft, said)
    _read_files(draft, given)


def _read_files(draft: Draft, given: Given[list[rsl.Value]]) -> None:
    inputs, outputs = [], []
    if said := given.take("inputfiles"):
        for name, source, *options in rsl.pairs_of(said):
            # Instead of a source there may be the size and checksum of the client's file.
            inputs.append(file(name, "" if _SIZE.fullmatch(source) else source))
            if options:
                draft.note(said.name, f"the options of {name} are not kept: {options}", said.line)
    if said := given.take("outputfiles"):
        for name, target, *options in rsl.pairs_of(said):
            outputs.append(file(EVERYTHING if name == "/" else name, target))
            if options:
                draft.note(said.name, f"the options of {name} are not kept: {options}", said.line)
    names = {each.name for each in inputs}
    for key in ("executable", "stdin"):
        name = draft.fields.get(key, "")
        if name and not name.startswith(("/", "$")) and name not in names:
            inputs.append(File(name))
    if said := given.take("executables"):
        others = set(rsl.texts_of(said)) - {draft.fields.get("executable")}
        if others:
            draft.note(said.name, f"only the executable is made executable, not {sorted(others)}")
    draft.fields.update(inputs=tuple(inputs), outputs=tuple(outputs))


def _read_notify(draft: Draft, said: Said[list[rsl.Value]]) -> None:
    events: list[str] = []
    addresses: list[str] = []
    for text in rsl.texts_of(said):
        first, *others = text.split() or [""]
        flags = "be" if "@" in first else first
        addresses += [word for word in (first, *others) if "@" in word]
        if not set(flags) <= set(_FLAGS):
            raise said.wrong("flags of b, q, f, e, c, d and addresses")
        events += [_FLAGS[flag] for flag in flags]
    if not addresses:
        raise said.wrong("an address")
    if len(addresses) > 1:
        draft.note(said.name, f"only the first address is kept, {addresses[0]}", said.line)
    draft.fields["notify"] = addresses[0]
    draft.fields["notify_on"] = tuple(dict.fromkeys(events))


def _whole(said: Said[list[rsl.Value]], least: int) -> int:
    return whole(Said(said.name, rsl.text_of(said), said.line), least)


def _seconds(said: Said[list[rsl.Value]]) -> int:
    total, text = 0, rsl.text_of(said)
    rest = text.replace(",", " ").replace(" and ", " ").strip()
    while rest:
        match = _PERIOD.match(rest)
        if match is None:
            raise said.wrong("a time such as 90, 2 hours or 30 seconds")
        unit = (match[2] or "minute").lower()
        total += int(match[1]) * next(n for name, n in _UNITS.items() if name.startswith(unit[0]))
        rest = rest[match.end() :].strip()
    return total


def write(jobs: Sequence[Job]) -> str:
    """The description of ``jobs``, several as a multi-request; raises Unsayable."""
    return rsl.request([_relations(job) for job in jobs])


def _relations(job: Job) -> list[str]:
    refuse(NAME, job, UNSAYABLE)
    names = {each.name for each in job.inputs}
    for key in ("executable", "stdin"):
        name = getattr(job, key)
        if name and not name.startswith(("/", "$")) and name not in names:
            raise Unsayable(NAME, key, f"{name!r} is relative, and would be sent; name an input")
    written = [rsl.relation("executable", rsl.literal(job.executable))]
    if job.arguments:
        written.append(rsl.relation("arguments", *map(rsl.literal, job.arguments)))
    if job.environment:
        written.append(rsl.relation("environment", *map(rsl.sequence, job.environment)))
    for name, text in (
        ("stdin", job.stdin),
        ("stdout", job.stdout),
        ("stderr", job.stderr),
        ("jobName", job.name),
        ("queue", job.queue),
        ("architecture", job.cpu),
        ("opsys", job.os),
    ):
        if text:
            written.append(rsl.relation(name, rsl.literal(text)))
    if job.inputs:
        pairs = [(each.name, _source(each)) for each in job.inputs]
        written.append(rsl.relation("inputFiles", *map(rsl.sequence, pairs)))
    if job.sends_executable:
        written.append(rsl.relation("executables", rsl.literal(job.executable)))
    if outputs := with_streams(job):
        pairs = [("/" if each.name == EVERYTHING else each.name, each.uri) for each in outputs]
        written.append(rsl.relation("outputFiles", *map(rsl.sequence, pairs)))
    for name, number in (
        ("wallTime", job.wall_time),
        ("cpuTime", job.cpu_time),
        ("disk", job.disk_mib),
    ):
        if number:
            unit = " seconds" if name != "disk" else ""
            written.append(rsl.relation(name, rsl.literal(f"{number}{unit}")))
    if job.cores > 1 or job.nodes > 1:
        written.append(rsl.relation("count", rsl.literal(str(job.cores))))
    if job.nodes > 1:
        if job.cores % job.nodes:
            raise Unsayable(
                NAME, "nodes", f"{job.cores} cores are not the same on each of {job.nodes}"
            )
        written.append(rsl.relation("countPerNode", rsl.literal(str(job.cores // job.nodes))))
    if job.memory_mib:
        memory = math.ceil(job.memory_mib * job.nodes / job.cores)
        written.append(rsl.relation("memory", rsl.literal(str(memory))))
    if job.retries is not None:
        written.append(rsl.relation("rerun", rsl.literal(str(job.retries))))
    for name in job.software:
        written.append(rsl.relation("runTimeEnvironment", rsl.literal(name)))
    if job.notify:
        flags = "".join(_FLAG[event] for event in job.notify_on)
        if "@" not in job.notify or job.notify.split() != [job.notify]:
            raise Unsayable(NAME, "notify", f"{job.notify!r} is no address")
        written.append(rsl.relation("notify", rsl.literal(f"{flags} {job.notify}".strip())))
    elif job.notify_on:
        raise Unsayable(NAME, "notify_on", "there is no address to notify")
    return written


def _source(each: File) -> str:
    # A number would be taken for the size of the client's file.
    return f"./{each.uri}" if each.uri and _SIZE.fullmatch(each.uri) else each.uri
