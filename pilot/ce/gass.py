"""Giving files to a site's job manager: GASS is HTTPS in which both sides show a proxy.

`globusrun -s` would give out any file of ours that is asked for. This gives what was offered, under
names that nobody can guess, to ourselves only (a job manager has our delegated proxy), and not
before it was released.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import socket
import ssl
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from cryptography import x509

from desktopgrid.credentials.subjects import text_of

logger = logging.getLogger(__name__)

HANDSHAKE_SECONDS = 30.0
RELEASE_SECONDS = 300.0
"""How long somebody may wait for a file that is held back."""
NAME = "parcel"


class Gass:
    """A server while it is entered."""

    def __init__(
        self, context: ssl.SSLContext, subject: str, host: str, ports: range | None = None
    ) -> None:
        """``subject`` is who may fetch; ``host`` what sites know this machine by; ``ports`` those
        that a firewall lets through.
        """
        self._server = _Server(context, subject, ports)
        self._host = host
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,))

    def __enter__(self) -> Gass:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.offers = {}
        self._server.released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def offer(self, stamp: str, content: bytes) -> str:
        """The address of ``content``, once it is released; the stamp is a part of it."""
        path = f"/{secrets.token_urlsafe(32)}/{stamp}/{NAME}"
        self._server.offers = {**self._server.offers, path: content}
        return f"https://{self._host}:{self._server.server_address[1]}{path}"

    def release(self) -> None:
        """Let all that was offered be fetched from now on."""
        self._server.released.set()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, context: ssl.SSLContext, subject: str, ports: range | None) -> None:
        self.context, self.subject = context, subject
        self.offers: Mapping[str, bytes] = {}
        self.released = threading.Event()
        for port in ports or (0,):
            with contextlib.suppress(OSError):
                super().__init__(("", port), _Handler)
                return
        raise OSError(f"none of the ports {ports} is free")

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In the connection's own thread."""
        request.settimeout(HANDSHAKE_SECONDS)
        try:
            with self.context.wrap_socket(request, server_side=True) as secure:
                super().finish_request(secure, client_address)
        except OSError as error:
            logger.info("Nothing was given to %s: %s", client_address[0], error)

    def shutdown_request(self, request: Any) -> None:
        """TLS has ended, or never began."""
        with contextlib.suppress(OSError):
            request.shutdown(socket.SHUT_RDWR)
        self.close_request(request)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    connection: ssl.SSLSocket

    def do_GET(self) -> None:
        """Give one of the offers."""
        self.close_connection = True
        shown = x509.load_der_x509_certificate(self.connection.getpeercert(binary_form=True) or b"")
        # OpenSSL has seen that a proxy's name is that of what it was made from, and more.
        if not f",{text_of(shown.subject)}".endswith(f",{self.server.subject}"):
            self.send_error(403)
            return
        self.server.released.wait(RELEASE_SECONDS)
        content = self.server.offers.get(self.path)
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Not on standard error."""
        logger.debug(format, *args)
