"""The Ganglia source as a service of its own (manual, 6): it asks the grid's server each time that
a gmetad connects, and tells of an empty cluster while the server cannot be asked.
"""

from __future__ import annotations

import logging
import signal
import socket
import socketserver
from collections.abc import Callable
from datetime import UTC, datetime
from types import FrameType
from typing import Any

from desktopgrid.model.errors import GridError, Unavailable
from desktopgrid.server import daemon
from desktopgrid.server.ganglia import document
from desktopgrid.server.home import Home

logger = logging.getLogger(__name__)

PATIENCE = 30.0


class Source(socketserver.ThreadingTCPServer):
    """Listens for gmetads."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, home: Home, address: str, port: int) -> None:
        self.home, self.started_at = home, datetime.now(UTC)
        if ":" in address:
            self.address_family = socket.AF_INET6
        super().__init__((address, port), Answer)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether who comes from there may watch."""
        return self.home.config.watching.may_watch(client_address[0])

    def document(self) -> bytes:
        """What the server says now."""
        try:
            return daemon.asked(self.home, "/v1/ganglia")
        except GridError as error:
            logger.warning("The grid's server cannot be asked: %s", error)
            now = datetime.now(UTC)
            return document("", None, 1.0, self.started_at, now)


class Answer(socketserver.BaseRequestHandler):
    """One gmetad's connection."""

    timeout = PATIENCE
    server: Source

    def handle(self) -> None:
        """Say everything."""
        self.request.settimeout(PATIENCE)
        try:
            self.request.sendall(self.server.document())
        except OSError as error:
            logger.info("A gmetad did not get all: %s", error)


def serve(home: Home, address: str, port: int, on_ready: Callable[[int], None]) -> None:
    """Answer gmetads until SIGTERM or SIGINT; ``on_ready`` is called with the port once it is open.

    Raises Unavailable if the port is taken.
    """
    try:
        source = Source(home, address, port)
    except OSError as error:
        raise Unavailable(
            f"cannot listen at {address} port {port}: {error.strerror or error}"
        ) from error
    with source:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _interrupt)
        on_ready(source.server_address[1])
        try:
            source.serve_forever()
        except KeyboardInterrupt:
            logger.info("Stopped")


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
