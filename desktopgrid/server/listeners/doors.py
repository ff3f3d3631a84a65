"""The doors beside the worker/API port, each on a port of its own and shut unless the administrator
opens it: a line of :data:`DOORS` each.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from typing import Protocol

from aiohttp import web

from desktopgrid.model.errors import Unavailable
from desktopgrid.server.config import DoorsSection
from desktopgrid.server.listeners import xmlrpc
from desktopgrid.server.listeners.datagrams import DatagramDoor
from desktopgrid.server.listeners.framed import FramedDoor
from desktopgrid.server.listeners.service import Service
from desktopgrid.server.listeners.watching import access_logger

logger = logging.getLogger(__name__)

LAST_PATIENCE = 1.0
"""Seconds that a connection gets to close, once all that was in flight has come to its end."""


class Door(Protocol):
    """A port that is open."""

    async def shut(self) -> None:
        """Let nobody in any more; who is in stays."""

    async def close(self) -> None:
        """End what is left."""


Open = Callable[[Service, str, int, ssl.SSLContext], Awaitable[Door]]


class WebDoor:
    """A port with an application of its own."""

    def __init__(self, runner: web.AppRunner, site: web.TCPSite) -> None:
        self._runner, self._site = runner, site

    async def shut(self) -> None:
        """Let nobody in any more."""
        await self._site.stop()

    async def close(self) -> None:
        """End what is left."""
        await self._runner.cleanup()


async def _open_xmlrpc(
    service: Service, address: str, port: int, context: ssl.SSLContext
) -> WebDoor:
    runner = runner_of(service, xmlrpc.application(service))
    await runner.setup()
    site = web.TCPSite(runner, address, port, ssl_context=context, reuse_address=True)
    await site.start()
    return WebDoor(runner, site)


def runner_of(service: Service, app: web.Application) -> web.AppRunner:
    """What serves ``app``."""
    return web.AppRunner(
        app,
        access_log=logger,
        access_log_class=access_logger(service.watcher),
        handle_signals=False,
        auto_decompress=False,
        shutdown_timeout=LAST_PATIENCE,
    )


async def _open_framed(
    service: Service, address: str, port: int, context: ssl.SSLContext
) -> FramedDoor:
    door = FramedDoor(service)
    await door.open(address, port, context)
    return door


async def _open_datagrams(
    service: Service, address: str, port: int, context: ssl.SSLContext
) -> DatagramDoor:
    loop = asyncio.get_running_loop()
    _, door = await loop.create_datagram_endpoint(
        lambda: DatagramDoor(service, port), local_addr=(address, port)
    )
    service.datagrams = door
    return door


DOORS: dict[str, tuple[str, Open]] = {
    "udp_port": ("datagrams", _open_datagrams),
    "tcp_port": ("framed JSON", _open_framed),
    "xmlrpc_port": ("XML-RPC", _open_xmlrpc),
}
"""What each key of ``[doors]`` opens."""


async def open_doors(
    service: Service, address: str, settings: DoorsSection, context: ssl.SSLContext
) -> list[Door]:
    """The doors that ``settings`` want open; raises Unavailable where a port is taken."""
    doors: list[Door] = []
    for key, (name, opened) in DOORS.items():
        port = getattr(settings, key)
        if not port:
            continue
        try:
            doors.append(await opened(service, address, port, context))
        except OSError as error:
            for door in doors:
                await door.close()
            raise Unavailable(
                f"cannot listen at {address} port {port} for {name}: {error.strerror or error};"
                f" set [doors] {key}"
            ) from error
        logger.info("The door for %s is open at port %d", name, port)
    return doors
