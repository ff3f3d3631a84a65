"""The map of the code as a test: who imports whom, what deciding code shuns, how long a module is.

The arrows are ARCHITECTURE.md's. The imports are read with ast; none of the code runs.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("desktopgrid", "pilot", "bridge", "cod", "condor", "jdl")

# A module's part is the longest name here that it starts with. It may import from its own part, and
# from what the arrows of its part name.
ARROWS: dict[str, set[str]] = {
    "desktopgrid.model": set(),
    "desktopgrid.wire": {"desktopgrid.model"},
    "desktopgrid.link": {"desktopgrid.wire", "desktopgrid.model"},
    "desktopgrid.credentials": {"desktopgrid.model"},
    "desktopgrid.client": {
        "desktopgrid.credentials",
        "desktopgrid.link",
        "desktopgrid.wire",
        "desktopgrid.model",
        "jdl",
    },
    "desktopgrid.server": {
        "desktopgrid.credentials",
        "desktopgrid.wire",
        "desktopgrid.model",
        "cod.claim",
        "cod.lease",
        "cod.slot",
        "pilot.bundle",
        "condor.matcher",
    },
    "pilot.node": {
        "desktopgrid.link",
        "desktopgrid.wire",
        "desktopgrid.model",
        "cod.claim",
        "cod.lease",
        "cod.slot",
    },
    "pilot.ce": {"condor", "jdl", "desktopgrid.credentials", "desktopgrid.model"},
    "pilot.factory": {
        "pilot.ce",
        "pilot.bundle",
        "desktopgrid.client",
        "desktopgrid.credentials",
        "desktopgrid.model",
    },
    "pilot.bundle": set(),
    "pilot.cli": {
        "pilot.factory",
        "pilot.ce.finding",
        "pilot.bundle",
        "desktopgrid.client",
        "desktopgrid.model",
    },
    "bridge": {
        "pilot.factory",
        "pilot.ce.base",
        "desktopgrid.client",
        "desktopgrid.credentials",
        "condor",
        "jdl",
        "desktopgrid.model",
    },
    "cod": {"cod", "desktopgrid.client", "condor", "desktopgrid.model"},
    "cod.claim": {"cod.lease", "cod.slot"},
    "cod.lease": {"cod.claim", "cod.slot"},
    "cod.slot": {"cod.claim", "cod.lease"},
    "jdl": {"condor.ads", "condor.errors", "condor.quoting"},  # none of them loads htcondor2
    "condor": set(),
}

# They decide: facts in, orders out. Time and identity are arguments.
DECIDING = (
    "desktopgrid.model",
    "desktopgrid.wire",
    "desktopgrid.server.scheduler",
    "desktopgrid.server.dispatcher",
    "desktopgrid.server.hosts",
    "desktopgrid.server.tasks",
    "desktopgrid.server.delegations",
    "desktopgrid.server.siterules",
    "desktopgrid.server.requests",
    "desktopgrid.server.submitting",
    "desktopgrid.server.pilots",
    "desktopgrid.server.demand",
    "desktopgrid.server.upkeep",
    "desktopgrid.server.explain",
    "desktopgrid.server.listing",
    "desktopgrid.server.bookkeeping",
    "desktopgrid.server.reporting",
    "pilot.factory.plan",
    "pilot.factory.history",
    "pilot.factory.health",
    "pilot.factory.reasons",
    "pilot.factory.room",
    "pilot.node.slots",
    "pilot.node.worker",
    "bridge.inbound",
    "bridge.breaker",
    "cod.claim",
    "cod.lease",
    "cod.slot",
)
DOING = """
    asyncio concurrent fcntl http io logging mmap multiprocessing os pathlib.Path pathlib.PosixPath
    queue random sched select selectors shutil socket socketserver sqlalchemy sqlite3 ssl
    subprocess tempfile threading time urllib.request
""".split()  # noqa: SIM905 - thirty lines would say no more
MAY_DO = {
    # they read the files of all who have a configuration, and tell them the line of each key
    ("desktopgrid.model.configuration", "pathlib.Path"),
    ("desktopgrid.model.sites", "pathlib.Path"),
}
DOING_CALLS = {"open", "input", "print", "now", "utcnow", "today"}

# A library that only one part of the code may import.
SEAMS = {
    "classad2": "condor",
    "htcondor2": "condor",
    "htcondor": "condor",
    "paramiko": "pilot.ce.ssh",
    "asyncio": "desktopgrid.server.listeners",
    "aiohttp": "desktopgrid.server.listeners",
    "uvloop": "desktopgrid.server.listeners",
    "urllib3": "pilot.ce.https",
}

MAY_HOLD_CODE = {"desktopgrid/client/__init__.py", "cod/__init__.py"}
LONGEST_MODULE = 600


@dataclass(frozen=True)
class Import:
    """One name that a module imports; ``module`` is None where the name is not ours."""

    name: str
    module: str | None
    line: int


class Module:
    """One of our source files and what its text says."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tree = ast.parse(path.read_text(), str(path))
        self.is_package = path.name == "__init__.py"
        parts = path.relative_to(ROOT).with_suffix("").parts
        self.name = ".".join(parts[:-1] if self.is_package else parts)

    def place(self, line: int) -> str:
        """Where to look, as editors like it."""
        return f"{self.path.relative_to(ROOT)}:{line}"

    @cached_property
    def imports(self) -> list[Import]:
        return list(self._imports())

    def _imports(self) -> Iterator[Import]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield Import(alias.name, our_module(alias.name), node.lineno)
            elif isinstance(node, ast.ImportFrom):
                origin = self._absolute(node)
                for alias in node.names:
                    name = f"{origin}.{alias.name}"
                    yield Import(name, our_module(name), node.lineno)

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        here = self.name.split(".")
        base = here[: len(here) - node.level + self.is_package]
        return ".".join([*base, node.module] if node.module else base)


def our_module(name: str) -> str | None:
    """The module of ours that importing ``name`` loads; None if it is none of ours."""
    parts = name.split(".")
    while parts and parts[0] in PACKAGES:
        path = ROOT.joinpath(*parts)
        if path.with_suffix(".py").is_file() or (path / "__init__.py").is_file():
            return ".".join(parts)
        parts.pop()
    return None


MODULES = {
    module.name: module
    for package in PACKAGES
    for module in map(Module, sorted((ROOT / package).glob("**/*.py")))
}


def starts_with(name: str, prefix: str) -> bool:
    """Whether ``name`` is ``prefix`` or lies in it, by whole words."""
    return name == prefix or name.startswith(f"{prefix}.")


def part_of(module: str) -> str:
    """The part of ARROWS that ``module`` belongs to; a package above the parts is one by itself."""
    return max((part for part in ARROWS if starts_with(module, part)), key=len, default=module)


def closure(roots: Iterable[str]) -> set[str]:
    """Every module of ours that is loaded when ``roots`` are imported, their packages left out."""
    reached: set[str] = set()
    waiting = list(roots)
    while waiting:
        module = waiting.pop()
        if module not in reached:
            reached.add(module)
            waiting += [found.module for found in MODULES[module].imports if found.module]
    return reached


def under(*prefixes: str) -> list[str]:
    """The modules that lie in one of ``prefixes``."""
    return [name for name in MODULES if any(starts_with(name, prefix) for prefix in prefixes)]


def test_every_module_has_a_place_on_the_map() -> None:
    strangers = [name for name in MODULES if part_of(name) not in ARROWS]
    assert strangers == ["desktopgrid", "pilot"]  # the packages above, which hold a docstring only


def test_imports_follow_the_arrows() -> None:
    against = []
    for module in MODULES.values():
        part = part_of(module.name)
        allowed = {part, *ARROWS.get(part, ())}
        for found in module.imports:
            if found.module and not any(starts_with(found.module, arrow) for arrow in allowed):
                against.append(f"{module.place(found.line)}: {part} may not import {found.name}")
    assert not against, "\n".join(against)


def test_deciding_modules_only_decide() -> None:
    against = []
    for name in sorted(closure(under(*DECIDING))):
        module = MODULES[name]
        for found in module.imports:
            does = any(starts_with(found.name, doing) for doing in DOING)
            if does and (name, found.name) not in MAY_DO:
                against.append(f"{module.place(found.line)}: imports {found.name}")
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call):
                called = node.func
                word = getattr(called, "id", None) or getattr(called, "attr", None)
                if word in DOING_CALLS:
                    against.append(f"{module.place(node.lineno)}: calls {word}()")
    assert not against, "\n".join(against)


def test_a_node_needs_the_standard_library_only() -> None:
    against = []
    for name in sorted(closure(under("pilot.node"))):
        module = MODULES[name]
        for found in module.imports:
            if not found.module and found.name.split(".")[0] not in sys.stdlib_module_names:
                against.append(f"{module.place(found.line)}: imports {found.name}")
    assert not against, "\n".join(against)


def test_foreign_libraries_stay_behind_their_seams() -> None:
    against = []
    for module in MODULES.values():
        for found in module.imports:
            seam = SEAMS.get(found.name.split(".")[0])
            if seam and not found.module and not starts_with(module.name, seam):
                against.append(f"{module.place(found.line)}: only {seam} may import {found.name}")
    assert not against, "\n".join(against)


@pytest.mark.parametrize("name", sorted(name for name in MODULES if MODULES[name].is_package))
def test_a_package_holds_a_docstring_only(name: str) -> None:
    module = MODULES[name]
    assert ast.get_docstring(module.tree), f"{module.place(1)}: says nothing"
    if str(module.path.relative_to(ROOT)) not in MAY_HOLD_CODE:
        assert len(module.tree.body) == 1, f"{module.place(1)}: holds code"


def test_no_module_is_too_long() -> None:
    folders = [ROOT / name for name in (*PACKAGES, "bench", "demo", "setup", "tests")]
    paths = [path for folder in folders for path in folder.glob("**/*.py")]
    lengths = {path: len(path.read_text().splitlines()) for path in paths}
    too_long = [f"{path}: {n} lines" for path, n in lengths.items() if n > LONGEST_MODULE]
    assert not too_long, "\n".join(too_long)
