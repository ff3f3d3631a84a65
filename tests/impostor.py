"""A man in the middle: he ends the TLS of whoever connects, reads all, and passes it on to the
server by a connection of his own.
"""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Callable

from tests.middleman import Middleman


class Impostor(Middleman):
    """Listens at ``port`` with a key and a certificate of his own; ``heard`` is what he could read.

    ``real`` is the port of the server that he stands before.
    """

    def __init__(self, context: ssl.SSLContext, real: int) -> None:
        self._context, self._real = context, real
        super().__init__()
        self.heard = bytearray()
        self.refusals: list[str] = []
        """What those said who did not shake hands."""

    def _next(self) -> Callable[[socket.socket], None]:
        return self._serve

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
