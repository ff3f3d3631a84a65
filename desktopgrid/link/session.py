"""A session with the grid's server that outlives its connections.

Theory of operation. One thread (the link's) connects, shakes hands, reads, and hands each message
to the owner; when the connection breaks it waits a little (:mod:`.backoff`) and connects again, to
the next server of the list if need be. Any thread says something: the message is numbered and kept
under one lock, and sent in that very thread, unless another one is sending already: that one then
finds the message and takes it along. So a message alone goes out at once, and many at a time share
a frame.

What was said while the connection was down, or was lost with it, goes out after the next handshake:
wire.exchange knows which that is.
"""

from __future__ import annotations

import logging
import os
import random
import secrets
import threading
import time
from collections.abc import Mapping
from typing import Any, Callable

from desktopgrid.link.address import ServerName
from desktopgrid.link.backoff import Backoff
from desktopgrid.link.connection import Connection
from desktopgrid.link.datagrams import Datagrams
from desktopgrid.link.errors import ConnectionLost, ForeignServer, RefusedByServer
from desktopgrid.link.handshake import Dialler, refusal_in
from desktopgrid.link.identity import Identity
from desktopgrid.link.longpoll import LongPoll
from desktopgrid.link.transfer import Transfers
from desktopgrid.model.errors import GridError, RemoteProtocolError, Unavailable
from desktopgrid.wire.codec import STDLIB, frame_of
from desktopgrid.wire.datagram import Key
from desktopgrid.wire.exchange import CLIENT, SERVER, WORKER, Exchange
from desktopgrid.wire.messages import Alive, Bye, Message, Welcome

logger = logging.getLogger(__name__)

COMPANY = 0.02
"""Seconds that a message which may wait has for others to join it in its frame."""

SOFTWARE = "glidebridge"

ACK_DELAY = 0.05
"""Seconds that an acknowledgement waits for something to travel with. Most go with the next result
or request and cost no frame.
"""

MAX_ACKS_DUE = 256
"""Messages heard after which an acknowledgement waits no longer."""

BURST = 8
"""Frames that a thread sends before it leaves what others add to the link's thread."""

SILENT_PERIODS = 3
"""Alive periods without a byte from the server after which the connection is dead."""

LASTING = 10.0
"""Seconds after which a connection that breaks counts as one that worked: the back-off starts anew.
"""


def _ignore(_: Any) -> None:
    """What an owner does who is not interested."""


class Link:
    """A session with the grid's server, kept up over broken connections (WebSocket; long poll where
    that fails).

    ``on_message(number, message)`` is called in the link's thread, in order, each message once in a
    session; when it returns the message counts as handled. ``on_open(welcome)`` is called before
    anything else is heard on a new connection, ``on_down(reason)`` when an open one is lost,
    ``on_end(error)`` when the link gives up for good: the server refused us, or ``keeps_trying`` is
    false and no server could be reached. ``hello()`` gives further fields of Hello for each
    handshake. ``proxy``: the configuration's word, which goes before the environment's. With
    ``datagrams``, a server that takes them hears that we live also while the connection is down,
    and one that is polled wakes us.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        on_message: Callable[[int, Message], None],
        on_open: Callable[[Welcome], None] = _ignore,
        on_down: Callable[[str], None] = _ignore,
        on_end: Callable[[GridError], None] = _ignore,
        hello: Callable[[], Mapping[str, Any]] = dict,
        session: str | None = None,
        software: str = SOFTWARE,
        keeps_trying: bool = True,
        proxy: str | None = None,
        backoff: Backoff = Backoff(),  # noqa: B008 (a frozen value)
        datagrams: bool = False,
    ) -> None:
        self.identity = identity
        self.session = session or secrets.token_hex(16)
        self.keeps_trying = keeps_trying
        self._on_message, self._on_open = on_message, on_open
        self._on_down, self._on_end = on_down, on_end
        self._backoff = backoff
        self._wants_datagrams = datagrams
        self._datagrams: Datagrams | None = None
        role = CLIENT if identity.kind == "client" else WORKER
        self._exchange = Exchange(role, SERVER, STDLIB)
        self._dialler = Dialler(hello, software, proxy, os.environ)
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._send_at: float | None = None  # until then what is unsent waits for company
        self._connection: Connection | None = None  # the open one
        self._is_sending = False  # a thread sends what is unsent, or the reading one will
        self._is_left_to_reader = False  # the socket was full
        self._welcome: Welcome | None = None
        self._server: ServerName | None = None
        self._ended: GridError | None = None
        self._trouble = "not started"
        self._troubles: dict[ServerName, str] = {}
        self._are_all_foreign = False
        self._stop = threading.Event()
        self._is_leaving = False
        self._thread = threading.Thread(target=self._run, name="link", daemon=True)
        self.transfers = Transfers(self)

    def __repr__(self) -> str:
        state = "open" if self.is_open else f"down ({self._trouble})"
        who = f"{self.identity.kind} {self.identity.identity}"
        return f"<Link {who} to {self._server}: {state}, {self._exchange}>"

    # What the owner asks.

    @property
    def is_open(self) -> bool:
        """Whether what is said now goes out now."""
        return self._connection is not None

    @property
    def trouble(self) -> str:
        """Why the link is not open now; empty while it is."""
        return "" if self.is_open else self._trouble

    @property
    def ended(self) -> GridError | None:
        """Why the link gave up for good, if it did."""
        return self._ended

    @property
    def unacknowledged(self) -> int:
        """How many messages the server has not acknowledged."""
        return self._exchange.unacknowledged

    @property
    def welcome(self) -> Welcome | None:
        """What the server said at the last handshake."""
        return self._welcome

    @property
    def server(self) -> ServerName | None:
        """The server that answered last."""
        return self._server

    @property
    def proxy(self) -> str | None:
        """What the configuration says about a proxy."""
        return self._dialler.proxy

    # What the owner does.

    def start(self) -> None:
        """Begin to connect, in a thread of the link's own."""
        self._thread.start()

    def wait_open(self, timeout: float) -> Welcome:
        """Wait for an open connection; raises what the server refused with, or Unavailable. Where
        all who answer are not of this grid there is nothing to wait for.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._connection or self._ended or self._are_all_foreign, timeout
            )
            if self._ended is not None:
                raise self._ended
            if self._are_all_foreign:
                raise Unavailable(self._trouble)
            if self._connection is None or self._welcome is None:
                raise Unavailable(f"no server has answered within {timeout:g} s: {self._trouble}")
            return self._welcome

    def say(self, message: Message, may_wait: bool = False) -> int:
        """Number ``message``, keep it until it is acknowledged, send it if the link is open; raises
        LimitExceeded. Never waits for the network.

        A message that ``may_wait`` goes out within COMPANY seconds, in one frame with those that
        come meanwhile: a frame costs both sides a tenth of a millisecond, whatever is in it.
        """
        with self._lock:
            number = self._exchange.say(message)
            connection = self._connection
            if self._is_sending or connection is None:
                return number
            if may_wait:
                due = time.monotonic() + COMPANY
                if self._send_at is not None and self._send_at <= due:
                    return number
                self._send_at = due
            else:
                frame = self._next_frame()
        if may_wait:
            connection.wake()
        else:
            self._send(connection, frame)
        return number

    def alive(self, message: Alive) -> None:
        """Say ``message`` outside the numbering; it is dropped when the link is down."""
        encoded = STDLIB.encode(message, 0)
        datagrams = self._datagrams
        if datagrams is not None:
            datagrams.alive()
        with self._lock:
            connection = self._connection
            if connection is None or connection.is_full:
                return
            frame = frame_of(self._exchange.acknowledged, (encoded,))
            self._exchange.is_ack_due = False
        try:
            connection.send(frame)
        except ConnectionLost:
            connection.abort()

    def close(self, timeout: float = 5.0, reason: str = "") -> None:
        """Say ``bye``, wait until everything is acknowledged or the time is up, and close. The link
        cannot be started again.
        """
        has_session = self._welcome is not None and self._ended is None
        if has_session and not self._is_leaving:
            self._is_leaving = True
            try:
                self.say(Bye(reason=reason))
            except (GridError, OSError) as error:
                logger.warning("Could not say bye: %s", error)
        if not self._thread.ident:
            return
        if threading.current_thread() is not self._thread:
            with self._changed:
                if has_session:
                    self._changed.wait_for(self._has_nothing_to_wait_for, timeout)
        self._is_leaving = True
        self._stop.set()
        with self._lock:
            connection = self._connection
        if connection is not None:
            connection.wake()
        if threading.current_thread() is not self._thread:
            self._thread.join(max(timeout, 1.0))
        if self._datagrams is not None:
            self._datagrams.close()
        self.transfers.close()

    def _has_nothing_to_wait_for(self) -> bool:
        """Whether waiting would help nobody: a bye that cannot be delivered is not worth it."""
        waiting = self._exchange.unacknowledged
        return not waiting or self._ended is not None or (waiting == 1 and self._connection is None)

    # Sending: in the thread that says something, or in the link's.

    def _send(self, connection: Connection, frame: bytes | None) -> None:
        """Send ``frame`` and what others add meanwhile. The caller has set ``_is_sending``."""
        try:
            for burst in range(BURST):
                if frame is None:
                    return
                is_out = connection.send(frame)
                with self._lock:
                    if connection is not self._connection:
                        return
                    if not self._exchange.unsent and is_out:
                        self._is_sending = False
                        return
                    if not is_out or burst == BURST - 1:
                        self._is_left_to_reader = True
                        break
                    frame = self._next_frame()
        except ConnectionLost:
            # Nothing is lost: the reading thread finds out, and all is sent again after the next
            # handshake.
            connection.abort()
            return
        connection.wake()

    def _next_frame(self) -> bytes | None:
        """All that is to be said, whatever waited for company; the lock is held."""
        self._send_at = None
        frame = self._exchange.frame()
        self._is_sending = frame is not None
        return frame

    def _send_due(self, connection: Connection, heard: int) -> float | None:
        """In the link's thread, which has just heard so many messages: go on where another thread
        stopped, send what has waited long enough; when to look again, if something waits.
        """
        now = time.monotonic()
        with self._lock:
            exchange = self._exchange
            if self._is_left_to_reader:
                if connection.is_full:
                    return None
                self._is_left_to_reader = False
            elif self._is_sending:
                return now + ACK_DELAY if exchange.is_ack_due else None
            elif self._send_at is None and not exchange.unsent:
                if not exchange.is_ack_due:
                    return None
                if heard < MAX_ACKS_DUE:
                    self._send_at = now + ACK_DELAY
                    return self._send_at
            elif self._send_at is not None and now < self._send_at:
                return self._send_at
            frame = self._next_frame()
        self._send(connection, frame)
        return None

    # The link's thread.

    def _run(self) -> None:
        failures = 0
        while not self._stop.is_set():
            least = 0.0
            opened_at: float | None = None
            try:
                connection, frames = self._open()
                opened_at = time.monotonic()
                self._converse(connection, frames)
            except RefusedByServer as refused:
                self._drop(str(refused))
                least = refused.retry_after
                if not least or (opened_at is None and not self.keeps_trying):
                    self._end(refused.error)
                    return
            except GridError as error:
                self._drop(str(error))
                if opened_at is None and not self.keeps_trying:
                    self._end(error)
                    return
            except Exception as error:
                logger.exception("A fault in the link; it connects again")
                self._drop(f"a fault of ours: {error}")
            # Where the bye is all that was not acknowledged, a new connection would only open what
            # it closes.
            if self._is_leaving and self._exchange.unacknowledged <= 1:
                break
            # A connection that lasted was a success; one that breaks at once, again and again, is
            # not.
            if opened_at is not None and time.monotonic() - opened_at > LASTING:
                failures = 0
            self._stop.wait(self._backoff.pause(failures, random.random(), least))  # noqa: S311
            failures += 1
        self._drop("closed")

    def _open(self) -> tuple[Connection, list[bytes]]:
        """Shake hands with the first server of the list that can be reached; raises the last one's
        error.
        """
        trouble: GridError = Unavailable("the identity names no server")
        are_all_foreign = True
        for text in self._servers():
            server = ServerName.parse(text)
            try:
                opened = self._dialler.open(
                    server, self.identity, self.session, self._exchange.acknowledged
                )
            except RefusedByServer as refused:
                if not refused.retry_after:
                    raise
                trouble = refused
            except GridError as error:
                trouble = error
            else:
                self._are_all_foreign = False
                self._server = server
                self._welcome_to(opened.connection, opened.welcome)
                return opened.connection, opened.frames
            if str(trouble) != self._troubles.get(server):  # said once, not at each attempt
                logger.warning("No connection to %s: %s; it is tried again", server, trouble)
            self._trouble = f"{server}: {trouble}"
            self._troubles[server] = str(trouble)
            are_all_foreign = are_all_foreign and isinstance(trouble, ForeignServer)
            if self._stop.is_set():
                break
        with self._changed:
            self._are_all_foreign = are_all_foreign
            self._changed.notify_all()
        raise trouble

    def _servers(self) -> tuple[str, ...]:
        """The servers in the order to try: who answered last comes first."""
        servers, last = self.identity.servers, str(self._server)
        return tuple(sorted(servers, key=lambda name: name.rstrip("/") != last))

    def _welcome_to(self, connection: Connection, welcome: Welcome) -> None:
        with self._lock:
            if welcome.resumed and welcome.seen > self._exchange.last_said:
                connection.close()
                raise RemoteProtocolError(
                    f"the server has heard message {welcome.seen} of this session,"
                    f" the last one said is {self._exchange.last_said}"
                )
            if welcome.resumed:
                self._exchange.resume(welcome.seen)
            else:
                self._exchange.restart()
            self._welcome = welcome
        try:
            self._on_open(welcome)
        except BaseException:
            connection.close()
            raise
        self._use_datagrams(connection, welcome)
        with self._changed:
            self._is_sending = self._is_left_to_reader = False
            self._send_at = None
            self._connection = connection
            self._changed.notify_all()
        self._troubles.clear()
        word = "resumed" if welcome.resumed else "opened"
        logger.info("The session with %s is %s", self._server, word)

    def _use_datagrams(self, connection: Connection, welcome: Welcome) -> None:
        """Say and hear datagrams in the session that ``welcome`` opened, if both sides want to."""
        if self._datagrams is not None:
            self._datagrams.close()
            self._datagrams = None
        if not (self._wants_datagrams and welcome.udp_port and self._server is not None):
            return
        key = Key.of(self.session, welcome.ticket)
        try:
            self._datagrams = Datagrams(self._server.host, welcome.udp_port, key, self._called)
        except OSError as error:
            logger.warning("No datagrams to %s: %s", self._server, error)
            return
        self._datagrams.alive()
        if isinstance(connection, LongPoll):
            connection.pause = welcome.alive_period / 2

    def _called(self) -> None:
        """A datagram of the server's woke us."""
        with self._lock:
            connection = self._connection
        if isinstance(connection, LongPoll):
            connection.call()

    def _converse(self, connection: Connection, frames: list[bytes]) -> None:
        """Hear what the server says until the connection ends."""
        period = self._welcome.alive_period if self._welcome else 60.0
        pinged_at = 0.0
        while not self._stop.is_set():
            heard = sum(self._hear(frame) for frame in frames)
            send_at = self._send_due(connection, heard)
            now, heard_at = time.monotonic(), connection.heard_at
            if now - heard_at >= SILENT_PERIODS * period:
                raise ConnectionLost(f"the server has said nothing for {now - heard_at:.0f} s")
            if now - heard_at >= period and pinged_at < heard_at + period:
                pinged_at = now
                connection.ping()
            look_at = heard_at + (SILENT_PERIODS if pinged_at > heard_at else 1) * period
            if send_at is not None and send_at < look_at:
                look_at = send_at
            frames = connection.receive(max(0.0, look_at - now))

    def _hear(self, frame: bytes) -> int:
        """Give the owner the new messages of ``frame``; how many there were."""
        try:
            with self._changed:
                heard = self._exchange.receive(frame)
                if self._is_leaving and not self._exchange.unacknowledged:
                    self._changed.notify_all()
        except RemoteProtocolError:
            refused = refusal_in(frame)
            if refused is not None:
                raise refused from None
            raise
        for number, message in heard:
            try:
                self._on_message(number, message)
            except Exception:
                # A fault of the owner's. Heard again it would fail again, so it counts as handled.
                logger.exception("A %s could not be handled", message.verb)
            with self._lock:
                self._exchange.handled(number)
        return len(heard)

    def _drop(self, reason: str) -> None:
        """The connection, if there was one, is gone."""
        self._trouble = reason
        with self._changed:
            connection, self._connection = self._connection, None
            self._is_sending = self._is_left_to_reader = False
            self._changed.notify_all()
        if connection is None:
            return
        connection.close()
        logger.info("The connection to %s ended: %s", self._server, reason)
        if not self._is_leaving:
            self._on_down(reason)

    def _end(self, error: GridError) -> None:
        """There will be no further connection."""
        with self._changed:
            self._ended = error
            self._changed.notify_all()
        if not self._is_leaving:
            logger.warning("The link has ended: %s", error)
            self._on_end(error)
