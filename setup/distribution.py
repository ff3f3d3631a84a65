"""The package that is installed on a server: our code, the libraries that it needs, and the
commands, in one directory that may stand anywhere and needs nothing but a Python.

    distribution.py distrib|package|doc [--build DIR]
    distribution.py install|uninstall PREFIX [--build DIR]

``distrib`` lays the directory out, ``package`` makes archives of it and of the sources, ``install``
copies it to PREFIX, ``uninstall`` removes that; ``doc`` makes the documentation of the Python API.
All but PREFIX lies in DIR, the checkout's `build`. Runs in the virtual environment of make, whose
libraries it copies.
"""

from __future__ import annotations

import argparse
import compileall
import configparser
import importlib
import importlib.metadata
import pkgutil
import pydoc
import shutil
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import account
from cache import SetupError, say
from packaging.requirements import Requirement
from requirements import MARK

CHECKOUT = Path(__file__).resolve().parent.parent
EXTRAS = ("server", "s3")
API = "desktopgrid.client"

COMMAND = """\
#!/bin/sh
# GLIDEBRIDGE_PYTHON names another Python {major}.{minor} than the first on PATH.
here=$(dirname "$(readlink -f "$0")")
exec "${{GLIDEBRIDGE_PYTHON:-python{major}.{minor}}}" "$here/../lib/run.py" {name} "$@"
"""
RUN = """\
import sys
from importlib import import_module

MODULES = {modules!r}

sys.argv = [sys.argv[1], *sys.argv[2:]]
module, function = MODULES[sys.argv[0]].split(":")
sys.exit(getattr(import_module(module), function)())
"""


def main() -> int:
    parser = argparse.ArgumentParser(description="Build, install and remove what a server runs.")
    parser.add_argument("--build", type=Path, default=CHECKOUT / "build", metavar="DIR")
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("distrib", "package", "doc"):
        verbs.add_parser(verb)
    for verb in ("install", "uninstall"):
        verbs.add_parser(verb).add_argument("prefix", type=Path)
    options = parser.parse_args()
    build = options.build.absolute()
    if options.verb == "distrib":
        say(f"the package's files are in {distrib(build)}")
    elif options.verb == "package":
        for path in package(build):
            say(f"made {path}")
    elif options.verb == "doc":
        say(f"the documentation of the API is in {doc(build / 'doc')}")
    elif options.verb == "install":
        install(build / "glidebridge", options.prefix.absolute())
    else:
        uninstall(options.prefix.absolute())
    return 0


def settings() -> configparser.ConfigParser:
    """What setup.cfg says."""
    found = configparser.ConfigParser()
    found.read(CHECKOUT / "setup.cfg")
    return found


def distrib(build: Path) -> Path:
    """Lay the package's directory out anew, compiled."""
    target = build / "glidebridge"
    shutil.rmtree(target, ignore_errors=True)
    lib = target / "lib"
    lib.mkdir(parents=True)
    sources = settings()
    ignored = shutil.ignore_patterns("__pycache__")
    for name in sources["options.packages.find"]["include"].replace("*", "").split():
        shutil.copytree(CHECKOUT / name, lib / name, ignore=ignored)
    for name in libraries(sources):
        copy_library(name, lib)
    commands(target, sources)
    for name in ("conf", "docs"):
        shutil.copytree(CHECKOUT / name, target / name, ignore=ignored)
    for name in ("README.md", "CHANGELOG.md", "LICENSE"):
        shutil.copy2(CHECKOUT / name, target / name)
    (target / MARK).write_text(f"{sources['metadata']['version']}\n")
    if not compileall.compile_dir(lib / "desktopgrid", quiet=1):
        raise SetupError("the sources do not compile")
    return target


def libraries(sources: configparser.ConfigParser) -> list[str]:
    """The names of all that we need to run, and of what that needs."""
    extras = sources["options.extras_require"]
    todo = [sources["options"]["install_requires"], *(extras[extra] for extra in EXTRAS)]
    wanted = [Requirement(line) for text in todo for line in text.splitlines() if line.strip()]
    found: set[str] = set()
    seen: set[str] = set()
    while wanted:
        one = wanted.pop()
        if str(one) in seen:
            continue
        seen.add(str(one))
        found.add(one.name.lower())
        for line in importlib.metadata.requires(one.name) or ():
            other = Requirement(line)
            where = [{"extra": extra} for extra in (*one.extras, "")]
            if other.marker is None or any(other.marker.evaluate(each) for each in where):
                wanted.append(other)
    return sorted(found)


def copy_library(name: str, lib: Path) -> None:
    """Copy what was installed of the library ``name``, but for its commands."""
    for file in importlib.metadata.files(name) or ():
        if ".." in file.parts or "__pycache__" in file.parts:
            continue
        (lib / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(Path(str(file.locate())), lib / file)


def commands(target: Path, sources: configparser.ConfigParser) -> None:
    """Write a script for each of our commands."""
    scripts = sources["options.entry_points"]["console_scripts"].strip().splitlines()
    modules = dict(script.replace(" ", "").split("=") for script in scripts)
    (target / "lib" / "run.py").write_text(RUN.format(modules=modules))
    (target / "bin").mkdir()
    major, minor = sys.version_info[:2]
    for name in modules:
        path = target / "bin" / name
        path.write_text(COMMAND.format(name=name, major=major, minor=minor))
        path.chmod(0o755)


def package(build: Path) -> Iterator[Path]:
    """Make the archives: of the package, and of the sources."""
    tree = laid_out(build / "glidebridge")
    name = f"glidebridge-{settings()['metadata']['version']}"
    binary = build / f"{name}-bin.tar.gz"
    with tarfile.open(binary, "w:gz", compresslevel=5) as archive:
        archive.add(tree, name)
    yield binary
    source = build / f"{name}.tar.bz2"
    unpacked = build / name
    shutil.rmtree(unpacked, ignore_errors=True)
    account.unpack(account.pack(CHECKOUT), unpacked)
    with tarfile.open(source, "w:bz2") as archive:
        archive.add(unpacked, name)
    shutil.rmtree(unpacked)
    yield source


def doc(target: Path) -> Path:
    """Make a page of HTML for the Python API, and for each module of it."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    sys.path.insert(0, str(CHECKOUT))
    api = importlib.import_module(API)
    names = [API, *(f"{API}.{each.name}" for each in pkgutil.iter_modules(api.__path__))]
    for name in names:
        page = pydoc.HTMLDoc().document(importlib.import_module(name), name)
        html = pydoc.HTMLDoc().page(name, page)
        (target / f"{name}.html").write_text(html, encoding="utf-8")
    return target


def laid_out(tree: Path) -> Path:
    """``tree`` if the package's directory was laid out there; raises SetupError."""
    if not (tree / MARK).exists():
        raise SetupError(f"{tree} is not there; `distrib` lays it out")
    return tree


def install(tree: Path, prefix: Path) -> None:
    """Copy the package's directory to ``prefix``, which is not there yet or is an earlier one."""
    laid_out(tree)
    if prefix.exists() and any(prefix.iterdir()) and not (prefix / MARK).exists():
        raise SetupError(f"{prefix} is there and is no installation of ours; choose another PREFIX")
    new = prefix.with_name(f".{prefix.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    shutil.copytree(tree, new, symlinks=True)
    shutil.rmtree(prefix, ignore_errors=True)
    new.replace(prefix)
    say(f"installed in {prefix}; next: {prefix}/bin/xwserver init DIR")


def uninstall(prefix: Path) -> None:
    """Remove what was installed in ``prefix``."""
    if not (prefix / MARK).exists():
        raise SetupError(f"{prefix} is no installation of ours")
    shutil.rmtree(prefix)
    say(f"removed {prefix}")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SetupError as error:
        sys.exit(f"set-up: {error}")
