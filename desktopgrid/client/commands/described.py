"""Submitting what a job description says, and bringing what came of it where it says."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from desktopgrid.client.commands.shell import Shell
from desktopgrid.client.connection import OnBytes
from desktopgrid.client.descriptions import (
    LAUNCHER,
    Batch,
    Program,
    Wanted,
    batches_of,
    places_of,
)
from desktopgrid.client.files import place_of
from desktopgrid.client.grid import Grid, Submitted
from desktopgrid.client.programs import application_of
from desktopgrid.client.progress import in_mib
from desktopgrid.client.watches import OnEnded
from desktopgrid.model.errors import BadRequest
from desktopgrid.model.objects import ANY_PLATFORM, UID, Result
from desktopgrid.model.rights import PRIVATE
from desktopgrid.model.uris import is_uri
from jdl.errors import JdlError
from jdl.job import Job
from jdl.languages import read_file

Send = Callable[[str], UID]
"""Puts a local file, or what a URI names, on the grid as a data."""


class Described:
    """A description that was read: its jobs as submissions."""

    def __init__(self, path: Path, *, strict: bool = False) -> None:
        """Raises BadRequest for what cannot be read, and, if ``strict``, for what is not
        understood or cannot be honoured.
        """
        self.path = path
        try:
            self.language, found = read_file(path)
        except JdlError as error:
            raise BadRequest(str(error)) from error
        self.batches, notes = batches_of(found.jobs)
        self.warnings = [f"{path}: {each}" for each in [*map(str, found.warnings), *notes]]
        if strict and self.warnings:
            raise BadRequest("; ".join(self.warnings))

    @property
    def jobs(self) -> list[Job]:
        """The jobs in the order of their works."""
        return [job for batch in self.batches for job in batch.jobs]

    def local(self, place: str) -> str:
        """A place as one to send from; raises BadRequest for a file that is not there."""
        if is_uri(place):
            return place
        path = self.path.parent / place
        if not path.is_file():
            raise BadRequest(f"{self.path}: there is no file {path}")
        return str(path.absolute())  # `-` would be standard input

    def check_files(self) -> None:
        """Raise BadRequest for a file that is not there, before anything is sent."""
        for batch in self.batches:
            wanted = batch.wanted
            for place in filter(None, [wanted.stdin, *(place for _, place in wanted.inputs)]):
                self.local(place)
            if wanted.program.place and not self.is_name(wanted.program):
                self.local(wanted.program.place)

    def is_name(self, program: Program) -> bool:
        """Whether a program that would travel is no file here, and so an application's name."""
        return "/" not in program.place and not (self.path.parent / program.place).is_file()


def submit_described(
    shell: Shell,
    described: Described,
    send_as: Callable[[str], Send],
    on_ended: OnEnded | None,
    rights: int | None,
    common: Mapping[str, Any],
) -> list[Submitted]:
    """Submit the works of a description. ``send_as`` is asked for how files go along with an
    application, ``common`` is what the command line says of all works.
    """
    described.check_files()
    applications: dict[Program, str] = {}
    submitted = []
    for batch in described.batches:
        program = batch.wanted.program
        if program not in applications:
            applications[program] = _application(shell, described, program, rights)
        application = applications[program]
        send = send_as(application)
        submitted.append(_submit(shell.grid, described, batch, application, send, on_ended, common))
    return submitted


def _submit(
    grid: Grid,
    described: Described,
    batch: Batch,
    application: str,
    send: Send,
    on_ended: OnEnded | None,
    common: Mapping[str, Any],
) -> Submitted:
    wanted: Wanted = batch.wanted
    description = replace(
        wanted.description,
        application=application,
        stdin=send(described.local(wanted.stdin)) if wanted.stdin else None,
        inputs=tuple((name, send(described.local(place))) for name, place in wanted.inputs),
        **common,
    )
    if len(described.jobs) == 1:
        return grid.submit(description, batch.arguments[0], on_ended)
    return grid.sweep(description, batch.arguments, on_ended)


def _application(shell: Shell, described: Described, program: Program, rights: int | None) -> str:
    """The application that runs a program: one of the grid by its name, or a file of the user's as
    his own, named by its digest and so registered once.
    """
    if not program.is_launched and (not program.place or described.is_name(program)):
        return program.name
    source = LAUNCHER if program.is_launched else _source(described, program)
    platform = ANY_PLATFORM if program.is_launched else None
    rights = PRIVATE if rights is None else rights
    with ExitStack() as shown:

        def show(name: str, size: int) -> OnBytes:
            return shown.enter_context(shell.progress(name, size, in_mib)).show

        return application_of(shell.grid, program.name, source, rights, platform, show)


def _source(described: Described, program: Program) -> Path | str:
    place = described.local(program.place)
    return place if is_uri(place) else Path(place)


# What came of it


def bring(
    shell: Shell, described: Described, works: Sequence[UID], results: Sequence[Result]
) -> list[dict[str, Any]]:
    """Write what the works left behind where the description says: a row for each file. What is
    there already is replaced, as by any other program that is told where to write.
    """
    jobs = described.jobs
    if len(works) != len(jobs):
        raise BadRequest(
            f"{described.path} is of {len(jobs)} jobs, and {len(works)} works are named"
        )
    directory = described.path.parent
    places = dict(zip(works, places_of(jobs, directory), strict=True))
    job_of = dict(zip(works, jobs, strict=True))
    rows: list[dict[str, Any]] = []
    for result in results:
        work, own = result.work, directory / result.work
        try:
            with tempfile.TemporaryDirectory(prefix=f".{work}-", dir=directory) as fresh:
                shell.grid.fetch(result, Path(fresh))
                for name, path in _moved(Path(fresh), job_of[work], places[work], own):
                    rows.append({"work": work, "output": name, "place": str(path)})
        except OSError as error:
            raise BadRequest(f"results cannot be written to {directory}: {error}") from error
    return rows


def _moved(
    fresh: Path, job: Job, places: Mapping[str, Path], own: Path
) -> Iterator[tuple[str, Path]]:
    """Move what was fetched to its places. What the description does not name goes to the work's
    own directory: its name is the worker's choice, and may be that of a file which is here.
    """
    fetched = [(each.relative_to(fresh).as_posix(), each) for each in fresh.rglob("*")]
    streams = {"stdout": job.stdout, "stderr": job.stderr}
    # Standard error last: it may be joined to standard output.
    for name, path in sorted(fetched, key=lambda pair: (pair[0] == "stderr", pair[0])):
        if not path.is_file() or streams.get(name) == "":
            continue
        target = places.get(name) or place_of(Path(streams.get(name, name)).name, own)
        if name not in places and name not in streams:
            target = place_of(name, own)
        _put(path, target, joins=name == "stderr" and job.stderr == job.stdout)
        yield name, target


def _put(path: Path, target: Path, *, joins: bool) -> None:
    if target.is_dir():
        raise BadRequest(f"{target} is a directory; an output is to be written there")
    target.parent.mkdir(parents=True, exist_ok=True)
    if joins:
        with path.open("rb") as source, target.open("ab") as joined:
            shutil.copyfileobj(source, joined)
    else:
        shutil.move(path, target)


def warn(shell: Shell, described: Described) -> None:
    """Tell what was not understood, or is not honoured."""
    for sentence in described.warnings:
        shell.output.complain(f"xw: {sentence}")
