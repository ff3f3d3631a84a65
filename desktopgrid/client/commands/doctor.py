"""`xw doctor`: why the grid cannot be reached, and what to do about it."""

from __future__ import annotations

import dataclasses

import click

from desktopgrid.client.commands.shell import Command, Shell, pass_shell
from desktopgrid.client.doctor import GOOD, PATIENCE, WRONG, Finding, examine


@click.command(cls=Command)
@pass_shell
def doctor(shell: Shell) -> None:
    """Try every step on the way to the grid, and say what to do where one fails.

    Identity and its rights, names, connection, certificate, clock, login, proxy, disk, versions.
    Exit code 1 if a step fails; a warning is none.
    """
    found: list[Finding] = []
    for finding in examine(shell.identity_path, patience=shell.patience or PATIENCE):
        found.append(finding)
        if shell.output.format == "table":
            _show(shell, finding)
    if shell.output.format != "table":
        rows = [dataclasses.asdict(finding) for finding in found]
        shell.output.rows("finding", rows, ("check", "state", "found", "advice"))
    wrong = sum(finding.state == WRONG for finding in found)
    odd = sum(finding.state != GOOD for finding in found) - wrong
    if not wrong and not odd:
        shell.output.say("All is well.")
    if wrong:
        click.get_current_context().exit(1)


def _show(shell: Shell, finding: Finding) -> None:
    """A step as soon as it is done: the next one may take its time."""
    shell.output.line(f"{finding.state:8} {finding.check:12} {finding.found}")
    if finding.advice:
        shell.output.line(f"{'':8} {'':12} -> {finding.advice}")
