"""Names of servers, ``https://host:port`` or ``tcp+tls://host:port``, and a TCP connection to one
of them.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from desktopgrid.link.errors import ConnectionLost, in_words
from desktopgrid.link.proxy import Intermediary, ask_for_tunnel
from desktopgrid.model.errors import BadRequest

HTTPS, FRAMED = "https", "tcp+tls"
DEFAULT_PORTS = {HTTPS: 443, FRAMED: 4321}
"""The schemes of servers' names, and the port of each."""


@dataclass(frozen=True)
class ServerName:
    """Where a server listens, and how one speaks there: HTTPS with WebSockets, or frames over TLS
    alone. Its certificate must name ``host``.
    """

    host: str
    port: int
    scheme: str = HTTPS

    @classmethod
    def parse(cls, text: str) -> ServerName:
        """The server that ``text`` names; raises BadRequest where it is no server's name."""
        try:
            parts = urlsplit(text)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise BadRequest(f"{text!r} is no server name: {error}") from None
        rest = parts.path.rstrip("/") or parts.query or parts.fragment or parts.username
        if parts.scheme not in DEFAULT_PORTS or not host or rest:
            known = " or ".join(f"{scheme}://host:port" for scheme in DEFAULT_PORTS)
            raise BadRequest(f"a server's name is {known}, not {text!r}")
        return cls(host, DEFAULT_PORTS[parts.scheme] if port is None else port, parts.scheme)

    @property
    def authority(self) -> str:
        """``host:port`` as a Host header has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


def connect(
    server: ServerName, timeout: float, intermediary: Intermediary | None = None
) -> socket.socket:
    """A TCP connection to ``server``, through ``intermediary`` if there is one; raises
    ConnectionLost.
    """
    host, port = (server.host, server.port) if intermediary is None else intermediary.address
    try:
        connection = socket.create_connection((host, port), timeout)
    except OSError as error:
        raise ConnectionLost(f"cannot connect to {host}:{port}: {in_words(error)}") from error
    try:
        # Messages are small and each is wanted at once: never wait to fill a segment.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if intermediary is not None:
            ask_for_tunnel(connection, intermediary, server.authority)
    except BaseException:
        connection.close()
        raise
    return connection
