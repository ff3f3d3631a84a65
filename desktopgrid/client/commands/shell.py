"""What all commands share: whom they act for, how they print, how they end."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from desktopgrid.client import profile
from desktopgrid.client.commands.types import Span
from desktopgrid.client.grid import Grid
from desktopgrid.client.output import FORMATS, Output
from desktopgrid.client.progress import Progress
from desktopgrid.client.session import PATIENCE
from desktopgrid.model.errors import GridError

logger = logging.getLogger(__name__)

COMPLETION_PATIENCE = 2.0
"""Seconds that somebody at a terminal waits for words to choose from."""

NAMES_OFFERED = 50


class Shell:
    """One run of `xw`: the identity named, the output, and the grid once it is asked for."""

    def __init__(self, connect: Callable[[Path, float], Grid] = Grid.open) -> None:
        self.output = Output()
        self.identity: Path | None = None
        self.patience: float | None = None
        """Seconds to wait for a silent server, where the command line names them."""
        self.level: int | None = None
        """How much is logged, where the command line names it."""
        self._connect = connect
        self._grid: Grid | None = None

    @property
    def identity_path(self) -> Path:
        """Where the identity is."""
        return profile.identity_path(self.identity)

    @property
    def grid(self) -> Grid:
        """The grid, connected."""
        if self._grid is None:
            path = self.identity_path
            self._grid = self._connect(path, self._heed(path))
        return self._grid

    def _heed(self, path: Path) -> float:
        """Do what the configuration in ``path``, if it is one, and the command line say of logging;
        how long to wait for a silent server.
        """
        patience = PATIENCE
        if profile.is_configuration(path):
            found = profile.read_configuration(path)
            patience = found.client.answer_within.total_seconds()
            self.set_level(LEVELS[found.client.log_level])
            for note in found.notes:
                logger.info("%s", note)
        return self.patience or patience

    def set_level(self, configured: int) -> None:
        """Log as much as the command line says, else as is ``configured``."""
        logging.getLogger().setLevel(configured if self.level is None else self.level)

    def progress(
        self, what: str, total: int, scale: Callable[[float], str] = "{:.0f}".format
    ) -> Progress:
        """A bar for something that takes time."""
        return Progress(what, total, self.output.err, scale=scale)

    def close(self) -> None:
        """Take leave of the grid if it was asked."""
        if self._grid is not None:
            self._grid.close()

    def names(self, given: Sequence[str]) -> Iterator[str]:
        """The names given; for ``-`` those on standard input."""
        for name in given:
            if name == "-":
                yield from sys.stdin.read().split()
            else:
                yield name


LEVELS = {
    profile.LogLevel.DEBUG: logging.DEBUG,
    profile.LogLevel.INFO: logging.INFO,
    profile.LogLevel.WARNING: logging.WARNING,
    profile.LogLevel.ERROR: logging.ERROR,
}

pass_shell = click.make_pass_decorator(Shell)


class Refused(click.ClickException):
    """The system refused: one sentence on standard error, exit code 1."""

    exit_code = 1

    def __init__(self, error: Exception, context: click.Context) -> None:
        super().__init__(str(error))
        self.program = context.find_root().info_name

    def show(self, file: Any = None) -> None:
        """Say why."""
        click.echo(f"{self.program}: {self.message}", err=True, file=file)


def _set_identity(context: click.Context, option: click.Parameter, value: Path | None) -> None:
    if value is not None:
        context.ensure_object(Shell).identity = value


def _set_format(context: click.Context, option: click.Parameter, value: str | None) -> None:
    if value is not None:
        context.ensure_object(Shell).output.format = value


def _set_patience(context: click.Context, option: click.Parameter, value: int | None) -> None:
    if value is not None:
        context.ensure_object(Shell).patience = float(value)


def _set_level(context: click.Context, option: click.Parameter, value: int | None) -> None:
    if value is not None:
        shell = context.ensure_object(Shell)
        shell.level, shell.output.is_quiet = value, value == logging.ERROR
        shell.set_level(value)


def common_options() -> list[click.Parameter]:
    """The options that every command takes, before its name and after."""
    return [
        click.Option(
            ["--identity"],
            type=click.Path(dir_okay=False, path_type=Path),
            metavar="FILE",
            expose_value=False,
            callback=_set_identity,
            help=f"Act as whom this identity file, or a configuration such as ~/{profile.MANUALS},"
            f" names; else ${profile.VARIABLE}, or what `xw login` made.",
        ),
        click.Option(
            ["--format"],
            type=click.Choice(FORMATS),
            expose_value=False,
            callback=_set_format,
            help="How results are printed; table unless named.",
        ),
        click.Option(
            ["--answer-within"],
            type=Span(),
            expose_value=False,
            callback=_set_patience,
            help=f"Give up a server that is silent for so long; {PATIENCE:.0f}s unless named.",
        ),
        click.Option(
            ["-v", "--verbose"],
            flag_value=logging.DEBUG,
            type=int,
            default=None,
            expose_value=False,
            callback=_set_level,
            help="Say what goes on.",
        ),
        click.Option(
            ["-q", "--quiet"],
            flag_value=logging.ERROR,
            type=int,
            default=None,
            expose_value=False,
            callback=_set_level,
            help="Say nothing but results and errors; no bars, no hints.",
        ),
    ]


class Command(click.Command):
    """A command with the common options, whose refusals are one sentence."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.params.extend(common_options())

    def invoke(self, context: click.Context) -> Any:
        """Run it; what the system refuses becomes exit code 1."""
        shell = context.ensure_object(Shell)
        try:
            return super().invoke(context)
        except GridError as error:
            raise Refused(error, context) from error
        except TimeoutError as error:
            raise Refused(error, context) from error
        finally:
            shell.close()


Words = Callable[[click.Context, click.Parameter, str], list[str]]


def names_of(kind: str, field: str = "uid") -> Words:
    """Offers the names of objects of the grid to a shell that completes a word; none where the grid
    does not answer at once.
    """

    def words(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
        shell = context.ensure_object(Shell)
        shell.patience = COMPLETION_PATIENCE
        try:
            rows = list(shell.grid.objects(kind, limit=NAMES_OFFERED))
        except (GridError, OSError):
            return []
        finally:
            shell.close()
        return [name for row in rows if (name := str(row[field])).startswith(incomplete)]

    return words


NAMES = click.argument(
    "names", nargs=-1, required=True, metavar="UID...", shell_complete=names_of("works")
)
"""Works or submissions; ``-`` for those on standard input."""
