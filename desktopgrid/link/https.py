"""Plain HTTPS requests to a server, each answered before the next: for transfers, login and the
long poll.
"""

from __future__ import annotations

import http.client
import ssl

from desktopgrid.link.address import ServerName, connect
from desktopgrid.link.errors import ConnectionLost, ForeignServer, explanation_in, in_words
from desktopgrid.link.proxy import Intermediary
from desktopgrid.link.tls import pinned

MAX_REASON = 64 << 10
"""Bytes to read of an answer that says why not."""

BROKEN = (OSError, http.client.HTTPException, ssl.SSLError, ConnectionLost)
"""What it looks like when a connection breaks under http.client."""


class HTTPS(http.client.HTTPSConnection):
    """A kept-alive connection to ``server``, whose certificate our CA must have signed, perhaps
    through ``via``.
    """

    def __init__(
        self, server: ServerName, ca: str, via: Intermediary | None, timeout: float
    ) -> None:
        self._server, self._via, self._patience = server, via, timeout
        self._pinned = pinned(ca)
        super().__init__(server.host, server.port, timeout=timeout, context=self._pinned)

    def connect(self) -> None:
        """Connect; raises ConnectionLost, a ForeignServer where our CA did not certify it."""
        plain = connect(self._server, self._patience, self._via)
        try:
            self.sock = self._pinned.wrap_socket(plain, server_hostname=self._server.host)
        except ssl.SSLCertVerificationError as error:
            plain.close()
            raise ForeignServer(
                f"the server showed no certificate of this grid: {error.verify_message}"
            ) from error
        except OSError as error:
            plain.close()
            raise ConnectionLost(f"TLS failed: {in_words(error)}") from error


def explanation(response: http.client.HTTPResponse) -> tuple[str, str]:
    """The ``code`` and ``reason`` in the body of a response that says no; reads it to its end."""
    body = response.read(MAX_REASON)
    if len(body) == MAX_REASON:
        response.close()
    code, reason = explanation_in(body)
    return code, reason or f"{response.status} {response.reason}"
