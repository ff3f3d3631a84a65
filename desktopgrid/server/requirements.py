"""What a new grid needs of its machine and of its database, looked at before anything is made
(XWHEP manual, 4.1). All that is missing is named at once; nothing is changed.
"""

from __future__ import annotations

import errno
import os
import shutil
import socket
import sqlite3
import stat
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from desktopgrid.model.account import Account
from desktopgrid.server.config import ServerConfig
from desktopgrid.server.database.trial import missing_of
from desktopgrid.server.missing import Missing

MIB = 1 << 20
A_NEW_GRID = 64 * MIB
"""What a new grid takes of the disk, with its first logs, beside what is to stay free."""
OLDEST_PYTHON = (3, 11)
OLDEST_SQLITE = (3, 35, 0)
OF_OTHERS = {"nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "afs", "lustre", "9p"}
"""File systems that other machines may write to as well: SQLite's log keeps no order there."""


def missing(directory: Path, config: ServerConfig, owner: Account | None) -> list[Missing]:
    """All that a grid in ``directory``, so configured, would lack; ``owner`` is who is to serve it,
    if it is not the caller.
    """
    return [
        *_of_python(config),
        *_of_place(directory.absolute(), config, owner),
        *_of_ports(config),
        *missing_of(config.database.address or "sqlite://"),
    ]


def _of_python(config: ServerConfig) -> Iterator[Missing]:
    if sys.version_info < OLDEST_PYTHON:
        yield Missing(
            f"Python is {'.'.join(map(str, sys.version_info[:3]))}",
            f"run xwserver by Python {'.'.join(map(str, OLDEST_PYTHON))} or later",
        )
    if sqlite3.sqlite_version_info < OLDEST_SQLITE and not config.database.address:
        yield Missing(
            f"SQLite is {sqlite3.sqlite_version}",
            f"{'.'.join(map(str, OLDEST_SQLITE))} is the oldest that will do; or --database URL",
        )
    if config.store.endpoint and find_spec("boto3") is None:
        yield Missing("boto3 is not installed, and [store] needs it", "pip install glidebridge[s3]")


def _of_place(directory: Path, config: ServerConfig, owner: Account | None) -> Iterator[Missing]:
    obstacle = obstacle_at(directory)
    if obstacle:
        yield Missing(obstacle, "choose another DIR")
        return
    there = next(path for path in (directory.parent, *directory.parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        yield Missing(
            f"{directory} cannot be made: {there} is not yours to write", "choose another DIR"
        )
        return
    free, wanted = shutil.disk_usage(there).free, config.limits.min_free_mib * MIB + A_NEW_GRID
    if free < wanted:
        yield Missing(
            f"{free // MIB} MiB are free at {there}, and a server leaves"
            f" {config.limits.min_free_mib} MiB alone ([limits] min_free_mib)",
            f"make room for {(wanted - free) // MIB + 1} MiB more, or choose another DIR",
        )
    kind = file_system_of(there, Path("/proc/self/mountinfo"))
    if kind in OF_OTHERS and not config.database.address:
        yield Missing(
            f"{there} is on a file system of other machines ({kind}), where SQLite may break",
            "choose a DIR on a disk of this machine, or name a database by --database URL",
        )
    if owner is not None and (shut := shut_to(owner, there)):
        yield Missing(
            f"{owner.name} may not pass through {shut}", "choose another DIR, or chmod a+x it"
        )


def obstacle_at(directory: Path) -> str | None:
    """Why ``directory`` cannot become a new grid's; None if it can."""
    if directory.is_symlink() or (directory.exists() and not directory.is_dir()):
        return f"{directory} is no directory"
    if directory.is_dir() and any(directory.iterdir()):
        return f"{directory} is not empty; a new grid wants an empty directory"
    return None


def file_system_of(path: Path, mounts: Path) -> str:
    """The kind of file system that ``path`` is on, by the kernel's table; empty if it has none."""
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return ""
    resolved, found, depth = path.resolve(), "", -1
    for line in lines:
        before, _, after = line.partition(" - ")
        # what the kernel writes as \\040 is a blank; so spelt, a name still has its depth
        place = Path(before.split()[4].encode().decode("unicode_escape"))
        if resolved.is_relative_to(place) and len(place.parts) >= depth:
            found, depth = after.split()[0], len(place.parts)
    return found


def shut_to(account: Account, directory: Path) -> Path | None:
    """The first directory on the way to ``directory`` that ``account`` may not pass through."""
    groups = os.getgrouplist(account.name, account.gid)
    for place in (*reversed(directory.parents), directory):
        found = place.stat()
        if found.st_uid == account.uid:
            may = found.st_mode & stat.S_IXUSR
        elif found.st_gid in groups:
            may = found.st_mode & stat.S_IXGRP
        else:
            may = found.st_mode & stat.S_IXOTH
        if not may:
            return place
    return None


def _of_ports(config: ServerConfig) -> Iterator[Missing]:
    server, doors, watching = config.server, config.doors, config.watching
    wanted = (
        ("--port, or [server] port", server.address, server.port, socket.SOCK_STREAM),
        ("[doors] tcp_port", server.address, doors.tcp_port, socket.SOCK_STREAM),
        ("[doors] xmlrpc_port", server.address, doors.xmlrpc_port, socket.SOCK_STREAM),
        ("[doors] udp_port", server.address, doors.udp_port, socket.SOCK_DGRAM),
        (
            "[watching] ganglia_port",
            watching.ganglia_address,
            watching.ganglia_port,
            socket.SOCK_STREAM,
        ),
    )
    for key, address, port, kind in wanted:
        if port and (reason := why_shut(address, port, kind)):
            found, remedy = reason
            yield Missing(
                f"port {port} cannot be opened at {address}: {found}", f"{remedy} ({key})"
            )


def why_shut(address: str, port: int, kind: socket.SocketKind) -> tuple[str, str] | None:
    """Why a server could not listen there, and what to do; None if it could."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, kind) as tried:
        # as the server does: what an earlier connection left is no obstacle
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, kind == socket.SOCK_STREAM)
        try:
            tried.bind((address, port))
            if kind == socket.SOCK_STREAM:
                tried.listen()
        except OSError as error:
            said = error.strerror or str(error)
            if error.errno == errno.EADDRINUSE:
                return "another program has it", "stop that one, or choose another port"
            if error.errno in (errno.EACCES, errno.EPERM):
                remedy = "choose one from 1024 on, or let root run this, with --user"
                return "only root opens ports so low", remedy
            return said, "name an address of this machine"
    return None
