"""A server that speaks the protocol and does nothing: it notes what it hears, answers, and
misbehaves on command.

Tests of links talk to it over real TLS on a loopback port, often through a relay (relay.py).
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import WSMessage, WSMsgType, web

from desktopgrid.link.identity import Identity
from desktopgrid.model.errors import RemoteProtocolError
from desktopgrid.wire import messages as m
from desktopgrid.wire import proof
from desktopgrid.wire.codec import STDLIB, frame_of
from desktopgrid.wire.exchange import CLIENT, SERVER, WORKER, Exchange
from tests.authority import Authority

SECRET = proof.new_secret()
TICKET = "a-ticket"


@dataclass
class Peer:
    """A session as the server remembers it."""

    exchange: Exchange
    heard: list[m.Message] = field(default_factory=list)
    deliver: Callable[[], None] = lambda: None


@dataclass
class Stored:
    """A data that is being uploaded, or whole."""

    size: int = 0
    content: bytearray = field(default_factory=bytearray)
    is_whole: bool = False


class LinkServer:
    """Speaks handshake and numbering over WebSocket and long poll; keeps datas.

    ``started`` is answered by ``recall`` of the same task, any request by ``reply``. What every
    peer said is in ``heard``, once each.
    """

    def __init__(self, authority: Authority, directory: Path) -> None:
        self.authority = authority
        self._context = authority.server_context(directory, ("127.0.0.1", "localhost"))
        self.peers: dict[str, Peer] = {}
        self.forgotten: list[m.Message] = []
        self.hellos: list[m.Hello] = []
        self.frames: list[bytes] = []
        self.doors: list[str] = []
        self.datas: dict[str, Stored] = {}
        self.alive_period = 30.0
        self.refusal: m.Refused | None = None
        self.upgrade_status = 0  # refuse the upgrade with this
        self.is_framed = False  # what identities name is the door for frames over TLS alone
        self.drops_websockets = False  # accept the upgrade, then close
        self.acknowledges = True
        self.cut_transfer_after: int | None = None
        self.transfer_refusal: tuple[int, str, str] | None = None
        self.transfers = 0
        self.polls: dict[str, _Poll] = {}
        self.https_port = self.framed_port = 0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="link-server")
        self._writers: set[asyncio.StreamWriter] = set()
        self._sockets: set[web.WebSocketResponse | FramedSocket] = set()

    # What tests do.

    def __enter__(self) -> LinkServer:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    @property
    def port(self) -> int:
        """Of the door that identities name."""
        return self.framed_port if self.is_framed else self.https_port

    @property
    def url(self) -> str:
        return self.at(self.port)

    def at(self, port: int) -> str:
        """The server's name if its port were that."""
        return f"{'tcp+tls' if self.is_framed else 'https'}://127.0.0.1:{port}"

    def identity(self, kind: str = "worker", **changes: Any) -> Identity:
        values = {
            "servers": (self.url,),
            "kind": kind,
            "identity": "an-identity",
            "secret": SECRET,
            "ca": self.authority.pem,
        }
        return Identity(**{**values, **changes})

    @property
    def heard(self) -> list[m.Message]:
        """What was said in all sessions, also in those forgotten."""
        return [
            *self.forgotten,
            *(message for peer in list(self.peers.values()) for message in list(peer.heard)),
        ]

    def forget(self) -> None:
        """Be a server that was restarted: no session is known, all connections are cut."""

        def restart() -> None:
            self.forgotten = self.heard
            self.peers.clear()
            self._cut()

        self._call(restart)

    @property
    def is_polled(self) -> bool:
        """Whether a poll of the newest link waits here. Between two there is nothing to cut."""
        newest = list(self.polls.values())[-1:]
        return any(poll.newest > poll.done for poll in newest)

    def cut(self) -> None:
        """Cut all connections."""
        self._call(self._cut)

    def say(self, session: str, message: m.Message) -> None:
        """Say something to a peer out of the blue."""

        def speak() -> None:
            peer = self.peers[session]
            peer.exchange.say(message)
            peer.deliver()

        self._call(speak)

    def send(self, frame: bytes) -> None:
        """Send raw bytes to every open WebSocket."""

        def send() -> None:
            for ws in self._sockets:
                self._loop.create_task(ws.send_bytes(frame))

        self._call(send)

    def _call(self, function: Callable[[], None]) -> None:
        done = threading.Event()

        def run() -> None:
            try:
                function()
            finally:
                done.set()

        self._loop.call_soon_threadsafe(run)
        assert done.wait(10)

    def _cut(self) -> None:
        for connection in list(self._server.connections):
            with suppress(AttributeError):  # what is closed already has half a transport
                connection.transport.abort()
        for writer in self._writers:
            writer.transport.abort()

    # The loop's thread.

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._main())
        finally:
            self._loop.run_until_complete(self._end_all())
            self._loop.close()

    async def _main(self) -> None:
        self._stop = asyncio.Event()
        app = web.Application(client_max_size=1 << 30)
        app.router.add_get("/v1/link", self._link)
        app.router.add_post("/v1/poll", self._polled)
        app.router.add_post("/v1/login", self._login)
        app.router.add_route("HEAD", "/v1/datas/{uid}", self._head)
        app.router.add_get("/v1/datas/{uid}", self._get, allow_head=False)
        app.router.add_put("/v1/datas/{uid}", self._put)
        app.router.add_put("/v1/tasks/{uid}/outputs/{digest}", self._put)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self._context)
        await site.start()
        assert runner.server is not None
        self._server: Any = runner.server
        self.https_port = runner.addresses[0][1]
        framed = await asyncio.start_server(
            self._framed, "127.0.0.1", 0, ssl=self._context, ssl_shutdown_timeout=0.2
        )
        self.framed_port = framed.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        self._cut()
        framed.close()
        await runner.cleanup()

    async def _end_all(self) -> None:
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    # Handshake and conversation.

    def _challenge(self) -> tuple[str, bytes]:
        nonce = proof.new_nonce()
        challenge = m.Challenge(versions=(1,), server="a server", incarnation=1, nonce=nonce)
        return nonce, frame_of(0, (STDLIB.encode(challenge, 0),))

    def _answer(self, nonce: str, frame: bytes) -> tuple[m.Message, Peer | None]:
        """Welcome or refuse who said ``frame``."""
        _, raws = STDLIB.split(frame)
        hello = STDLIB.body(m.Hello, raws[0][2])
        assert isinstance(hello, m.Hello)
        self.hellos.append(hello)
        if self.refusal is not None:
            return self.refusal, None
        verifier = proof.verifier_of(SECRET)
        if not proof.is_proved(
            verifier, hello.proof, nonce, hello.kind, hello.identity, hello.session
        ):
            return m.Refused("not-authenticated", "you are not who you say"), None
        peer = self.peers.get(hello.session)
        is_resumed = peer is not None
        if peer is None:
            role = CLIENT if hello.kind == "client" else WORKER
            peer = self.peers[hello.session] = Peer(Exchange(SERVER, role, STDLIB))
        else:
            peer.exchange.resume(hello.seen)
        welcome = m.Welcome(
            resumed=is_resumed,
            seen=peer.exchange.acknowledged,
            alive_period=self.alive_period,
            ticket=TICKET,
            https_port=self.https_port if self.is_framed else 0,
            user="alice",
            level=1,
        )
        return welcome, peer

    def _hear(self, peer: Peer, frame: bytes) -> None:
        exchange = peer.exchange
        self.frames.append(frame)
        for number, message in exchange.receive(frame):
            if number:
                peer.heard.append(message)
            if isinstance(message, m.Started):
                exchange.say(m.Recall(message.task, message.epoch))
            elif isinstance(message, m.Request):
                exchange.say(m.Reply(number, {"verb": message.verb}))
            if self.acknowledges:
                exchange.handled(number)

    async def _link(self, request: web.Request) -> web.StreamResponse:
        if self.upgrade_status:
            return web.Response(status=self.upgrade_status)
        ws = web.WebSocketResponse(max_msg_size=m.MAX_FRAME, compress=False)
        await ws.prepare(request)
        if self.drops_websockets:
            request.transport.abort()  # type: ignore[union-attr]
            return ws
        self.doors.append("websocket")
        self._sockets.add(ws)
        try:
            await self._converse(ws)
        except (RemoteProtocolError, ConnectionError):
            pass
        finally:
            self._sockets.discard(ws)
        return ws

    async def _framed(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.doors.append("framed")
        self._writers.add(writer)
        ws = FramedSocket(reader, writer)
        self._sockets.add(ws)
        try:
            with suppress(RemoteProtocolError, ConnectionError):
                await self._converse(ws)
        finally:
            self._sockets.discard(ws)
            self._writers.discard(writer)
            writer.close()

    async def _converse(self, ws: web.WebSocketResponse | FramedSocket) -> None:
        nonce, challenge = self._challenge()
        await ws.send_bytes(challenge)
        first = await ws.receive()
        if first.type != WSMsgType.BINARY:
            return
        answer, peer = self._answer(nonce, first.data)
        await ws.send_bytes(frame_of(0, (STDLIB.encode(answer, 0),)))
        if peer is None:
            await ws.close()
            return
        due = asyncio.Event()
        due.set()
        peer.deliver = due.set
        sender = asyncio.ensure_future(self._send_due(ws, peer.exchange, due))
        try:
            async for received in ws:
                if received.type != WSMsgType.BINARY:
                    break
                try:
                    self._hear(peer, received.data)
                except RemoteProtocolError as error:
                    refused = m.Refused(error.code, str(error), 1.0)
                    await ws.send_bytes(frame_of(0, (STDLIB.encode(refused, 0),)))
                    raise
                due.set()
        finally:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)
            await ws.close()

    async def _send_due(
        self, ws: web.WebSocketResponse | FramedSocket, exchange: Exchange, due: asyncio.Event
    ) -> None:
        while True:
            await due.wait()
            due.clear()
            while (frame := exchange.frame()) is not None:
                await ws.send_bytes(frame)

    async def _polled(self, request: web.Request) -> web.Response:
        body = await request.read()
        name = request.headers.get("Glidebridge-Link")
        if name is None:
            self.doors.append("poll")
            name = secrets.token_hex(8)
            nonce, challenge = self._challenge()
            self.polls[name] = _Poll(nonce)
            return web.Response(body=challenge, headers={"Glidebridge-Link": name})
        poll = self.polls.get(name)
        if poll is None:
            return web.Response(status=410)
        try:
            return await self._answer_poll(name, poll, body, request)
        except RemoteProtocolError as error:
            del self.polls[name]
            refused = m.Refused(error.code, str(error), 1.0)
            return web.Response(body=frame_of(0, (STDLIB.encode(refused, 0),)))

    async def _answer_poll(
        self, name: str, poll: _Poll, body: bytes, request: web.Request
    ) -> web.Response:
        if poll.peer is None:
            answer, poll.peer = self._answer(poll.nonce, body)
            poll.newest = poll.done = 1
            if poll.peer is None:
                del self.polls[name]
            return web.Response(body=frame_of(0, (STDLIB.encode(answer, 0),)))
        turn = int(request.headers["Glidebridge-Turn"])
        poll.newest = max(poll.newest, turn)
        poll.due.set()  # ends the one that waits
        async with poll.turns:
            await poll.turns.wait_for(lambda: poll.done == turn - 1)
            try:
                frame = await self._turn_of(poll, poll.peer, turn, body, request)
            finally:
                poll.done = turn
                poll.turns.notify_all()
        return web.Response(body=frame or frame_of(poll.peer.exchange.acknowledged, ()))

    async def _turn_of(
        self, poll: _Poll, peer: Peer, turn: int, body: bytes, request: web.Request
    ) -> bytes | None:
        if body:
            self._hear(peer, body)
        peer.deliver = poll.due.set
        frame = peer.exchange.frame()
        if frame is None and turn == poll.newest:
            poll.due.clear()
            with suppress(TimeoutError):
                wait = min(30.0, float(request.headers["Glidebridge-Wait"]))
                await asyncio.wait_for(poll.due.wait(), wait)
            frame = peer.exchange.frame()
        return frame

    async def _login(self, request: web.Request) -> web.Response:
        question = await request.json()
        if question["password"] != "right":
            refusal = {"code": "not-authenticated", "reason": "wrong login or password"}
            return web.json_response(refusal, status=401)
        return web.json_response({"token": "t", "secret": SECRET, "user": "u", "level": 1})

    # Datas.

    def _data(self, request: web.Request) -> Stored:
        if request.headers.get("Authorization") != f"Ticket {TICKET}":
            raise web.HTTPUnauthorized
        self.transfers += 1
        return self.datas.setdefault(request.match_info["uid"], Stored())

    async def _head(self, request: web.Request) -> web.Response:
        data = self._data(request)
        headers = {"Upload-Offset": str(len(data.content))}
        if data.is_whole:
            headers["Content-Length"] = str(len(data.content))
        return web.Response(headers=headers)

    async def _get(self, request: web.Request) -> web.StreamResponse:
        data = self._data(request)
        if not data.is_whole:
            refusal = {"code": "unknown-object", "reason": "there is no such data"}
            return web.json_response(refusal, status=404)
        start = request.http_range.start or 0
        response = web.StreamResponse(status=206 if start else 200)
        size = len(data.content)
        response.headers["Content-Length"] = str(size - start)
        if start:
            response.headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        await response.prepare(request)
        end = size
        if self.cut_transfer_after is not None:
            end = min(size, start + self.cut_transfer_after)
        await response.write(bytes(data.content[start:end]))
        if end < size:
            await asyncio.sleep(0.05)  # what was written goes out before the cut
            request.transport.abort()  # type: ignore[union-attr]
        return response

    async def _put(self, request: web.Request) -> web.Response:
        data = self._data(request)
        if self.transfer_refusal is not None:
            status, code, reason = self.transfer_refusal
            return web.json_response({"code": code, "reason": reason}, status=status)
        first, last = request.headers.get("Content-Range"), None
        start, size = 0, request.content_length or 0
        if first is not None:
            span, _, whole = first[len("bytes ") :].partition("/")
            start, size = int(span.split("-")[0]), int(whole)
            last = int(span.split("-")[1])
        if start != len(data.content) and start:
            return web.Response(status=409, headers={"Upload-Offset": str(len(data.content))})
        del data.content[start:]
        taken = 0
        async for block in request.content.iter_any():
            data.content += block
            taken += len(block)
            if self.cut_transfer_after is not None and taken >= self.cut_transfer_after:
                request.transport.abort()  # type: ignore[union-attr]
                return web.Response()
        if len(data.content) < size:
            offset = str(len(data.content))
            return web.Response(status=202, headers={"Upload-Offset": offset})
        assert last is None or last == size - 1
        data.is_whole = True
        return web.Response(status=201)


class FramedSocket:
    """Frames over a stream, as a WebSocket gives them."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def send_bytes(self, frame: bytes) -> None:
        self._writer.write(len(frame).to_bytes(4, "big") + frame)
        await self._writer.drain()

    async def receive(self) -> WSMessage:
        try:
            while True:
                size = int.from_bytes(await self._reader.readexactly(4), "big")
                if size:
                    return WSMessage(WSMsgType.BINARY, await self._reader.readexactly(size), None)
                self._writer.write(bytes(4))
        except (asyncio.IncompleteReadError, ConnectionError):
            return WSMessage(WSMsgType.CLOSED, None, None)

    async def close(self) -> None:
        self._writer.close()

    def __aiter__(self) -> FramedSocket:
        return self

    async def __anext__(self) -> WSMessage:
        message = await self.receive()
        if message.type is WSMsgType.CLOSED:
            raise StopAsyncIteration
        return message


class _Poll:
    """A long-poll link as the server remembers it."""

    def __init__(self, nonce: str) -> None:
        self.nonce = nonce
        self.peer: Peer | None = None
        self.due = asyncio.Event()
        self.turns = asyncio.Condition()
        self.newest = self.done = 0


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
