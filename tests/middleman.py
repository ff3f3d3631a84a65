"""Who listens where others think that the server does, and serves each connection in a thread."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable
from typing import Self


class Middleman:
    """Listens at ``port`` while it is entered; what it does with a connection is its kind's."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self._threads: list[threading.Thread] = []
        self._stop, self._stopped = socket.socketpair()
        self._thread = threading.Thread(target=self._accept, name="middleman")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.close()
        self._thread.join(5)
        for thread in self._threads:
            thread.join(5)
        self._listener.close()
        self._stopped.close()

    @property
    def url(self) -> str:
        """Where it waits."""
        return f"https://127.0.0.1:{self.port}"

    def _accept(self) -> None:
        while True:
            ready, _, _ = select.select([self._listener, self._stopped], [], [])
            if self._stopped in ready:
                return
            client, _ = self._listener.accept()
            self.connections += 1
            thread = threading.Thread(target=self._next(), args=(client,), name="betrayed")
            self._threads.append(thread)
            thread.start()

    def _next(self) -> Callable[[socket.socket], None]:
        """What serves the connection that was accepted last."""
        raise NotImplementedError
