"""What may stand between a link and its server: it cuts, freezes, or is an HTTP proxy."""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from tests.middleman import Middleman


class Relay(Middleman):
    """Passes TCP connections on to a port or to a socket, and breaks them on command. With
    ``is_proxy`` it is an HTTP proxy that knows CONNECT.

    ``cuts`` gives for each new connection the number of bytes (both ways) after which it is cut,
    None for never. What passes, both ways, is in ``passed`` if it ``records``.
    """

    def __init__(
        self,
        target: int | Path,
        cuts: Iterator[int | None] | None = None,
        is_proxy: bool = False,
        status: str = "200 OK",
        records: bool = False,
    ) -> None:
        self._target, self._cuts, self._is_proxy, self._status = target, cuts, is_proxy, status
        super().__init__()
        self.is_frozen = False
        self._records = records
        self.passed = bytearray()
        self.requests: list[str] = []

    def _next(self) -> Callable[[socket.socket], None]:
        limit = next(self._cuts, None) if self._cuts is not None else None
        return partial(self._serve, limit=limit)

    def _serve(self, client: socket.socket, limit: int | None) -> None:
        with client:
            target = self._target
            if self._is_proxy:
                head = client.recv(4096).decode()
                self.requests.append(head)
                client.sendall(f"HTTP/1.1 {self._status}\r\n\r\n".encode())
                if not self._status.startswith("2"):
                    return
                target = int(head.split()[1].rpartition(":")[2])
            gone = contextlib.suppress(ConnectionError, FileNotFoundError)
            with gone, self._connected(target) as server:
                self._pass(client, server, limit)

    @staticmethod
    def _connected(target: int | Path) -> socket.socket:
        if isinstance(target, int):
            return socket.create_connection(("127.0.0.1", target))
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(str(target))
        except OSError:
            server.close()
            raise
        return server

    def freeze(self) -> None:
        """Pass nothing on from now on; who speaks is not told so."""
        self.is_frozen = True

    def thaw(self) -> None:
        """Pass on again what waits, and what comes."""
        self.is_frozen = False

    def _pass(self, client: socket.socket, server: socket.socket, limit: int | None) -> None:
        left = float("inf") if limit is None else limit
        while True:
            ready, _, _ = select.select([client, server, self._stopped], [], [])
            if self._stopped in ready:
                return
            if self.is_frozen:
                select.select([self._stopped], [], [], 0.05)
                continue
            for source, target in ((client, server), (server, client)):
                if source not in ready:
                    continue
                try:
                    data = source.recv(int(min(65536, left)))
                    if data and self._records:
                        self.passed += data
                    if data:
                        target.sendall(data)
                except OSError:
                    return
                left -= len(data)
                if not data or left <= 0:
                    return
