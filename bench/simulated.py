"""Simulated peers of the server: they speak the real protocol over real TLS, and run nothing.

Everything on the wire comes from ``desktopgrid.wire``, so that it cannot drift from the protocol.
Many of them share one event loop in a process of their own; they spend as little of the processor
as they can, since the server that is measured needs it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self, TypeVar

import aiohttp

from desktopgrid.link.identity import Identity
from desktopgrid.link.tls import pinned
from desktopgrid.model.errors import RemoteProtocolError
from desktopgrid.model.objects import Facts, digest, new_uid
from desktopgrid.server.codec import CODEC
from desktopgrid.wire import messages as m
from desktopgrid.wire.codec import frame_of
from desktopgrid.wire.exchange import CLIENT, SERVER, WORKER, Exchange
from desktopgrid.wire.proof import prove

T = TypeVar("T")

LINK = "/v1/link"
DATAS = "/v1/datas/"
AT_ONCE = 50
"""Handshakes under way at the same time: a server that is flooded with them serves nobody else."""


class RefusedByServer(Exception):
    """The server refused the handshake or ended the session; the text is its reason."""


@contextlib.asynccontextmanager
async def http_session(identity: Identity) -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP client that trusts the grid's CA alone, with as many connections as are asked for."""
    connector = aiohttp.TCPConnector(ssl=pinned(identity.ca), limit=0)
    async with aiohttp.ClientSession(identity.servers[0], connector=connector) as http:
        yield http


class Link:
    """One session over one WebSocket; subclasses say what they do about a message."""

    me = ""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, welcome: m.Welcome) -> None:
        self.socket, self.welcome = socket, welcome
        self.exchange = Exchange(self.me, SERVER, CODEC)
        self.exchange.received = 0
        self._reading = asyncio.ensure_future(self._read())

    @classmethod
    async def open(
        cls, http: aiohttp.ClientSession, identity: Identity, **hello: Any
    ) -> tuple[aiohttp.ClientWebSocketResponse, m.Welcome]:
        """A connection with its handshake done; raises RefusedByServer."""
        socket = await http.ws_connect(LINK, max_msg_size=2 * m.MAX_FRAME, compress=0)
        challenge = _only(await socket.receive_bytes(), m.Challenge)
        session = new_uid()
        said = m.Hello(
            version=m.VERSIONS[0],
            kind=cls.me,
            identity=identity.identity,
            proof=prove(identity.secret, challenge.nonce, cls.me, identity.identity, session),
            session=session,
            software="bench",
            **hello,
        )
        await socket.send_bytes(frame_of(0, [CODEC.encode(said, 0)]))
        return socket, _only(await socket.receive_bytes(), m.Welcome)

    def hear(self, sequence: int, message: m.Message) -> None:
        """Act on a message of the server."""
        raise NotImplementedError

    def after_frame(self) -> None:
        """Act on what the frame acknowledged."""

    async def flush(self) -> None:
        """Send all that is to be said."""
        while (frame := self.exchange.frame()) is not None:
            await self.socket.send_bytes(frame)

    async def close(self) -> None:
        """End the connection; the server keeps the session."""
        self._reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reading
        await self.socket.close()

    def check(self) -> None:
        """Raise what ended the connection, if it has ended."""
        if self._reading.done():
            self._reading.result()
            raise RefusedByServer("the server closed the connection")

    async def _read(self) -> None:
        exchange = self.exchange
        async for frame in self.socket:
            try:
                heard = exchange.receive(frame.data)
            except RemoteProtocolError:
                _refuse_refusal(frame.data)
                raise
            for sequence, message in heard:
                self.hear(sequence, message)
                exchange.handled(sequence)
            self.after_frame()
            await self.flush()


def _only(frame: bytes, kind: type[Any]) -> Any:
    _refuse_refusal(frame)
    _, [(_, _, body)] = CODEC.split(frame)
    return CODEC.body(kind, body)


def _refuse_refusal(frame: bytes) -> None:
    _, raws = CODEC.split(frame)
    for verb, _, body in raws:
        if verb == m.Refused.verb:
            refused = CODEC.body(m.Refused, body)
            assert isinstance(refused, m.Refused)
            raise RefusedByServer(f"{refused.code}: {refused.reason}")


@dataclass
class Fleet:
    """What simulated workers have in common: what they do about a task, and how many they had.

    While the fleet ``holds``, its workers keep their tasks; ``release`` ends these. ``on_assign``
    hears of each task, ``on_frame`` of each frame that a worker has acted on.
    """

    holds: bool = False
    assigned: int = 0
    completed: int = 0
    on_assign: Callable[[m.Assign], None] | None = None
    on_frame: Callable[[], None] | None = None


class Worker(Link):
    """A worker whose tasks end the moment they are assigned, with exit code 0."""

    me = WORKER

    def __init__(
        self, socket: aiohttp.ClientWebSocketResponse, welcome: m.Welcome, fleet: Fleet, host: str
    ) -> None:
        self.fleet, self.host = fleet, host
        self.held: list[m.Assign] = []
        self.unacknowledged: deque[tuple[int, Callable[[], None]]] = deque()
        super().__init__(socket, welcome)

    @classmethod
    async def connect(
        cls, http: aiohttp.ClientSession, identity: Identity, fleet: Fleet, cores: int = 1
    ) -> Self:
        """A worker with ``cores`` slots on a host of its own."""
        host = new_uid()
        facts = Facts(f"simulated-{host[-8:]}", "x86_64", "linux", cores, 1024 * cores, 10_240)
        socket, welcome = await cls.open(http, identity, host=host, facts=asdict(facts))
        return cls(socket, welcome, fleet, host)

    def hear(self, sequence: int, message: m.Message) -> None:
        """Answer a task, or keep it while the fleet holds."""
        if not isinstance(message, m.Assign):
            return
        self.fleet.assigned += 1
        if self.fleet.on_assign is not None:
            self.fleet.on_assign(message)
        if self.fleet.holds:
            self.held.append(message)
        else:
            self.finish(message)

    def say(self, message: m.Message, when_durable: Callable[[], None]) -> None:
        """Say ``message`` with the next flush; call ``when_durable`` when it is acknowledged."""
        self.unacknowledged.append((self.exchange.say(message), when_durable))

    def finish(self, task: m.Assign) -> None:
        """Say that ``task`` ended well."""
        self.say(m.Finished(task.task, task.epoch, exit_code=0), self._count)

    def _count(self) -> None:
        self.fleet.completed += 1

    async def release(self) -> None:
        """End the tasks that were held."""
        held, self.held = self.held, []
        for task in held:
            self.finish(task)
        await self.flush()

    async def say_alive(self) -> None:
        """Renew the lease."""
        alive = CODEC.encode(m.Alive(), 0)
        await self.socket.send_bytes(frame_of(self.exchange.acknowledged, [alive]))

    def after_frame(self) -> None:
        """Tell who waits for it what the server has made durable."""
        waiting = self.unacknowledged
        acknowledged = self.exchange.last_said - self.exchange.unacknowledged
        while waiting and waiting[0][0] <= acknowledged:
            waiting.popleft()[1]()
        if self.fleet.on_frame is not None:
            self.fleet.on_frame()

    async def leave(self) -> None:
        """Say bye, so that its tasks are rescheduled now, and close."""
        self.exchange.say(m.Bye("the benchmark is over"))
        await self.flush()
        await self.close()


class RequestRefused(Exception):
    """The server answered a request with a failure; the text says which and why."""


class Client(Link):
    """A client that asks and waits."""

    me = CLIENT

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, welcome: m.Welcome) -> None:
        self._asked: dict[int, asyncio.Future[dict[str, Any]]] = {}
        super().__init__(socket, welcome)

    @classmethod
    async def connect(cls, http: aiohttp.ClientSession, identity: Identity) -> Self:
        """A client's session."""
        return cls(*await cls.open(http, identity))

    def hear(self, sequence: int, message: m.Message) -> None:
        """Give an answer to who waits for it."""
        if isinstance(message, m.Reply):
            self._asked.pop(message.to).set_result(message.body)
        elif isinstance(message, m.Failure):
            refusal = RequestRefused(f"{message.code}: {message.reason}")
            self._asked.pop(message.to).set_exception(refusal)

    async def ask(self, request: m.Request) -> dict[str, Any]:
        """The server's answer; raises RequestRefused."""
        sequence = self.exchange.say(request)
        answer = self._asked[sequence] = asyncio.get_running_loop().create_future()
        await self.flush()
        await asyncio.wait({answer, self._reading}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            self.check()
        reply: dict[str, Any] = answer.result()
        return reply

    async def insert_application(self, http: aiohttp.ClientSession) -> str:
        """The UID of a new application that runs everywhere; the workers never run it."""
        content = b"#!/bin/true\n"
        data, application = new_uid(), new_uid()
        announced = m.SendData(data, f"true-{data[-8:]}", digest(content), len(content))
        if not (await self.ask(announced)).get("available"):
            headers = {"Authorization": f"Ticket {self.welcome.ticket}"}
            async with http.put(DATAS + data, data=content, headers=headers) as stored:
                if stored.status != 201:
                    raise RequestRefused(f"PUT {DATAS}: {stored.status} {await stored.text()}")
        name = f"true-{application[-8:]}"
        await self.ask(m.SendApplication(application, name, "any", "any", data))
        return application

    async def submit(self, application: str, count: int, portion: int, **rest: Any) -> None:
        """Submit ``count`` works, at most ``portion`` a message, a few messages at a time."""
        submission, description = new_uid(), {"application": application, **rest}

        async def part(first: int) -> None:
            arguments = ((),) * min(portion, count - first)
            request = m.Submit(submission, description, arguments, first=first)
            await self.ask(request)

        # The first part makes the submission; a few in flight keep the server busy.
        await part(0)
        ahead = range(portion, count, portion)
        await each_of(ahead, part, at_once=4)


async def each_of(items: Sequence[T], act: Callable[[T], Awaitable[object]], at_once: int) -> None:
    """Await ``act`` for each item, ``at_once`` at a time."""
    remaining = iter(items)

    async def lane() -> None:
        for item in remaining:
            await act(item)

    async with asyncio.TaskGroup() as lanes:
        for _ in range(min(at_once, len(items))):
            lanes.create_task(lane())


async def connect_workers(
    http: aiohttp.ClientSession, identity: Identity, fleet: Fleet, count: int, cores: int = 1
) -> list[Worker]:
    """``count`` workers of ``fleet``, each with ``cores`` slots."""
    workers: list[Worker] = []

    async def connect(_: int) -> None:
        workers.append(await Worker.connect(http, identity, fleet, cores))

    await each_of(range(count), connect, AT_ONCE)
    return workers


async def stay_alive(workers: Sequence[Worker]) -> None:
    """Say alive for all ``workers``, spread over each period; runs until it is cancelled."""
    period = workers[0].welcome.alive_period
    rest = random.sample(workers, len(workers))
    while True:
        for worker in rest:
            await worker.say_alive()
            await asyncio.sleep(period / 2 / len(rest))
