"""The command `xwbridge`: keep a bridge between grids running.

Results on standard output, talk on standard error. Exit code 0: done; 1: refused, or the bridge is
not well; 2: the command line is wrong.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

import click

from bridge.config import FILE, BridgeConfig, LogLevel, read
from bridge.home import READY, RUNNING, Home, start, stop
from bridge.report import report
from condor.errors import CondorError
from desktopgrid.client.commands.shell import Shell
from desktopgrid.client.grid import Grid
from desktopgrid.client.output import FORMATS, Output
from desktopgrid.model.errors import AlreadyThere, GridError, UnknownObject

LEVELS = {
    LogLevel.DEBUG: logging.DEBUG,
    LogLevel.INFO: logging.INFO,
    LogLevel.WARNING: logging.WARNING,
    LogLevel.ERROR: logging.ERROR,
}
LOG_BYTES, LOGS_KEPT = 16 << 20, 3
DEFAULT = Path("~/.glidebridge/bridge")
COLUMNS = ("route", "kind", "from", "to", "state", "jobs", "handed_in", "brought_back", "trouble")
EXAMPLES = """\b
First:
  xwbridge init                 makes a directory with a bridge.conf to edit
  xwbridge check                says what is wrong with it
  xwbridge start
Then:
  xwbridge status
  xwbridge restart              takes up a changed bridge.conf; no job notices
"""


class Commands(click.Group):
    """A group whose errors are sentences, never traces."""

    def invoke(self, context: click.Context) -> Any:
        """Run the command; its errors become exit code 1."""
        try:
            return super().invoke(context)
        except (GridError, CondorError, OSError) as error:
            click.echo(f"xwbridge: {error}", err=True)
            context.exit(1)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EXAMPLES,
)
@click.option(
    "-d",
    "--directory",
    envvar="GLIDEBRIDGE_BRIDGE",
    default=str(DEFAULT),
    show_default=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="The bridge's directory; else $GLIDEBRIDGE_BRIDGE.",
)
@click.pass_context
def main(context: click.Context, directory: Path) -> None:
    """Let jobs and works pass between grids."""
    is_report = context.invoked_subcommand == "report"
    context.obj = Shell(Grid.open) if is_report else Home(directory.expanduser().absolute())


with_home = click.make_pass_decorator(Home)
TIMEOUT = click.option(
    "--timeout", default=60.0, show_default=True, metavar="SECONDS", help="How long to wait."
)
FORMAT = click.option(
    "--format", "form", type=click.Choice(FORMATS), default="table", show_default=True
)


def configured(home: Home) -> BridgeConfig:
    """The configuration of the bridge in ``home``; raises UnknownObject where there is none."""
    if not home.configuration.is_file():
        raise UnknownObject(f"there is no {home.configuration}; `xwbridge init` makes one")
    return read(home.configuration)


@main.command()
@with_home
def init(home: Home) -> None:
    """Make the bridge's directory, with a configuration to edit in it."""
    if home.configuration.exists():
        raise AlreadyThere(f"{home.configuration} is there already")
    home.directory.mkdir(parents=True, exist_ok=True)
    home.configuration.write_text((Path(__file__).parent / "samples" / FILE).read_text())
    click.echo(str(home.configuration))
    click.echo("Edit it. Next: xwbridge check; xwbridge start", err=True)


@main.command()
@with_home
def check(home: Home) -> None:
    """Read the configuration and say what is wrong with it; exit code 1 if something is."""
    from bridge.checking import complaints

    config = configured(home)
    found = complaints(config, home)
    for sentence in found:
        click.echo(sentence)
    if not config.routes:
        click.echo(f"{home.configuration} has no [route NAME]: nothing will pass", err=True)
    click.echo(f"{len(config.routes)} routes, {len(found)} complaints.", err=True)
    if not found:
        click.echo("Next: xwbridge start", err=True)
    sys.exit(1 if found else 0)


@main.command()
@click.option("--ready-to", type=int, hidden=True)
@with_home
def console(home: Home, ready_to: int | None) -> None:
    """Serve all routes in the foreground until SIGTERM or Ctrl-C; the log goes to standard error.

    Then its gateways end, and their jobs wait again in their pools. Their works go on, and are
    found when the jobs come back.
    """
    from bridge.daemon import serve

    config = configured(home)
    set_up_log(config.bridge.log_level, home.log if ready_to is not None else None)
    serve(home, config, _teller(ready_to))


def _teller(descriptor: int | None) -> Callable[[], None]:
    def tell() -> None:
        if descriptor is not None:
            os.write(descriptor, READY)
            os.close(descriptor)

    return tell


def set_up_log(level: LogLevel, file: Path | None) -> None:
    """Send what is worth telling to standard error, or to a file that is replaced when full."""
    handler = (
        logging.StreamHandler()
        if file is None
        else RotatingFileHandler(file, maxBytes=LOG_BYTES, backupCount=LOGS_KEPT)
    )
    form = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=LEVELS[level], format=form, handlers=[handler])


@main.command("start")
@TIMEOUT
@with_home
def start_command(home: Home, timeout: float) -> None:
    """Serve all routes in the background; returns when each has been tried once."""
    configured(home)
    pid = start(home, timeout)
    click.echo(f"The bridge in {home.directory} runs as process {pid}.")
    click.echo("Next: xwbridge status", err=True)


@main.command("stop")
@TIMEOUT
@with_home
def stop_command(home: Home, timeout: float) -> None:
    """Stop the bridge and its gateways. Jobs that are away wait again in their pools; their works
    go on.
    """
    _must_exist(home)
    click.echo("Stopped." if stop(home, timeout) else "No bridge was running.")


@main.command()
@TIMEOUT
@with_home
def restart(home: Home, timeout: float) -> None:
    """Stop the bridge if it runs, and start it with its configuration as it is now. Its gateways go
    on meanwhile, and jobs do not notice.
    """
    from bridge.daemon import LEAVE

    configured(home)
    stop(home, timeout, LEAVE)
    click.echo(f"The bridge in {home.directory} runs as process {start(home, timeout)}.")


@main.command()
@FORMAT
@with_home
def status(home: Home, form: str) -> None:
    """Say how the bridge and each route do; exit code 1 unless all is well."""
    _must_exist(home)
    found = home.status(time.time())
    if form == "json":
        click.echo(json.dumps(found, indent=1))
    else:
        rows = [{name: row.get(name, "") for name in COLUMNS} for row in found.get("routes", ())]
        Output(form).rows("route", rows, COLUMNS)
        said = f"The bridge in {home.directory} is {found['state']}"
        reason = f": {found['trouble']}" if found.get("trouble") else "."
        click.echo(said + reason, err=True)
        if found["state"] != RUNNING:
            click.echo(f"Next: xwbridge start, or see {home.log}", err=True)
    sys.exit(0 if found["state"] == RUNNING else 1)


main.add_command(report)


def _must_exist(home: Home) -> None:
    if not home.directory.is_dir():
        raise UnknownObject(f"there is no directory {home.directory}; `xwbridge init` makes one")


if __name__ == "__main__":
    main()
