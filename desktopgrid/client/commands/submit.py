"""Submitting: one work, a sweep over ranges, or one over the lines of a file."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from desktopgrid.client.commands.shell import Command, Shell, names_of, pass_shell
from desktopgrid.client.commands.types import Mebibytes, Pair, Rights, Span, path_of
from desktopgrid.client.commands.works import conclude, follow
from desktopgrid.client.files import environment_of
from desktopgrid.client.grid import Submitted
from desktopgrid.client.progress import in_mib
from desktopgrid.client.replies import rights_of
from desktopgrid.client.sweep import Axis, BadSweep, axis_of, expand, size_of
from desktopgrid.model.objects import UID, Description
from desktopgrid.model.rights import PUBLIC
from desktopgrid.model.uris import is_uri, located

IS_UID = re.compile("[0-9A-Za-z-]{1,64}")
_FILE = re.compile(r"(?<!\{)\{file\}")

EXAMPLES = """\b
Examples:
  xw submit fractal -- --row 3
  xw submit fractal --range ROW=1..500 --wait -- --row {ROW}
  xw submit convert --file-list pictures.txt -- {file} {index}.png
  xw submit job.jdl --wait
"""

OF_A_DESCRIPTION = (
    "arguments",
    "ranges",
    "file_list",
    "stdin",
    "env",
    "inputs",
    "variables",
    "outputs",
)
"""What a job description says, and the command line then does not."""


class _Sender:
    """Puts the files that a submission refers to on the grid, each once, as open as the application
    is.
    """

    def __init__(self, shell: Shell, application: str) -> None:
        self._shell, self._grid, self._application = shell, shell.grid, application
        self._rights: int | None = None
        self._sent: dict[Path, UID] = {}

    def data(self, source: str) -> UID:
        """The data for a local file, which is uploaded; for ``-``, which is read; for a URI; or the
        UID.
        """
        if source == "-":
            return self._send(sys.stdin.buffer.read(), "stdin")
        if is_uri(source) and not source.lower().startswith("file:"):
            return self._at(source)
        path = path_of(source)
        if not path.exists():
            if not IS_UID.fullmatch(source):
                raise click.UsageError(f"there is no file {source}, and no data is named so")
            return source
        if path not in self._sent:
            self._sent[path] = self._send(path, path.name)
        return self._sent[path]

    def environment(self, source: str) -> UID:
        """The data for a zip, a directory or a file; or the UID given."""
        path = path_of(source)
        if path.exists():
            return self._send(environment_of(path), f"{path.name}.zip")
        return self.data(source)

    def _at(self, uri: str) -> UID:
        """The data that is at a URI, or on the grid under it."""
        locator = located(uri)
        return locator.uid or self._grid.send_uri(uri, locator.name).uid

    def _send(self, content: Path | bytes, name: str) -> UID:
        if self._rights is None:
            rows = list(self._grid.objects("apps", name=self._application))
            rows += self._grid.objects("apps", (self._application,)) if not rows else []
            self._rights = rights_of(rows[0]) if rows else PUBLIC
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        with self._shell.progress(name, size, in_mib) as progress:
            return self._grid.send_data(
                content, name, rights=self._rights, progress=progress.show
            ).uid


@click.command(
    cls=Command,
    epilog=EXAMPLES,
)
@click.argument("application", shell_complete=names_of("apps", "name"))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[-- ARGUMENT...]")
@click.option(
    "--range",
    "ranges",
    multiple=True,
    metavar="NAME=FIRST..LAST[:STEP]",
    help="One work a value: {NAME} in arguments stands for it, {NAME:04} with zeros in front."
    " Several ranges: all combinations.",
)
@click.option(
    "--file-list",
    type=click.File("r"),
    metavar="FILE",
    help="One work a line of FILE: {line} in arguments stands for it; {file} too, and the line"
    " names a file that goes along.",
)
@click.option("--stdin", metavar="FILE|URI|UID|-", help="Standard input of the works.")
@click.option(
    "--env", metavar="ZIP|DIR|FILE|URI|UID", help="What is unpacked in each work's directory."
)
@click.option(
    "--input",
    "inputs",
    multiple=True,
    type=Pair(),
    metavar="NAME=FILE|URI|UID",
    help="A file that lies in each work's directory as NAME.",
)
@click.option(
    "--variable",
    "variables",
    multiple=True,
    type=Pair(),
    help="An environment variable of the works.",
)
@click.option(
    "--output",
    "outputs",
    multiple=True,
    metavar="PATTERN",
    help="Files that come back; every new one unless given.",
)
@click.option("--cores", type=click.IntRange(1), default=1, help="Cores that a work uses.")
@click.option(
    "--memory",
    "memory_mib",
    type=Mebibytes(),
    default=0,
    help="Memory that a work may use, such as 512M.",
)
@click.option(
    "--disk", "disk_mib", type=Mebibytes(), default=0, help="Disk that a work may use, such as 2G."
)
@click.option("--wall-time", type=Span(), default=0, help="Time that a work may take, such as 15m.")
@click.option(
    "--requirements",
    default="",
    metavar="EXPRESSION",
    help="What a host must satisfy, such as 'Memory >= 4096 && Arch == \"x86_64\"'.",
)
@click.option("--expected-host", metavar="UID", help="Run on this host only.")
@click.option(
    "--xwcert",
    "--credential",
    "delegation",
    metavar="FILE|UID",
    help="A credential of yours that goes with the works to sites which want one: a proxy in a"
    " file, which is delegated to the grid's bridge, or what you have delegated (xw delegate).",
)
@click.option("--label", default="", help="A word to find the works by.")
@click.option("--session", metavar="UID", help="The session they belong to.")
@click.option("--group", metavar="UID", help="The group they belong to.")
@click.option("--priority", type=int, default=0, help="Works of yours with a higher one go first.")
@click.option(
    "--retries",
    type=click.IntRange(0),
    default=3,
    show_default=True,
    help="Tasks that may fail for their hosts' sake.",
)
@click.option(
    "--wait", is_flag=True, help="Wait until the works have ended; show what a single one printed."
)
@click.option(
    "--rights",
    type=Rights(),
    help="Of a description: who may use the program that goes along; you alone unless given.",
)
@click.option(
    "--strict",
    is_flag=True,
    help="Of a description: refuse what is not understood or cannot be honoured.",
)
@pass_shell
def submit(
    shell: Shell,
    /,
    application: str,
    arguments: tuple[str, ...],
    ranges: tuple[str, ...],
    file_list: Any,
    stdin: str | None,
    env: str | None,
    inputs: tuple[tuple[str, str], ...],
    outputs: tuple[str, ...],
    wait: bool,
    rights: int | None,
    strict: bool,
    **fields: Any,
) -> None:
    """Submit a work of APPLICATION, or a sweep of many; or what a job description says.

    Prints the UID: of the work, or of the sweep, whose works are UID-0, UID-1 and so on.

    A job description is a file: HTCondor submit file (.sub), gLite JDL (.jdl), JSDL (.jsdl), xRSL
    (.xrsl), EMI ADL (.adl) or Globus RSL (.rsl). Its files lie beside it, and with --wait what
    comes of it is written where it says. Options count more than what it says.
    """
    if _is_description(application):
        if not Path(application).is_file():
            raise click.UsageError(f"there is no file {application}")
        _submit_description(shell, Path(application), wait, rights, strict, fields)
        return
    if rights is not None or strict:
        raise click.UsageError("--rights and --strict are for job descriptions")
    try:
        axes = [axis_of(text) for text in ranges]
        plan = _plan(arguments, axes, file_list)
    except BadSweep as error:
        raise click.UsageError(str(error)) from None
    _delegated(shell, fields)
    sender = _Sender(shell, application)
    description = Description(
        application,
        stdin=sender.data(stdin) if stdin else None,
        env=sender.environment(env) if env else None,
        inputs=tuple((name, sender.data(source)) for name, source in inputs),
        outputs=outputs or ("*",),
        **fields,
    )
    arrivals = shell.grid.arrivals()
    on_ended = arrivals.tell if wait else None
    is_sweep = bool(axes) or file_list is not None
    submitted = []
    for path, argument_lists in plan:
        its = description
        if path is not None:
            its = replace(its, inputs=(*its.inputs, (path.name, sender.data(str(path)))))
        if is_sweep:
            submitted.append(shell.grid.sweep(its, argument_lists, on_ended))
        else:
            submitted.append(shell.grid.submit(its, argument_lists[0], on_ended))
    _report(shell, submitted, wait)
    if wait:
        results = follow(shell, arrivals, [work for each in submitted for work in each.works])
        if not is_sweep and shell.output.format == "table":
            sys.stdout.buffer.write(shell.grid.content(results[0], "stdout"))
            sys.stderr.buffer.write(shell.grid.content(results[0], "stderr"))
        if is_sweep:
            shell.output.say(f"Next: xw result {' '.join(each.uid for each in submitted)}")
        conclude(shell, results)


def _delegated(shell: Shell, fields: dict[str, Any]) -> None:
    """Have a credential that was named delegated: the works carry that."""
    if fields["delegation"] is not None:
        # Most submissions need nothing of it.
        from desktopgrid.client.commands.delegate import credential

        fields["delegation"] = credential(shell, fields["delegation"])


def _is_description(application: str) -> bool:
    if not Path(application).suffix:
        return False
    from jdl.languages import is_description

    return is_description(application)


def _submit_description(
    shell: Shell,
    path: Path,
    wait: bool,
    rights: int | None,
    strict: bool,
    fields: dict[str, Any],
) -> None:
    # Most submissions need none of the languages.
    from desktopgrid.client.commands.described import Described, bring, submit_described, warn

    context = click.get_current_context()
    given = {
        name
        for name in context.params
        if context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT
    }
    if twice := [name for name in OF_A_DESCRIPTION if name in given and context.params[name]]:
        raise click.UsageError(f"{', '.join(twice)}: a job description says this itself")
    described = Described(path, strict=strict)
    warn(shell, described)
    arrivals = shell.grid.arrivals()
    senders: dict[str, _Sender] = {}

    def send_as(application: str) -> Callable[[str], UID]:
        return senders.setdefault(application, _Sender(shell, application)).data

    _delegated(shell, fields)
    common = {name: value for name, value in fields.items() if name in given}
    on_ended = arrivals.tell if wait else None
    submitted = submit_described(shell, described, send_as, on_ended, rights, common)
    _report(shell, submitted, wait)
    if not wait:
        uids = " ".join(each.uid for each in submitted)
        shell.output.say(f"Then, to write the outputs: xw result --description {path} {uids}")
        return
    works = [work for each in submitted for work in each.works]
    results = follow(shell, arrivals, works)
    bring(shell, described, works, results)
    (job, *others) = described.jobs
    if not others and shell.output.format == "table":
        for name in ("stdout", "stderr"):
            if not getattr(job, name):
                getattr(sys, name).buffer.write(shell.grid.content(results[0], name))
    conclude(shell, results)


def _plan(
    arguments: Sequence[str], axes: list[Axis], file_list: Any
) -> list[tuple[Path | None, list[tuple[str, ...]]]]:
    """The submissions to make: a file that goes along, and the argument lists. Raises BadSweep."""
    if file_list is None:
        return [(None, list(expand(arguments, axes)))]
    lines = [line.rstrip("\n") for line in file_list if line.strip()]
    if not lines:
        raise BadSweep(f"{file_list.name} has no lines")
    if not any(_FILE.search(argument) for argument in arguments):
        return [(None, list(expand(arguments, [*axes, Axis("line", lines)])))]
    size_of([*axes, Axis("file", lines)])
    plan: list[tuple[Path | None, list[tuple[str, ...]]]] = []
    for number, line in enumerate(lines, 1):
        path = Path(line)
        if not path.is_file():
            raise BadSweep(f"{file_list.name}:{number}: there is no file {line}")
        # The datas of a submission are the same for all its works, so each file has one of its own.
        both = [*axes, Axis("line", [line]), Axis("file", [path.name])]
        plan.append((path, list(expand(arguments, both))))
    return plan


def _report(shell: Shell, submitted: Sequence[Submitted], wait: bool) -> None:
    """Print the names and say what may be done next."""
    for each in submitted:
        record = {"uid": each.uid, "works": len(each.works), "runs_on": each.runs_on}
        if not wait:
            shell.output.result(each.uid, record)
    count = sum(len(each.works) for each in submitted)
    first = submitted[0]
    works = "1 work" if count == 1 else f"{count} works"
    shell.output.say(f"Submitted {works} of {first.uid}. {first.runs_on}")
    if not wait:
        shell.output.say(
            f"Next: xw wait {first.uid}; xw result {first.uid}; xw why {first.works[0]}"
        )
