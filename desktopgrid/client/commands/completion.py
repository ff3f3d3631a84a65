"""What a shell needs to complete the words of a command line."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from desktopgrid.client.commands.shell import Command

SHELLS = ("bash", "zsh", "fish")


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what makes SHELL complete the words of this command.

    \b
      eval "$(xw completion bash)"                  in ~/.bashrc
      eval "$(xw completion zsh)"                   in ~/.zshrc
      xw completion fish > ~/.config/fish/completions/xw.fish
    """
    command = context.find_root().command
    name = str(command.name)
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - click knows these three
    click.echo(kind(command, {}, name, f"_{name.upper()}_COMPLETE").source())
