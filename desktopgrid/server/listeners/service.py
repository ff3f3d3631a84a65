"""The server as its doors see it: the core, the database's threads, and what happens when a commit
fails.

All of this runs in the event loop's thread but for what is handed to threads: the journal's writer,
readers of the database, argon2 and the matcher.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine

from desktopgrid.model.errors import (
    AccessDenied,
    AlreadyThere,
    GridError,
    Unavailable,
)
from desktopgrid.model.objects import Site, Submitted
from desktopgrid.server import questions, requests, upkeep
from desktopgrid.server.audit import actor
from desktopgrid.server.changes import Change, RepliesForgotten
from desktopgrid.server.core import MOST_BACKLOG, Core, Peer
from desktopgrid.server.database import engine as database
from desktopgrid.server.database import reading, records
from desktopgrid.server.database.lookup import Lookup
from desktopgrid.server.journal import Journal
from desktopgrid.server.listeners.clock import utc_now
from desktopgrid.server.listeners.datagrams import DatagramDoor
from desktopgrid.server.listeners.identities import Identities
from desktopgrid.server.listeners.judging import Judge
from desktopgrid.server.listeners.passwords import Passwords
from desktopgrid.server.listeners.probe import Probe
from desktopgrid.server.loading import grid_from
from desktopgrid.server.outputs import Outputs
from desktopgrid.server.recorded import RECORDS_KEPT, Name, Recorded
from desktopgrid.server.requests import Reading
from desktopgrid.server.state import Grid, Outcome, Policy
from desktopgrid.server.watching import Watcher
from desktopgrid.wire import messages as m
from desktopgrid.wire.exchange import WORKER

logger = logging.getLogger(__name__)

T = TypeVar("T")
M = TypeVar("M", bound=m.Message)

SHARD = 0
RECOVERY_PAUSE = 1.0
"""Seconds between attempts to open the database again after a failed commit."""
LONGEST_COMMIT = 10.0
"""Seconds after which a database that does not finish a commit is said not to be well."""


class Service:
    """A running server: opened with :meth:`start`, ended with :meth:`stop`."""

    def __init__(
        self,
        name: str,
        engine: Engine,
        policy: Policy,
        sites: dict[str, Site],
        outputs: Outputs,
        watcher: Watcher,
    ) -> None:
        self.outputs, self.watcher = outputs, watcher
        self.name, self.engine, self.policy, self.sites = name, engine, policy, sites
        self.incarnation = 0
        self._core: Core | None = None
        self._trouble = "the server is starting"
        self._loop = asyncio.get_running_loop()
        self._readers = ThreadPoolExecutor(4, "reader")
        self.files = ThreadPoolExecutor(8, "files")
        self.parsers = ThreadPoolExecutor(1, "parser")
        self.passwords = Passwords(watcher)
        self.identities: Identities | None = None
        """Who looks at certificates, once that is open."""
        self._judge = Judge(self)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._writer: Connection | None = None
        self._lookup = Lookup(engine) if engine.dialect.name == "sqlite" else None
        self._room = asyncio.Event()
        self._room.set()
        self._is_stopping = False
        self._waiting: set[asyncio.Future[None]] = set()
        self._in_flight = 0
        self._is_leaving = False
        self._landed = asyncio.Event()
        self._probe = Probe(partial(self.in_thread, self._readers, self._ask_anything))
        self.https_port = 0
        """Where the worker/API port is, once it is open."""
        self.datagrams: DatagramDoor | None = None
        self.poll_links: dict[str, Any] = {}
        """The open connections of peers that poll, by name."""

    @property
    def core(self) -> Core:
        """The core; raises Unavailable while there is none, with the reason."""
        if self._core is None:
            raise Unavailable(self._trouble)
        return self._core

    async def probe(self) -> None:
        """Raises Unavailable, with the reason, while the server or its database does not answer."""
        core = self.core
        await self._probe.check()
        if core is not self._core:
            raise Unavailable(self._trouble)

    def check_ready(self) -> None:
        """Raises Unavailable, with the reason, while the server cannot store anything."""
        if self._is_leaving:
            raise Unavailable("the server is stopping")
        waits = self.core.journal.writing_for
        if waits > LONGEST_COMMIT:
            raise Unavailable(f"the database has been at a commit for {waits:.0f} s")

    def is_present(self, core: Core) -> bool:
        """Whether ``core`` is the one that serves."""
        return core is self._core

    # --- life -------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Take the shard, load the grid and look after it from now on."""
        await self._open()
        self.spawn(self._look_after())

    async def _open(self) -> None:
        core = await self.in_thread(self._readers, self._load)
        self.incarnation = core.grid.incarnation
        self._core = core
        gc.freeze()  # what was loaded lives long; no need to look at it again and again
        logger.info(
            "Serving as incarnation %d with %d open works", self.incarnation, len(core.grid.works)
        )

    def _load(self) -> Core:
        if self._writer is not None:
            database.let_go(self._writer)  # an earlier core's, whose commit failed
        with self.engine.connect() as connection:
            with database.transaction(connection):
                shard = records.take(connection, SHARD, socket.gethostname())
            with database.transaction(connection):
                snapshot = reading.load(connection, shard)
        grid = grid_from(snapshot, self.policy, shard.incarnation, self.sites, utc_now())
        recorded: dict[str, Recorded] = {}
        forgotten: dict[str, int] = {}
        for (session, sequence), reply in snapshot.replies.items():
            if reply.recorded_at < utc_now() - RECORDS_KEPT:
                forgotten[session] = max(sequence, forgotten.get(session, 0))
                continue
            kept = recorded.setdefault(session, Recorded(reply.user, {}, reply.recorded_at))
            kept.bodies[sequence] = reply.body.encode()
            kept.last_at = max(kept.last_at, reply.recorded_at)
        recorded = dict(sorted(recorded.items(), key=lambda each: each[1].last_at))
        writer = self._writer = self.engine.connect()

        def write(changes: list[Change]) -> None:
            started_at = time.monotonic()
            with database.transaction(writer):
                records.record(writer, shard, changes)
            self.watcher.committed(time.monotonic() - started_at, len(changes))

        journal = Journal(
            write,  # type: ignore[arg-type]
            lambda position: self._soon(self._durable, core, position),
            lambda error: self._soon(self._fail, core, error),
            partial(database.let_go, writer),
        )
        if forgotten:
            journal.put([RepliesForgotten(*each) for each in forgotten.items()])
        core = Core(grid, journal, recorded, self.watcher)
        return core

    def _soon(self, do: Callable[..., None], *args: Any) -> None:
        """From another thread: have ``do`` done in the loop's."""
        self._loop.call_soon_threadsafe(do, *args)

    def _durable(self, core: Core, position: int) -> None:
        if core is self._core or self._is_stopping:
            core.durable(position)
        if core.journal.backlog < MOST_BACKLOG:
            self._room.set()

    def _fail(self, core: Core, error: Exception) -> None:
        """A commit failed: answer nobody, forget what memory believes, load the database again
        (DESIGN.md, section 3).
        """
        if core is not self._core:
            return
        self._core = None
        self._trouble = f"the server cannot store anything at present: {error}"
        self._room.set()
        core.end_all(Unavailable.code, self._trouble)
        self._disappoint(self._trouble)
        if not isinstance(error, records.ShardLost):
            self.spawn(self._recover())

    async def _recover(self) -> None:
        while self._core is None and not self._is_stopping:
            await asyncio.sleep(RECOVERY_PAUSE)
            try:
                await self._open()  # taking the shard is the probe write
            except GridError as error:
                self._trouble = f"the server cannot store anything at present: {error}"
                logger.warning("The database does not take a probe write yet: %s", error)

    @contextmanager
    def in_flight(self) -> Iterator[None]:
        """What happens inside is finished before the server stops; raises Unavailable if it stops
        already.
        """
        if self._is_leaving:
            raise Unavailable("the server is stopping")
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._landed.set()

    async def land(self, patience: float) -> None:
        """Let what is in flight come to its end, but no longer than ``patience`` seconds; let
        nothing new begin.
        """
        self._is_leaving = True
        if self._in_flight:
            self._landed.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._landed.wait(), patience)

    async def stop(self) -> None:
        """Write what was decided, tell everybody, and end."""
        self._is_stopping = True
        for task in list(self._tasks):
            task.cancel()
        core, self._core, self._trouble = self._core, None, "the server is stopping"
        if core is not None:
            await self.in_thread(self._readers, core.journal.close)
            # What a failed last commit has not written is not acknowledged.
            core.durable(core.journal.written)
            core.end_all(Unavailable.code, self._trouble)
        self._disappoint(self._trouble)
        for pool in (self._readers, self.files, self.parsers):
            pool.shutdown(wait=False)
        self.passwords.close()
        self._judge.close()
        if self._lookup is not None:
            self._lookup.close()

    def change(self, decide: Callable[[Grid, Outcome], None]) -> None:
        """A change that no message asked for; none where nothing can be stored at present."""
        if self._core is not None:
            self._core.change(decide)

    async def _look_after(self) -> None:
        while True:
            await asyncio.sleep(max(0.2, min(5.0, self.policy.alive_period / 4)))
            if self._core is not None:
                now = utc_now()
                self._core.change(partial(_look_after, now))
                self._core.forget_idle(now)
                self._judge.judge_soon(self._core)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run ``work`` beside everything else."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error(
                "A duty of the server ended: %s", task.exception(), exc_info=task.exception()
            )

    async def in_thread(self, pool: ThreadPoolExecutor, do: Callable[..., T], *args: Any) -> T:
        """What ``do`` gives, which waits for something, in a thread of ``pool``."""
        try:
            working = self._loop.run_in_executor(pool, do, *args)
        except RuntimeError as error:  # the pool takes no more
            raise Unavailable(self._trouble) from error
        return await working

    async def until_durable(self) -> None:
        """Everything decided so far is on disk; raises Unavailable where it will never be."""
        core, future = self.core, self._loop.create_future()
        self._waiting.add(future)
        future.add_done_callback(self._waiting.discard)
        core.when_durable(partial(_resolve, future))
        await future

    def _disappoint(self, reason: str) -> None:
        """Whoever waits for what was decided waits in vain."""
        for future in list(self._waiting):
            if not future.done():
                future.set_exception(Unavailable(reason))

    # --- sessions ---------------------------------------------------------------------------------

    async def open(self, hello: m.Hello, nonce: str, address: str) -> tuple[Peer, m.Welcome]:
        """The session that ``hello`` from ``address`` opens; raises a GridError. It is durable when
        this returns.
        """
        peer, welcome = self.core.open(hello, nonce, utc_now(), address)
        await self.until_durable()
        self._judge.judge_soon(self.core)
        if self.datagrams is not None and peer.kind == WORKER:
            self.datagrams.expect(peer)
            welcome = replace(welcome, udp_port=self.datagrams.port)
        return peer, welcome

    def lives(self, peer: Peer) -> None:
        """``peer`` said so by the way; a session that is over stays over."""
        if self._core is not None and self._core.peers.get(peer.session) is peer:
            self._core.lives(peer, utc_now())

    def attach(
        self,
        peer: Peer,
        send: Callable[[bytes], None],
        close: Callable[[str, str], None],
    ) -> None:
        """``peer`` is connected from now on."""
        peer.send, peer.close = send, close
        core = self.core
        core.flush(peer)

    def disconnected(self, peer: Peer) -> None:
        """The connection of ``peer`` is gone."""
        if self._core is not None:
            self._core.disconnected(peer)

    async def frame(self, peer: Peer, frame: bytes) -> None:
        """Handle one frame of ``peer``; raises a GridError where the connection must be closed."""
        core = self.core
        now = utc_now()
        heard = core.heard(peer, frame, now)
        try:
            if peer.kind == WORKER:
                await self._check_outputs(heard)
                core.worker_said(peer, heard, now)
            else:
                owners = await self._owners(core, heard)
                for sequence, message in heard:
                    await self._answer(core, peer, sequence, message, owners)
        except Exception:
            # What counts as heard was not handled: with the session gone, an honest peer says it
            # again in a new one.
            core.forget(peer)
            raise
        await self._keep_up(core)

    async def request(
        self, credential: str, request: m.Request, address: str, key: str = ""
    ) -> dict[str, Any]:
        """The answer to a request that came outside of any session, durable when this returns;
        raises a GridError, and then nothing was changed.

        ``key``, if not empty: asking the same again under it has no second effect.
        """
        core = self.core
        who = core.present(credential, utc_now())
        by = actor(core.grid, who, credential, address)
        name = Name.of(who.user, key, request) if key else None
        answer: dict[str, Any] | Reading | None
        try:
            answer = core.answer_to(name)
            is_again = answer is not None
            if answer is None:
                answer = await self._asked(core, credential, name, request)
        except GridError as error:
            # Also a refusal may follow from what is not on disk yet.
            await self.until_durable()
            self.watcher.requested(by, request, {}, error.code)
            raise
        await self.until_durable()
        await self._keep_up(core)
        told = await self.ask(answer) if isinstance(answer, Reading) else answer
        if not is_again:
            self.watcher.requested(by, request, told)
        return told

    async def _asked(
        self, core: Core, credential: str, name: Name | None, request: m.Request
    ) -> dict[str, Any] | Reading:
        requests.permitted(core.present(credential, utc_now()), request)
        ready = await self._prepare(request)
        out = await self._learnt(core, ready, await self._owners(core, [(0, ready)]))
        if core is not self.core:
            raise Unavailable("the server loaded its database again; ask once more")
        # Who asks may have been revoked, or changed, in the meantime.
        return core.asked(core.present(credential, utc_now()), name, ready, utc_now(), out)

    async def _keep_up(self, core: Core) -> None:
        """Have judged what was asked, and wait for the disk if it is far behind."""
        if core.grid.scheduler.unjudged and self.is_present(core):
            self._judge.judge_soon(core)
        if core.journal.backlog > MOST_BACKLOG:
            self._room.clear()
            await self._room.wait()

    async def _check_outputs(self, heard: list[tuple[int, m.Message]]) -> None:
        """A task's outputs are what it has uploaded, and nothing else; raises AccessDenied.

        Of a task that is over nothing counts any more, and what it has uploaded is forgotten.
        """
        live = self.core.grid.tasks
        for _, message in heard:
            if isinstance(message, m.Finished) and message.outputs and message.task in live:
                for output in message.outputs:
                    if not await self.in_thread(
                        self.files, self.outputs.has, message.task, output.sha256
                    ):
                        raise AccessDenied(
                            f"task {message.task} has not uploaded {output.name[:80]!r}"
                        )

    async def _owners(self, core: Core, heard: list[tuple[int, m.Message]]) -> dict[str, str]:
        """The owners of the submissions in ``heard`` that memory has not and the database has:
        their names are taken.
        """
        uids = [
            message.uid
            for _, message in heard
            if isinstance(message, m.Submit) and message.uid not in core.grid.batches
        ]
        if not uids:
            return {}
        if self._lookup is not None:
            # By key, in a file that is at hand: handing it to a thread would take longer.
            return self._lookup.owners_of_submissions(uids)
        return await self.in_thread(self._readers, self._ask_owners, uids)

    async def _answer(
        self,
        core: Core,
        peer: Peer,
        sequence: int,
        message: m.Message,
        owners: dict[str, str],
    ) -> None:
        try:
            if core.on_record(peer, sequence) is None:
                if isinstance(message, m.Request):
                    requests.permitted(peer.who, message)
                message = await self._prepare(message)
            out = await self._learnt(core, message, owners)
            asked = core.client_said(peer, sequence, message, utc_now(), out)
            if asked is not None:
                await self.until_durable()
                core.reply(peer, sequence, message, await self.ask(asked))
        except GridError as error:
            core.refuse(peer, sequence, message, error)

    async def _learnt(self, core: Core, message: m.Message, owners: dict[str, str]) -> Outcome:
        """An outcome with what had to be found out before ``message`` is decided on."""
        out = Outcome(ended=await self._ended_works(core, message))
        if isinstance(message, m.Submit):
            out.submitted = await self._submitted(core, message, owners)
        elif isinstance(message, m.Delegate) and message.kind == "proxy" and self.identities:
            out.shown = await self.identities.delegated(message.content)
        return out

    async def _ended_works(self, core: Core, message: m.Message) -> dict[str, str]:
        """The works that a removal speaks of and that are over, each with its owner."""
        if not isinstance(message, m.Remove):
            return {}
        grid = core.grid
        known = (grid.works, grid.applications, grid.datas, grid.bags, grid.users)
        uids = [uid for uid in message.uids if not any(uid in table for table in known)]
        if not uids:
            return {}
        await self.until_durable()
        return await self.in_thread(self._readers, self._ask_ended, uids)

    async def _submitted(
        self, core: Core, message: m.Submit, owners: dict[str, str]
    ) -> Submitted | None:
        """What the database has of a submission that may have been here before."""
        if message.uid not in owners and not core.grid.may_have_forgotten(message):
            return None
        await self.until_durable()
        return await self.in_thread(self._readers, self._ask_submitted, message)

    async def _prepare(self, message: M) -> M:
        """What must be known, and takes time to learn, before a decision."""
        if isinstance(message, m.Submit):
            requirements = message.description.get("requirements")
            if isinstance(requirements, str) and requirements:
                await self._judge.check(requirements)
        elif isinstance(message, m.SubmitPilots):
            await self.in_thread(self._readers, self._check_stamps, list(message.pilots))
        elif isinstance(message, m.SendUser) and message.password:
            return replace(message, password=await self.passwords.hash(message.password))
        return message

    async def ask(self, asked: Reading) -> dict[str, Any]:
        """What the database says; raises a GridError."""
        return await self.in_thread(self._readers, self._ask, asked)

    def _ask(self, asked: Reading) -> dict[str, Any]:
        with self.engine.connect() as connection, database.transaction(connection):
            return questions.answer(connection, asked)

    def _ask_anything(self) -> None:
        with self.engine.connect() as connection, database.transaction(connection):
            records.ask_anything(connection)

    def _ask_owners(self, uids: list[str]) -> dict[str, str]:
        with self.engine.connect() as connection, database.transaction(connection):
            return questions.submissions_there(connection, uids)

    def _ask_ended(self, uids: list[str]) -> dict[str, str]:
        with self.engine.connect() as connection, database.transaction(connection):
            return reading.owners_of_ended_works(connection, uids)

    def _ask_submitted(self, asked: m.Submit) -> Submitted | None:
        with self.engine.connect() as connection, database.transaction(connection):
            return questions.submitted(connection, asked)

    def _check_stamps(self, stamps: list[str]) -> None:
        with self.engine.connect() as connection, database.transaction(connection):
            taken = reading.stamps_taken(connection, stamps)
        if taken:
            raise AlreadyThere(f"there is a pilot {min(taken)} already")


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _look_after(now: datetime, grid: Grid, out: Outcome) -> None:
    upkeep.look_after(grid, now, out)
