"""A man in the middle: he ends the TLS of whoever connects, reads all, and passes it on to the
server by a connection of his own.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading


class Impostor:
    """Listens at ``port`` with a key and a certificate of his own; ``heard`` is what he could read.

    ``real`` is the port of the server that he stands before.
    """

    def __init__(self, context: ssl.SSLContext, real: int) -> None:
        self._context, self._real = context, real
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.heard = bytearray()
        self.connections = 0
        self.refusals: list[str] = []
        """What those said who did not shake hands."""
        self._threads: list[threading.Thread] = []
        self._stop, self._stopped = socket.socketpair()
        self._thread = threading.Thread(target=self._accept, name="impostor")

    def __enter__(self) -> Impostor:
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
        """Where he waits."""
        return f"https://127.0.0.1:{self.port}"

    def _accept(self) -> None:
        while True:
            ready, _, _ = select.select([self._listener, self._stopped], [], [])
            if self._stopped in ready:
                return
            client, _ = self._listener.accept()
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(client,), name="betrayed")
            self._threads.append(thread)
            thread.start()

    def _serve(self, plain: socket.socket) -> None:
        plain.settimeout(10)
        try:
            client = self._context.wrap_socket(plain, server_side=True)
        except OSError as error:
            self.refusals.append(str(error))
            plain.close()
            return
        trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusting.check_hostname = False
        trusting.verify_mode = ssl.CERT_NONE
        connection = socket.create_connection(("127.0.0.1", self._real))
        with client, trusting.wrap_socket(connection) as server:
            self._pass(client, server)

    def _pass(self, client: ssl.SSLSocket, server: ssl.SSLSocket) -> None:
        while True:
            ready, _, _ = select.select([client, server, self._stopped], [], [])
            if self._stopped in ready:
                return
            for source, target in ((client, server), (server, client)):
                if source not in ready:
                    continue
                try:
                    data = source.recv(1 << 20)
                    while source.pending():
                        data += source.recv(1 << 20)
                    if source is client:
                        self.heard += data
                    target.sendall(data)
                except OSError as error:
                    self.refusals.append(str(error))
                    return
                if not data:
                    return
