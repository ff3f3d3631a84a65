"""An SSH server in this process, for one account: it runs commands and serves files of a directory,
and misbehaves on demand.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
from pathlib import Path

import paramiko
from paramiko.common import AUTH_FAILED, AUTH_SUCCESSFUL, OPEN_SUCCEEDED


class SshServer:
    """Serves until it is closed; ``directory`` is the account's home."""

    def __init__(self, directory: Path, user_key: paramiko.PKey) -> None:
        self.home, self.user_key = directory, user_key
        self.host_key: paramiko.PKey = paramiko.ECDSAKey.generate()
        self.is_locked = False
        """Nobody is let in."""
        self.breaks_after: int | None = None
        """Bytes of a command's answer after which the connection is cut."""
        self.lets_wait = threading.Event()
        """Clear it, and no command is answered until it is set again."""
        self.lets_wait.set()
        self.has_room = True
        """Whether a file can be written."""
        self.connections = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._transports: list[paramiko.Transport] = []
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def known_hosts_line(self) -> str:
        """The line that makes it known."""
        key = self.host_key
        return f"[127.0.0.1]:{self.port} {key.get_name()} {key.get_base64()}\n"

    def hang_up(self) -> None:
        """Cut all connections; new ones are taken."""
        for transport in self._transports:
            transport.close()
        self._transports.clear()

    def close(self) -> None:
        """End."""
        self.lets_wait.set()
        self._socket.close()
        self.hang_up()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            transport = paramiko.Transport(peer)
            transport.add_server_key(self.host_key)
            transport.set_subsystem_handler("sftp", paramiko.SFTPServer, Files, self)
            self._transports.append(transport)
            with contextlib.suppress(paramiko.SSHException, EOFError):
                transport.start_server(server=Account(self))


class Account(paramiko.ServerInterface):
    """Who is let in, and what he may do."""

    def __init__(self, server: SshServer) -> None:
        self._server = server

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        is_his = username == "pilots" and key == self._server.user_key
        return AUTH_SUCCESSFUL if is_his and not self._server.is_locked else AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        threading.Thread(target=self._run, args=(channel, command), daemon=True).start()
        return True

    def _run(self, channel: paramiko.Channel, command: bytes) -> None:
        server = self._server
        with contextlib.suppress(OSError, EOFError):
            script = b""
            while chunk := channel.recv(1 << 16):
                script += chunk
            server.lets_wait.wait()
            done = subprocess.run(
                ["/bin/sh", "-c", os.fsdecode(command)],
                input=script,
                capture_output=True,
                cwd=server.home,
                check=False,
            )
            if server.breaks_after is not None:
                channel.sendall(done.stdout[: server.breaks_after])
                server.hang_up()
                return
            channel.sendall_stderr(done.stderr)
            channel.sendall(done.stdout)
            channel.send_exit_status(done.returncode)
            channel.close()


class Files(paramiko.SFTPServerInterface):
    """The account's files."""

    def __init__(self, account: Account, server: SshServer) -> None:
        super().__init__(account)
        self._server = server

    def _place(self, path: str) -> Path:
        return self._server.home / path.lstrip("/")

    def lstat(self, path: str) -> paramiko.SFTPAttributes | int:
        try:
            return paramiko.SFTPAttributes.from_stat(self._place(path).lstat())
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno or 0)

    def mkdir(self, path: str, attr: paramiko.SFTPAttributes) -> int:
        try:
            self._place(path).mkdir()
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno or 0)
        return paramiko.SFTP_OK

    def chattr(self, path: str, attr: paramiko.SFTPAttributes) -> int:
        if attr.st_mode is not None:
            self._place(path).chmod(attr.st_mode & 0o777)
        return paramiko.SFTP_OK

    def open(
        self, path: str, flags: int, attr: paramiko.SFTPAttributes
    ) -> paramiko.SFTPHandle | int:
        try:
            descriptor = os.open(self._place(path), flags, 0o644)
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno or 0)
        return File(descriptor, flags, self._server)


class File(paramiko.SFTPHandle):
    """An open file."""

    def __init__(self, descriptor: int, flags: int, server: SshServer) -> None:
        super().__init__(flags)
        self._server = server
        mode = "wb" if flags & os.O_WRONLY else "rb"
        self.readfile = self.writefile = os.fdopen(descriptor, mode)

    def stat(self) -> paramiko.SFTPAttributes:
        return paramiko.SFTPAttributes.from_stat(os.fstat(self.readfile.fileno()))

    def chattr(self, attr: paramiko.SFTPAttributes) -> int:
        os.fchmod(self.readfile.fileno(), (attr.st_mode or 0) & 0o777)
        return paramiko.SFTP_OK

    def write(self, offset: int, data: bytes) -> int:
        if not self._server.has_room:
            return paramiko.SFTP_FAILURE
        return int(super().write(offset, data))
