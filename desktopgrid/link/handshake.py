"""From a server's name to an open connection: dial, prove who we are, be welcomed or refused
(docs/protocol.md, "Handshake").
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any, Callable, NamedTuple, TypeVar

from desktopgrid.link.address import FRAMED, ServerName
from desktopgrid.link.connection import Connection
from desktopgrid.link.duplex import Duplex
from desktopgrid.link.errors import (
    ConnectionLost,
    RefusedByServer,
    WebSocketBroken,
    from_code,
    in_words,
)
from desktopgrid.link.framed import Framed
from desktopgrid.link.identity import Identity
from desktopgrid.link.longpoll import LongPoll
from desktopgrid.link.proxy import choose
from desktopgrid.model.errors import RemoteProtocolError
from desktopgrid.wire.codec import STDLIB, frame_of
from desktopgrid.wire.messages import VERSIONS, Challenge, Hello, Message, Refused, Welcome
from desktopgrid.wire.proof import prove

logger = logging.getLogger(__name__)

TIMEOUT = 15.0
"""Seconds from the first packet to the welcome."""

RETRY_WEBSOCKET = 600.0
"""Seconds after which a server where WebSockets did not pass is tried by WebSocket again."""

M = TypeVar("M", bound=Message)


class Opened(NamedTuple):
    """An open connection, what the server said to open it, and the frames that came right after."""

    connection: Connection
    welcome: Welcome
    frames: list[bytes]


class Dialler:
    """Opens connections; remembers where WebSockets do not pass."""

    def __init__(
        self,
        hello: Callable[[], Mapping[str, Any]],
        software: str,
        proxy: str | None,
        environment: Mapping[str, str],
    ) -> None:
        self._hello, self._software = hello, software
        self.proxy, self._environment = proxy, environment
        self._polls_until: dict[ServerName, float] = {}

    def open(self, server: ServerName, identity: Identity, session: str, seen: int) -> Opened:
        """An open connection to ``server``; raises RefusedByServer, ConnectionLost or
        RemoteProtocolError.
        """
        via = choose(server.host, self._environment, self.proxy)
        if server.scheme == FRAMED:
            framed = Framed.open(server, identity.ca, via, TIMEOUT)
            return self._shake_hands(framed, identity, session, seen)
        if time.monotonic() >= self._polls_until.get(server, 0.0):
            try:
                duplex = Duplex.open(server, identity.ca, via, TIMEOUT)
                return self._shake_hands(duplex, identity, session, seen)
            except WebSocketBroken as broken:
                trouble = broken
            poll = LongPoll.open(server, identity.ca, via, TIMEOUT)
            opened = self._shake_hands(poll, identity, session, seen)
            logger.info("WebSockets do not pass to %s (%s); polling it", server, trouble)
            self._polls_until[server] = time.monotonic() + RETRY_WEBSOCKET
            return opened
        poll = LongPoll.open(server, identity.ca, via, TIMEOUT)
        return self._shake_hands(poll, identity, session, seen)

    def _shake_hands(
        self, connection: Connection, identity: Identity, session: str, seen: int
    ) -> Opened:
        deadline = time.monotonic() + TIMEOUT
        try:
            try:
                frames = _await_frames(connection, deadline)
            except ConnectionLost as error:
                raise WebSocketBroken(f"no challenge came: {in_words(error)}") from error
            challenge = _only(Challenge, frames.pop(0))
            hello = self._answer(challenge, identity, session, seen)
            connection.send(frame_of(0, (STDLIB.encode(hello, 0),)))
            frames = frames or _await_frames(connection, deadline)
            welcome = _only(Welcome, frames.pop(0))
        except BaseException:
            connection.close()
            raise
        return Opened(connection, welcome, frames)

    def _answer(self, challenge: Challenge, identity: Identity, session: str, seen: int) -> Hello:
        common = [version for version in VERSIONS if version in challenge.versions]
        if not common:
            reason = (
                f"we speak versions {VERSIONS} of the protocol, the server {challenge.versions}"
            )
            raise RefusedByServer(from_code("version", reason), 0.0)
        return Hello(
            version=common[0],
            kind=identity.kind,
            identity=identity.identity,
            proof=prove(
                identity.secret, challenge.nonce, identity.kind, identity.identity, session
            ),
            session=session,
            seen=seen,
            software=self._software,
            **self._hello(),
        )


def refusal_in(frame: bytes) -> RefusedByServer | None:
    """The refusal that ``frame`` is, if it is one."""
    try:
        _, raws = STDLIB.split(frame)
        if not raws or raws[-1][0] != Refused.verb:
            return None
        refused = STDLIB.body(Refused, raws[-1][2])
    except RemoteProtocolError:
        return None
    assert isinstance(refused, Refused)  # noqa: S101 (tells the type checker)
    return RefusedByServer(from_code(refused.code, refused.reason), refused.retry_after)


def _await_frames(connection: Connection, deadline: float) -> list[bytes]:
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise ConnectionLost("the server did not shake hands in time")
        frames = connection.receive(left)
        if frames:
            return frames


def _only(kind: type[M], frame: bytes) -> M:
    """The message of ``kind`` that ``frame`` must be."""
    refused = refusal_in(frame)
    if refused is not None:
        raise refused
    _, raws = STDLIB.split(frame)
    if len(raws) != 1 or raws[0][0] != kind.verb:
        raise RemoteProtocolError(f"the server should say {kind.verb} here")
    message = STDLIB.body(kind, raws[0][2])
    assert isinstance(message, kind)  # noqa: S101 (tells the type checker)
    return message
