"""What one puts on the grid and takes off it: applications, datas, anything by its UID."""

from __future__ import annotations

from pathlib import Path

import click

from desktopgrid.client.commands.shell import NAMES, Command, Shell, pass_shell
from desktopgrid.client.commands.types import Rights
from desktopgrid.client.files import platform_of
from desktopgrid.client.progress import Progress, in_mib
from desktopgrid.client.replies import rights_of
from desktopgrid.model.errors import BadRequest
from desktopgrid.model.modes import mode
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
    shell.output.result(str(reply["uid"]), {**reply, "rights": mode(rights_of(reply))})
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
@click.argument("name")
@pass_shell
def sendsession(shell: Shell, name: str) -> None:
    """Begin the session NAME: a bag for the works of one sitting."""
    _send_bag(shell, "session", name)


@click.command(cls=Command)
@click.argument("name")
@pass_shell
def sendgroup(shell: Shell, name: str) -> None:
    """Make the group NAME: a bag of works that outlives a session."""
    _send_bag(shell, "group", name)


def _send_bag(shell: Shell, kind: str, name: str) -> None:
    uid = shell.grid.send_bag(kind, name)
    shell.output.result(uid, {"uid": uid, "name": name})
    shell.output.say(f"Next: xw submit APPLICATION --{kind} {uid}")


@click.command(cls=Command)
@click.argument("rights")
@NAMES
@pass_shell
def chmod(shell: Shell, rights: str, names: tuple[str, ...]) -> None:
    """Change the access RIGHTS of datas, sessions or groups.

    RIGHTS are private, group, public, an octal mode such as 750, or a change such as g+r or o-rx.
    Those of applications and works never change.
    """
    rows = [
        {"uid": uid, "rights": mode(shell.grid.chmod(uid, rights))} for uid in shell.names(names)
    ]
    shell.output.rows("object", rows, ("uid", "rights"))


@click.command(cls=Command)
@NAMES
@pass_shell
def rm(shell: Shell, names: tuple[str, ...]) -> None:
    """Remove works, applications or datas.

    Works that are open are cancelled first.
    """
    removed = shell.grid.remove(list(shell.names(names)))
    shell.output.rows("object", [{"uid": uid} for uid in removed], ("uid",))
