"""Job descriptions as works: what a work takes over of a job, what it cannot honour, and which jobs
go in one submission. Decides; reads no file and sends nothing.

A work is of an application. A job's program is one that travels, and becomes an application by its
digest; or a program of the worker's machine, named by its path, which LAUNCHER starts; or the name
of an application of the grid.
"""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from desktopgrid.model.errors import BadRequest
from desktopgrid.model.objects import Description
from jdl.job import EVERYTHING, File, Job

LAUNCHER = b'#!/bin/sh\nexec "$@"\n'
"""The application that starts a program of the worker's machine: the program is its arguments."""

# What GLUE calls an attribute of a host -> what the grid does; the others are no host's here.
HOST_ATTRIBUTES = {
    "gluehostmainmemoryramsize": "Memory",
    "gluehostoperatingsystemname": "OpSys",
    "gluehostarchitectureplatformtype": "Arch",
    "gluehostarchitecturesmpsize": "Cpus",
}
NOT_HONOURED = {
    "cpu_time": "processor time is not limited; say a wall time",
    "software": "hosts do not tell their software; say it in requirements",
    "queue": "a grid has one queue",
    "project": "works are their user's, and no project's",
    "vo": "works are their user's, and no virtual organisation's",
    "rank": "the first host that fits takes a work",
    "notify": "nobody is notified; xw wait waits",
}


@dataclass(frozen=True)
class Program:
    """What runs: a file or a URI that travels (``place``), or else the name of an application."""

    name: str
    place: str = ""
    is_launched: bool = False


@dataclass(frozen=True)
class Wanted:
    """What jobs have in common that go in one submission. Places are files beside the description,
    or URIs.
    """

    program: Program
    stdin: str
    inputs: tuple[tuple[str, str], ...]
    description: Description


@dataclass(frozen=True)
class Batch:
    """One submission: the argument lists of its works, and the job of each."""

    wanted: Wanted
    arguments: tuple[tuple[str, ...], ...]
    jobs: tuple[Job, ...]


def batches_of(jobs: Sequence[Job]) -> tuple[list[Batch], list[str]]:
    """The submissions that ``jobs`` make, in an order that depends on them only, and in sentences
    what a work cannot honour of them.
    """
    found: dict[Wanted, list[tuple[tuple[str, ...], Job]]] = {}
    sentences: dict[str, None] = {}
    for job in jobs:
        wanted, arguments, notes = wanted_of(job)
        found.setdefault(wanted, []).append((arguments, job))
        sentences.update(dict.fromkeys(notes))
    batches = [
        Batch(wanted, tuple(each for each, _ in pairs), tuple(job for _, job in pairs))
        for wanted, pairs in found.items()
    ]
    return batches, list(sentences)


def wanted_of(job: Job) -> tuple[Wanted, tuple[str, ...], list[str]]:
    """What ``job`` wants of the grid, its arguments, and what a work cannot honour of it."""
    notes = [f"{name}: {reason}" for name, reason in NOT_HONOURED.items() if getattr(job, name)]
    if job.nodes > 1:
        notes.append(f"nodes: a work runs on one host; its {job.cores} cores are asked for there")
    if job.stdout and job.stdout == job.stderr:
        notes.append(f"stderr: it is written behind standard output in {job.stdout}")
    program, arguments = _program(job)
    inputs = tuple(
        (each.name, each.place)
        for each in job.inputs
        if not (program.place and each.name == job.executable)
    )
    stdin = next((each.place for each in job.inputs if each.name == job.stdin), "")
    if job.stdin and not stdin:
        notes.append(f"stdin: {job.stdin} is no input, and a file of the host is not read")
    for each in job.outputs:
        if each.is_remote:
            notes.append(f"outputs: {each.name} comes back, and is not sent to {each.uri}")
    requirements, more = _requirements(job)
    description = Description(
        program.name,
        label=job.name,
        variables=job.environment,
        outputs=_patterns(job.outputs),
        retries=3 if job.retries is None else job.retries,
        cores=job.cores,
        memory_mib=job.memory_mib,
        disk_mib=job.disk_mib,
        wall_time=job.wall_time,
        requirements=requirements,
    )
    return Wanted(program, stdin, inputs, description), arguments, notes + more


def _program(job: Job) -> tuple[Program, tuple[str, ...]]:
    for each in job.inputs:
        if each.name == job.executable:
            return Program(each.name, each.place), job.arguments
    if "/" in job.executable:
        return Program("program", is_launched=True), (job.executable, *job.arguments)
    return Program(job.executable), job.arguments


def _patterns(outputs: Sequence[File]) -> tuple[str, ...]:
    names = [each.name if each.name == EVERYTHING else glob.escape(each.name) for each in outputs]
    return tuple(dict.fromkeys(names)) or (EVERYTHING,)


def _requirements(job: Job) -> tuple[str, list[str]]:
    """Requirements about a host of the grid, and what is left out of the job's."""
    terms, notes = [], []
    if job.requirements:
        # Only a language whose expressions are ClassAds has any, and has loaded their library.
        from jdl import glue

        for term in glue.terms_of(job.requirements):
            names = {name.lower() for name in glue.names_in(term)}
            foreign = {name for name in names if name.startswith("glue")}
            if foreign <= set(HOST_ATTRIBUTES):
                terms.append(glue.renamed(term, HOST_ATTRIBUTES))
            else:
                notes.append(f"requirements: {term} is about no host of a desktop grid")
        kept = glue.all_of(terms)
        terms = [kept] if kept else []
    for attribute, word in (("Arch", job.cpu), ("OpSys", job.os)):
        if word:
            if '"' in word or "\\" in word:
                raise BadRequest(f"{attribute} is {word!r}, which no host is called")
            terms.append(f'{attribute} == "{word}"')
    if len(terms) < 2:
        return "".join(terms), notes
    return " && ".join(f"({term})" for term in terms), notes


# Where what comes of a work belongs


def places_of(jobs: Sequence[Job], directory: Path) -> list[dict[str, Path]]:
    """Where each job's outputs go, by name: ``stdout``, ``stderr``, files, and EVERYTHING else.

    A place that several jobs name is none: what belongs there goes to the work's own directory.
    """
    said = [_said_places(job) for job in jobs]
    owners: dict[str, set[int]] = {}
    for n, places in enumerate(said):
        for place in places.values():
            owners.setdefault(place, set()).add(n)
    return [
        {name: directory / place for name, place in places.items() if len(owners[place]) == 1}
        for places in said
    ]


def _said_places(job: Job) -> dict[str, str]:
    places = {
        each.name: each.name if each.is_remote else each.place
        for each in job.outputs
        if each.name != EVERYTHING
    }
    streams = (("stdout", job.stdout), ("stderr", job.stderr))
    return {**places, **{stream: name for stream, name in streams if name}}
