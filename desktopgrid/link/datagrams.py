"""A worker's side of the datagrams: says that it lives also while the connection is down, and is
woken where it polls. What is lost costs nothing: all of it is said by the connection, too.
"""

from __future__ import annotations

import itertools
import socket
import threading
import time
from contextlib import suppress
from typing import Callable

from desktopgrid.wire.datagram import ALIVE, SIZE, WAKE, Key, opened, sealed


class Datagrams:
    """The datagrams of one session with one server; ``wake`` is called when it sends one."""

    def __init__(self, host: str, port: int, key: Key, wake: Callable[[], None]) -> None:
        self._key, self._wake = key, wake
        # Rises also over a restart of this process in the same session.
        self._numbers = itertools.count(time.time_ns())
        self._newest = 0
        self._is_closed = False
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        self._socket = socket.socket(family, kind)
        self._socket.connect(address)  # so only what comes from there is heard
        self._thread = threading.Thread(target=self._listen, name="datagrams", daemon=True)
        self._thread.start()

    def alive(self) -> None:
        """Say that we live."""
        with suppress(OSError):  # it may get through next time
            self._socket.send(sealed(self._key, ALIVE, next(self._numbers)))

    def close(self) -> None:
        """Say and hear nothing any more."""
        self._is_closed = True
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _listen(self) -> None:
        while not self._is_closed:
            try:
                datagram = self._socket.recv(SIZE + 1)
            except ConnectionRefusedError:  # nobody listens there now
                time.sleep(1.0)
                continue
            except OSError:
                return
            number = opened(self._key, WAKE, self._newest, datagram)
            if number is not None:
                self._newest = number
                self._wake()
