"""What one puts on the grid and takes off it: applications, datas, anything by its UID."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from desktopgrid.client.commands.shell import NAMES, Command, Shell, names_of, pass_shell
from desktopgrid.client.commands.types import Rights, Source
from desktopgrid.client.files import Content, platform_of
from desktopgrid.client.progress import Progress, in_mib
from desktopgrid.client.replies import rights_of
from desktopgrid.model.errors import BadRequest
from desktopgrid.model.modes import mode
from desktopgrid.model.objects import Platform
from desktopgrid.model.uris import is_uri, located

Function = TypeVar("Function", bound=Callable[..., Any])


def content_options(command: Function) -> Function:
    """What is at a URI, for one who knows it or cannot read it here."""
    for option in (
        click.option(
            "--sha256", help="The SHA-256 of what is at a URI, which is read here unless given."
        ),
        click.option("--size", type=click.IntRange(0), help="Its size in bytes."),
    ):
        command = option(command)
    return command


def platform_options(what: str) -> Callable[[Function], Function]:
    """What ``what`` was made for."""

    def decorated(command: Function) -> Function:
        command = click.option("--os", help="Operating system, such as linux; or `any`.")(command)
        return click.option("--cpu", help=f"CPU type that {what} was made for, such as x86_64.")(
            command
        )

    return decorated


def _content(source: Path | str, sha256: str | None, size: int | None) -> Content | None:
    if (sha256 is None) != (size is None) or (sha256 and isinstance(source, Path)):
        raise click.UsageError("--sha256 and --size go together, and with a URI")
    return Content(sha256, size) if sha256 is not None and size is not None else None


def _platform(cpu: str | None, os: str | None) -> Platform | None:
    if (cpu is None) != (os is None):
        raise click.UsageError("--cpu and --os go together")
    return Platform(cpu, os) if cpu and os else None


def _progress(shell: Shell, source: Path | str) -> Progress:
    if isinstance(source, Path):
        return shell.progress(source.name, source.stat().st_size, scale=in_mib)
    return shell.progress(source, 0, scale=in_mib)


@click.command(cls=Command)
@click.argument("name")
@click.argument("executable", type=Source())
@platform_options("it")
@click.option(
    "--rights",
    type=Rights(),
    help="Who may use it: private, group or public. An advanced user's is public unless given.",
)
@content_options
@pass_shell
def sendapp(
    shell: Shell,
    name: str,
    executable: Path | str,
    cpu: str | None,
    os: str | None,
    rights: int | None,
    sha256: str | None,
    size: int | None,
) -> None:
    """Register EXECUTABLE, a file or a URI, as application NAME.

    If there is one of yours, as another platform's executable of it.
    What a script or an ELF program was made for is read from the file.
    """
    content, platform = _content(executable, sha256, size), _platform(cpu, os)
    try:
        if platform is None and isinstance(executable, Path):
            platform = platform_of(executable)
    except BadRequest as error:
        raise click.UsageError(str(error)) from None
    with _progress(shell, executable) as progress:
        reply = shell.grid.send_application(
            name, executable, platform, rights=rights, content=content, progress=progress.show
        )
    shell.output.result(str(reply["uid"]), {**reply, "rights": mode(rights_of(reply))})
    made_for = f" for {platform}" if platform is not None else ""
    shell.output.say(f"Application {name} is registered{made_for}. Next: xw submit {name}")


@click.command(cls=Command)
@click.argument("source", type=Source())
@click.option("--name", help="Its name on the grid; the last word of its path unless given.")
@click.option("--type", default="", help="What is in it, such as text or zip.")
@click.option(
    "--rights", type=Rights(), default="public", show_default=True, help="Who may read it."
)
@platform_options("it")
@click.option(
    "--replace",
    is_flag=True,
    help="Remove what you have under the same name, CPU type, operating system and place.",
)
@content_options
@pass_shell
def senddata(
    shell: Shell,
    source: Path | str,
    name: str | None,
    type: str,
    rights: int,
    cpu: str | None,
    os: str | None,
    replace: bool,
    sha256: str | None,
    size: int | None,
) -> None:
    """Make SOURCE a data of the grid.

    A file is put on the grid's server; an upload that breaks goes on where it was, as long as this
    command lives. What is at an http or https URI stays there, where everybody can read it; workers
    fetch it when they need it.
    """
    more: dict[str, Any] = {"type": type, "platform": _platform(cpu, os), "replaces": replace}
    content = _content(source, sha256, size)
    with _progress(shell, source) as progress:
        if isinstance(source, Path):
            name = name or source.name
            data = shell.grid.send_data(source, name, rights=rights, progress=progress.show, **more)
        else:
            data = shell.grid.send_uri(source, name or "", content, progress=progress.show, **more)
    record = {"uid": data.uid, "name": data.name, "sha256": data.sha256, "size": data.size}
    shell.output.result(data.uid, record)
    shell.output.say(f"Next: xw submit APPLICATION --input {data.name}={data.uid}")


@click.command(cls=Command)
@NAMES
@click.option(
    "-d",
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Where to write them, under their names. Here unless given.",
)
@click.option("--override", is_flag=True, help="Replace files that are there.")
@pass_shell
def getdata(shell: Shell, names: tuple[str, ...], directory: Path, override: bool) -> None:
    """Fetch the contents of datas, wherever they are; size and digest are checked."""
    rows = []
    for uid in shell.names(names):
        uid = located(uid).uid if is_uri(uid) else uid
        with Progress(uid, 0, scale=in_mib) as progress:
            path = shell.grid.fetch_data(uid, directory, overrides=override, progress=progress.show)
        rows.append({"uid": uid, "file": str(path)})
    shell.output.rows("data", rows, ("uid", "file"))


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
@click.argument("application", shell_complete=names_of("apps", "name"))
@click.option(
    "--withdraw", is_flag=True, help="Stand for it no longer: no service grid runs it from now on."
)
@pass_shell
def validate(shell: Shell, application: str, withdraw: bool) -> None:
    """Stand for the executables of APPLICATION, as they are now: sites that run validated
    applications only, as service grids do, will run it. For super users.

    Who did so and when is in `xw apps`. Another executable of it ends that.
    """
    reply = shell.grid.validate(application, not withdraw)
    shell.output.rows("application", [reply], ("uid", "name", "validated"))


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
    """Remove works, applications, datas, sessions, groups; for super users also users and user
    groups.

    Works that are open are cancelled first, and so are those of a user who is removed. What he
    owns stays. Nothing ever gets the name of what was removed.
    """
    removed = shell.grid.remove(list(shell.names(names)))
    shell.output.rows("object", [{"uid": uid} for uid in removed], ("uid",))
