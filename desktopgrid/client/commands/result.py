"""What works left behind, brought here."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from desktopgrid.client.commands.shell import NAMES, Command, Shell, pass_shell
from desktopgrid.client.progress import Progress
from desktopgrid.model.errors import BadRequest


@click.command(cls=Command)
@NAMES
@click.option(
    "-d",
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("."),
    help="Where to write; each work gets a directory of its own in it. Here unless given.",
)
@click.option(
    "--stdout", "to_stdout", is_flag=True, help="Print standard output instead of writing files."
)
@click.option("--override", is_flag=True, help="Replace files that are there.")
@click.option("--erase", is_flag=True, help="Remove the works from the grid once they are here.")
@pass_shell
def result(
    shell: Shell,
    names: tuple[str, ...],
    directory: Path,
    to_stdout: bool,
    override: bool,
    erase: bool,
) -> None:
    """Fetch the results of works, or of all works of submissions.

    DIRECTORY/WORK holds the files `stdout` and `stderr` and every file that the work left behind.
    """
    grid = shell.grid
    works = list(dict.fromkeys(grid.works_of(list(shell.names(names)))))
    rows: list[dict[str, Any]] = []
    refused = []
    with Progress("results", len(works)) as progress:
        for got in grid.results(works):
            place = directory / got.work
            row = {"work": got.work, "status": got.status.value, "exit_code": got.exit_code}
            try:
                if to_stdout:
                    sys.stdout.buffer.write(grid.content(got, "stdout"))
                else:
                    grid.fetch(got, place, overrides=override)
            except BadRequest as error:
                refused.append(str(error))
            rows.append({**row, "directory": str(place)})
            progress.show(len(rows))
    if not to_stdout:
        shell.output.rows("result", rows, ("work", "status", "exit_code", "directory"))
    if erase and not refused:
        grid.remove([row["work"] for row in rows])
    for reason in refused:
        shell.output.say(f"xw: {reason}")
    if len(rows) < len(works):
        missing = len(works) - len(rows)
        shell.output.say(f"{missing} of {len(works)} works have no result yet. Next: xw wait UID")
    if refused or len(rows) < len(works):
        click.get_current_context().exit(1)
