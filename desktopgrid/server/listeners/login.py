"""The doors that need no session: logging in with a password, and asking for the status."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from desktopgrid.model.errors import BadRequest
from desktopgrid.model.objects import Credential, User, new_uid
from desktopgrid.model.rights import EVERYTHING, Scope
from desktopgrid.model.version import VERSION
from desktopgrid.server.listeners.clock import utc_now
from desktopgrid.server.listeners.watching import USER
from desktopgrid.server.state import clean
from desktopgrid.server.users import LONGEST_LABEL, save_credential
from desktopgrid.wire.proof import new_secret, verifier_of

if TYPE_CHECKING:
    from desktopgrid.server.listeners.service import Service

logger = logging.getLogger(__name__)

LONGEST_LIFETIME = 365 * 86_400
LIFETIME = 30 * 86_400
LONGEST_BODY = 4096


class Login(msgspec.Struct):
    """The body of a login."""

    login: str
    password: str
    lifetime: int = LIFETIME
    label: str = ""


class Token(msgspec.Struct):
    """The answer to a login."""

    token: str
    secret: str
    user: str
    level: int
    scope: str
    expires_at: str


class Status(msgspec.Struct):
    """The answer to who asks how the server does."""

    status: str
    server: str
    version: str
    incarnation: int
    open_works: int
    hosts: int


async def login(request: web.Request) -> web.Response:
    """A token for who knows the password; the secret is in the answer and nowhere else."""
    service: Service = request.app["service"]
    content = await request.content.read(LONGEST_BODY + 1)
    if len(content) > LONGEST_BODY:
        raise BadRequest(f"a login has at most {LONGEST_BODY} bytes")
    try:
        asked = msgspec.json.decode(content, type=Login)
    except msgspec.MsgspecError as error:
        raise BadRequest(f"login: {error}") from None
    if not 0 < asked.lifetime <= LONGEST_LIFETIME:
        raise BadRequest(f"lifetime is 1 to {LONGEST_LIFETIME} seconds")
    user = await service.passwords.check(
        service.core.grid, asked.login, asked.password, request.remote or ""
    )
    ends_at = utc_now() + timedelta(seconds=asked.lifetime)
    return await _token(request, user, ends_at, label=asked.label)


async def _token(
    request: web.Request,
    user: User,
    ends_at: datetime,
    *,
    label: str = "",
    scope: Scope = EVERYTHING,
    source: str = "",
) -> web.Response:
    """A new token for ``user``."""
    service: Service = request.app["service"]
    request[USER] = user.login
    secret = new_secret()
    token = Credential(
        new_uid(),
        user.uid,
        "token",
        verifier_of(secret),
        utc_now(),
        ends_at,
        label=clean(label, LONGEST_LABEL),
        scope=scope,
        source=source,
    )
    service.core.change(lambda grid, out: save_credential(grid, token, out))
    await service.until_durable()
    service.watcher.logged_in(user.login, request.remote or "", token.uid)
    logger.info("User %s logged in and has token %s", user.login, token.uid)
    expires_at = ends_at.isoformat(timespec="seconds")
    return _json(Token(token.uid, secret, user.login, int(user.level), str(scope), expires_at))


async def status(request: web.Request) -> web.Response:
    """Whether the server serves; 503 with the reason if not."""
    service: Service = request.app["service"]
    await service.probe()
    grid = service.core.grid
    return _json(
        Status(
            status="serving",
            server=service.name,
            version=VERSION,
            incarnation=grid.incarnation,
            open_works=len(grid.works),
            hosts=len(grid.scheduler.hosts),
        )
    )


def _json(answer: msgspec.Struct) -> web.Response:
    return web.Response(body=msgspec.json.encode(answer), content_type="application/json")
