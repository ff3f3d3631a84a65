"""The doors for who watches the grid: is it alive, can it store things, how much is done. And the
access log's line for each HTTP request, written when the answer has gone out.

Who asks at /metrics or /v1/ganglia is known by his address alone: see `watch_from`.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger

from desktopgrid.model.errors import AccessDenied, Unavailable
from desktopgrid.server.access import Line
from desktopgrid.server.config import WatchingSection
from desktopgrid.server.counting import look
from desktopgrid.server.listeners.clock import utc_now
from desktopgrid.server.listeners.ganglia import Source
from desktopgrid.server.metrics import ServerLook, exposition
from desktopgrid.server.watching import Watcher

if TYPE_CHECKING:
    from desktopgrid.server.listeners.service import Service

USER = "user"
"""Under which a door leaves in the request the login of who asked, once that is certain."""


async def health(request: web.Request) -> web.Response:
    """That the server lives. Restart it if this does not answer."""
    return web.json_response({"status": "alive"})


async def ready(request: web.Request) -> web.Response:
    """That the server can store what it is told; else 503 with the reason. Send nobody here then,
    but leave the server alone.
    """
    service: Service = request.app["service"]
    service.check_ready()
    await service.probe()
    return web.json_response({"status": "ready"})


async def metrics(request: web.Request) -> web.Response:
    """The samples of Prometheus."""
    check_watcher(request)
    text, content_type = request.app["exposition"](request.headers.get("Accept", ""))
    return web.Response(body=text, headers={"Content-Type": content_type})


async def ganglia(request: web.Request) -> web.Response:
    """The XML that a gmetad reads; `xwserver ganglia` asks for it."""
    check_watcher(request)
    source: Source = request.app["ganglia"]
    return web.Response(body=await source.document(), content_type="text/xml")


def check_watcher(request: web.Request) -> None:
    """Raises AccessDenied unless who asks may watch."""
    settings: WatchingSection = request.app["watching"]
    if not settings.may_watch(request.remote):
        raise AccessDenied(f"{request.remote} is not in watch_from of server.conf")


def open_doors(app: web.Application, service: Service, settings: WatchingSection) -> None:
    """Let those in who watch."""
    app["watching"], app["ganglia"] = settings, Source(service, settings)
    app["exposition"] = exposition(service.watcher, lambda: server_look(service))
    app.add_routes(
        [
            web.get("/v1/health", health),
            web.get("/v1/ready", ready),
            web.get("/v1/ganglia", ganglia),
            web.get("/metrics", metrics),
        ]
    )


def server_look(service: Service) -> ServerLook:
    """The server at this moment."""
    try:
        service.check_ready()
        is_ready = True
    except Unavailable:
        is_ready = False
    try:
        core = service.core
    except Unavailable:
        return ServerLook(is_ready)
    sessions: Counter[tuple[str, ...]] = Counter(
        (peer.kind, "away" if peer.send is None else "connected") for peer in core.peers.values()
    )
    journal = core.journal
    now = utc_now()
    return ServerLook(
        is_ready, look(core.grid, now), sessions, journal.backlog, journal.writing_for
    )


def access_logger(watcher: Watcher) -> type[AbstractAccessLogger]:
    """What aiohttp makes for each connection, and tells of each request: also of those that are no
    HTTP.
    """

    class AccessLogger(AbstractAccessLogger):
        def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
            # Without the query: a reverse proxy's or a browser's may hold a secret.
            watcher.has_served(
                Line(
                    utc_now(),
                    request.remote,
                    request.get(USER),
                    request.method,
                    request.rel_url.raw_path,
                    f"{request.version.major}.{request.version.minor}",
                    response.status,
                    size_of(request, response),
                )
            )

    return AccessLogger


def size_of(request: web.BaseRequest, response: web.StreamResponse) -> int | None:
    """Bytes of the answer without its headers, as the Common Log Format has them. None where nobody
    knew beforehand, or nothing is sent.
    """
    if request.method == "HEAD" or response.status in (101, 204, 304):
        return None
    return response.content_length
