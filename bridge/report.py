"""`xwbridge report`: what was used of the grid, for its administrator, and for EGI's accounting."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from bridge.apel import config as accounting
from bridge.apel.publishing import Published, publish, published_as
from bridge.apel.spool import opened
from desktopgrid.client.commands.report import day, report_options, show
from desktopgrid.client.commands.shell import Command, Shell, pass_shell
from desktopgrid.client.output import Output
from desktopgrid.model.errors import BadRequest, UnknownObject

EXAMPLES = """\b
Examples:
  xwbridge report --by user,site
  xwbridge report --from 2026-11-01 --to 2026-11-30 --by vo,month --format csv
  xwbridge report --apel /var/spool/apel/outgoing && ssmsend
"""


def utc_now() -> datetime:
    """The time."""
    return datetime.now(UTC)


@click.command(cls=Command, epilog=EXAMPLES)
@report_options
@click.option(
    "--apel",
    "spool",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Put what is new as APEL records into DIR, from where `ssmsend` takes it; no report.",
)
@click.option(
    "--accounting",
    "configuration",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="GLIDEBRIDGE_ACCOUNTING",
    default=Path("~/.glidebridge/bridge") / accounting.FILE,
    show_default=True,
    metavar="FILE",
    help="As which site, and what of it; else $GLIDEBRIDGE_ACCOUNTING.",
)
@pass_shell
def report(
    shell: Shell,
    since: datetime | None,
    until: datetime | None,
    by: tuple[str, ...],
    spool: Path | None,
    configuration: Path,
) -> None:
    """Say what was used of the grid: works, core-hours, efficiency and waste, everybody's.

    Core-hours are those of tasks that led to a result, on all cores that they had; the efficiency
    is what part of them the processors were busy. What led to no result is wasted, and so are the
    cores of pilots that had no task. A user's own use: `xw report`.
    """
    if spool is None:
        show(shell.output, shell.grid.report(day(since), day(until), by))
        return
    configuration = configuration.expanduser()
    if not configuration.exists():
        raise UnknownObject(
            f"there is no {configuration}, which says as which site the use of this grid is"
            " published; copy conf/accounting.conf there, and edit it"
        )
    config = accounting.read(configuration)
    if by:
        raise BadRequest("--by divides a report; APEL's records are divided as EGI wants them")
    if config.form is accounting.Form.INDIVIDUAL and (since or until):
        raise BadRequest(
            f"{configuration}: individual records are published once each, in the order in which"
            " tasks were given out: leave --from and --to"
        )
    with opened(spool, published_as(config), utc_now) as place:
        done = publish(shell.grid, config, place, day(since), day(until), utc_now)
    tell(shell.output, done, config, spool)


def tell(output: Output, done: Published, config: accounting.AccountingConfig, spool: Path) -> None:
    """Say what was put where."""
    if output.format != "table":
        output.record("publication", {"directory": str(spool), **vars(done)})
        return
    what = "summary" if config.form is accounting.Form.SUMMARIES else "record"
    if not done.records:
        output.say(f"There is no new {what} to publish.")
        return
    plural = "summaries" if what == "summary" else "records"
    counted = f"1 {what}" if done.records == 1 else f"{done.records} {plural}"
    output.say(f"Put {counted} into {spool}. Next: ssmsend")
