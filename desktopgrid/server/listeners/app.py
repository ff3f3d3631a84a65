"""The doors of the worker/API port together: routes, errors as answers, the access log."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable

from aiohttp import web

from desktopgrid.model.errors import (
    AccessDenied,
    AlreadyThere,
    BadRequest,
    GridError,
    LimitExceeded,
    NoRoom,
    NotAuthenticated,
    Unavailable,
    UnknownObject,
)
from desktopgrid.server.listeners import files, link, login, poll
from desktopgrid.server.listeners.service import Service
from desktopgrid.server.storage import Store
from desktopgrid.wire.messages import MAX_FRAME

logger = logging.getLogger(__name__)
access = logging.getLogger("desktopgrid.access")

STATUSES: tuple[tuple[type[GridError], int], ...] = (
    (NotAuthenticated, 401),
    (AccessDenied, 403),
    (UnknownObject, 404),
    (AlreadyThere, 409),
    (LimitExceeded, 413),
    (BadRequest, 400),
    (NoRoom, 507),
    (Unavailable, 503),
)
"""The HTTP status of each error, the first that fits."""


LASTING = frozenset(("/v1/link", "/v1/poll", "/v1/status"))
"""What a server that stops does not wait for: it would never end, or harm nobody."""


def status_of(error: GridError) -> int:
    """The HTTP status that says ``error``."""
    return next((status for kind, status in STATUSES if isinstance(error, kind)), 500)


@web.middleware
async def answer_errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """An error is an answer with its code and reason; what we did not foresee is logged, and says
    nothing to the peer.
    """
    started = time.monotonic()
    status = 500
    service: Service = request.app["service"]
    try:
        if request.path in LASTING:
            response = await handler(request)
        else:
            with service.in_flight():
                response = await handler(request)
        status = response.status
        return response
    except GridError as error:
        status = status_of(error)
        return web.json_response(
            {"code": error.code, "reason": str(error)},
            status=status,
            headers={"Retry-After": "5"} if status == 503 else None,
        )
    except web.HTTPException as error:
        status = error.status
        return web.json_response({"code": "http", "reason": error.reason}, status=status)
    finally:
        took = time.monotonic() - started
        access.info("%s %s %s %d %.3f", request.remote, request.method, request.path, status, took)


def build(service: Service, store: Store) -> web.Application:
    """The application behind the port."""
    app = web.Application(middlewares=[answer_errors], client_max_size=MAX_FRAME + 1)
    app["service"] = service
    app["store"] = store
    app["outputs"] = service.outputs
    app.add_routes(
        [
            web.get("/v1/link", link.link),
            web.post("/v1/poll", poll.poll),
            web.post("/v1/login", login.login),
            web.get("/v1/status", login.status),
            web.head("/v1/datas/{uid}", files.head_data),
            web.get("/v1/datas/{uid}", files.get_data, allow_head=False),
            web.put("/v1/datas/{uid}", files.put_data),
            web.put("/v1/tasks/{task}/outputs/{sha256}", files.put_output),
            web.get("/v1/works/{work}/outputs/{name:.+}", files.get_output),
        ]
    )
    return app
