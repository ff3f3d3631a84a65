"""The door for peers behind proxies that break WebSockets: the same frames, one in and one out a
POST (docs/protocol.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import secrets
from collections import deque
from typing import TYPE_CHECKING

from aiohttp import web

from desktopgrid.model.errors import GridError, LimitExceeded
from desktopgrid.server.core import Peer
from desktopgrid.server.listeners.link import (
    HELLO_PATIENCE,
    MOST_BUFFERED,
    challenge,
    goodbye,
    plain_frame,
    read_hello,
    refusal,
)
from desktopgrid.server.listeners.watching import USER
from desktopgrid.wire.codec import frame_of

if TYPE_CHECKING:
    from desktopgrid.server.listeners.service import Service

logger = logging.getLogger(__name__)

LONGEST_WAIT = 30.0
GONE_AFTER = 90.0
"""Seconds without a POST after which the connection is gone."""
MOST_LINKS = 20_000
LINK_HEADER = "Glidebridge-Link"
WAIT_HEADER = "Glidebridge-Wait"
TURN_HEADER = "Glidebridge-Turn"
TURN = re.compile("[0-9]{1,18}")


class PollLink:
    """One connection of polls: what waits to be fetched, and whose it is once it has said hello."""

    def __init__(self, service: Service, nonce: str, address: str = "") -> None:
        self.name = secrets.token_hex(16)
        self.service, self.nonce, self.address = service, nonce, address
        self.user: str | None = None
        self.peer: Peer | None = None
        self.frames: deque[bytes] = deque()
        self.is_closed = False
        self._news = asyncio.Event()
        self._newest = 0  # the last POST that has come, by its turn
        self._done = 0  # the last one whose turn has been
        self._buffered = 0
        self._turns = asyncio.Condition()
        self._expiry = asyncio.get_running_loop().call_later(HELLO_PATIENCE, self.end)

    def send(self, frame: bytes) -> None:
        """Keep ``frame`` for the next POST."""
        self.frames.append(frame)
        self._buffered += len(frame)
        if self._buffered > MOST_BUFFERED:
            self.end()
        self._news.set()
        if self.peer is not None and self._newest == self._done and self.service.datagrams:
            self.service.datagrams.wake(self.peer)  # nobody waits here for news

    def close(self, code: str, reason: str) -> None:
        """Tell the peer why, and end."""
        self.send(plain_frame(goodbye(code, reason)))
        self.is_closed = True

    def end(self) -> None:
        """The connection is gone."""
        self.is_closed = True
        self._expiry.cancel()
        self._news.set()
        self.service.poll_links.pop(self.name, None)
        if self.peer is not None and self.peer.send == self.send:
            self.service.disconnected(self.peer)

    async def post(self, frame: bytes, wait: float, turn: int | None) -> bytes:
        """Handle ``frame`` and give the next one back, or an empty one after ``wait`` seconds.

        Two POSTs come over two connections, and the second may overtake the first: it waits for
        its ``turn``. Raises TimeoutError if that does not come.
        """
        if self.peer is not None:
            self._live_on()
        mine = self._newest + 1 if turn is None else turn
        self._newest = max(self._newest, mine)
        self._news.set()  # an earlier POST that still waits ends its waiting
        async with self._turns:
            async with asyncio.timeout(LONGEST_WAIT):
                await self._turns.wait_for(lambda: self._done == mine - 1)
            try:
                if frame and not self.is_closed:
                    await self._handle(frame)
                if not self.frames and not self.is_closed and mine == self._newest:
                    self._news.clear()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._news.wait(), wait)
            finally:
                self._done = mine
                self._turns.notify_all()
        if not self.frames:
            return frame_of(self.peer.exchange.acknowledged if self.peer else 0, ())
        first = self.frames.popleft()
        self._buffered -= len(first)
        return first

    def _live_on(self) -> None:
        # Not before somebody has said hello: strangers must not keep the links that there may be.
        if not self.is_closed:
            self._expiry.cancel()
            patience = LONGEST_WAIT + GONE_AFTER
            self._expiry = asyncio.get_running_loop().call_later(patience, self.end)

    async def _handle(self, frame: bytes) -> None:
        try:
            if self.peer is not None:
                await self.service.frame(self.peer, frame)
                return
            hello = read_hello(frame)
            self._live_on()
            peer, welcome = await self.service.open(hello, self.nonce, self.address)
            self.peer, self.user = peer, welcome.user
            self.send(plain_frame(welcome))
            self.service.attach(peer, self.send, self.close)
        except GridError as error:
            logger.info("Closed the poll link of %s: %s", self.peer or "an unknown peer", error)
            refused = refusal(error)
            self.send(plain_frame(refused))
            self.is_closed = True


async def poll(request: web.Request) -> web.Response:
    """One POST: a frame in, a frame out."""
    service: Service = request.app["service"]
    name = request.headers.get(LINK_HEADER)
    if name is None:
        if len(service.poll_links) >= MOST_LINKS:
            raise LimitExceeded("too many poll links are open")
        first, nonce = challenge(service)
        new = PollLink(service, nonce, request.remote or "")
        service.poll_links[new.name] = new
        return web.Response(body=plain_frame(first), headers={LINK_HEADER: new.name})
    link = service.poll_links.get(name)
    if link is None:
        return _gone()
    try:
        wait = max(0.0, min(LONGEST_WAIT, float(request.headers.get(WAIT_HEADER, "0"))))
    except ValueError:
        wait = 0.0
    turn = request.headers.get(TURN_HEADER, "")
    try:
        answer = await link.post(
            await request.read(), wait, int(turn) if TURN.fullmatch(turn) else None
        )
    except TimeoutError:  # one of its predecessors was lost on the way
        link.end()
        return _gone()
    request[USER] = link.user
    if link.is_closed and not link.frames:
        link.end()
    return web.Response(body=answer, headers={LINK_HEADER: name})


def _gone() -> web.Response:
    said = {"code": "gone", "reason": "the link is gone; start again"}
    return web.json_response(said, status=410)
