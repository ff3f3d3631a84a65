"""The command `jdl`: job descriptions read, checked, and written in another language.

What was made stands on standard output, what was not understood on standard error. Exit code 0:
done; 1: refused; 2: the command line is wrong.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from jdl.errors import JdlError, Unsayable
from jdl.job import Job, Read, said
from jdl.languages import (
    LANGUAGES,
    Language,
    absolute,
    language,
    read_file,
    without,
)
from jdl.pilot import pilot_job

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
NAMES = click.Choice(list(LANGUAGES))
FORMAT = click.option(
    "--format",
    "shape",
    type=click.Choice(["text", "json"]),
    default="text",
    help="How it is printed; text unless named.",
)
FROM = click.option(
    "--from", "source", type=NAMES, help="The language of FILE, where its name does not say it."
)


class Refusing(click.Group):
    """A group whose refusals are one sentence and exit code 1."""

    def invoke(self, context: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(context)
        except JdlError as error:
            click.echo(f"jdl: {error}", err=True)
            context.exit(1)


@click.group(
    cls=Refusing,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
def main() -> None:
    """Read job descriptions, and say them in another language."""


@main.command()
@click.argument("file", type=FILE)
@click.option("--to", "target", type=NAMES, required=True, help="The language to write.")
@FROM
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Where to write, instead of standard output; a directory takes one file a job.",
)
@click.option(
    "--without",
    "dropped",
    multiple=True,
    metavar="FIELD",
    help="Leave this field out, which the other language cannot say.",
)
@click.option("--strict", is_flag=True, help="Refuse what was not understood.")
def convert(
    file: Path,
    target: str,
    source: str | None,
    out: Path | None,
    dropped: tuple[str, ...],
    strict: bool,
) -> None:
    """Write the jobs of FILE in another language.

    What the other language cannot say is refused by name, unless it is left out by --without.
    """
    _, found = read_file(file, source)
    _warn(file, found, strict)
    chosen = language(target)
    jobs = [without(job, dropped) for job in found.jobs]
    if chosen.wants_absolute:
        jobs = [absolute(job, file.parent.resolve()) for job in jobs]
    for path, text in _texts(chosen, jobs, file, out):
        if path is None:
            sys.stdout.write(text)
        else:
            try:
                path.write_text(text)
            except OSError as error:
                raise JdlError(f"{path} cannot be written: {error.strerror}") from None
            click.echo(f"Wrote {path}.", err=True)


def _texts(
    chosen: Language, jobs: Sequence[Job], file: Path, out: Path | None
) -> list[tuple[Path | None, str]]:
    if out is None or not out.is_dir():
        if len(jobs) > 1 and not chosen.holds_many:
            reason = (
                f"{file} is of {len(jobs)}, and a description of one; name a directory by --out"
            )
            raise Unsayable(chosen.title, "jobs", reason)
        return [(out, chosen.write(jobs))]
    extension = chosen.extensions[0]
    if len(jobs) == 1:
        return [(out / f"{file.stem}{extension}", chosen.write(jobs))]
    return [(out / f"{file.stem}-{n}{extension}", chosen.write([j])) for n, j in enumerate(jobs)]


@main.command()
@click.argument("file", type=FILE)
@FROM
@FORMAT
@click.option("--strict", is_flag=True, help="Refuse what was not understood.")
def check(file: Path, source: str | None, shape: str, strict: bool) -> None:
    """Read FILE, and show what was understood and what was not."""
    chosen, found = read_file(file, source)
    if shape == "json":
        jobs = [{key: _plain(value) for key, value in said(job).items()} for job in found.jobs]
        warnings = [asdict(notice) for notice in found.warnings]
        record = {"language": chosen.name, "jobs": jobs, "warnings": warnings}
        click.echo(json.dumps(record, indent=2))
    else:
        count = f"{len(found.jobs)} job{'' if len(found.jobs) == 1 else 's'}"
        click.echo(f"{file}: {chosen.title}, {count}")
        for job in found.jobs[:1]:
            for key, value in said(job).items():
                click.echo(f"  {key} = {json.dumps(_plain(value), ensure_ascii=False)}")
        if len(found.jobs) > 1:
            click.echo(f"  and {len(found.jobs) - 1} more; see --format json")
    _warn(file, found, strict)


@main.command()
@FORMAT
def languages(shape: str) -> None:
    """List the languages."""
    rows = [
        {
            "name": each.name,
            "title": each.title,
            "extensions": list(each.extensions),
            "several_jobs": each.holds_many,
        }
        for each in LANGUAGES.values()
    ]
    if shape == "json":
        click.echo(json.dumps(rows, indent=2))
        return
    for each in LANGUAGES.values():
        jobs = "several jobs" if each.holds_many else "one job"
        extensions = " ".join(each.extensions)
        click.echo(f"{each.name:8}{each.title:24}{extensions:16}{jobs}")


@main.command()
@click.option("--to", "target", type=NAMES, required=True, help="The language to write.")
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    default=Path(),
    help="Where the bundle and the enrolment file lie.",
)
def pilot(target: str, directory: Path) -> None:
    """Print a pilot as a job, for a site that is submitted to by hand."""
    chosen = language(target)
    job = pilot_job()
    sys.stdout.write(
        chosen.write([absolute(job, directory.resolve()) if chosen.wants_absolute else job])
    )


def _warn(file: Path, found: Read, strict: bool) -> None:
    for notice in found.warnings:
        click.echo(f"jdl: {file}: {notice}", err=True)
    if strict and found.warnings:
        raise JdlError(f"{file}: {len(found.warnings)} attributes were not understood (--strict)")


def _plain(value: Any) -> Any:
    """A field as JSON has it."""
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return asdict(value) if hasattr(value, "__dataclass_fields__") else value
