"""Who may say what when, and the numbering, acknowledgement and replay of what they say. Bytes in,
messages out; no socket.

Theory of operation. Each side numbers its messages in a session from 1 and keeps each until the
peer has acknowledged it, which it does when the effects are durable. A connection that breaks costs
nothing: after the next handshake both send again what the other has not acknowledged, and a message
that comes twice is dropped by its number. A number that skips one is a broken rule. The handshake,
``alive`` and ``refused`` stand outside the numbering with number 0.

The session's owner: calls ``receive`` with each frame and handles what it gives back, in order;
calls ``handled`` when the effects of a message are durable; calls ``say`` to send, and sends what
``frame`` gives until it gives nothing.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from desktopgrid.model.errors import LimitExceeded, LocalProtocolError, RemoteProtocolError
from desktopgrid.wire import messages as m
from desktopgrid.wire.codec import Codec, frame_of

SERVER, WORKER, CLIENT = "server", "worker", "client"


class Rule(NamedTuple):
    """Which class a verb is, who may say it, and whether it is numbered."""

    kind: type[m.Message]
    sayers: frozenset[str]
    is_numbered: bool


def _rules() -> dict[str, Rule]:
    peers = frozenset((WORKER, CLIENT))
    table = [
        (frozenset((SERVER,)), False, (m.Challenge, m.Welcome, m.Refused)),
        (peers, False, (m.Hello,)),
        (frozenset((WORKER,)), False, (m.Alive,)),
        (peers, True, (m.Bye,)),
        (
            frozenset((WORKER,)),
            True,
            (m.Started, m.Registered, m.Finished, m.Returned, m.Draining),
        ),
        (
            frozenset((SERVER,)),
            True,
            (m.Assign, m.Abandon, m.Recall, m.Drain, m.Reply, m.Failure, m.Ended),
        ),
        (frozenset((CLIENT,)), True, tuple(m.Request.__subclasses__())),
    ]
    return {
        kind.verb: Rule(kind, sayers, is_numbered)
        for sayers, is_numbered, kinds in table
        for kind in kinds
    }


RULES = _rules()

HANDSHAKE = frozenset((m.Challenge, m.Hello, m.Welcome, m.Refused))
"""What is said before the session is open (and, refused, at its end)."""


class Exchange:
    """One side of a session: what was said and not acknowledged, what was heard and handled.

    ``me`` and ``peer`` are two of SERVER, WORKER, CLIENT. At most ``max_unacknowledged`` messages
    or ``max_bytes`` wait for the peer; beyond that ``say`` raises LimitExceeded: the peer is too
    slow, or gone.
    """

    __slots__ = (
        "_bytes",
        "_codec",
        "_last",
        "_told",
        "_unsent",
        "_waiting",
        "acknowledged",
        "is_ack_due",
        "max_bytes",
        "max_unacknowledged",
        "me",
        "peer",
        "received",
    )

    def __init__(
        self,
        me: str,
        peer: str,
        codec: Codec,
        max_unacknowledged: int = 20_000,
        max_bytes: int = 64 << 20,
    ) -> None:
        self.me, self.peer, self._codec = me, peer, codec
        self.max_unacknowledged, self.max_bytes = max_unacknowledged, max_bytes
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._unsent = 0  # how many at the right end of _waiting have not been sent
        self._bytes = 0
        self._last = 0
        self.received: int | None = None
        """The last number heard, or None where any number may be the first."""
        self.acknowledged = 0
        """The last number of the peer's whose effects are durable: what our frames acknowledge."""
        self._told = 0
        self.is_ack_due = False

    def __repr__(self) -> str:
        return (
            f"<Exchange {self.me} with {self.peer}: said {self._last},"
            f" {len(self._waiting)} not acknowledged,"
            f" heard {self.received or 0}, handled {self.acknowledged}>"
        )

    @property
    def unacknowledged(self) -> int:
        """How many of our messages the peer has not acknowledged."""
        return len(self._waiting)

    @property
    def unsent(self) -> int:
        """How many of our messages no frame has carried over the present connection."""
        return self._unsent

    @property
    def last_said(self) -> int:
        """The number of our last message."""
        return self._last

    def say(self, message: m.Message) -> int:
        """Number ``message`` and keep it until it is acknowledged; raises LimitExceeded if the peer
        acknowledges too slowly.
        """
        rule = RULES[message.verb]
        if self.me not in rule.sayers or not rule.is_numbered:
            raise LocalProtocolError(f"a {self.me} does not say {message.verb}")
        if len(self._waiting) >= self.max_unacknowledged or self._bytes >= self.max_bytes:
            raise LimitExceeded(
                f"{len(self._waiting)} messages ({self._bytes} bytes) wait for the {self.peer}"
                " to acknowledge them"
            )
        number = self._last + 1
        encoded = self._codec.encode(message, number)
        if len(encoded) > m.MAX_FRAME - 64:
            raise LimitExceeded(f"a {message.verb} of {len(encoded)} bytes is longer than a frame")
        # Nothing changes before nothing can fail: a number that was left out would break the rules.
        self._last = number
        self._waiting.append((number, encoded))
        self._unsent += 1
        self._bytes += len(encoded)
        return self._last

    def frame(self) -> bytes | None:
        """The next frame to send: as many unsent messages as fit, and what we acknowledge; None if
        there is nothing to say.

        Where one frame does not hold all, the last one acknowledges: whoever has a question
        acknowledged must not lack its answer when the connection breaks in between.
        """
        if not self._unsent:
            if not self.is_ack_due:
                return None
            self.is_ack_due = False
            self._told = self.acknowledged
            return frame_of(self.acknowledged, ())
        size = 64
        chosen: list[bytes] = []
        for index in range(len(self._waiting) - self._unsent, len(self._waiting)):
            encoded = self._waiting[index][1]
            size += len(encoded) + 1
            if size > m.MAX_FRAME and chosen:
                break
            chosen.append(encoded)
        self._unsent -= len(chosen)
        if not self._unsent:
            self.is_ack_due = False
            self._told = self.acknowledged
        return frame_of(self._told, chosen)

    def receive(self, frame: bytes) -> list[tuple[int, m.Message]]:
        """The new messages in ``frame``, in order, with their numbers; raises RemoteProtocolError,
        and then nothing was taken from it.
        """
        if len(frame) > m.MAX_FRAME:
            raise RemoteProtocolError(f"a frame of {len(frame)} bytes; at most {m.MAX_FRAME}")
        acknowledged, raws = self._codec.split(frame)
        if acknowledged > self._last:
            raise RemoteProtocolError(
                f"message {acknowledged} was acknowledged, {self._last} was the last one said"
            )
        heard, received = [], self.received
        for verb, sequence, raw in raws:
            rule = RULES.get(verb)
            if rule is None or self.peer not in rule.sayers or rule.kind in HANDSHAKE:
                raise RemoteProtocolError(f"a {self.peer} does not say {verb[:40]!r} here")
            if not rule.is_numbered:
                if sequence:
                    raise RemoteProtocolError(f"{verb} has number 0, not {sequence}")
            elif sequence == 0:
                raise RemoteProtocolError(f"{verb} must be numbered from 1")
            elif received is None or sequence == received + 1:
                received = sequence
            elif sequence <= received:
                # Sent again after a reconnection, before it had our acknowledgement.
                self.is_ack_due = True
                continue
            else:
                raise RemoteProtocolError(f"message {sequence} came after {received}")
            heard.append((sequence, self._codec.body(rule.kind, raw)))
        self.received = received
        self._forget(acknowledged)
        return heard

    def handled(self, sequence: int) -> None:
        """The effects of the peer's messages up to ``sequence`` are durable: the next frame
        acknowledges them.
        """
        if sequence > self.acknowledged:
            self.acknowledged = sequence
        self.is_ack_due = True

    def resume(self, seen: int) -> None:
        """A new connection in the same session: the peer has handled ours up to ``seen``; all later
        ones are to be sent again.
        """
        self._forget(min(seen, self._last))
        self._unsent = len(self._waiting)

    def restart(self) -> None:
        """A new connection to a peer that has forgotten the session: it numbers from 1, and hears
        ours again from the first one kept.
        """
        self.received = None
        self.acknowledged = self._told = 0
        self.is_ack_due = False
        self._unsent = len(self._waiting)

    def _forget(self, acknowledged: int) -> None:
        waiting = self._waiting
        while waiting and waiting[0][0] <= acknowledged:
            self._bytes -= len(waiting.popleft()[1])
        self._unsent = min(self._unsent, len(waiting))
