"""The worker as one file: pilot.node and what it imports, as a zip that a bare Python 3.9 runs.

    python -m pilot.bundle pilot.pyz

The same sources give the same bytes, so that the file can be named by its digest.
"""

from __future__ import annotations

import ast
import functools
import io
import os
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENTRY = "pilot.node.cli"
OURS = ("desktopgrid", "pilot", "cod")
SHEBANG = b"#!/usr/bin/env python3\n"
# Any Python can read this, and say why it is the wrong one.
MAIN = b"""import sys

if sys.version_info < (3, 9):
    sys.exit("pilot.pyz needs Python 3.9 or later; " + sys.executable + " is " + sys.version)

from pilot.node.cli import pilot_main

sys.exit(pilot_main())
"""
WORKER_MAIN = MAIN.replace(b"pilot.pyz", b"xwworker.pyz").replace(b"pilot_main", b"main")
"""The same for the worker of a desktop, whose command line is `xwworker`'s."""
LONG_AGO = (1980, 1, 1, 0, 0, 0)
MODE = 0o100644 << 16


def closure(root: Path = ROOT, entry: str = ENTRY) -> list[Path]:
    """The source file of ``entry``, of all it imports, and of the packages they are in."""
    found: set[Path] = set()
    todo = [entry]
    while todo:
        module = todo.pop()
        for path in _files_of(root, module):
            if path not in found:
                found.add(path)
                todo += _imports(path)
    return sorted(found)


def build(root: Path = ROOT, main: bytes = MAIN) -> bytes:
    """The content of ``pilot.pyz``, or of a file that begins with another ``main``."""
    packed = io.BytesIO()
    packed.write(SHEBANG)
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        _add(archive, "__main__.py", main)
        for path in closure(root):
            _add(archive, path.relative_to(root).as_posix(), path.read_bytes())
    return packed.getvalue()


def write(target: Path) -> int:
    """Write ``pilot.pyz`` to ``target``, executable, whole or not at all; gives back its size.

    A process packs it once: what it sends is of its own version, whatever is installed meanwhile.
    """
    content = _ours()
    new = target.with_name(f"{target.name}.{os.getpid()}.new")
    new.write_bytes(content)
    new.chmod(0o755)
    new.replace(target)
    return len(content)


@functools.cache
def _ours() -> bytes:
    return build()


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, LONG_AGO)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = MODE
    # Elsewhere zipfile would note the system that packed it.
    entry.create_system = 3
    archive.writestr(entry, content)


def _files_of(root: Path, module: str) -> Iterator[Path]:
    """The file of ``module`` and those of the packages around it; none if it is not ours."""
    if module.split(".")[0] not in OURS:
        return
    path = root.joinpath(*module.split("."))
    if path.with_suffix(".py").is_file():
        yield path.with_suffix(".py")
    elif not path.is_dir():
        return  # a name inside a module
    else:
        yield path / "__init__.py"
    for package in path.parents:
        if package == root:
            break
        yield package / "__init__.py"


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            # `from package import module`
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


if __name__ == "__main__":
    wanted = Path(sys.argv[1] if len(sys.argv) > 1 else "pilot.pyz")
    print(f"{wanted}: {write(wanted)} bytes")
