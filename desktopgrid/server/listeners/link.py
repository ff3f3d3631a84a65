"""The door for sessions: a WebSocket a peer, frames in and frames out (docs/protocol.md)."""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from aiohttp import WSCloseCode, WSMsgType, web

from desktopgrid.model.errors import GridError, NotAuthenticated, RemoteProtocolError, Unavailable
from desktopgrid.server.codec import CODEC
from desktopgrid.server.core import Peer
from desktopgrid.server.listeners.watching import USER
from desktopgrid.wire import messages as m
from desktopgrid.wire.codec import frame_of
from desktopgrid.wire.proof import new_nonce

if TYPE_CHECKING:
    from desktopgrid.server.listeners.service import Service

logger = logging.getLogger(__name__)

HELLO_PATIENCE = 10.0
MOST_TAKEN = 2 * m.MAX_FRAME
"""A frame that is too long is heard to its end and refused, unless it is so long."""
MOST_BUFFERED = 64 << 20
"""Bytes that a peer may leave unread before its connection is closed."""


def plain_frame(message: m.Message) -> bytes:
    """A frame of one message outside the numbering."""
    return frame_of(0, (CODEC.encode(message, 0),))


def challenge(service: Service) -> tuple[m.Challenge, str]:
    """What the server says first, and its nonce."""
    nonce = new_nonce()
    return (
        m.Challenge(m.VERSIONS, service.name, service.incarnation, nonce),
        nonce,
    )


def read_hello(frame: bytes) -> m.Hello:
    """The hello in a peer's first frame; raises RemoteProtocolError, also where no version is in
    common.
    """
    _, raws = CODEC.split(frame)
    if len(raws) != 1 or raws[0][0] != m.Hello.verb or raws[0][1]:
        raise RemoteProtocolError("the first frame says hello and nothing else")
    hello = cast(m.Hello, CODEC.body(m.Hello, raws[0][2]))
    if hello.version not in m.VERSIONS:
        spoken = ", ".join(str(version) for version in m.VERSIONS)
        raise VersionRefused(
            f"the server speaks protocol version {spoken},"
            f" the peer ({hello.software}) {hello.version}"
        )
    if not 8 <= len(hello.session) <= 64 or not hello.session.isalnum():
        raise RemoteProtocolError("a session's name has 8 to 64 letters and digits")
    return hello


class VersionRefused(RemoteProtocolError):
    """No protocol version in common."""

    code = "version"


COME_BACK = {"unavailable": 2.0, "lost": 1.0, "limit-exceeded": 5.0}
"""Seconds after which a peer that was refused with this code is welcome again; any other code is
final.
"""


def goodbye(code: str, reason: str) -> m.Refused:
    """What a peer is told whose connection we end."""
    return m.Refused(code, reason, COME_BACK.get(code, 0.0))


def refusal(error: GridError) -> m.Refused:
    """What a peer is told whose connection is closed for ``error``."""
    reason = str(error)
    if isinstance(error, NotAuthenticated):
        reason = "no such identity, or not its secret, or it is not valid any more"
    return goodbye(error.code, reason)


def writer(transport: asyncio.Transport) -> Callable[[bytes], None]:
    """Writes a frame as one binary WebSocket message. aiohttp's own writer is a coroutine, and the
    journal's news come outside of any.
    """

    def send(frame: bytes) -> None:
        if transport.is_closing():
            return
        size = len(frame)
        if size < 126:
            head = bytes((0x82, size))
        elif size < 65536:
            head = struct.pack("!BBH", 0x82, 126, size)
        else:
            head = struct.pack("!BBQ", 0x82, 127, size)
        transport.write(head + frame)
        if transport.get_write_buffer_size() > MOST_BUFFERED:
            logger.warning("Closed a connection that left %d bytes unread", MOST_BUFFERED)
            transport.abort()

    return send


async def link(request: web.Request) -> web.WebSocketResponse:
    """One connection of one peer, from the challenge to its end."""
    service: Service = request.app["service"]
    socket = web.WebSocketResponse(max_msg_size=MOST_TAKEN, compress=False, timeout=5.0)
    await socket.prepare(request)
    send = writer(cast(asyncio.Transport, request.transport))
    peer: Peer | None = None
    try:
        peer = await _shake_hands(service, request, socket, send)
        await _converse(service, socket, peer)
    except GridError as error:
        if not isinstance(error, NotAuthenticated | Unavailable):
            logger.info("Closed the connection of %s: %s", peer or request.remote, error)
        send(plain_frame(refusal(error)))
        await socket.close(code=WSCloseCode.POLICY_VIOLATION)
    finally:
        if peer is not None and peer.send is send:
            service.disconnected(peer)
    return socket


async def _shake_hands(
    service: Service,
    request: web.Request,
    socket: web.WebSocketResponse,
    send: Callable[[bytes], None],
) -> Peer:
    first, nonce = challenge(service)
    send(plain_frame(first))
    try:
        answer = await socket.receive(timeout=HELLO_PATIENCE)
    except TimeoutError:
        raise RemoteProtocolError(f"no hello within {HELLO_PATIENCE:g} s") from None
    hello = read_hello(_frame(answer.type, answer.data))
    peer, welcome = await service.open(hello, nonce, request.remote or "")

    def close(code: str, reason: str) -> None:
        send(plain_frame(goodbye(code, reason)))
        service.spawn(socket.close(code=WSCloseCode.GOING_AWAY))

    send(plain_frame(welcome))
    service.attach(peer, send, close)
    request[USER] = welcome.user
    return peer


async def _converse(service: Service, socket: web.WebSocketResponse, peer: Peer) -> None:
    async for message in socket:
        if message.type is WSMsgType.ERROR:
            return
        await service.frame(peer, _frame(message.type, message.data))


def _frame(kind: WSMsgType, data: object) -> bytes:
    if kind is WSMsgType.BINARY and isinstance(data, bytes):
        return data
    if kind is WSMsgType.TEXT and isinstance(data, str):
        return data.encode()
    raise RemoteProtocolError("the peer closed the connection, or sent no frame")
