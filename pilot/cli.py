"""The command `pilot`: workers for the grid out of the batch systems that one may use.

Results on standard output, talk on standard error. Exit code 0: done; 1: the system refused, or a
site could not be asked; 2: the command line is wrong.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from desktopgrid.client.commands.completion import completion
from desktopgrid.client.commands.shell import Command, Shell, common_options
from desktopgrid.client.commands.types import Span
from desktopgrid.client.grid import Grid
from desktopgrid.client.pilots import PilotRecord, RecordedPilot
from desktopgrid.client.trustee import Trustee
from desktopgrid.model.errors import UnknownObject
from desktopgrid.model.version import VERSION
from pilot import bundle as packing
from pilot.ce.finding import Finding, Verdict
from pilot.factory.checking import check
from pilot.factory.daemon import PERIOD, Factory, Round, only_one
from pilot.factory.explanation import explain
from pilot.factory.provision import submit_pilots
from pilot.factory.removal import PATIENCE, choose, remove_pilots
from pilot.factory.simulator import COUNTED, Simulation
from pilot.factory.sites import VARIABLE, Sites, sites_directory, state_directory
from pilot.factory.trace import read_trace
from pilot.factory.watch import look_after

logger = logging.getLogger(__name__)


class PilotShell(Shell):
    """One run of `pilot`: a shell that knows the sites."""

    def __init__(self, connect: Callable[[Path, float], Grid] = Grid.open) -> None:
        super().__init__(connect)
        self.sites_named: Path | None = None
        self._sites: Sites | None = None

    @property
    def sites(self) -> Sites:
        """The sites that are described here; raises UnknownObject, ConfigurationError."""
        if self._sites is None:
            self._sites = Sites.read(sites_directory(self.sites_named, self.identity_path))
        return self._sites

    @property
    def record(self) -> PilotRecord:
        """The grid's record of pilots."""
        return PilotRecord(self.grid)


pass_shell = click.make_pass_decorator(PilotShell)


def _set_sites(context: click.Context, option: click.Parameter, value: Path | None) -> None:
    if value is not None:
        context.ensure_object(PilotShell).sites_named = value


def pilot_options() -> list[click.Parameter]:
    """The options that every command takes, before its name and after."""
    sites = click.Option(
        ["--sites"],
        type=click.Path(file_okay=False, path_type=Path),
        metavar="DIR",
        expose_value=False,
        callback=_set_sites,
        help=f"The directory that describes the sites; else ${VARIABLE},"
        " $GLIDEBRIDGE_HOME/sites.d, sites.d beside the identity file, ./sites.d.",
    )
    return [*common_options(), sites]


class PilotCommand(Command):
    """A command of `pilot`: its options are those of `xw`, and the sites."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.params.append(pilot_options()[-1])


class PilotGroup(PilotCommand, click.Group):
    """A command of `pilot` that has commands of its own."""


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    params=pilot_options(),
    epilog="First: pilot submit --site NAME -n 2. Then: pilot status, xw hosts, pilot remove."
    " To have pilots come and go with the works: pilot factory.",
)
@click.version_option(VERSION, prog_name="pilot")
def pilot() -> None:
    """Submit pilots to sites, and follow them."""


STAMPS = click.argument("stamps", nargs=-1, metavar="[STAMP...]")
SITE = click.option("--site", metavar="NAME", help="Those of this site.")


@pilot.command(cls=PilotCommand)
@click.option("--site", "name", required=True, metavar="NAME", help="Where they are to run.")
@click.option("-n", "count", type=click.IntRange(1), default=1, show_default=True, help="How many.")
@click.option(
    "--as",
    "delegation",
    metavar="DELEGATION",
    help="By the credential that a user delegated to you, as a bridge: they run his works only.",
)
@click.option(
    "--held",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="The bridge's directory, which has that credential.",
)
@pass_shell
def submit(
    shell: PilotShell, name: str, count: int, delegation: str | None, held: Path | None
) -> None:
    """Submit pilots to a site, all or none; prints their stamps."""
    if (delegation is None) != (held is None):
        raise click.UsageError("--as and --held go together")
    site = shell.sites[name]
    if delegation is not None and held is not None:
        with Trustee(shell.grid, held) as bridge:
            its = [each for each in bridge.collect() if each.uid == delegation]
            if not its:
                raise UnknownObject(f"{held} has no delegation {delegation} that is good now")
            stamps = submit_pilots(shell.grid, site, count, held=its[0])
    else:
        stamps = submit_pilots(shell.grid, site, count, shell.sites.door(name))
    shell.output.names("pilot", "stamp", stamps)
    shell.output.say(f"{counted(stamps)} submitted to {name}. Next: pilot status")


@pilot.command(cls=PilotCommand)
@STAMPS
@SITE
@pass_shell
def status(shell: PilotShell, stamps: tuple[str, ...], site: str | None) -> None:
    """Ask the sites about pilots, tell the server, and list them.

    Of a site that cannot be asked nothing is known: its pilots stay as they are on record, and the
    exit code is 1.
    """
    named = list(shell.names(stamps))
    pilots = choose(shell.record, named, site, with_ended=True)
    sight = look_after(shell.record, shell.sites, pilots)
    shell.output.rows("pilot", [row_of(pilot) for pilot in sight.pilots], COLUMNS)
    for silent, reason in sight.silent.items():
        shell.output.say(f"Site {silent} could not be asked, its pilots stay as they are: {reason}")
    click.get_current_context().exit(1 if sight.silent else 0)


@pilot.command(cls=PilotCommand)
@STAMPS
@SITE
@click.option(
    "--patience",
    type=Span(),
    default=int(PATIENCE.total_seconds()),
    show_default=True,
    help="How long busy ones may finish what they do.",
)
@click.option("--now", is_flag=True, help="Do not wait for busy ones: their works go elsewhere.")
@pass_shell
def remove(
    shell: PilotShell, stamps: tuple[str, ...], site: str | None, patience: int, now: bool
) -> None:
    """Take pilots back: they take no more works, and go when they are idle.

    Those named, or all of a site. Exit code 1 if some were still busy when the patience ended; they
    go by themselves when their works end.
    """
    pilots = choose(shell.record, _named(shell, stamps, site), site)
    removal = remove_pilots(
        shell.record, shell.sites, pilots, timedelta(seconds=patience), is_urgent=now
    )
    shell.output.names("pilot", "stamp", removal.removed)
    shell.output.say(f"{counted(removal.removed)} taken back.")
    if removal.over:
        shell.output.say(f"{counted(removal.over)} had ended already.")
    if removal.busy:
        shell.output.say(
            f"{counted(removal.busy)} still busy: {', '.join(removal.busy)}. They take no more"
            " works and go when theirs have ended; --now takes them at once."
        )
    click.get_current_context().exit(1 if removal.busy else 0)


@pilot.command(cls=PilotCommand)
@STAMPS
@SITE
@pass_shell
def drain(shell: PilotShell, stamps: tuple[str, ...], site: str | None) -> None:
    """Let pilots take no more works; each goes when its last one has ended."""
    pilots = choose(shell.record, _named(shell, stamps, site), site)
    answers = shell.record.drain([pilot.stamp for pilot in pilots])
    rows = [{"stamp": stamp, "worker": answer} for stamp, answer in answers.items()]
    shell.output.rows("pilot", rows, ("stamp", "worker"))


@pilot.command(cls=PilotCommand)
@click.argument("name", metavar="STAMP|SITE")
@pass_shell
def why(shell: PilotShell, name: str) -> None:
    """Say why a pilot is where it is: the server's record, and what its site knows. Of a site: its
    caps, and why the factory sends it pilots or none.
    """
    if list(shell.grid.objects("sites", (name,))):
        shell.output.sentences(list(shell.grid.why(name)))
    else:
        shell.output.sentences(explain(shell.grid, shell.sites, name))


@pilot.command(cls=PilotCommand)
@click.option("--once", is_flag=True, help="One round; shows what was decided, and why.")
@click.option("--dry-run", is_flag=True, help="The same, and nothing is done.")
@click.option(
    "--period",
    type=Span(),
    default=int(PERIOD.total_seconds()),
    show_default=True,
    help="How often it looks.",
)
@click.option(
    "--bridge",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Be a bridge as well: keep in DIR, which is yours alone, what users delegate to you, and"
    " send pilots by it where a site takes them so. Your identity must be a bridge's.",
)
@pass_shell
def factory(
    shell: PilotShell, once: bool, dry_run: bool, period: int, directory: Path | None
) -> None:
    """Send pilots as works come and go, until a signal ends it; its pilots stay.

    Each round asks the sites how the pilots do, the server what waits, and sends pilots or takes
    waiting ones back, within the caps of each site. It may be killed at any time: the next one
    finds all that was sent. `pilot why SITE` says what it decided.
    """
    with contextlib.ExitStack() as stack:
        bridge = None
        if directory is not None:
            bridge = stack.enter_context(Trustee(shell.grid, directory))
            shell.output.say(f"As a bridge it is known by {bridge.card.fingerprint}")
        _run_factory(shell, bridge, once, dry_run, period)


def _run_factory(
    shell: PilotShell, bridge: Trustee | None, once: bool, dry_run: bool, period: int
) -> None:
    made = Factory(shell.grid, shell.sites, held=bridge.find if bridge is not None else None)
    if not dry_run:
        _keep(bridge)
    if once or dry_run:
        _show(shell, made.run_once(is_dry=dry_run))
        return

    def after(done: Round) -> None:
        _log(done)
        _keep(bridge)

    with only_one(state_directory(), shell.record.user):
        ends = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: ends.set())
        shell.output.say(f"Looking every {period} s. Next: pilot why SITE, pilot status")
        made.run(timedelta(seconds=period), ends, after)


def _keep(bridge: Trustee | None) -> None:
    """Have keys on offer, and what users delegated."""
    if bridge is not None:
        bridge.publish()
        bridge.collect()


def _log(done: Round) -> None:
    for sentence in done.done:
        logger.info("%s", sentence)


def _show(shell: PilotShell, done: Round) -> None:
    shell.output.rows("reason", done.rows, ("site", "sentence"))
    for order in done.plan.orders:
        shell.output.say(f"Order: {order}")
    for sentence in done.done:
        shell.output.say(sentence)


@pilot.command(cls=PilotCommand)
@click.argument("trace", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--own-sites", is_flag=True, help="Your sites instead of those of the file.")
@click.option("--days", type=click.FloatRange(0, 60, min_open=True), help="Not as the file says.")
@pass_shell
def simulate(shell: PilotShell, trace: Path, own_sites: bool, days: float | None) -> None:
    """Try on a trace of demand how pilots would be sent: a week takes some seconds.

    TRACE describes who sends works and how sites behave; conf/trace.conf is one, with explanations.
    The same planning code runs as in `pilot factory`, and no grid is asked.
    """
    described = read_trace(trace)
    if own_sites:
        described = described.at(shell.sites.configurations)
    if days is not None:
        described = described.lasting(days)
    found = Simulation(described).run()
    shell.output.rows("site", found.rows, SIMULATED)
    for sentence in found.sentences:
        shell.output.say(sentence)


@pilot.group(cls=PilotGroup, invoke_without_command=True)
@click.pass_context
def sites(context: click.Context) -> None:
    """List the sites of the grid, their caps, and whether they are described here."""
    if context.invoked_subcommand is not None:
        return
    shell = context.ensure_object(PilotShell)
    rows = [
        {**row, "site": row["uid"], "described": row["uid"] in shell.sites.names}
        for row in shell.grid.objects("sites")
    ]
    columns = (
        "site",
        "computing_element",
        "max_pilots",
        "max_idle",
        "max_an_hour",
        "pilots",
        "described",
    )
    shell.output.rows("site", rows, columns)


@sites.command(cls=PilotCommand, name="check")
@click.argument("names", nargs=-1, metavar="[NAME...]")
@pass_shell
def check_sites(shell: PilotShell, names: tuple[str, ...]) -> None:
    """Try the doors of these sites, or of all, and say what is wrong and what to do.

    Each is connected to, shown our credential and asked about its queue; nothing is submitted.
    Exit code 1 if pilots cannot go into one of them.

    \b
    Examples: pilot sites check
              pilot sites check lal cern --format json
    """
    found = list(check(shell.sites, list(shell.names(names))))
    is_table = shell.output.format == "table"
    rows = [
        {
            "site": site,
            "verdict": finding.verdict.value,
            "about": finding.about,
            "finding": _with_advice(finding) if is_table else finding.sentence,
            "advice": finding.advice,
        }
        for site, finding in found
    ]
    columns = ("site", "verdict", "about", "finding")
    shell.output.rows("finding", rows, columns if is_table else (*columns, "advice"))
    wrong = sorted({site for site, finding in found if finding.verdict is Verdict.WRONG})
    if wrong:
        shell.output.say(f"No pilot can go into {', '.join(wrong)}.")
    elif found:
        shell.output.say("Pilots can go in. Next: pilot submit --site NAME")
    click.get_current_context().exit(1 if wrong else 0)


def _with_advice(finding: Finding) -> str:
    return f"{finding.sentence}; {finding.advice}" if finding.advice else finding.sentence


@pilot.command(cls=PilotCommand)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@pass_shell
def bundle(shell: PilotShell, file: Path) -> None:
    """Write the worker as one program, which a bare Python 3.9 runs, into FILE."""
    try:
        size = packing.write(file)
    except OSError as error:
        raise click.BadParameter(f"{file} cannot be written: {error.strerror}") from error
    shell.output.result(str(file), {"file": str(file), "size": size})


COLUMNS = (
    "stamp",
    "site",
    "status",
    "reference",
    "host",
    "tasks",
    "tasks_done",
    "submitted_at",
    "reason",
)


SIMULATED = ("site", *COUNTED)


def row_of(pilot: RecordedPilot) -> dict[str, Any]:
    """All that is on record of a pilot, as a row."""
    return vars(pilot) | {
        "status": pilot.status.value,
        "submitted_at": pilot.submitted_at.isoformat(timespec="seconds"),
    }


def counted(stamps: Sequence[str]) -> str:
    """How many pilots, as the beginning of a sentence."""
    return f"{len(stamps)} pilot{'' if len(stamps) == 1 else 's'}"


def _named(shell: PilotShell, stamps: Sequence[str], site: str | None) -> list[str]:
    """The stamps given; raises UsageError where neither a pilot nor a site is named."""
    if not stamps and site is None:
        raise click.UsageError("name pilots by their stamps, or a site by --site")
    return list(shell.names(stamps))


pilot.add_command(completion)


def main() -> None:
    """Run `pilot`."""
    pilot(obj=PilotShell())


if __name__ == "__main__":
    main()
