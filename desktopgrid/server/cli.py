"""The command `xwserver`: make a grid, and keep it running.

Results on standard output, talk on standard error. Exit code 0: done; 1: the system refused, or the
server is not well; 2: the command line is wrong.

What only some commands need is imported there: the database and the doors take longer to load than
a status takes.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import re
import socket
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from desktopgrid.model.account import ROOT, Account
from desktopgrid.model.errors import GridError
from desktopgrid.server import daemon, pki, watching_cli
from desktopgrid.server.account import account_of, enter, enter_with_port
from desktopgrid.server.backup import back_up
from desktopgrid.server.config import parse as parse_configuration
from desktopgrid.server.config import read as read_configuration
from desktopgrid.server.home import CONFIGURATION, Home
from desktopgrid.server.manual import DEFAULT_PORT
from desktopgrid.server.missing import Missing
from desktopgrid.server.saying import hear_only, set_up_log

logger = logging.getLogger(__name__)

NICENESS = 10
MIB = 1 << 20


def utc_now() -> datetime:
    """What time it is."""
    return datetime.now(UTC)


class Commands(click.Group):
    """A group whose errors are sentences, never traces."""

    def invoke(self, context: click.Context) -> Any:
        """Run the command; its errors become exit code 1."""
        try:
            return super().invoke(context)
        except GridError as error:
            click.echo(f"xwserver: {error}", err=True)
            context.exit(1)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            click.echo(f"xwserver: {where}{error.strerror or error}", err=True)
            context.exit(1)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "-d",
    "--directory",
    envvar="GLIDEBRIDGE_HOME",
    default=".",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="The grid's directory; else $GLIDEBRIDGE_HOME, else the current one.",
)
@click.pass_context
def main(context: click.Context, directory: Path) -> None:
    """Make a desktop grid, and keep it running."""
    # Keys, secrets and the database are nobody else's business.
    os.umask(0o077)
    context.obj = directory


with_home = click.make_pass_decorator(Path)
with_format = click.option(
    "--format", "form", type=click.Choice(["table", "json"]), default="table"
)


def tell(form: str, sentence: str, facts: dict[str, Any]) -> None:
    """What a command did: a sentence for people, facts for programs."""
    click.echo(json.dumps(facts, indent=1) if form == "json" else sentence)


def without_password(context: click.Context, option: click.Parameter, url: str) -> str:
    """``url``, unless it tells a secret to everybody on this machine."""
    if re.search(r"://[^/@]*:[^/@]*@", url):
        raise click.BadParameter("a password in a command line is seen by all; use ~/.pgpass")
    return url


@main.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--name",
    "names",
    multiple=True,
    metavar="NAME",
    help="A name under which others reach this server, the best first. Default: the host's.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=DEFAULT_PORT, show_default=True)
@click.option("--address", default="", help="The address to listen on. Default: all.")
@click.option(
    "--database",
    "url",
    default="",
    callback=without_password,
    metavar="URL",
    help="The database, its password left to ~/.pgpass. Default: a file in DIR.",
)
@click.option(
    "--xwconfig",
    "manuals",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Configure it by this file in the XWHEP manual's form, an xtremweb.server.conf.",
)
@click.option(
    "--user",
    default="",
    metavar="NAME",
    help="The system user that is to serve it; root makes it his. Default: you.",
)
@click.option("--dry-run", is_flag=True, help="Say what is missing, and make nothing.")
@with_format
@click.pass_context
def init(
    context: click.Context,
    directory: Path,
    names: tuple[str, ...],
    port: int,
    address: str,
    url: str,
    manuals: Path | None,
    user: str,
    dry_run: bool,
    form: str,
) -> None:
    """Make a new grid in DIR, ready to serve.

    What the grid needs is looked at first: the directory, ports, and the database, by an account
    that may make tables there. If something is missing all of it is named, and nothing is made.

    \b
      xwserver init /srv/grid --name grid.example.org
      xwserver init /srv/grid --database postgresql+psycopg://grid@db.example.org/grid
      xwserver init /srv/grid --database \\
        'mariadb+pymysql://grid@db.example.org/grid?charset=utf8mb4&read_default_file=/root/my.cnf'
    """
    from desktopgrid.server import founding, requirements

    settings = {"names": ", ".join(names), "address": address, "url": url}
    settings = {key: value for key, value in settings.items() if value}
    if port != DEFAULT_PORT:
        settings["port"] = str(port)
    text = None
    if manuals is not None:
        if settings:
            raise click.UsageError("--xwconfig says all but --user; leave the others out")
        text, configured = manuals.read_text(), read_configuration(manuals).server.user
        if configured and user not in ("", configured):
            raise click.UsageError(f"{manuals} says that {configured} serves this grid")
        user = user or configured
    owner = owner_of(user)
    if user or os.geteuid() == 0:
        settings["user"] = user or ROOT
        if text is not None and not configured:
            text = f"xtremweb.user = {settings['user']}\n{text}"
    written = parse_configuration(
        founding.configuration_text(settings) if text is None else text,
        str(manuals or directory / CONFIGURATION),
    )
    missing = requirements.missing(directory, written, owner)
    if missing or dry_run:
        say_missing(missing, form)
        context.exit(1 if missing else 0)
    home = founding.found(directory, settings, utc_now(), text, owner)
    if settings.get("user") == ROOT:
        click.echo("root made this grid, so root serves it; --user NAME makes it his.", err=True)
    click.echo(f"A new grid is in {home.directory}. Next:", err=True)
    steps = [
        f"xwserver --directory {home.directory} start",
        f"xw --identity {home.admin_identity} stats",
        f"xwworker --identity {home.worker_identity} console",
    ]
    if form == "json":
        click.echo(json.dumps({"directory": str(home.directory), "next": steps}, indent=1))
    else:
        click.echo("".join(f"  {step}\n" for step in steps), nl=False)


def say_missing(missing: Sequence[Missing], form: str) -> None:
    """What a grid would lack, for people or for programs."""
    if form == "json":
        found = [dataclasses.asdict(each) for each in missing]
        click.echo(json.dumps({"missing": found}, indent=1))
    elif not missing:
        click.echo("Nothing is missing.")
    else:
        click.echo("xwserver: nothing was made, since something is missing:", err=True)
        for number, each in enumerate(missing, 1):
            click.echo(f"{number:3}. {each.what}\n     {each.remedy}", err=True)


def owner_of(named: str) -> Account | None:
    """Whose a new grid is to be; None where it is ours."""
    if not named:
        return None
    try:
        account = account_of(named)
    except KeyError:
        raise click.BadParameter(
            f"{named!r} is no user of this machine", param_hint="--user"
        ) from None
    if account.uid == os.geteuid():
        return None
    if os.geteuid() != 0:
        raise click.BadParameter("only root makes a grid for another user", param_hint="--user")
    return account


@main.command()
@click.option("--ready-to", type=int, hidden=True)
@click.option("--opened", "descriptor", type=int, hidden=True)
@with_home
def console(directory: Path, ready_to: int | None, descriptor: int | None) -> None:
    """Serve the grid in the foreground until SIGTERM or Ctrl-C; the log goes to standard error."""
    from desktopgrid.server.listeners.serving import serve

    home = Home.open(directory)
    opened = enter_with_port(home) if descriptor is None else socket.socket(fileno=descriptor)
    # Who started us waits at a pipe and does not read what we say: it goes to a file.
    set_up_log(home.config.server.log_level, home.log if ready_to is not None else None)
    for note in home.config.notes:
        logger.warning("%s", note)
    hear_only(home.config.server.modules_logged)
    warn_of_certificate(home)
    sys.exit(serve(home, on_ready(home, ready_to), opened))


def on_ready(home: Home, descriptor: int | None) -> Callable[[str], None]:
    """What tells that the server serves: the one who started us, and the identity files."""
    from desktopgrid.server.founding import point_identities

    def tell(address: str) -> None:
        point_identities(home, address)
        logger.info("Serving the grid in %s at %s", home.directory, address)
        if descriptor is not None:
            os.write(descriptor, f"{daemon.READY}{address}\n".encode())
            os.close(descriptor)

    return tell


def warn_of_certificate(home: Home) -> None:
    """Say so in time when the server's certificate ends."""
    ends_at = pki.ends_at(home.certificate.read_bytes())
    if ends_at - utc_now() < pki.RENEWAL:
        logger.warning("The server's certificate ends on %s; run `xwserver renew`", ends_at.date())


@main.command()
@click.option("--timeout", default=60.0, show_default=True, help="Seconds to wait until it serves.")
@with_home
def start(directory: Path, timeout: float) -> None:
    """Serve the grid in the background; returns when it serves."""
    home = Home.open(directory)
    address = daemon.start(home, timeout, enter_with_port(home))
    click.echo(f"Serving at {address}.")


@main.command()
@click.option("--timeout", default=60.0, show_default=True, help="Seconds to wait until it ended.")
@with_home
def stop(directory: Path, timeout: float) -> None:
    """Stop the grid's server when it has finished what is in flight."""
    click.echo(
        "Stopped." if daemon.stop(Home.open(directory), timeout) else "No server was running."
    )


@main.command()
@click.option("--timeout", default=60.0, show_default=True, help="Seconds to wait for each step.")
@with_home
def restart(directory: Path, timeout: float) -> None:
    """Stop the grid's server if it runs, and start it."""
    home = Home.open(directory)
    daemon.stop(home, timeout)
    click.echo(f"Serving at {daemon.start(home, timeout, enter_with_port(home))}.")


@main.command()
@with_format
@with_home
def status(directory: Path, form: str) -> None:
    """Say how the grid's server does; exit code 1 unless it serves."""
    found = daemon.status(Home.open(directory))
    facts = {name: plain(value) for name, value in dataclasses.asdict(found).items()}
    if form == "json":
        click.echo(json.dumps(facts, indent=1))
    else:
        for name, value in facts.items():
            if value not in (None, ""):
                click.echo(f"{name.replace('_', ' '):20} {value}")
    sys.exit(0 if found.is_serving else 1)


def plain(value: Any) -> Any:
    """``value`` as JSON knows it."""
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, Path) else value


@main.command()
@click.argument("target", type=click.Path(path_type=Path))
@with_format
@with_home
def backup(directory: Path, target: Path, form: str) -> None:
    """Copy the grid, database and datas, to TARGET while it is served."""
    back_up(enter(Home.open(directory)), target)
    tell(
        form,
        f"Copied to {target}; `xwserver --directory {target} start` serves the copy.",
        {"copy": str(target.absolute())},
    )


@main.command()
@click.option("--dry-run", is_flag=True, help="Say what would go, and let it be.")
@with_format
@with_home
def collect(directory: Path, dry_run: bool, form: str) -> None:
    """Throw away contents that nothing refers to any more: of what was removed, of broken uploads.

    Beside a server that runs, or without one. Prints the digest of each; a running server does this
    by itself now and then ([datas] collect_every).
    """
    from desktopgrid.server.collecting import collect as collect_garbage
    from desktopgrid.server.database import engine as database
    from desktopgrid.server.objectstore import ObjectStore

    home = Home.open(directory)
    set_up_log(home.config.server.log_level)
    os.nice(NICENESS)
    engine = database.open(home, exclusive=False)
    try:
        before = utc_now() - home.config.datas.garbage_kept
        store = home.config.store
        found = collect_garbage(
            engine,
            home.datas,
            before.timestamp(),
            objects=ObjectStore(store) if store.endpoint else None,
            is_dry=dry_run,
        )
    finally:
        engine.dispose()
    contents = found.contents.items()
    facts = [{"sha256": sha256, "size": size} for sha256, size in contents]
    if contents or form == "json":
        tell(
            form,
            "\n".join(f"{sha256} {size}" for sha256, size in contents),
            {"contents": facts, "marks": found.marks, "is_dry": dry_run},
        )
    would = "would be" if dry_run else "were"
    click.echo(
        f"{len(found.contents)} contents of {found.size / MIB:.1f} MiB {would} thrown away,"
        f" and the marks of {found.marks} tasks",
        err=True,
    )


@main.command()
@with_format
@with_home
def renew(directory: Path, form: str) -> None:
    """Give the server a new certificate under the grid's CA, for the names that are configured."""
    from desktopgrid.server.founding import renew as renew_certificate

    home = enter(Home.open(directory))
    renew_certificate(home, utc_now())
    certificate = home.certificate.read_bytes()
    names, ends_at = list(pki.names_of(certificate)), pki.ends_at(certificate)
    tell(
        form,
        f"The new certificate is good for {', '.join(names)} until {ends_at.date()}.",
        {"names": names, "ends_at": ends_at.isoformat()},
    )
    click.echo("`xwserver restart` puts it to use; nobody else need be told.", err=True)


@main.command()
@click.argument("kind", type=click.Choice(["worker", "client"]))
@click.option(
    "--out",
    default=".",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Where to put the packages. Default: here.",
)
@click.option(
    "--identity",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Whose the package is, as `xw token` made it. Default: the public workers'; a client's"
    " user logs in.",
)
@with_format
@with_home
def bundle(directory: Path, kind: str, out: Path, identity: Path | None, form: str) -> None:
    """Make a package of a worker or a client that knows this grid, as tar.gz and as zip.

    Unpack it anywhere and run `sh install`: nothing else is to be set up.
    """
    from desktopgrid.server import bundling

    made = [str(path) for path in bundling.make(Home.open(directory), kind, out, identity)]
    tell(form, "\n".join(made), {"packages": made})
    if kind == "worker" or identity is not None:
        whose = identity or "worker.identity"
        click.echo(
            f"They hold the secret of {whose}: give them to those only who may have it. A machine"
            " whose package has an identity of its own (`xw token`) can be revoked alone.",
            err=True,
        )
    click.echo(f"Next, there: tar xzf glidebridge-{kind}.tar.gz", err=True)
    click.echo(f"             sh glidebridge-{kind}/install", err=True)


@main.command()
@click.argument("revision", default="")
@click.option("--yes", is_flag=True, help="Go back without asking.")
@with_home
def migrate(directory: Path, revision: str, yes: bool) -> None:
    """Bring the database to the newest tables, or to those of REVISION.

    A server does the first by itself when it starts. The second is the way back to an older
    version of Glidebridge, to be gone with the newer one; what only newer tables have is lost.
    """
    from desktopgrid.server.tables import bring, plan

    home = enter(Home.open(directory))
    found = plan(home, revision)
    if found.is_down and not yes:
        click.confirm(
            f"What came with revisions after {found.target} is lost. Is there a copy, and shall I?",
            abort=True,
            err=True,
        )
    bring(home, found.target)
    click.echo(f"The database is at revision {found.target}; it was {found.now or 'empty'}.")


@main.command()
@click.argument("login")
@with_home
def passwd(directory: Path, login: str) -> None:
    """Set the password of user LOGIN, read from the terminal or from standard input.

    While the server is stopped.
    """
    from desktopgrid.server.people import set_password

    home = enter(Home.open(directory))
    if sys.stdin.isatty():
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        password = sys.stdin.readline().rstrip("\n")
    set_password(home, login, password, utc_now())
    watching_cli.note(home, "passwd", login, utc_now())
    click.echo(f"{login} logs in by the new password.")


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes SHELL complete the words of this command.

    \b
      eval "$(xwserver completion bash)"            in ~/.bashrc
      eval "$(xwserver completion zsh)"             in ~/.zshrc
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - click knows these three
    click.echo(kind(main, {}, "xwserver", "_XWSERVER_COMPLETE").source())


main.add_command(watching_cli.audit)
main.add_command(watching_cli.ganglia)


if __name__ == "__main__":
    main()
