"""The door for sessions: frames in and frames out, whatever carries them, and a WebSocket a peer
(docs/protocol.md).
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, cast

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


def sender(
    transport: asyncio.WriteTransport, on_wire: Callable[[bytes], bytes]
) -> Callable[[bytes], None]:
    """Writes frames, each as ``on_wire`` says, outside of any coroutine: the journal's news come
    outside of any.
    """

    def send(frame: bytes) -> None:
        if transport.is_closing():
            return
        transport.write(on_wire(frame))
        if transport.get_write_buffer_size() > MOST_BUFFERED:
            logger.warning("Closed a connection that left %d bytes unread", MOST_BUFFERED)
            transport.abort()

    return send


class Wire(Protocol):
    """The connection of a peer, as its door has it."""

    address: str
    send: Callable[[bytes], None]
    https_port: int
    """Where the peer takes its files, if not here."""

    async def receive(self) -> bytes | None:
        """The next frame; None when the peer has closed the connection. Raises
        RemoteProtocolError.
        """

    async def close(self, code: int) -> None:
        """Close it, after what was sent; ``code`` as WebSockets have them."""


async def attend(service: Service, wire: Wire) -> str:
    """Attend to a peer from the challenge to its end; the login of its user, empty if it did not
    say who it is.
    """
    peer: Peer | None = None
    login = ""
    try:
        peer, login = await _shake_hands(service, wire)
        while (frame := await wire.receive()) is not None:
            await service.frame(peer, frame)
    except GridError as error:
        if not isinstance(error, NotAuthenticated | Unavailable):
            logger.info("Closed the connection of %s: %s", peer or wire.address, error)
        wire.send(plain_frame(refusal(error)))
        await wire.close(WSCloseCode.POLICY_VIOLATION)
    finally:
        if peer is not None and peer.send is wire.send:
            service.disconnected(peer)
    return login


async def _shake_hands(service: Service, wire: Wire) -> tuple[Peer, str]:
    first, nonce = challenge(service)
    wire.send(plain_frame(first))
    try:
        async with asyncio.timeout(HELLO_PATIENCE):
            frame = await wire.receive()
    except TimeoutError:
        raise RemoteProtocolError(f"no hello within {HELLO_PATIENCE:g} s") from None
    if frame is None:
        raise RemoteProtocolError("the peer closed the connection, or sent no frame")
    peer, welcome = await service.open(read_hello(frame), nonce, wire.address)

    def close(code: str, reason: str) -> None:
        wire.send(plain_frame(goodbye(code, reason)))
        service.spawn(wire.close(WSCloseCode.GOING_AWAY))

    wire.send(plain_frame(replace(welcome, https_port=wire.https_port)))
    service.attach(peer, wire.send, close)
    return peer, welcome.user


# --- over WebSocket -------------------------------------------------------------------------------


def message_of(frame: bytes) -> bytes:
    """``frame`` as one binary WebSocket message. aiohttp's own writer is a coroutine."""
    size = len(frame)
    if size < 126:
        head = bytes((0x82, size))
    elif size < 65536:
        head = struct.pack("!BBH", 0x82, 126, size)
    else:
        head = struct.pack("!BBQ", 0x82, 127, size)
    return head + frame


class WebSocketWire:
    """A WebSocket of a peer."""

    https_port = 0

    def __init__(self, socket: web.WebSocketResponse, request: web.Request) -> None:
        self._socket = socket
        self.address = request.remote or ""
        self.send = sender(cast(asyncio.Transport, request.transport), message_of)

    async def receive(self) -> bytes | None:
        """The next frame."""
        message = await self._socket.receive()
        if message.type is WSMsgType.BINARY and isinstance(message.data, bytes):
            return message.data
        if message.type is WSMsgType.TEXT and isinstance(message.data, str):
            return message.data.encode()
        return None

    async def close(self, code: int) -> None:
        """Close it with this code."""
        await self._socket.close(code=code)


async def link(request: web.Request) -> web.WebSocketResponse:
    """One connection of one peer, from the challenge to its end."""
    socket = web.WebSocketResponse(max_msg_size=MOST_TAKEN, compress=False, timeout=5.0)
    await socket.prepare(request)
    login = await attend(request.app["service"], WebSocketWire(socket, request))
    if login:
        request[USER] = login
    return socket
