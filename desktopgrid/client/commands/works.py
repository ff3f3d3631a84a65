"""What becomes of works: listed, waited for, explained, taken back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import Any, TypeVar

import click

from desktopgrid.client.arrivals import Arrivals
from desktopgrid.client.commands.shell import NAMES, Command, Shell, names_of, pass_shell
from desktopgrid.client.commands.types import Pair, Span
from desktopgrid.model.errors import UnknownObject
from desktopgrid.model.lifecycle import TaskStatus, WorkStatus
from desktopgrid.model.objects import UID, Result

F = TypeVar("F", bound=Callable[..., Any])

RESULT_COLUMNS = ("work", "status", "exit_code", "host", "reason")


def went_well(result: Result) -> bool:
    """Whether a work did what its user wanted, as far as its exit code tells."""
    return result.status is WorkStatus.COMPLETED and result.exit_code == 0


def row_of(result: Result) -> dict[str, Any]:
    """A result as a row."""
    return {name: getattr(result, name) for name in RESULT_COLUMNS} | {
        "status": result.status.value
    }


def summary(results: Iterable[Result]) -> str:
    """How many ended how, in a sentence."""
    counts: Counter[str] = Counter()
    for result in results:
        is_odd = result.status is WorkStatus.COMPLETED and result.exit_code != 0
        counts["completed with an error" if is_odd else result.status.value.lower()] += 1
    total = sum(counts.values())
    parts = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    return f"{total} work{'' if total == 1 else 's'} ended: {parts}."


def cancelled(count: int) -> str:
    """How many works were taken back, in a sentence."""
    if not count:
        return "Nothing was cancelled: no work that you may cancel and that has not ended is meant."
    return "1 work was cancelled." if count == 1 else f"{count} works were cancelled."


def follow(
    shell: Shell, arrivals: Arrivals, works: Sequence[UID], timeout: float | None = None
) -> list[Result]:
    """Show progress until the results of all ``works`` have come; raises TimeoutError. Where none
    comes for a while it says why the first of them is where it is.
    """
    results: list[Result] = []
    failed = 0

    def tell_why() -> None:
        shell.output.say(f"No result yet. {' '.join(shell.grid.why(works[0]))}")

    with shell.progress("works", len(works)) as progress:
        for result in arrivals.take(len(works), timeout, tell_why):
            results.append(result)
            failed += not went_well(result)
            progress.show(len(results), f"{failed} failed" if failed else "")
    return results


def conclude(shell: Shell, results: Sequence[Result]) -> None:
    """Tell how works ended: in a table only those that failed. Exit code 1 if any did."""
    failed = [result for result in results if not went_well(result)]
    shown = failed if shell.output.format == "table" else results
    if shown or shell.output.format != "table":
        shell.output.rows("result", [row_of(result) for result in shown], RESULT_COLUMNS)
    shell.output.say(summary(results))
    if failed:
        click.get_current_context().exit(1)


def statuses(kind: type[Enum]) -> Callable[[F], F]:
    """The option that narrows a list to some statuses of a kind."""
    return click.option(
        "--status",
        multiple=True,
        type=click.Choice([each.value for each in kind], case_sensitive=False),
        help="Only those of this status; may be given more than once.",
    )


@click.command(cls=Command)
@click.argument("names", nargs=-1, metavar="[UID...]")
@click.option(
    "--where",
    multiple=True,
    type=Pair(),
    help="Only those with this field, such as label=night.",
)
@statuses(WorkStatus)
@click.option("--session", help="Only those of this session.")
@click.option("--group", help="Only those of this group.")
@click.option(
    "--limit", type=click.IntRange(1), default=1_000, show_default=True, help="At most so many."
)
@pass_shell
def works(
    shell: Shell,
    names: tuple[str, ...],
    where: tuple[tuple[str, str], ...],
    status: tuple[str, ...],
    session: str | None,
    group: str | None,
    limit: int,
) -> None:
    """List works, newest first.

    All that you may see, or those named by their UID or their submission's.
    """
    fields: dict[str, Any] = dict(where)
    fields |= {"status": list(status)} if status else {}
    fields |= {"session": session} if session else {}
    fields |= {"group": group} if group else {}
    wanted = list(shell.names(names))
    rows = list(shell.grid.objects("works", wanted, limit, **fields))
    columns = ("uid", "status", "application", "label", "host", "submitted_at", "reason")
    shell.output.rows("work", rows, columns)
    if not fields and len(rows) < limit:
        found = {row[name] for row in rows for name in ("uid", "submission")}
        for name in wanted:
            if name not in found:
                raise UnknownObject.named("work or submission", name)


@click.command(cls=Command)
@click.argument("names", nargs=-1, metavar="[WORK...]")
@statuses(TaskStatus)
@click.option(
    "--limit", type=click.IntRange(1), default=1_000, show_default=True, help="At most so many."
)
@pass_shell
def tasks(shell: Shell, names: tuple[str, ...], status: tuple[str, ...], limit: int) -> None:
    """List tasks, the executions of works.

    All that you may see, or those of the works or submissions named.
    """
    wanted = list(shell.names(names))
    fields = {"status": list(status)} if status else {}
    rows = list(shell.grid.objects("tasks", wanted, limit, **fields))
    if wanted and not rows:
        works = list(shell.grid.works_of(wanted))
        rows = list(shell.grid.objects("tasks", works, limit, **fields))
    columns = ("uid", "status", "host", "exit_code", "wall", "started_at", "ended_at", "reason")
    shell.output.rows("task", rows, columns)


@click.command(cls=Command)
@NAMES
@pass_shell
def cancel(shell: Shell, names: tuple[str, ...]) -> None:
    """Take back works.

    Of a submission all that have not ended; those that run are stopped.
    """
    aborted = shell.grid.cancel(list(shell.names(names)))
    shell.output.rows("work", [{"uid": uid} for uid in aborted], ("uid",))
    shell.output.say(cancelled(len(aborted)))


@click.command(cls=Command)
@NAMES
@click.option("--timeout", type=Span(), help="Give up after this time.")
@pass_shell
def wait(shell: Shell, names: tuple[str, ...], timeout: int | None) -> None:
    """Wait until works have ended.

    Of a submission all of them. Exit code 0 if all were completed with exit code 0.
    """
    uids = list(dict.fromkeys(shell.grid.works_of(list(shell.names(names)))))
    arrivals = shell.grid.arrivals()
    shell.grid.session.watch(uids, arrivals.tell)
    conclude(shell, follow(shell, arrivals, uids, timeout))


@click.command(cls=Command)
@click.argument("uid", shell_complete=names_of("works"))
@pass_shell
def why(shell: Shell, uid: str) -> None:
    """Say why a work, or a pilot, is where it is."""
    shell.output.sentences(shell.grid.why(uid))
