"""The manual's scripts and `xtremweb.client`: what they ask is done by `xw`, in this process.

All scripts are this program under other names (setup.cfg). Exit codes are `xw`'s.
"""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path, PurePath

from desktopgrid.client import profile
from desktopgrid.client.cli import xw
from desktopgrid.client.commands.shell import Shell
from desktopgrid.client.grid import Grid
from desktopgrid.client.legacy import (
    ACTIONS,
    CLIENT,
    FLAGS,
    WITH_VALUE,
    WrongWords,
    meaning_of,
)

Connect = Callable[[Path, float], Grid]

NO_WINDOW = (
    "--xwgui: there is no graphic interface yet; the commands do all that it did, `xtremweb.client"
    " --xwhelp` lists them"
)


def main() -> None:
    """Run the script by whose name this was started."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    sys.exit(run(PurePath(sys.argv[0]).name, sys.argv[1:]))


def run(program: str, words: Sequence[str], connect: Connect = Grid.open) -> int:
    """Do what ``program`` is asked by ``words``; the exit code."""
    try:
        meaning = meaning_of(program, words)
    except WrongWords as error:
        return _complain(program, str(error))
    for note in meaning.notes:
        print(f"{program}: {note}", file=sys.stderr)
    if meaning.is_help:
        print(usage())
        return 0
    if meaning.is_window:
        return _complain(program, NO_WINDOW, 1)
    shell = Shell(connect)
    shell.identity = _configuration(meaning.configuration)
    shell.patience = meaning.patience
    if meaning.is_verbose is not None:
        shell.level = logging.DEBUG if meaning.is_verbose else logging.ERROR
        shell.output.is_quiet = not meaning.is_verbose
        shell.set_level(logging.WARNING)
    if meaning.is_clean:
        _clean(program, shell.identity_path)
    if meaning.macro is not None:
        return _run_macro(Path(meaning.macro), words, connect)
    if not meaning.words:
        return 0
    return _xw(meaning.words, shell)


def _configuration(named: str | None) -> Path | None:
    """The configuration that is named, else ``~/.xtremweb/xwrc`` if it is there (manual, 7.3.2);
    None: whatever `xw` acts by.
    """
    if named is not None:
        return Path(named)
    home = Path(os.environ.get("HOME") or "~").expanduser()
    found = home / profile.MANUALS
    return found if found.is_file() and not os.environ.get(profile.VARIABLE) else None


def _clean(program: str, path: Path) -> None:
    """Clear all that this client keeps: the token that a login was exchanged for."""
    done = "is removed" if profile.forget(path) else "is not there; nothing else is kept"
    print(f"{program}: the login's token, {profile.token_of(path)}, {done}", file=sys.stderr)


def _run_macro(path: Path, words: Sequence[str], connect: Connect) -> int:
    """One command a line; configuration, format and verbosity of the macro's own line hold for all
    (C-14). The first line that fails ends it.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        return _complain(CLIENT, f"the macro file {path} cannot be read: {reason}")
    common = _common(words)
    for number, line in enumerate(lines, 1):
        try:
            said = shlex.split(line, comments=True)
            program = said.pop(0) if said and not said[0].startswith("-") else CLIENT
            if said and meaning_of(program, said).macro is not None:
                raise WrongWords("a macro file cannot run another one")
        except (ValueError, WrongWords) as error:
            return _complain(CLIENT, f"{path}:{number}: {error}")
        if not said and program == CLIENT:
            continue
        code = run(program, [*common, *said], connect)
        if code:
            return _complain(CLIENT, f"{path}:{number}: this line failed", code)
    return 0


def _common(words: Sequence[str]) -> list[str]:
    """The parameters that hold for every line of a macro."""
    kept: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name = word.lstrip("-").lower()
        if name in ("xwverbose", "xwnoverbose"):
            kept.append(word)
        elif name in WITH_VALUE:
            value = rest.pop(0)
            kept += [word, value] if name in ("xwconfig", "xwformat", "xwclientloopdelay") else []
    return kept


def _xw(words: Sequence[str], shell: Shell) -> int:
    try:
        xw.main(args=list(words), prog_name="xw", obj=shell)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _complain(program: str, complaint: str, code: int = 2) -> int:
    print(f"{program}: {complaint}", file=sys.stderr)
    return code


def usage() -> str:
    """What the client understands."""
    return "\n".join(
        (
            f"Usage: {CLIENT} ACTION [PARAMETER...]: commands as the XWHEP manual spells them.",
            "  actions:    " + " ".join(f"--{name}" for name in ACTIONS),
            "  parameters: " + " ".join(f"--{name} VALUE" for name in WITH_VALUE),
            "              " + " ".join(f"--{name}" for name in FLAGS),
            "Each also with one dash. `xw --help` shows the same commands in their present form.",
        )
    )
