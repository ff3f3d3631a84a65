"""What was used of the grid: for a user his own use, for an administrator everybody's."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from typing import Any

import click

from desktopgrid.client.commands.shell import Command, Shell, pass_shell
from desktopgrid.client.output import Output
from desktopgrid.client.reports import UsageReport
from desktopgrid.model.accounting import GROUPINGS


class Groupings(click.ParamType[tuple[str, ...]]):
    """What a report is divided by, separated by commas."""

    name = "WHAT"

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> tuple[str, ...]:
        """The words of ``user,site``, each once."""
        if isinstance(value, tuple):
            return value
        found = tuple(word.strip() for word in str(value).split(",") if word.strip())
        for word in found:
            if word not in GROUPINGS:
                self.fail(f"use is not divided by {word!r}; it can be by {', '.join(GROUPINGS)}")
        return tuple(dict.fromkeys(found))


def report_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every report: ``--from``, ``--to`` and ``--by``."""
    for option in (
        click.option(
            "--by",
            type=Groupings(),
            default=(),
            metavar="WHAT,...",
            help=f"Divide it by some of {', '.join(GROUPINGS)}.",
        ),
        click.option(
            "--to",
            "until",
            type=click.DateTime(["%Y-%m-%d"]),
            metavar="DAY",
            help="The last day (UTC), included; today unless named.",
        ),
        click.option(
            "--from",
            "since",
            type=click.DateTime(["%Y-%m-%d"]),
            metavar="DAY",
            help="The first day, such as 2026-11-25; the first of this month unless named.",
        ),
    ):
        command = option(command)
    return command


def day(given: datetime | None) -> date | None:
    """The day that an option names."""
    return None if given is None else given.date()


def show(output: Output, report: UsageReport) -> None:
    """Print ``report`` in the format that was asked for."""
    if output.format == "table":
        if not report.is_empty:
            output.rows("line", *report.for_people())
    else:
        output.rows("line", report.for_programs(), report.columns)
    for sentence in report.sentences():
        output.say(sentence)


@click.command(
    cls=Command,
    epilog="Example: xw report --from 2026-11-01 --by month,application --format csv",
)
@report_options
@pass_shell
def report(
    shell: Shell, since: datetime | None, until: datetime | None, by: tuple[str, ...]
) -> None:
    """Say what you used: works, core-hours, efficiency and waste.

    Core-hours are those of tasks that led to a result, on all cores that they had; the efficiency
    is what part of them the processors were busy. What led to no result is wasted. Half of the
    works waited for less than `waited p50` before they started first.
    """
    show(shell.output, shell.grid.report(day(since), day(until), by))
