"""The server as a daemon of this machine: starting, finding, stopping it.

Whether a grid is served is told by the lock on its directory, which no crash leaves behind; its pid
file only says by whom.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from desktopgrid.model.errors import AlreadyThere, Unavailable
from desktopgrid.server import pki
from desktopgrid.server.home import Home
from desktopgrid.server.lock import DirectoryLock

STOPPED, STARTING, SERVING, TROUBLED = "stopped", "starting", "serving", "troubled"
READY = "ready "
"""What a daemon writes to the pipe that its starter waits at, before its address."""
ANSWER_WITHIN = 5.0
UNKNOWN = 0


@dataclass(frozen=True)
class Status:
    """How the server of a grid does."""

    directory: Path
    state: str
    pid: int | None
    address: str
    reason: str
    database_bytes: int
    data_bytes: int
    certificate_ends_at: datetime

    @property
    def is_serving(self) -> bool:
        """Whether it answers, and can store things."""
        return self.state == SERVING


def pid_of(home: Home) -> int | None:
    """The process that has the grid open, UNKNOWN if it does not say, None if there is none."""
    if not DirectoryLock.is_held(home.directory):
        return None
    try:
        return int(home.pid_file.read_text())
    except (OSError, ValueError):
        return UNKNOWN


def status(home: Home) -> Status:
    """How the grid's server does now; asks it, if there is one."""
    pid = pid_of(home)
    address = home.address_file.read_text().strip() if home.address_file.exists() else ""
    if pid is None:
        state, reason, address = STOPPED, "", ""
    elif not address:
        state, reason = STARTING, ""
    else:
        state, reason = _asked(home, address)
    return Status(
        home.directory,
        state,
        pid or None,
        address,
        reason,
        sum(size_of(path) for path in home.directory.glob("grid.db*")),
        size_of(home.datas),
        pki.ends_at(home.certificate.read_bytes()),
    )


def size_of(path: Path) -> int:
    """Bytes that a file, or all files of a directory, hold."""
    if path.is_dir():
        return sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())
    return path.stat().st_size if path.exists() else 0


def _asked(home: Home, address: str) -> tuple[str, str]:
    """What the server at ``address`` says of itself, and why if it is not well."""
    try:
        answer = json.loads(_get(home, f"{address}/v1/status"))
        return SERVING if answer["status"] == SERVING else TROUBLED, ""
    except urllib.error.HTTPError as error:
        return TROUBLED, _reason(error)
    except (OSError, ValueError, KeyError) as error:
        return TROUBLED, f"{address} does not answer: {error}"


def _get(home: Home, url: str) -> bytes:
    trust = ssl.create_default_context(cafile=str(home.ca_certificate))
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust)
    )
    with opener.open(url, timeout=ANSWER_WITHIN) as answer:
        return bytes(answer.read())


def asked(home: Home, path: str) -> bytes:
    """What the grid's server answers at ``path``; raises Unavailable, with its reason if it gave
    one.
    """
    try:
        return _get(home, home.address_file.read_text().strip() + path)
    except FileNotFoundError:
        raise Unavailable("no server runs") from None
    except urllib.error.HTTPError as error:
        raise Unavailable(_reason(error)) from None
    except (OSError, ValueError) as error:
        raise Unavailable(f"it does not answer: {error}") from None


def _reason(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["reason"])
    except (ValueError, KeyError, TypeError):
        return str(error)


def start(home: Home, patience: float, opened: socket.socket | None = None) -> str:
    """Start the grid's server in the background; gives its address once it serves. ``opened`` is
    its port, if only root could open it.

    Raises AlreadyThere if one runs, Unavailable with what it said last if it did not come up.
    """
    pid = pid_of(home)
    if pid is not None:
        raise AlreadyThere(f"the grid in {home.directory} is served already, by process {pid}")
    home.address_file.unlink(missing_ok=True)
    home.log.touch(mode=0o600)
    said_before = home.log.stat().st_size
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "desktopgrid.server.cli", "--directory", str(home.directory)]
    command += ["console", "--ready-to", str(writing)]
    passed = [writing]
    if opened is not None:
        command += ["--opened", str(opened.fileno())]
        passed.append(opened.fileno())
    with home.log.open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=passed,
            start_new_session=True,
            cwd="/",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
    os.close(writing)
    try:
        said = _heard(reading, patience)
    finally:
        os.close(reading)
    if said is None:
        raise Unavailable(
            f"process {process.pid} did not serve within {patience:.0f} s; it still tries:"
            f" see {home.log}"
        )
    if not said.startswith(READY):
        process.wait()
        raise Unavailable(_last_words(home.log, said_before))
    # It lives on without us.
    process.returncode = 0
    return said.removeprefix(READY).strip()


def _heard(descriptor: int, patience: float) -> str | None:
    """A line from the pipe, or what there is until its other end is closed; None: too late."""
    deadline = time.monotonic() + patience
    said = b""
    while b"\n" not in said:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([descriptor], [], [], left)[0]:
            return None
        part = os.read(descriptor, 4096)
        if not part:
            break
        said += part
    return said.decode()


def _last_words(log: Path, start: int) -> str:
    with log.open("rb") as file:
        # A log that was full is a new one by now.
        file.seek(start if start <= os.fstat(file.fileno()).st_size else 0)
        lines = [line for line in file.read().decode(errors="replace").splitlines() if line]
    last = lines[-1].removeprefix("xwserver: ") if lines else "it said nothing"
    return f"the server did not start: {last} (see {log})"


def stop(home: Home, patience: float) -> bool:
    """Tell the grid's server to stop and wait until it has; False if there was none.

    Raises Unavailable if it still runs after ``patience`` seconds.
    """
    pid = pid_of(home)
    if pid is None:
        return False
    if pid == UNKNOWN:
        raise Unavailable(f"a process that keeps the grid in {home.directory} does not say which")
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        signal.pidfd_send_signal(process, signal.SIGTERM)
        poll = select.poll()
        poll.register(process, select.POLLIN)
        if not poll.poll(patience * 1000):
            raise Unavailable(
                f"process {pid} still runs {patience:.0f} s after it was told to stop;"
                f" nothing that it acknowledged is lost if you `kill -9 {pid}`"
            )
    except ProcessLookupError:
        pass
    except PermissionError as error:
        raise Unavailable(f"process {pid} is another user's") from error
    finally:
        os.close(process)
    return True
