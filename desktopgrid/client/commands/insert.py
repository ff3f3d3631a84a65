"""What one puts on the grid and takes off it: applications, datas, anything by its UID."""

from __future__ import annotations

from pathlib import Path

import click

from desktopgrid.client.commands.shell import NAMES, Command, Shell, pass_shell
from desktopgrid.client.commands.types import Rights
from desktopgrid.client.files import platform_of
from desktopgrid.client.progress import Progress, in_mib
from desktopgrid.model.errors import BadRequest
from desktopgrid.model.objects import Platform

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(cls=Command)
@click.argument("name")
@click.argument("executable", type=FILE)
@click.option("--cpu", help="CPU type that it was made for, such as x86_64; `any` for a script.")
@click.option("--os", help="Operating system that it was made for, such as linux; or `any`.")
@click.option(
    "--rights",
    type=Rights(),
    help="Who may use it: private, group or public. An advanced user's is public unless given.",
)
@pass_shell
def sendapp(
    shell: Shell, name: str, executable: Path, cpu: str | None, os: str | None, rights: int | None
) -> None:
    """Register EXECUTABLE as application NAME.

    If there is one of yours, as another platform's executable of it.
    What a script or an ELF program was made for is read from the file.
    """
    if (cpu is None) != (os is None):
        raise click.UsageError("--cpu and --os go together")
    try:
        platform = Platform(cpu, os) if cpu and os else platform_of(executable)
    except BadRequest as error:
        raise click.UsageError(str(error)) from None
    with Progress(executable.name, executable.stat().st_size, scale=in_mib) as progress:
        reply = shell.grid.send_application(
            name, executable, platform, rights=rights, progress=progress.show
        )
    shell.output.result(str(reply["uid"]), reply)
    shell.output.say(f"Application {name} is registered for {platform}. Next: xw submit {name}")


@click.command(cls=Command)
@click.argument("file", type=FILE)
@click.option("--name", help="Its name on the grid; the file's own unless given.")
@click.option("--type", default="", help="What is in it, such as text or zip.")
@click.option(
    "--rights", type=Rights(), default="public", show_default=True, help="Who may read it."
)
@pass_shell
def senddata(shell: Shell, file: Path, name: str | None, type: str, rights: int) -> None:
    """Put FILE on the grid as a data.

    An upload that breaks goes on where it was, as long as this command lives.
    """
    with Progress(file.name, file.stat().st_size, scale=in_mib) as progress:
        data = shell.grid.send_data(
            file, name or file.name, type=type, rights=rights, progress=progress.show
        )
    record = {"uid": data.uid, "name": data.name, "sha256": data.sha256, "size": data.size}
    shell.output.result(data.uid, record)
    shell.output.say(f"Next: xw submit APPLICATION --input {data.name}={data.uid}")


@click.command(cls=Command)
@NAMES
@pass_shell
def rm(shell: Shell, names: tuple[str, ...]) -> None:
    """Remove works, applications or datas.

    Works that are open are cancelled first.
    """
    removed = shell.grid.remove(list(shell.names(names)))
    shell.output.rows("object", [{"uid": uid} for uid in removed], ("uid",))
