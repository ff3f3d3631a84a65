"""The Ganglia source within the server: who connects to the port gets the XML, and that was all."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from desktopgrid.model.errors import Unavailable
from desktopgrid.server import ganglia
from desktopgrid.server.config import WatchingSection
from desktopgrid.server.counting import look
from desktopgrid.server.listeners.clock import utc_now

if TYPE_CHECKING:
    from desktopgrid.server.listeners.service import Service

logger = logging.getLogger(__name__)

PATIENCE = 30.0
"""Seconds that a reader has for all of it."""


class Source:
    """Answers a gmetad with the grid of ``service``."""

    def __init__(self, service: Service, settings: WatchingSection) -> None:
        self._service, self._settings = service, settings
        self._started_at = utc_now()
        self._server: asyncio.Server | None = None

    async def document(self) -> bytes:
        """The XML of this moment. It is made in a thread: for 10,000 hosts that takes a while."""
        service, now = self._service, utc_now()
        try:
            seen = look(service.core.grid, now)
        except Unavailable:
            seen = None
        return await service.in_thread(
            service.files,
            ganglia.document,
            service.name,
            seen,
            service.policy.alive_period,
            self._started_at,
            now,
        )

    async def open(self) -> None:
        """Listen where the administrator said; raises Unavailable."""
        address, port = self._settings.ganglia_address, self._settings.ganglia_port
        try:
            self._server = await asyncio.start_server(
                self._answer, address, port, reuse_address=True
            )
        except OSError as error:
            raise Unavailable(
                f"cannot listen at {address} port {port}: {error.strerror or error};"
                " set ganglia_port in server.conf"
            ) from error
        logger.info("Ganglia's gmetad finds the grid at %s port %d", address, port)

    def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            peer = writer.get_extra_info("peername")
            if self._settings.may_watch(peer[0] if peer else None):
                writer.write(await self.document())
                async with asyncio.timeout(PATIENCE):
                    await writer.drain()
        except (OSError, TimeoutError, Unavailable) as error:
            logger.debug("A gmetad did not get all: %s", error)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
