"""Who one is: login, logout, and identities for workers of one's own."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from desktopgrid.client import profile
from desktopgrid.client.bearer import discovered
from desktopgrid.client.bearer import read as read_token
from desktopgrid.client.commands.shell import Command, Shell, pass_shell
from desktopgrid.client.commands.types import Span
from desktopgrid.credentials.proof import Proof, proxy_path
from desktopgrid.model.errors import NotAuthenticated


def asked(what: str, is_new: bool = False) -> str:
    """What somebody types whom nobody sees; twice where it ``is_new``."""
    prompted: str = click.prompt(what, hide_input=True, err=True, confirmation_prompt=is_new)
    return prompted


def password_said(value: str) -> str:
    """The password on standard input (``-``), in a file (``@FILE``), or as it stands in the command
    line, with a warning.
    """
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


FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(cls=Command)
@click.argument("login", required=False)
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
    metavar="-|@FILE",
    help="Read the password from standard input or a file instead of asking.",
)
@click.option("--cert", type=FILE, metavar="FILE", help="Log in by this X.509 certificate instead.")
@click.option(
    "--key", type=FILE, metavar="FILE", help="Its private key, which stays here; else it is beside."
)
@click.option(
    "--proxy",
    is_flag=False,
    flag_value="",
    metavar="[FILE]",
    help="Log in by this RFC 3820 proxy; without FILE by $X509_USER_PROXY or /tmp/x509up_uUID.",
)
@click.option(
    "--token-file",
    metavar="FILE|-",
    help="Log in by the bearer token (OpenID Connect, WLCG) in this file, or on standard input.",
)
@click.option(
    "--bearer",
    is_flag=True,
    help="The same by the token that is found as WLCG has it: $BEARER_TOKEN, $BEARER_TOKEN_FILE,"
    " $XDG_RUNTIME_DIR/bt_uUID, /tmp/bt_uUID.",
)
@click.option("--lifetime", type=Span(), help="How long the login lasts, such as 30d.")
@LABEL
@pass_shell
def login(
    shell: Shell,
    login: str,
    servers: tuple[str, ...],
    ca: Path,
    password: str | None,
    cert: Path | None,
    key: Path | None,
    proxy: str | None,
    token_file: str | None,
    bearer: bool,
    lifetime: int | None,
    label: str | None,
) -> None:
    """Log in as LOGIN; later commands act as this user.

    The password is exchanged for a token, which is kept in the identity file, readable for you
    alone. A certificate or a proxy says by itself who you are; the token ends with it. By a limited
    proxy you may look, and submit nothing.
    """
    ways = [way for way in (login, cert, proxy, token_file, bearer or None) if way is not None]
    if len(ways) != 1 or (key is not None and cert is None) or (password and login is None):
        raise click.UsageError(
            "log in either as LOGIN, by --cert (with --key), by --proxy, by --token-file or by"
            " --bearer"
        )
    path = profile.identity_path(shell.identity, is_new=True)
    if profile.is_configuration(path):
        raise click.UsageError(
            f"{path} is there and is no identity file, so it is left alone; name another one by"
            " --identity"
        )
    label = label if label is not None else profile.default_label()
    authority = ca.read_text()
    if login is not None:
        secret = asked("Password") if password is None else password_said(password)
        made = profile.log_in(servers, authority, login, secret, path, lifetime, label)
    elif token_file is not None or bearer:
        token = token_in(token_file) if token_file is not None else discovered()
        made = profile.log_in_by_token(servers, authority, token, path, lifetime, label)
    else:
        source = cert or Path(proxy or proxy_path())
        proof = Proof.read(source, key, lambda: asked("Passphrase of the key"))
        made = profile.log_in_by_certificate(servers, authority, proof, path, lifetime, label)
    tell(shell, made, label, path)


def token_in(place: str) -> str:
    """The bearer token in a file, or on standard input (``-``)."""
    return sys.stdin.readline().strip() if place == "-" else read_token(Path(place))


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
    type=click.Choice(["worker", "client", "bridge"]),
    default="worker",
    help="What it is for: a worker of your own (it runs your works only), another client, or, for"
    " super users to make, a bridge, to which users delegate.",
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


@click.command(cls=Command)
@click.option(
    "--password",
    metavar="-|@FILE",
    help="Read the password that you have from standard input or a file instead of asking.",
)
@click.option(
    "--new",
    metavar="-|@FILE",
    help="The same for the new one; with - for both, the second line is the new one.",
)
@pass_shell
def passwd(shell: Shell, password: str | None, new: str | None) -> None:
    """Change your password.

    What you are logged in by stays good; `xw tokens` lists it, `xw revoke` ends it. Who has lost
    his password, or never had one, asks the grid's administrator (`xwserver passwd`).
    """
    path = shell.identity_path
    identity = profile.load(path)
    login = shell.grid.session.welcome.user
    present = asked(f"Password of {login}") if password is None else password_said(password)
    chosen = asked("New password", is_new=True) if new is None else password_said(new)
    profile.change_password(identity, login, present, chosen)
    shell.output.say(f"{login} logs in by the new password from now on. Next: xw tokens")
    if profile.is_configuration(path):
        shell.output.say(f"{path} has the old one still: change it there.")
