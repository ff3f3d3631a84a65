"""The doors that need no session: logging in with a password, and asking for the status."""

from __future__ import annotations

import logging
import shlex
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import msgspec
from aiohttp import web

from desktopgrid.model.errors import BadRequest, NotAuthenticated
from desktopgrid.model.objects import Credential, User, new_uid
from desktopgrid.model.rights import EVERYTHING, UserLevel
from desktopgrid.model.version import VERSION
from desktopgrid.server.listeners.clock import utc_now
from desktopgrid.server.listeners.watching import USER
from desktopgrid.server.proved import Proved
from desktopgrid.server.state import Grid, Outcome, clean
from desktopgrid.server.users import LONGEST_LABEL, save_credential
from desktopgrid.wire.proof import new_secret, verifier_of

if TYPE_CHECKING:
    from desktopgrid.server.listeners.identities import Identities
    from desktopgrid.server.listeners.service import Service

logger = logging.getLogger(__name__)

LONGEST_LIFETIME = 365 * 86_400
LIFETIME = 30 * 86_400
LONGEST_BODY = 4096
LONGEST_CHAIN = 128 << 10


class Login(msgspec.Struct):
    """The body of a login."""

    login: str
    password: str
    lifetime: int = LIFETIME
    label: str = ""


class PasswordChange(msgspec.Struct):
    """The body of a change: who, by which password, and the one from now on."""

    login: str
    password: str
    new: str


class PasswordChanged(msgspec.Struct):
    """The answer to a change."""

    user: str


class Nonce(msgspec.Struct):
    """What is to be signed."""

    nonce: str


class CertificateLogin(msgspec.Struct):
    """The body of a login by certificate: ``chain`` in PEM, its own first, and the base64 of what
    its key signed (wire/proof.py).
    """

    chain: str
    nonce: str
    signature: str
    lifetime: int = LIFETIME
    label: str = ""


class TokenLogin(msgspec.Struct):
    """The body of a login by an issuer's token, a JWT."""

    token: str
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
    asked = await _body(request, Login, LONGEST_BODY)
    user = await service.passwords.check(
        service.core.grid, asked.login, asked.password, request.remote or ""
    )
    return await _token(request, user, asked)


async def change_password(request: web.Request) -> web.Response:
    """Another password for who knows the one he has: a token, which may have been found somewhere,
    is not enough. What was logged in stays so.
    """
    service: Service = request.app["service"]
    asked = await _decoded(request, PasswordChange, LONGEST_BODY)
    address = request.remote or ""
    user = await service.passwords.check(service.core.grid, asked.login, asked.password, address)
    verifier = await service.passwords.hash(asked.new)
    password = Credential(user.uid, user.uid, "password", verifier, utc_now())

    def change(grid: Grid, out: Outcome) -> None:
        if grid.users[user.uid].is_revoked:
            raise NotAuthenticated("the user was revoked meanwhile")
        save_credential(grid, password, out)

    service.core.change(change)
    await service.until_durable()
    request[USER] = user.login
    service.watcher.changed_password(user.login, address, user.uid)
    logger.info("User %s has another password", user.login)
    return _json(PasswordChanged(user.login))


async def nonce(request: web.Request) -> web.Response:
    """What a login by certificate has to sign."""
    identities: Identities = request.app["identities"]
    return _json(Nonce(identities.nonce(request.remote or "")))


async def by_certificate(request: web.Request) -> web.Response:
    """A token for who has the key of a certificate, or of a proxy; it ends with them."""
    service: Service = request.app["service"]
    identities: Identities = request.app["identities"]
    asked = await _body(request, CertificateLogin, LONGEST_CHAIN)
    address, subject = request.remote or "", ""
    try:
        proved = await identities.by_certificate(asked.chain, asked.nonce, asked.signature, address)
        subject = proved.subject
        user = _known_as(service.core.grid, subject)
    except NotAuthenticated as error:
        service.watcher.logged_in(subject, address, code=error.code)
        raise
    return await _token(request, user, asked, source="certificate", proved=proved)


async def by_token(request: web.Request) -> web.Response:
    """A token of ours for who has one of an issuer's; it ends with that."""
    service: Service = request.app["service"]
    identities: Identities = request.app["identities"]
    asked = await _body(request, TokenLogin, LONGEST_CHAIN)
    address, subject = request.remote or "", ""
    try:
        issuer, claims = await identities.by_token(asked.token, address)
        subject = claims.proved.subject
        user = _known_as(service.core.grid, subject, claims.login)
    except NotAuthenticated as error:
        service.watcher.logged_in(subject, address, code=error.code)
        raise
    return await _token(request, user, asked, f"issuer {issuer}", claims.proved)


def _known_as(grid: Grid, subject: str, login: str = "") -> User:
    """The user with this name in certificates or at an issuer; or with the login that an issuer
    says, who then must be no super user: no issuer makes one.
    """
    uid = grid.subjects.get(subject)
    named = grid.user_named(login) if login and uid is None else None
    if named is not None and named.level < UserLevel.SUPER:
        uid = named.uid
    if uid is None or grid.users[uid].is_revoked:
        raise NotAuthenticated(
            f"nobody is known here by {subject!r}; the administrator may say who it is:"
            f" xw moduser LOGIN --add-subject {shlex.quote(subject)}"
        )
    return grid.users[uid]


Body = TypeVar("Body", Login, CertificateLogin, TokenLogin)
Asked = TypeVar("Asked", bound=msgspec.Struct)


async def _body(request: web.Request, kind: type[Body], longest: int) -> Body:
    """The body of a login; raises BadRequest."""
    asked = await _decoded(request, kind, longest)
    if not 0 < asked.lifetime <= LONGEST_LIFETIME:
        raise BadRequest(f"lifetime is 1 to {LONGEST_LIFETIME} seconds")
    return asked


async def _decoded(request: web.Request, kind: type[Asked], longest: int) -> Asked:
    """The body of a request, of ``longest`` bytes at most; raises BadRequest."""
    content = bytearray()
    async for part in request.content.iter_any():
        content += part
        if len(content) > longest:
            raise BadRequest(f"a login has at most {longest} bytes")
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise BadRequest(f"login: {error}") from None


async def _token(
    request: web.Request,
    user: User,
    asked: Login | CertificateLogin | TokenLogin,
    source: str = "",
    proved: Proved | None = None,
) -> web.Response:
    """A new token for ``user``, who has ``proved`` who he is or knows the password. It is good for
    no longer than the proof.
    """
    service: Service = request.app["service"]
    request[USER] = user.login
    secret = new_secret()
    ends_at = utc_now() + timedelta(seconds=asked.lifetime)
    scope = EVERYTHING
    if proved is not None:
        ends_at, scope = min(ends_at, proved.ends_at), proved.scope
    token = Credential(
        new_uid(),
        user.uid,
        "token",
        verifier_of(secret),
        utc_now(),
        ends_at,
        label=clean(asked.label, LONGEST_LABEL),
        scope=scope,
        source=source,
        subject=proved.subject if proved is not None else "",
        serials=proved.serials if proved is not None else (),
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
