"""What is on the grid: hosts, applications, datas, and how it does."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from desktopgrid.client.commands.shell import Command, Shell, pass_shell
from desktopgrid.client.replies import rights_of


def readable(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with access rights as one writes them."""
    return [{**row, "rights": f"{rights_of(row):#o}"} if "rights" in row else row for row in rows]


LIMIT = click.option(
    "--limit", type=click.IntRange(1), default=1_000, show_default=True, help="At most so many."
)


@click.command(cls=Command)
@LIMIT
@pass_shell
def hosts(shell: Shell, limit: int) -> None:
    """List the machines that work for the grid."""
    columns = (
        "uid",
        "name",
        "kind",
        "status",
        "cpu",
        "os",
        "cores",
        "memory_mib",
        "tasks",
        "works_done",
    )
    shell.output.rows("host", list(shell.grid.objects("hosts", (), limit)), columns)


@click.command(cls=Command)
@LIMIT
@pass_shell
def apps(shell: Shell, limit: int) -> None:
    """List the applications that you may use."""
    columns = ("uid", "name", "owner", "rights", "platforms")
    shell.output.rows("app", readable(shell.grid.objects("apps", (), limit)), columns)


@click.command(cls=Command)
@LIMIT
@pass_shell
def datas(shell: Shell, limit: int) -> None:
    """List the datas that you may read."""
    columns = ("uid", "name", "owner", "rights", "size", "type", "is_available")
    shell.output.rows("data", readable(shell.grid.objects("datas", (), limit)), columns)


@click.command(cls=Command)
@pass_shell
def stats(shell: Shell) -> None:
    """Say how the grid does."""
    shell.output.record("stat", shell.grid.stats())
