"""The doors of the worker/API port together: routes, and errors as answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from desktopgrid.model.errors import GridError
from desktopgrid.server.listeners import files, link, login, poll
from desktopgrid.server.listeners.service import Service
from desktopgrid.server.storage import Store
from desktopgrid.server.watching import status_of
from desktopgrid.wire.messages import MAX_FRAME

LASTING = frozenset(("/v1/link", "/v1/poll", "/v1/status"))
"""What a server that stops does not wait for: it would never end, or harm nobody."""


@web.middleware
async def answer_errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """An error is an answer with its code and reason; what we did not foresee is logged, and says
    nothing to the peer.
    """
    service: Service = request.app["service"]
    try:
        if request.path in LASTING:
            return await handler(request)
        with service.in_flight():
            return await handler(request)
    except GridError as error:
        status = status_of(error)
        return web.json_response(
            {"code": error.code, "reason": str(error)},
            status=status,
            headers={"Retry-After": "5"} if status == 503 else None,
        )
    except web.HTTPException as error:
        return web.json_response({"code": "http", "reason": error.reason}, status=error.status)


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
