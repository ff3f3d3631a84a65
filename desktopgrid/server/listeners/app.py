"""The doors of the worker/API port together: routes, and errors as answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from desktopgrid.model.errors import GridError
from desktopgrid.server.config import WatchingSection
from desktopgrid.server.listeners import (
    asking,
    direct,
    files,
    link,
    login,
    openapi,
    poll,
    watching,
)
from desktopgrid.server.listeners.identities import Identities
from desktopgrid.server.listeners.service import Service
from desktopgrid.server.objectstore import ObjectStore
from desktopgrid.server.statuses import status_of
from desktopgrid.server.storage import Store
from desktopgrid.wire.messages import MAX_FRAME

HEADERS = {
    401: {"WWW-Authenticate": 'Bearer realm="grid", Basic realm="grid"'},
    429: {"Retry-After": "5"},
    503: {"Retry-After": "5"},
}
"""What HTTP asks to be said beside a status (RFC 9110)."""

LASTING = frozenset(("/v1/link", "/v1/poll", "/v1/status", "/v1/health", "/v1/ready", "/metrics"))
"""What a server that stops does not wait for: it would never end, or harm nobody."""


def refusal(
    status: int, code: str, reason: str, headers: dict[str, str] | None = None
) -> web.Response:
    """An answer that says why not."""
    return web.json_response({"code": code, "reason": reason}, status=status, headers=headers)


@web.middleware
async def answer_errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """An error is an answer with its code and reason; what we did not foresee is logged, and says
    nothing to the peer.
    """
    service: Service = request.app["service"]
    try:
        if request.headers.get("Content-Encoding", "identity") != "identity":
            # What is small on the wire must not become large here.
            raise web.HTTPUnsupportedMediaType(reason="bodies are sent as they are, not packed")
        if request.path in LASTING:
            return await handler(request)
        with service.in_flight():
            return await handler(request)
    except GridError as error:
        status = status_of(error)
        return refusal(status, error.code, str(error), HEADERS.get(status))
    except web.HTTPException as error:
        allow = error.headers.get("Allow")
        return refusal(error.status, "http", error.reason, {"Allow": allow} if allow else None)


def build(
    service: Service,
    store: Store,
    objects: ObjectStore | None,
    settings: WatchingSection,
    identities: Identities,
) -> web.Application:
    """The application behind the port."""
    app = web.Application(middlewares=[answer_errors], client_max_size=MAX_FRAME + 1)
    app["service"] = service
    app["store"], app["objects"] = store, objects
    app["identities"] = identities
    app["outputs"] = service.outputs
    app["openapi"] = openapi.document()
    app.add_routes(
        [
            web.get("/v1/link", link.link),
            web.post("/v1/poll", poll.poll),
            web.post("/v1/login", login.login),
            web.post("/v1/password", login.change_password),
            web.post("/v1/login/nonce", login.nonce),
            web.post("/v1/login/certificate", login.by_certificate),
            web.post("/v1/login/token", login.by_token),
            web.get("/v1/status", login.status),
            web.get("/v1/openapi.json", openapi.openapi),
            web.post("/v1/requests/{verb}", asking.ask),
            web.head("/v1/datas/{uid}", files.head_data),
            web.get("/v1/datas/{uid}", files.get_data, allow_head=False),
            web.put("/v1/datas/{uid}", files.put_data),
            web.put("/v1/tasks/{task}/outputs/{sha256}", files.put_output),
            web.post("/v1/datas/{uid}/direct", direct.place_data),
            web.put("/v1/datas/{uid}/direct", direct.settle_data),
            web.post("/v1/tasks/{task}/outputs/{sha256}/direct", direct.place_output),
            web.put("/v1/tasks/{task}/outputs/{sha256}/direct", direct.settle_output),
            web.get("/v1/works/{work}/outputs/{name:.+}", files.get_output),
        ]
    )
    watching.open_doors(app, service, settings)
    return app
