"""What works left behind, brought here."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click

from desktopgrid.client.commands.shell import Command, Shell, pass_shell
from desktopgrid.client.connection import OnBytes
from desktopgrid.client.files import pack
from desktopgrid.client.grid import Grid
from desktopgrid.client.progress import Progress, in_mib
from desktopgrid.model.errors import BadRequest
from desktopgrid.model.lifecycle import FINAL_WORKS
from desktopgrid.model.objects import UID, Result


@click.command(cls=Command)
@click.argument("names", nargs=-1, metavar="[UID...]")
@click.option("--all", "everything", is_flag=True, help="Of all works of yours that have ended.")
@click.option(
    "-d",
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Where to write; each work gets a directory of its own in it. Here unless given.",
)
@click.option(
    "--stdout", "to_stdout", is_flag=True, help="Print standard output instead of writing files."
)
@click.option(
    "--archive",
    type=click.Choice(["none", "also", "only"]),
    default="none",
    help="Make a zip of each work's files, besides its directory or instead of it.",
)
@click.option("--override", is_flag=True, help="Replace files that are there.")
@click.option("--erase", is_flag=True, help="Remove the works from the grid once they are here.")
@click.option(
    "--description",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The job description that the works were submitted by: write where it says.",
)
@pass_shell
def result(
    shell: Shell,
    names: tuple[str, ...],
    everything: bool,
    directory: Path,
    to_stdout: bool,
    archive: str,
    override: bool,
    erase: bool,
    description: Path | None,
) -> None:
    """Fetch the results of works, or of all works of submissions.

    DIRECTORY/WORK holds the files `stdout` and `stderr` and every file that the work left behind.
    With --description they are written where the job description says, in place of what is there.
    """
    if bool(names) == everything:
        raise click.UsageError("name works or submissions, or give --all")
    grid = shell.grid
    if description is not None:
        if everything or to_stdout or archive != "none":
            raise click.UsageError("--description says where outputs go, and which works' they are")
        _bring_described(shell, description, list(shell.names(names)), erase)
        return
    wanted = _ended(grid) if everything else grid.works_of(list(shell.names(names)))
    works = list(dict.fromkeys(wanted))
    rows: list[dict[str, Any]] = []
    refused: dict[UID, str] = {}
    with shell.progress("results", len(works)) as progress:
        for got in grid.results(works):
            place = directory / got.work
            try:
                if to_stdout:
                    sys.stdout.buffer.write(grid.content(got, "stdout"))
                else:
                    on_bytes = partial(_show_bytes, progress, len(rows))
                    place = _bring(grid, got, directory, archive, override, on_bytes)
            except BadRequest as error:
                refused[got.work] = str(error)
            row = {"work": got.work, "status": got.status.value, "exit_code": got.exit_code}
            rows.append({**row, "directory": str(place)})
            progress.show(len(rows))
    if not to_stdout:
        shell.output.rows("result", rows, ("work", "status", "exit_code", "directory"))
    if erase and (here := [row["work"] for row in rows if row["work"] not in refused]):
        grid.remove(here)
    for reason in refused.values():
        shell.output.complain(f"xw: {reason}")
    if len(rows) < len(works):
        missing = len(works) - len(rows)
        shell.output.say(f"{missing} of {len(works)} works have no result yet. Next: xw wait UID")
    if refused or len(rows) < len(works):
        click.get_current_context().exit(1)


def _bring_described(shell: Shell, path: Path, names: list[str], erase: bool) -> None:
    from desktopgrid.client.commands.described import Described, bring

    works = list(shell.grid.works_of(names))
    results = list(shell.grid.results(works))
    rows = bring(shell, Described(path), works, results)
    shell.output.rows("output", rows, ("work", "output", "place"))
    if erase and results:
        shell.grid.remove([result.work for result in results])
    if len(results) < len(works):
        missing = len(works) - len(results)
        shell.output.say(f"{missing} of {len(works)} works have no result yet. Next: xw wait UID")
        click.get_current_context().exit(1)


def _ended(grid: Grid) -> Iterator[UID]:
    """The works of ours that have ended and were not removed."""
    over = [status.value for status in FINAL_WORKS]
    for row in grid.objects("works", owner=grid.session.welcome.user, status=over):
        yield str(row["uid"])


def _show_bytes(progress: Progress, done: int, moved: int) -> None:
    """How far the work is that comes after those which are ``done``."""
    progress.show(done, f"the next one: {in_mib(moved)}")


def _bring(
    grid: Grid, got: Result, directory: Path, archive: str, override: bool, on_bytes: OnBytes
) -> Path:
    """Fetch a result into ``directory``; the directory or the zip that it is in."""
    place, packed = directory / got.work, directory / f"{got.work}.zip"
    is_to_be_packed = archive != "none" and (override or not packed.exists())
    if archive != "only":
        grid.fetch(got, place, overrides=override, progress=on_bytes)
        if is_to_be_packed:
            pack(place, packed)
        return place
    if is_to_be_packed:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{got.work}-", dir=directory) as fresh:
            grid.fetch(got, Path(fresh), progress=on_bytes)
            pack(Path(fresh), packed)
    return packed
