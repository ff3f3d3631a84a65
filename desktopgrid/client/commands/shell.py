"""What all commands share: whom they act for, how they print, how they end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from desktopgrid.client import profile
from desktopgrid.client.grid import Grid
from desktopgrid.client.output import FORMATS, Output
from desktopgrid.model.errors import GridError


class Shell:
    """One run of `xw`: the identity named, the output, and the grid once it is asked for."""

    def __init__(self, connect: Callable[[Path], Grid] = Grid.open) -> None:
        self.output = Output()
        self.identity: Path | None = None
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
            self._grid = self._connect(self.identity_path)
        return self._grid

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


def common_options() -> list[click.Parameter]:
    """The options that every command takes, before its name and after."""
    return [
        click.Option(
            ["--identity"],
            type=click.Path(dir_okay=False, path_type=Path),
            metavar="FILE",
            expose_value=False,
            callback=_set_identity,
            help=f"Act as whom this identity file names; else ${profile.VARIABLE}, or what"
            " `xw login` made.",
        ),
        click.Option(
            ["--format"],
            type=click.Choice(FORMATS),
            expose_value=False,
            callback=_set_format,
            help="How results are printed; table unless named.",
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


NAMES = click.argument("names", nargs=-1, required=True, metavar="UID...")
"""Works or submissions; ``-`` for those on standard input."""
