"""What is on the grid: hosts, applications, datas, and how it does."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from desktopgrid.client.commands.shell import Command, Shell, pass_shell
from desktopgrid.client.replies import rights_of
from desktopgrid.model.modes import mode


def readable(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with access rights as one writes them."""
    return [{**row, "rights": mode(rights_of(row))} if "rights" in row else row for row in rows]


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
    columns = ("uid", "name", "owner", "rights", "size", "type", "is_available", "uri")
    shell.output.rows("data", readable(shell.grid.objects("datas", (), limit)), columns)


@click.command(cls=Command)
@LIMIT
@pass_shell
def sessions(shell: Shell, limit: int) -> None:
    """List the sessions that you may see; `xw works --session UID` lists the works of one."""
    _bags(shell, "session", limit)


@click.command(cls=Command)
@LIMIT
@pass_shell
def groups(shell: Shell, limit: int) -> None:
    """List the groups of works that you may see; `xw works --group UID` lists the works of one."""
    _bags(shell, "group", limit)


def _bags(shell: Shell, kind: str, limit: int) -> None:
    rows = readable(shell.grid.objects(f"{kind}s", (), limit))
    shell.output.rows(kind, rows, ("uid", "name", "owner", "rights"))


@click.command(cls=Command)
@pass_shell
def stats(shell: Shell) -> None:
    """Say how the grid does."""
    shell.output.record("stat", shell.grid.stats())
