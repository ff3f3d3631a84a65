"""A web server in this process, for tests: TLS with a host's certificate, clients with proxies."""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from cryptography import x509

from desktopgrid.credentials.subjects import text_of

PATIENCE_SECONDS = 60.0


class Question(NamedTuple):
    """What somebody asks."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    subject: str
    """Of the certificate shown, as text; empty if there was none."""


class Reply(NamedTuple):
    """What it gets."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = {}
    is_cut: bool = False
    """Half of the body, and then nothing."""


class FakeHttps:
    """One server, at ``port`` of localhost while it is entered."""

    def __init__(
        self, answer: Callable[[Question], Reply], certificate: Path, authorities: Path
    ) -> None:
        """``certificate`` is a file with the host's certificate and key."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        context.load_verify_locations(capath=str(authorities))
        context.verify_mode = ssl.CERT_OPTIONAL
        context.verify_flags |= ssl.VerifyFlags.VERIFY_ALLOW_PROXY_CERTS
        self._server = _Server(answer, context)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def port(self) -> int:
        """Where it is."""
        return int(self._server.server_address[1])

    @property
    def connections(self) -> int:
        """How many there were."""
        return self._server.connections

    def __enter__(self) -> FakeHttps:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, answer: Callable[[Question], Reply], context: ssl.SSLContext) -> None:
        super().__init__(("localhost", 0), _Handler)
        self.answer, self.context, self.connections = answer, context, 0

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In the connection's own thread: a client that shakes no hands holds up nobody else."""
        request.settimeout(PATIENCE_SECONDS)
        with (
            contextlib.suppress(OSError),
            self.context.wrap_socket(request, server_side=True) as secure,
        ):
            self.connections += 1
            super().finish_request(secure, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients break off; that is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self._any
        raise AttributeError(name)

    def _any(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        shown = self.connection.getpeercert(binary_form=True)
        subject = text_of(x509.load_der_x509_certificate(shown).subject) if shown else ""
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = self.server.answer(
            Question(self.command, parts.path, query, headers, body, subject)
        )
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body[: len(reply.body) // 2] if reply.is_cut else reply.body)
        self.close_connection = self.close_connection or reply.is_cut

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: tests look at the questions."""
