"""Packages of workers and clients that know their grid: the server's address and the grid's CA are
inside, so that who unpacks one has to set up nothing.

A package is a ``tar.gz`` and a ``zip`` of the same files. The worker's holds the secret that lets
it take works, so both are for their owner's eyes alone.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import io
import json
import tarfile
import time
import zipfile
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from desktopgrid.model.errors import AlreadyThere, BadRequest, Unavailable, UnknownObject
from desktopgrid.server.founding import server_addresses
from desktopgrid.server.home import Home, write_private
from pilot import bundle

PLAIN, PROGRAM, SECRET = 0o644, 0o755, 0o600

WORKER = {
    "install": ("install.sh", PROGRAM),
    "uninstall": ("uninstall.sh", PROGRAM),
    "xwworker": ("xwworker.sh", PROGRAM),
    "worker.conf": ("worker.conf", PLAIN),
    "README.txt": ("README.txt", PLAIN),
    "systemd/system.service": ("system.service", PLAIN),
    "systemd/user.service": ("user.service", PLAIN),
    "launchd/org.glidebridge.worker.plist": ("org.glidebridge.worker.plist", PLAIN),
    "windows/xwworker.bat": ("xwworker.bat", PLAIN),
    "windows/InstallXWWorker-NT.bat": ("InstallXWWorker-NT.bat", PLAIN),
    "windows/UninstallXWWorker-NT.bat": ("UninstallXWWorker-NT.bat", PLAIN),
    "windows/XWWorker-NT.xml": ("XWWorker-NT.xml", PLAIN),
}
CLIENT = {
    "install": ("install.sh", PROGRAM),
    "uninstall": ("uninstall.sh", PROGRAM),
    "command": ("command.txt", PLAIN),
    "README.txt": ("README.txt", PLAIN),
}
"""What is in a package from ``bundles/``, each with its mode."""

CODE = ("client", "credentials", "link", "model", "wire")
"""The packages below ``desktopgrid`` that a client is made of."""


class File(NamedTuple):
    """A file of a package."""

    content: bytes
    mode: int


def worker(home: Home, identity: Path | None) -> dict[str, File]:
    """The files of a worker that is the grid's public one, or has the identity in a file."""
    secret, servers = _identity(identity or home.worker_identity, "worker")
    files = _texts("worker", WORKER, servers[0])
    files["xwworker.pyz"] = File(bundle.build(main=bundle.WORKER_MAIN), PROGRAM)
    files["worker.identity"] = File(secret, SECRET)
    return files


def client(home: Home, identity: Path | None) -> dict[str, File]:
    """The files of a client; its user logs in, unless it is given the identity in a file."""
    files = _texts("client", CLIENT, server_addresses(home)[0])
    files["ca.pem"] = File(home.ca_certificate.read_bytes(), PLAIN)
    if identity is not None:
        secret, _ = _identity(identity, "client")
        files["identity.json"] = File(secret, SECRET)
    files.update(_code())
    return files


KINDS = {"worker": worker, "client": client}


def make(home: Home, kind: str, target: Path, identity: Path | None = None) -> list[Path]:
    """Write the packages of ``kind`` into the directory ``target``: both, or none.

    Raises AlreadyThere, Unavailable, UnknownObject, or BadRequest for an identity that is none.
    """
    files = KINDS[kind](home, identity)
    top = f"glidebridge-{kind}"
    packed = {
        target / f"{top}.tar.gz": tar(top, files),
        target / f"{top}.zip": zipped(top, files),
    }
    for path in packed:
        if path.exists():
            raise AlreadyThere(f"{path} is there already")
    try:
        target.mkdir(parents=True, exist_ok=True)
        for path, content in packed.items():
            write_private(path, content)
    except OSError as error:
        for path in packed:
            path.unlink(missing_ok=True)
        raise Unavailable(f"cannot write to {target}: {error.strerror}") from error
    return list(packed)


def tar(top: str, files: dict[str, File]) -> bytes:
    """``files`` below the directory ``top``, as a ``tar.gz``."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
        for name, file in sorted(files.items()):
            member = tarfile.TarInfo(f"{top}/{name}")
            member.size, member.mode, member.mtime = len(file.content), file.mode, time.time()
            archive.addfile(member, io.BytesIO(file.content))
    return packed.getvalue()


def zipped(top: str, files: dict[str, File]) -> bytes:
    """``files`` below the directory ``top``, as a ``zip``."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, file in sorted(files.items()):
            entry = zipfile.ZipInfo(f"{top}/{name}", time.localtime()[:6])
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3
            entry.external_attr = (0o100000 | file.mode) << 16
            archive.writestr(entry, file.content)
    return packed.getvalue()


def _identity(path: Path, kind: str) -> tuple[bytes, list[str]]:
    """The content of the identity file ``path``, and the servers that it names."""
    try:
        content = path.read_bytes()
        found = json.loads(content)
        servers, is_of = list(found["servers"]), found["kind"]
    except OSError as error:
        raise UnknownObject(f"{path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BadRequest(f"{path} is no identity file") from error
    if is_of != kind:
        raise BadRequest(f"{path} is the identity of a {is_of}, not of a {kind}")
    return content, servers


def _texts(kind: str, wanted: dict[str, tuple[str, int]], server: str) -> dict[str, File]:
    """The files of ``bundles/`` with the server's address filled in."""
    place = resources.files("desktopgrid.server").joinpath("bundles", kind)
    files = {}
    for name, (source, mode) in wanted.items():
        text = place.joinpath(source).read_text(encoding="utf-8").replace("@SERVER@", server)
        if name.startswith("windows/"):
            text = text.replace("\n", "\r\n")
        files[name] = File(text.encode(), mode)
    return files


def _code() -> Iterator[tuple[str, File]]:
    """What a client runs: our own code, and the one library that it needs."""
    ours = bundle.ROOT / "desktopgrid"
    for path in [ours / "__init__.py", *(p for part in CODE for p in (ours / part).rglob("*.py"))]:
        yield f"lib/{path.relative_to(bundle.ROOT)}", File(path.read_bytes(), PLAIN)
    found = importlib.util.find_spec("click")
    if found is None or not found.submodule_search_locations:
        raise Unavailable("click, which a client needs, is not installed here")
    library = Path(found.submodule_search_locations[0])
    for path in library.rglob("*.py"):
        yield f"lib/click/{path.relative_to(library)}", File(path.read_bytes(), PLAIN)
    for licence in importlib.metadata.files("click") or ():
        if "LICENSE" in licence.name:
            yield "lib/click/LICENSE.txt", File(Path(licence.locate()).read_bytes(), PLAIN)
