"""What `make install` needs of this machine, looked at before anything is fetched, built or
installed. All that is missing is named at once.

    requirements.py PREFIX

Runs by an older Python too, to say so; writes nothing.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import cache
from bootstrap import OLDEST_PYTHON, WHEELS
from cache import SetupError

MARK = "installed-by-make"
MODULES = {
    "ssl": "connections over TLS",
    "sqlite3": "the default database",
    "zlib": "packages",
    "ctypes": "the set-up",
}
"""Parts of Python's own library that a Python may have been built without."""
MIB = 1 << 20
FOR_ENVIRONMENT = 1024 * MIB
"""What fetching and building takes in the cache."""
FOR_INSTALLATION = 256 * MIB


def missing(prefix: Path) -> Iterator[str]:
    """Each thing that is missing, and what to do about it."""
    yield from _of_python()
    yield from _of_cache()
    yield from _of_prefix(prefix)


def _of_python() -> Iterator[str]:
    oldest = ".".join(map(str, OLDEST_PYTHON))
    if sys.version_info < OLDEST_PYTHON:
        found = ".".join(map(str, sys.version_info[:3]))
        yield (
            f"Python {oldest} or newer, and {sys.executable} is {found}:"
            f" name another one, make PYTHON=/path/to/python{oldest} install ..."
        )
    for name, what in MODULES.items():
        if importlib.util.find_spec(name) is None:
            yield (
                f"the module {name} of {sys.executable}, for {what}: install the whole of your"
                " system's python3, or name another one, make PYTHON=..."
            )
    if not any(_ways_to_pip()):
        yield (
            f"a way to pip for {sys.executable}: install python3-venv (Debian: apt-get install"
            " python3-venv), or set PIP_WHEEL to the path of a pip-*.whl"
        )
    command = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    if shutil.which(os.environ.get("GLIDEBRIDGE_PYTHON") or command) is None:
        yield (
            f"{command} on PATH, by which the installed commands run: link it there, or set"
            f" GLIDEBRIDGE_PYTHON={sys.executable}, now and for whoever runs them"
        )


def _ways_to_pip() -> Iterator[bool]:
    """Whether each of the ways that bootstrap.py knows is open."""
    yield importlib.util.find_spec("ensurepip") is not None
    yield importlib.util.find_spec("pip") is not None
    yield bool(os.environ.get("PIP_WHEEL"))
    yield any(WHEELS.glob("pip-*.whl"))
    yield shutil.which("apt-get") is not None


def _of_cache() -> Iterator[str]:
    place = cache.place()
    if not (place / "venv" / ".done").exists():
        yield from _of_room(place, FOR_ENVIRONMENT, "make room, or set GLIDEBRIDGE_CACHE")
    if place.exists():
        try:
            cache.directory()
        except SetupError as error:
            yield str(error)


def _of_prefix(prefix: Path) -> Iterator[str]:
    there = _nearest(prefix)
    is_ours = (prefix / MARK).exists()
    if not there.is_dir() or (there == prefix and not is_ours and any(prefix.iterdir())):
        yield f"room at {prefix}: {there} is no installation of ours; choose another PREFIX"
    elif not os.access(prefix.parent if there == prefix else there, os.W_OK | os.X_OK):
        yield f"the right to write {prefix}: choose another PREFIX, or let root install it"
    else:
        yield from _of_room(prefix, FOR_INSTALLATION, "make room, or choose another PREFIX")


def _nearest(path: Path) -> Path:
    """As much of ``path`` as there is."""
    return next(each for each in (path, *path.parents) if each.exists())


def _of_room(place: Path, wanted: int, remedy: str) -> Iterator[str]:
    there = _nearest(place)
    free = shutil.disk_usage(there).free
    if free < wanted:
        yield f"{wanted // MIB} MiB of room in {there}, where {free // MIB} are free: {remedy}"


def main() -> int:
    found = list(missing(Path(sys.argv[1]).absolute()))
    if found:
        print("set-up: nothing was installed, since something is missing:", file=sys.stderr)
    for number, each in enumerate(found, 1):
        print(f"{number:3}. {each}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
