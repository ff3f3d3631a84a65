"""Files on their way to the grid and back: what is sent as a data, and where outputs may be
written.

A worker may lie, about the names of its outputs as well: nothing is written outside of the
directory that was named, and nothing that is there is replaced unless that was asked for.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import stat
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import quote

from desktopgrid.client.connection import OnBytes
from desktopgrid.client.session import GridSession
from desktopgrid.link.web import Web
from desktopgrid.model.errors import AlreadyThere, BadRequest, LimitExceeded
from desktopgrid.model.objects import ANY_PLATFORM, UID, Data, Output, Platform, Result, new_uid
from desktopgrid.model.rights import PUBLIC
from desktopgrid.model.uris import Place, is_elsewhere, located
from desktopgrid.wire import messages as m

CHUNK = 1 << 20

# What ELF calls machines (e_machine) -> what hosts call theirs.
_ELF_MACHINES = {3: "i686", 40: "armv7l", 62: "x86_64", 183: "aarch64", 243: "riscv64"}
# A zip's entry needs a date, and the same files must make the same zip. 1980 is a zip's year 0.
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Content:
    """What is known of a content: its digest, its size, and how it begins if it was looked at."""

    sha256: str
    size: int
    head: bytes = b""


def send_data(
    session: GridSession,
    source: Path | bytes,
    name: str,
    *,
    type: str = "",
    rights: int = PUBLIC,
    platform: Platform | None = None,
    replaces: bool = False,
    progress: OnBytes | None = None,
) -> Data:
    """Put a file, or bytes, on the grid; what the grid has already is not sent again."""
    sha256, size = measure(source)
    cpu, os = (platform.cpu, platform.os) if platform is not None else ("", "")
    request = m.SendData(
        new_uid(), name, sha256, size, type, rights, cpu=cpu, os=os, replaces=replaces
    )
    reply = session.ask(request)
    uid = str(reply.get("uid", request.uid))
    if not reply.get("available"):
        report = progress or (lambda moved: None)
        session.transfers.put(f"/v1/datas/{uid}", source, sha256, size, report)
    return Data(uid, name, session.welcome.user, rights, sha256, size, type, is_available=True)


def send_uri(
    session: GridSession,
    uri: str,
    name: str = "",
    content: Content | None = None,
    *,
    type: str = "",
    platform: Platform | None = None,
    replaces: bool = False,
    progress: OnBytes | None = None,
) -> Data:
    """Make what ``uri`` names a data, which stays there: workers fetch it.

    Unless ``content`` is given, it is read here once. Raises BadRequest for a scheme that cannot
    be read here.
    """
    content = content or content_at(uri, progress)
    cpu, os = (platform.cpu, platform.os) if platform is not None else ("", "")
    name = name or uri.partition("?")[0].rstrip("/").rpartition("/")[2] or "data"
    request = m.SendData(
        new_uid(),
        name,
        content.sha256,
        content.size,
        type,
        uri=uri,
        cpu=cpu,
        os=os,
        replaces=replaces,
    )
    uid = str(session.ask(request).get("uid", request.uid))
    return Data(
        uid, name, session.welcome.user, PUBLIC, content.sha256, content.size, type, uri, True
    )


def content_at(uri: str, progress: OnBytes | None = None) -> Content:
    """What stands at an http or https ``uri``, which is read to its end; raises BadRequest."""
    locator = located(uri)
    if locator.place is not Place.ELSEWHERE:
        raise BadRequest(f"{uri} is {locator.place.value}: it is not read from the web")
    sha256, size, head = Web(reaches_private=True).measure(uri, progress or (lambda moved: None))
    return Content(sha256, size, head)


def measure(source: Path | bytes) -> tuple[str, int]:
    """Digest and size of a content; raises BadRequest for what is no readable file."""
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest(), len(source)
    digest, size = hashlib.sha256(), 0
    try:
        with source.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
                size += len(chunk)
    except OSError as error:
        raise BadRequest(f"{source} cannot be read: {error.strerror}") from error
    return digest.hexdigest(), size


def environment_of(path: Path) -> Path | bytes:
    """The zip that a work's environment travels as: ``path`` itself if it is one, else made of the
    directory or file.
    """
    if not path.exists():
        raise BadRequest(f"there is no file or directory {path}")
    if path.is_file() and zipfile.is_zipfile(path):
        return path
    content = io.BytesIO()
    _zip(path, content)
    return content.getvalue()


def pack(directory: Path, archive: Path) -> None:
    """Make the zip ``archive`` of all that lies in ``directory``."""
    partial = archive.with_name(f".{archive.name}.part")
    with partial.open("wb") as file:
        _zip(directory, file)
    partial.replace(archive)


def _zip(path: Path, target: IO[bytes]) -> None:
    """A zip of a directory or a file; the same files make the same zip."""
    files = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
    base = path if path.is_dir() else path.parent
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            entry = zipfile.ZipInfo(file.relative_to(base).as_posix(), _ZIP_DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (stat.S_IFREG | stat.S_IMODE(file.stat().st_mode)) << 16
            with file.open("rb") as source, archive.open(entry, "w", force_zip64=True) as packed:
                shutil.copyfileobj(source, packed, CHUNK)


def platform_of(executable: Path) -> Platform:
    """What an executable was made for: a script runs anywhere, a program in ELF where its header
    says; raises BadRequest.
    """
    try:
        with executable.open("rb") as file:
            header = file.read(20)
    except OSError as error:
        raise BadRequest(f"{executable} cannot be read: {error.strerror}") from error
    return platform_in(header, str(executable))


def platform_in(header: bytes, what: str) -> Platform:
    """What ``what``, an executable that begins so, was made for; see :func:`platform_of`."""
    if header.startswith(b"#!"):
        return ANY_PLATFORM
    if header.startswith(b"\x7fELF") and len(header) == 20:
        order = "<" if header[5] == 1 else ">"
        machine = struct.unpack_from(f"{order}H", header, 18)[0]
        if machine in _ELF_MACHINES:
            return Platform(_ELF_MACHINES[machine], "linux")
    raise BadRequest(
        f"{what} does not say what it was made for; name CPU type and operating system,"
        " such as --cpu x86_64 --os linux"
    )


def content_of(session: GridSession, result: Result, name: str, limit: int = 64 << 20) -> bytes:
    """One output of a work, in memory; ``stdout`` and ``stderr`` wherever they travelled."""
    output = next((output for output in result.outputs if output.name == name), None)
    if output is None:
        inline = {"stdout": result.stdout, "stderr": result.stderr}
        if name not in inline:
            raise BadRequest(f"work {result.work} left no {name!r}")
        return inline[name]
    if output.size > limit:
        raise LimitExceeded(
            f"{name!r} of work {result.work} has {output.size} bytes; at most {limit}"
        )
    content = session.transfers.read(_address(result.work, output), limit)
    if hashlib.sha256(content).hexdigest() != output.sha256:
        raise BadRequest(f"{name!r} of work {result.work} is not what the worker stored")
    return content


def fetch(
    session: GridSession,
    result: Result,
    directory: Path,
    *,
    overrides: bool = False,
    progress: OnBytes | None = None,
) -> list[Path]:
    """Write standard output, standard error and outputs of a work below ``directory``: the files
    that were written. ``progress`` hears how many bytes of it are here by now.
    """
    report = progress or (lambda moved: None)
    here = 0
    # In this order what comes as x.part is not taken for the beginning of x.
    outputs = sorted(result.outputs, key=lambda output: output.name)
    targets = [(output, place_of(output.name, directory)) for output in outputs]
    written = []
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in (("stdout", result.stdout), ("stderr", result.stderr)):
        if all(output.name != name for output in result.outputs):
            path = directory / name
            if overrides or not os.path.lexists(path):
                _write(path, content)
                written.append(path)
    for output, path in targets:
        if overrides or not os.path.lexists(path):
            try:
                _make_parents(path, directory)
                session.transfers.get(
                    _address(result.work, output),
                    path,
                    output.sha256,
                    output.size,
                    lambda moved, before=here: report(before + moved),  # type: ignore[misc]
                )
            except OSError as error:
                # Outputs of a worker that lies may exclude each other: a file, and one in it.
                raise BadRequest(f"{path} cannot be written: {error.strerror}") from error
            here += output.size
            written.append(path)
    return written


def fetch_data(
    session: GridSession,
    data: Mapping[str, Any],
    directory: Path,
    *,
    overrides: bool = False,
    progress: OnBytes | None = None,
) -> Path:
    """Write the content of ``data``, a row of the list of datas, under its name into ``directory``:
    from the server, or from where its URI says. Raises AlreadyThere.
    """
    path = place_of(str(data["name"]), directory)
    if os.path.lexists(path) and not overrides:
        raise AlreadyThere(f"{path} is there already; --override replaces it")
    uri, sha256, size = str(data.get("uri", "")), str(data["sha256"]), int(data["size"])
    report = progress or (lambda moved: None)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _make_parents(path, directory)
        if is_elsewhere(uri):
            Web(reaches_private=True).fetch(uri, path, sha256, size, report)
        else:
            session.transfers.get(f"/v1/datas/{data['uid']}", path, sha256, size, report)
    except OSError as error:
        raise BadRequest(f"{path} cannot be written: {error.strerror}") from error
    return path


def place_of(name: str, directory: Path) -> Path:
    """Where an output of this name belongs; raises BadRequest for one that would lie elsewhere."""
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\0" in name:
        raise BadRequest(
            f"an output called {name!r} would not lie in {directory}; it was not fetched"
        )
    return directory.joinpath(*path.parts)


def _make_parents(path: Path, directory: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Of two outputs the first must not be a link for the second to be written through.
    if not path.parent.resolve().is_relative_to(directory.resolve()):
        raise BadRequest(f"{path} would not lie in {directory}; it was not fetched")


def _write(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.part")
    partial.write_bytes(content)
    partial.replace(path)


def _address(work: UID, output: Output) -> str:
    return f"/v1/works/{work}/outputs/{quote(output.name)}"
