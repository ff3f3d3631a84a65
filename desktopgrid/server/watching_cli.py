"""The commands of `xwserver` for who watches a grid."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from getpass import getuser
from pathlib import Path
from typing import TYPE_CHECKING

import click

from desktopgrid.model.configuration import timedelta_of
from desktopgrid.server.config import GANGLIA_PORT
from desktopgrid.server.home import Home
from desktopgrid.server.logs import append

if TYPE_CHECKING:
    from desktopgrid.server.audit import Record


class Moment(click.ParamType[datetime]):
    """A time: `2026-11-25`, `2026-11-25T08:30:00+01:00` (UTC unless it says so), or a span that has
    passed since, such as `90 min`.
    """

    name = "time"

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock

    def convert(
        self, value: str, param: click.Parameter | None, context: click.Context | None
    ) -> datetime:
        """The moment that ``value`` names."""
        try:
            return self._clock() - timedelta_of(value)
        except (ValueError, OverflowError):
            pass
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is neither a time such as 2026-11-25T08:30 nor a span as 90 min")
        return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


MOMENT = Moment(lambda: datetime.now(UTC))


@click.command()
@click.option("--user", "users", multiple=True, metavar="LOGIN", help="What this user did or ran.")
@click.option(
    "--object",
    "objects",
    multiple=True,
    metavar="UID",
    help="What befell this object: work, submission, data, user, token, host, pilot ...",
)
@click.option("--since", type=MOMENT, help="Not before 2026-11-25T08:30, or `2 h` ago.")
@click.option("--until", type=MOMENT, help="Before this time.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table")
@click.pass_obj
def audit(
    directory: Path,
    users: tuple[str, ...],
    objects: tuple[str, ...],
    since: datetime | None,
    until: datetime | None,
    form: str,
) -> None:
    """Search the audit log: who did what to which object, and for whom each task ran.

    All options that are given must fit; `--format json` prints a JSON object a line.
    """
    from desktopgrid.server import audit as records

    home = Home.open(directory)
    found = records.chosen(records.read(home.audit_log), users, objects, since, until)
    is_empty = True
    for record in found:
        is_empty = False
        if form == "json":
            click.echo(records.encode([record]), nl=False)
        else:
            click.echo(sentence(record))
    if is_empty:
        click.echo(f"Nothing in {home.audit_log} fits.", err=True)


def note(home: Home, verb: str, name: str, now: datetime) -> None:
    """Write into the audit log what was done at the server's machine, by the system's user."""
    from desktopgrid.server import audit as records

    settings = home.config.watching
    if settings.audit_log:
        line = records.encode([records.at_the_machine(verb, getuser(), (name,), now)])
        append(home.audit_log, line, settings.log_mib << 20, settings.logs_kept)


def sentence(record: Record) -> str:
    """``record`` as a line for people."""
    first, *others = record.objects or ("-",)
    objects = f"{first} (and {len(others)} more)" if len(others) > 1 else " ".join((first, *others))
    outcome = record.code or record.outcome
    told = [f"{name}={value}" for name, value in record.what.items()]
    if record.verb == "task":
        told = [record.application, f"on {record.host_name} ({record.host})"]
        told += [f"worker of {record.worker}"]
        told += [f"pilot {record.pilot}"] if record.pilot else []
    told += [f"from {record.address}"] if record.address else []
    at = f"{record.at:%Y-%m-%d %H:%M:%S}"
    line = f"{at}  {record.user:12} {record.verb:12} {outcome:14} {objects}  {' '.join(told)}"
    # Anybody may try to log in under a name that looks like another line.
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


@click.command()
@click.option("--address", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=GANGLIA_PORT, show_default=True)
@click.pass_obj
def ganglia(directory: Path, address: str, port: int) -> None:
    """Serve the grid to Ganglia's gmetad, in gmond's place, until SIGTERM or Ctrl-C.

    In gmetad.conf: data_source "XWHEP" localhost:8694. It asks the grid's server, and goes on while
    that is down.
    """
    from desktopgrid.server.ganglia_service import serve

    home = Home.open(directory)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")

    def tell(port: int) -> None:
        click.echo(f"Ganglia's gmetad finds the grid at {address} port {port}.", err=True)

    serve(home, address, port, tell)
