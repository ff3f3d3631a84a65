"""The door for single requests: a POST a request, its fields as the body (docs/protocol.md,
"Requests without a session").

What may be asked, by whom and within which limits is the same as in a session: the request goes to
the same functions.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from typing import TYPE_CHECKING, cast

from aiohttp import web

from desktopgrid.model.errors import (
    BadRequest,
    NotAuthenticated,
    RemoteProtocolError,
    UnknownObject,
)
from desktopgrid.server.codec import CODEC
from desktopgrid.server.listeners.clock import utc_now
from desktopgrid.server.listeners.watching import USER
from desktopgrid.server.requests import REQUESTS
from desktopgrid.wire import messages as m
from desktopgrid.wire.proof import verifier_of

if TYPE_CHECKING:
    from desktopgrid.server.listeners.service import Service

KEY_HEADER = "Idempotency-Key"
KEY = re.compile(r"[\x21-\x7e]{1,255}")
BY_VERB: dict[str, type[m.Request]] = {kind.verb: kind for kind in REQUESTS}


async def ask(request: web.Request) -> web.Response:
    """One request and its answer, which is durable when it is given."""
    service: Service = request.app["service"]
    verb = request.match_info["verb"]
    kind = BY_VERB.get(verb)
    if kind is None:
        raise UnknownObject(f"there is no request {verb[:40]!r}; /v1/openapi.json lists them")
    # A form of another web page can send any text, but not this type.
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(reason="a request is application/json")
    key = request.headers.get(KEY_HEADER)
    if key is not None and not KEY.fullmatch(key):
        raise BadRequest(f"{KEY_HEADER} has 1 to 255 visible ASCII characters")
    credential = await authenticate(
        service, request.headers.get("Authorization", ""), request.remote or ""
    )
    note(request, credential)
    asked = message_of(kind, await request.read())
    return web.json_response(
        await service.request(credential, asked, request.remote or "", key or "")
    )


def note(request: web.Request, credential: str) -> None:
    """Let the access log know who asks."""
    service: Service = request.app["service"]
    request[USER] = service.core.grid.users[service.core.present(credential, utc_now()).user].login


def message_of(kind: type[m.Request], body: bytes) -> m.Request:
    """The request that a body describes; raises BadRequest."""
    try:
        return cast(m.Request, CODEC.body(kind, body))
    except RemoteProtocolError as error:
        raise BadRequest(str(error)) from None


async def authenticate(service: Service, authorization: str, address: str) -> str:
    """The credential of who carries this header; raises NotAuthenticated, or Throttled where
    ``address`` guesses.
    """
    scheme, _, rest = authorization.partition(" ")
    if scheme.lower() == "bearer" and rest.isascii():
        return by_token(service, *_pair(rest))
    if scheme.lower() == "basic":
        try:
            rest = base64.b64decode(rest, validate=True).decode()
        except (binascii.Error, ValueError):
            raise NotAuthenticated("Basic carries base64 of login:password") from None
        return await by_password(service, *_pair(rest), address)
    raise NotAuthenticated("a request carries `Authorization: Bearer TOKEN:SECRET`, or Basic")


def by_token(service: Service, token: str, secret: str) -> str:
    """The credential ``token``, if that is its secret; raises NotAuthenticated."""
    ours = verifier_of(secret)
    service.core.holder(token, utc_now(), lambda known: hmac.compare_digest(known, ours))
    return token


async def by_password(service: Service, login: str, password: str, address: str) -> str:
    """The credential of who has this password; raises NotAuthenticated, or Throttled."""
    return (await service.passwords.check(service.core.grid, login, password, address)).uid


def _pair(text: str) -> tuple[str, str]:
    name, _, secret = text.strip().partition(":")
    return name, secret
