"""A shell on another machine, over SSH: the only module that speaks it.

The machine shows its host key first. One that is not in the file of known hosts, or is another one
than stands there, ends the connection before anything of ours was said; there is no "first time".
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import logging
import socket
import stat
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

import paramiko

from desktopgrid.model.sites import Login
from pilot.ce.shell import (
    MOST_BYTES,
    Answer,
    CannotWrite,
    ShellUnavailable,
    Upload,
    no_answer,
    too_long,
)

logger = logging.getLogger(__name__)

KNOWN_HOSTS = (Path("~/.ssh/known_hosts"), Path("/etc/ssh/ssh_known_hosts"))
KEEPALIVE = 15
"""Seconds."""
_CHUNK = 1 << 15
_A_MOMENT = 0.05

# It logs each failure with a traceback before it raises; what it raises is told in our words.
logging.getLogger("paramiko").setLevel(logging.CRITICAL)


class SshShell:
    """An account on another machine; the connection is kept, and made again when it broke."""

    def __init__(
        self,
        login: Login,
        key: Path | None = None,
        known_hosts: Path | None = None,
        patience: timedelta = timedelta(seconds=30),
    ) -> None:
        """Without ``key`` those of who runs this, by agent and file, are tried; without
        ``known_hosts`` his own and the system's count. ``patience``: for connecting and for files.
        """
        self._login, self._key, self._patience = login, key, patience
        self._known_hosts = known_hosts
        self._turn = threading.RLock()
        self._client: paramiko.SSHClient | None = None
        self._files: paramiko.SFTPClient | None = None

    def __repr__(self) -> str:
        return f"<SshShell {self._login}>"

    def run(self, script: str, patience: timedelta) -> Answer:
        """In a channel of its own on the connection that there is."""
        with self._asked(patience):
            channel = self._transport().open_session(timeout=self._patience.total_seconds())
            try:
                return _run(channel, script, patience)
            finally:
                channel.close()

    def put(self, directories: Sequence[str], files: Sequence[Upload]) -> None:
        """By SFTP; a mode is set before the content comes."""
        with self._asked(self._patience):
            sftp = self._sftp()
            path = ""
            try:
                for directory in directories:
                    path = directory
                    sftp.mkdir(directory, 0o700)
                    sftp.chmod(directory, 0o700)
                for file in files:
                    path = file.path
                    with sftp.open(file.path, "wx") as target:
                        target.chmod(file.mode)
                        size = 0
                        # Not pipelined: paramiko keeps to itself what goes wrong then.
                        for chunk in _chunks(file):
                            target.write(chunk)
                            size += len(chunk)
                        target.flush()
                        if target.stat().st_size != size:
                            raise CannotWrite(f"{path} has not become as long as it was to")
            except TimeoutError:
                raise
            except OSError as error:
                if not self._is_connected:
                    raise
                reason = error.strerror or str(error) or "it says no more"
                raise CannotWrite(f"{path} cannot be made there: {reason}") from error

    def read(self, path: str, last: int | None = None) -> Iterator[bytes] | None:
        """By SFTP."""
        with self._asked(self._patience):
            sftp = self._sftp()
            try:
                # Of a pipe, not even the opening would end.
                found = sftp.lstat(path)
                if found.st_mode is None or not stat.S_ISREG(found.st_mode):
                    return None
                file = sftp.open(path, "rb")
            except (FileNotFoundError, PermissionError):
                return None
        start = 0 if last is None else max((found.st_size or 0) - last, 0)
        return self._content(file, start)

    def _content(self, file: paramiko.SFTPFile, start: int) -> Iterator[bytes]:
        with self._asked(self._patience), file:
            file.seek(start)
            while chunk := file.read(_CHUNK):
                yield chunk

    def close(self) -> None:
        """Close the connection; the next question makes another one."""
        with self._turn:
            client, self._client, self._files = self._client, None, None
            if client is not None:
                client.close()

    def describe(self) -> str:
        """That it lets us in, and which key it showed, as was expected."""
        with self._asked(self._patience):
            shown = fingerprint(self._transport().get_remote_server_key())
            return f"{self._login} lets us in; its host key is the known one, {shown}"

    @contextmanager
    def _asked(self, patience: timedelta) -> Iterator[None]:
        """One question at a time; whatever breaks ends the connection, and is ShellUnavailable."""
        with self._turn:
            try:
                yield
            except CannotWrite:
                raise
            except TimeoutError as failure:
                self.close()
                raise ShellUnavailable(no_answer(patience)) from failure
            except ShellUnavailable:
                self.close()
                raise
            except (OSError, EOFError, paramiko.SSHException) as failure:
                self.close()
                said = failure.strerror if isinstance(failure, OSError) else None
                reason = said or str(failure) or "it closed the connection"
                raise ShellUnavailable(f"SSH to {self._login} broke: {reason}") from failure

    @property
    def _is_connected(self) -> bool:
        transport = self._client.get_transport() if self._client is not None else None
        return transport is not None and transport.is_active()

    def _transport(self) -> paramiko.Transport:
        if self._client is not None and self._is_connected:
            return self._client.get_transport()
        self.close()
        self._client = self._connect()
        transport = self._client.get_transport()
        if transport is None:
            raise ShellUnavailable(f"{self._login} closed the connection")
        transport.set_keepalive(KEEPALIVE)
        logger.debug("Connected to %s", self._login)
        return transport

    def _sftp(self) -> paramiko.SFTPClient:
        transport = self._transport()
        if self._files is None:
            self._files = paramiko.SFTPClient.from_transport(transport)
            if self._files is None:
                raise ShellUnavailable(f"{self._login} offers no SFTP")
            channel = self._files.get_channel()
            if channel is not None:
                channel.settimeout(self._patience.total_seconds())
        return self._files

    def _connect(self) -> paramiko.SSHClient:
        places = [self._known_hosts] if self._known_hosts else [p.expanduser() for p in KNOWN_HOSTS]
        client = paramiko.SSHClient()
        for place in places:
            _load(client, place, self._known_hosts is not None)
        client.set_missing_host_key_policy(_Refuse(self._login, places[0]))
        seconds = self._patience.total_seconds()
        try:
            client.connect(
                self._login.host,
                self._login.port,
                self._login.user,
                pkey=_private(self._key) if self._key else None,
                look_for_keys=self._key is None,
                allow_agent=self._key is None,
                timeout=seconds,
                banner_timeout=seconds,
                auth_timeout=seconds,
            )
        except paramiko.BadHostKeyException as error:
            client.close()
            raise ShellUnavailable(
                f"{self._login} shows another host key, {fingerprint(error.key)}, than"
                f" {fingerprint(error.expected_key)}, which stands in"
                f" {' or '.join(map(str, places))}: ask its administrators before you change that"
            ) from error
        except paramiko.AuthenticationException as error:
            client.close()
            key = f" with {self._key}" if self._key else ""
            raise ShellUnavailable(
                f"{self._login} does not let us in{key}: {error}; our public key must be in the"
                " account's ~/.ssh/authorized_keys there, and the account must not be locked"
            ) from error
        except BaseException:
            client.close()
            raise
        return client


class _Refuse:
    """Nobody is trusted on first sight; what was seen is told, with what to put where."""

    def __init__(self, login: Login, place: Path) -> None:
        self._login, self._place = login, place

    def missing_host_key(
        self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey
    ) -> NoReturn:
        raise ShellUnavailable(
            f"the host key of {self._login} is not known: it shows {fingerprint(key)};"
            f" if its administrators say the same, put into {self._place} the line"
            f" `{hostname} {key.get_name()} {key.get_base64()}`"
        )


def fingerprint(key: paramiko.PKey) -> str:
    """A key as `ssh-keygen -l` names it."""
    digest = base64.b64encode(hashlib.sha256(key.asbytes()).digest()).decode().rstrip("=")
    return f"{key.get_name()} SHA256:{digest}"


def _load(client: paramiko.SSHClient, place: Path, is_required: bool) -> None:
    try:
        client.load_system_host_keys(str(place))
    except FileNotFoundError:
        if is_required:
            raise ShellUnavailable(f"there is no file {place} of known hosts") from None
    except OSError as error:
        raise ShellUnavailable(f"{place} cannot be read: {error.strerror}") from error


def _private(path: Path) -> paramiko.PKey:
    try:
        mode = path.stat().st_mode
        if mode & 0o077:
            raise ShellUnavailable(
                f"others can read the key {path} (mode {stat.S_IMODE(mode):o}): chmod 600 it"
            )
        # Given its name only, paramiko tries it as each kind of key, and tells of the last one.
        return paramiko.PKey.from_path(path)
    except OSError as error:
        raise ShellUnavailable(f"the key {path} cannot be read: {error.strerror}") from error
    except (paramiko.PasswordRequiredException, TypeError) as error:
        raise ShellUnavailable(
            f"the key {path} needs a passphrase, and nobody is there to type it: give the site a"
            " key without one"
        ) from error
    except (paramiko.SSHException, paramiko.UnknownKeyType, ValueError) as error:
        raise ShellUnavailable(f"{path} is no private key: {error}") from error


def _run(channel: paramiko.Channel, script: str, patience: timedelta) -> Answer:
    """Feed the script, take what is said, within one deadline for all of it."""
    deadline = time.monotonic() + patience.total_seconds()
    channel.settimeout(patience.total_seconds())
    channel.exec_command("/bin/sh -s")
    channel.settimeout(_A_MOMENT)
    unsaid: memoryview | None = memoryview(script.encode())
    output, errors = bytearray(), bytearray()
    has_ended = False
    while not (has_ended and channel.exit_status_ready() and not channel.recv_stderr_ready()):
        if time.monotonic() > deadline:
            raise TimeoutError
        if unsaid is not None:
            unsaid = _say(channel, unsaid)
        if channel.recv_stderr_ready():
            errors += channel.recv_stderr(_CHUNK)
        elif has_ended:
            channel.status_event.wait(_A_MOMENT)
        else:
            with contextlib.suppress(socket.timeout):
                chunk = channel.recv(_CHUNK)
                output += chunk
                has_ended = not chunk
        if len(output) + len(errors) > MOST_BYTES:
            raise ShellUnavailable(too_long())
    code = channel.recv_exit_status()
    if code < 0:
        raise ShellUnavailable("it broke off in the middle of its answer")
    return Answer(code, output.decode(errors="replace"), errors.decode(errors="replace"))


def _say(channel: paramiko.Channel, unsaid: memoryview) -> memoryview | None:
    """Say what the other side takes now; the rest, None if there is none."""
    try:
        while unsaid and channel.send_ready():
            unsaid = unsaid[channel.send(bytes(unsaid[:_CHUNK])) :]
        if unsaid:
            return unsaid
        channel.shutdown_write()
    except OSError:
        # It does not listen any more; what it says, and how it ended, tells why.
        return None
    return None


def _chunks(file: Upload) -> Iterator[bytes]:
    if isinstance(file.content, bytes):
        yield file.content
        return
    with file.content.open("rb") as source:
        while chunk := source.read(_CHUNK):
            yield chunk
