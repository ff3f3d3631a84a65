"""Who one is: login, logout, and identities for workers of one's own."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from desktopgrid.client import profile
from desktopgrid.client.commands.shell import Command, Shell, pass_shell
from desktopgrid.client.commands.types import Span
from desktopgrid.model.errors import NotAuthenticated


def password_from(context: click.Context, option: click.Parameter, value: str | None) -> str:
    """The password, from a prompt, from standard input (``-``), from a file (``@FILE``), or as it
    stands there, with a warning.
    """
    if value is None:
        prompted: str = click.prompt("Password", hide_input=True, err=True)
        return prompted
    if value == "-":
        return sys.stdin.readline().rstrip("\n")
    if value.startswith("@"):
        try:
            return Path(value[1:]).read_text().split("\n", 1)[0]
        except OSError as error:
            raise click.BadParameter(f"{value[1:]} cannot be read: {error.strerror}") from error
    click.echo(
        "Warning: a password in a command line is seen by everybody on this machine; give - or"
        " @FILE, or leave it out to be asked.",
        err=True,
    )
    return value


LABEL = click.option("--label", help="What the token is called in `xw tokens`.")


@click.command(cls=Command)
@click.argument("login")
@click.option(
    "--server",
    "servers",
    required=True,
    multiple=True,
    metavar="https://HOST:PORT",
    help="Where the server listens; more than one are tried in turn.",
)
@click.option(
    "--ca",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The grid's CA, as its administrator gives it to you; nothing else is trusted.",
)
@click.option(
    "--password",
    is_eager=False,
    callback=password_from,
    metavar="-|@FILE",
    help="Read the password from standard input or a file instead of asking.",
)
@click.option("--lifetime", type=Span(), help="How long the login lasts, such as 30d.")
@LABEL
@pass_shell
def login(
    shell: Shell,
    login: str,
    servers: tuple[str, ...],
    ca: Path,
    password: str,
    lifetime: int | None,
    label: str | None,
) -> None:
    """Log in as LOGIN; later commands act as this user.

    The password is exchanged for a token, which is kept in the identity file, readable for you
    alone.
    """
    path = profile.identity_path(shell.identity, is_new=True)
    if profile.is_configuration(path):
        raise click.UsageError(
            f"{path} is there and is no identity file, so it is left alone; name another one by"
            " --identity"
        )
    label = label if label is not None else profile.default_label()
    made = profile.log_in(servers, ca.read_text(), login, password, path, lifetime, label)
    tell(shell, made, label, path)


def tell(shell: Shell, made: profile.Login, label: str, path: Path) -> None:
    """Say what a login made."""
    limits = f", good for {made.scope} only" if made.scope else ""
    shell.output.say(
        f"Logged in as {made.user} until {made.expires_at}{limits}; token"
        f" {made.identity.identity} ({label}) is in {path}. Next: xw stats"
    )


@click.command(cls=Command)
@pass_shell
def logout(shell: Shell) -> None:
    """Revoke your token and remove the identity file."""
    path = shell.identity_path
    identity = profile.load(path)
    try:
        shell.grid.revoke(identity.identity)
    except NotAuthenticated:
        shell.output.say("The token was good for nothing any more.")
    if profile.is_configuration(path):
        profile.forget(path)
        shell.output.say(f"Logged out; the password in {path} logs in again.")
        return
    path.unlink()
    shell.output.say(f"Logged out; {path} is removed.")


@click.command(cls=Command)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--kind",
    type=click.Choice(["worker", "client"]),
    default="worker",
    help="What it is for: a worker of your own (it runs your works only), or another client.",
)
@click.option("--lifetime", type=Span(), help="How long it is good for, such as 30d.")
@LABEL
@click.option(
    "--user",
    metavar="LOGIN",
    help="Whose it is, if not yours; for super users. A worker with a token of its own can be"
    " revoked alone.",
)
@pass_shell
def token(
    shell: Shell,
    file: Path,
    kind: str,
    lifetime: int | None,
    label: str | None,
    user: str | None,
) -> None:
    """Make an identity for a worker of your own.

    It is written into FILE, readable for you alone. The worker runs your works only, also private
    ones. Its token is good for that and nothing else.
    """
    if file.exists():
        raise click.BadParameter(f"{file} is there already")
    label = label if label is not None else file.stem
    identity = shell.grid.new_identity(kind, user, lifetime, label)
    identity.write(file)
    shell.output.result(str(file), {"file": str(file), "token": identity.identity})
    if kind == "worker":
        shell.output.say(f"Next, on the worker's machine: xwworker --identity {file.name} console")
