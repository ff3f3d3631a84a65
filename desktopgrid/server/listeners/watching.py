"""The access log's line for each HTTP request, written when the answer has gone out."""

from __future__ import annotations

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger

from desktopgrid.server.access import Line
from desktopgrid.server.listeners.clock import utc_now
from desktopgrid.server.watching import Watcher

USER = "user"
"""Under which a door leaves in the request the login of who asked, once that is certain."""


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
                    response.body_length,
                )
            )

    return AccessLogger
