"""The server between its listeners and its decisions: sessions of peers, and what is said to whom
once it is durable.

Runs in one thread, the listeners', and never waits. Listeners hand over frames and requests; the
core has them decided, gives the changes to the journal, and when it has them on disk acknowledges,
replies and pushes. A reply that only reads waits for the journal position that it saw.
"""

from __future__ import annotations

import logging
import secrets
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import msgspec

from desktopgrid.model.errors import (
    AccessDenied,
    GridError,
    LimitExceeded,
    LocalProtocolError,
    NotAuthenticated,
    Unavailable,
)
from desktopgrid.model.rights import Scope, Who
from desktopgrid.server import changes as c
from desktopgrid.server import dispatcher, hosts, pilots, requests
from desktopgrid.server.codec import CODEC
from desktopgrid.server.journal import Journal
from desktopgrid.server.recorded import RECORDS_KEPT, Name, Recorded, is_key, record
from desktopgrid.server.state import Grid, Outcome
from desktopgrid.server.watching import Watcher
from desktopgrid.wire import messages as m
from desktopgrid.wire.codec import LAST_NUMBER
from desktopgrid.wire.exchange import CLIENT, SERVER, WORKER, Exchange
from desktopgrid.wire.proof import is_proved

logger = logging.getLogger(__name__)

USED_EVERY = timedelta(hours=1)
"""How much later a token must be used again for its row to say so."""
MOST_BACKLOG = 50_000
"""Changes that may wait for the disk before listeners stop reading."""
NOBODY = "no such identity, or not its secret, or it is not valid any more"


@dataclass(eq=False)
class Peer:
    """A session: who is on the other side, what was said, and the connection if there is one at
    present.
    """

    session: str
    kind: str
    who: Who
    credential: str
    exchange: Exchange
    ticket: str
    last_heard_at: datetime
    host: str | None = None
    address: str = ""
    """Where its connection comes from."""
    send: Callable[[bytes], None] | None = None
    close: Callable[[str, str], None] | None = None
    records: deque[tuple[int, int]] = field(default_factory=deque)
    """(number of the reply, number of the request): replies that the client has not acknowledged.
    """
    recorded: deque[tuple[int, bytes]] = field(default_factory=deque)
    """(number of the request, body of the reply): those of them that are on record."""

    def __repr__(self) -> str:
        state = "connected" if self.send is not None else "away"
        return f"<Peer {self.kind} {self.who.user}, session {self.session[-8:]}, {state}>"


@dataclass(eq=False)
class Effect:
    """What is to happen once a journal position is durable. ``asked``: what the reply is to."""

    position: int
    peer: Peer | None
    handled: int
    replies: list[tuple[int, m.Message]]
    pushes: list[tuple[str, m.Message]]
    then: Callable[[], None] | None = None
    asked: m.Message | None = None


class Core:
    """The grid in memory, its journal and its sessions."""

    def __init__(
        self, grid: Grid, journal: Journal, recorded: dict[str, Recorded], watcher: Watcher
    ) -> None:
        self.grid, self.journal, self.watcher = grid, journal, watcher
        self.recorded = recorded
        """What is on record of sessions that an earlier incarnation had, or that went idle, and of
        requests outside of any; the oldest first.
        """
        self._keys = Counter(kept.user for name, kept in recorded.items() if is_key(name))
        """Requests outside of sessions that are on record, by user."""
        self.peers: dict[str, Peer] = {}
        self.tickets: dict[str, Peer] = {}
        self._effects: deque[Effect] = deque()
        self._ended: set[str] = set()
        self._ended_by = 0

    # --- sessions ---------------------------------------------------------------------------------

    def open(
        self, hello: m.Hello, nonce: str, now: datetime, address: str
    ) -> tuple[Peer, m.Welcome]:
        """The session that ``hello`` from ``address`` opens or goes on with, and what to answer
        once :meth:`when_durable` says so; raises NotAuthenticated.
        """
        out = Outcome()
        try:
            who = self._authenticate(hello, nonce, now, out)
        except GridError:
            # It changes nothing, but a secret used twice is worth a line in the log.
            self._commit(None, 0, [], out)
            raise
        known, recorded = self.peers.get(hello.session), self.recorded.get(hello.session)
        if known is not None and (known.who.user, known.credential) != (who.user, hello.identity):
            raise NotAuthenticated("the session is another identity's")
        if recorded is not None and recorded.user != who.user:
            raise NotAuthenticated("the session was another user's")
        role = CLIENT if hello.kind == "client" else WORKER
        peer = known
        if peer is None:
            ticket = secrets.token_hex(32)
            exchange = Exchange(SERVER, role, CODEC)
            peer = Peer(hello.session, role, who, hello.identity, exchange, ticket, now)
        else:
            if peer.close is not None:
                peer.close("replaced", "the session was taken up again by another connection")
            peer.send = peer.close = None
            peer.who = who
            peer.exchange.resume(hello.seen)
        if role == WORKER:
            try:
                state = hosts.host_arrived(self.grid, who, hello, known is not None, now, out)
            except GridError:
                # A pilot's key is known by now, whatever is wrong with its host.
                self._commit(None, 0, [], out)
                raise
            peer.host = state.host.uid
        peer.address = address
        self.peers[peer.session] = self.tickets[peer.ticket] = peer
        peer.last_heard_at = now
        welcome = m.Welcome(
            resumed=known is not None,
            seen=self._seen(peer, out) if known is not None else 0,
            alive_period=self.grid.policy.alive_period,
            ticket=peer.ticket,
            user=self.grid.users[who.user].login,
            level=int(who.level),
            direct_from=self.grid.policy.direct_from,
        )
        self._commit(None, 0, [], out)
        return peer, welcome

    def _seen(self, peer: Peer, out: Outcome) -> int:
        """What ``peer`` need not say again: of a client's questions those whose answers it has. For
        the others it would not know what to ask for, should this server be killed now.
        """
        seen = peer.exchange.acknowledged
        if peer.kind == CLIENT:
            self._forget_acknowledged(peer, out)
            if peer.records:
                seen = min(seen, peer.records[0][1] - 1)
        return seen

    def _authenticate(self, hello: m.Hello, nonce: str, now: datetime, out: Outcome) -> Who:
        if hello.kind == "pilot":
            return pilots.authenticate(self.grid, hello, nonce, now, out)
        if hello.kind not in ("client", "worker"):
            raise NotAuthenticated(NOBODY)
        who = self.holder(
            hello.identity,
            now,
            lambda verifier: is_proved(
                verifier, hello.proof, nonce, hello.kind, hello.identity, hello.session
            ),
        )
        # A token that was made for a worker's machine opens no client there, and no client's that
        # is good for less than everything runs works.
        if not who.scope & (Scope.RUN if hello.kind == "worker" else ~Scope.RUN):
            raise NotAuthenticated(f"the token is good for {who.scope} only")
        return who

    def holder(self, token: str, now: datetime, is_right: Callable[[str], bool]) -> Who:
        """Who has the token whose verifier ``is_right``; raises NotAuthenticated."""
        credential = self.grid.credentials.get(token)
        if credential is None or credential.kind != "token" or not is_right(credential.verifier):
            raise NotAuthenticated(NOBODY)
        return self.present(credential.uid, now)

    def present(self, credential: str, now: datetime) -> Who:
        """Who shows himself by ``credential``, if it is good now; raises NotAuthenticated."""
        known = self.grid.credentials.get(credential)
        if (
            known is None
            or known.is_revoked
            or (known.expires_at is not None and now >= known.expires_at)
            or self.grid.users[known.user].is_revoked
        ):
            raise NotAuthenticated(NOBODY)
        if known.last_used_at is None or known.last_used_at + USED_EVERY <= now:
            self.grid.credentials[known.uid] = replace(known, last_used_at=now)
            self.journal.put([c.CredentialUsed(known.uid, now.timestamp())])
        who = self.grid.who(self.grid.users[known.user])
        return replace(who, scope=known.scope, credential=known.uid)

    def disconnected(self, peer: Peer) -> None:
        """The connection of ``peer`` is gone; its session waits for it to come back."""
        peer.send = peer.close = None
        if peer.host is not None and peer.host in self.grid.scheduler.hosts:
            state = self.grid.scheduler.hosts[peer.host]
            if state.session == peer.session:
                state.is_connected = False

    def forget(self, peer: Peer, has_left: bool = False) -> None:
        """The session of ``peer`` is over. A client that ``has_left`` will ask for no answer again;
        for any other what it has not acknowledged stays on record.
        """
        self.peers.pop(peer.session, None)
        self.tickets.pop(peer.ticket, None)
        for batch in self.grid.batches.values():
            batch.watchers.discard(peer.session)
        if peer.kind != CLIENT:
            return
        out = Outcome()
        self._forget_acknowledged(peer, out)
        if has_left:
            self.recorded.pop(peer.session, None)
            out.changes = [c.RepliesForgotten(peer.session, LAST_NUMBER)]
        elif peer.recorded:
            earlier = self.recorded.pop(peer.session, None)
            bodies = {**(earlier.bodies if earlier is not None else {}), **dict(peer.recorded)}
            self.recorded[peer.session] = Recorded(peer.who.user, bodies, peer.last_heard_at)
        self._commit(None, 0, [], out)

    def forget_idle(self, now: datetime) -> None:
        """Sessions whose peer has been away for longer than a lease are over, and answers that
        nobody came back for are kept no longer.
        """
        for peer in list(self.peers.values()):
            if peer.send is None and peer.last_heard_at + self.grid.policy.lease < now:
                self.forget(peer)
        out = Outcome()
        while self.recorded:
            session, kept = next(iter(self.recorded.items()))
            if now < kept.last_at + RECORDS_KEPT:
                break
            del self.recorded[session]
            self._keys[kept.user] -= is_key(session)
            out.changes.append(c.RepliesForgotten(session, LAST_NUMBER))
        self._commit(None, 0, [], out)

    # --- what peers say ---------------------------------------------------------------------------

    def heard(self, peer: Peer, frame: bytes, now: datetime) -> list[tuple[int, m.Message]]:
        """The new messages of ``frame``; raises RemoteProtocolError, and then nothing was taken
        from it.
        """
        messages = peer.exchange.receive(frame)
        self.watcher.received += len(frame)
        self.lives(peer, now)
        return messages

    def lives(self, peer: Peer, now: datetime) -> None:
        """``peer`` was heard: the lease of its host is renewed."""
        peer.last_heard_at = now
        if peer.host is not None:
            state = self.grid.scheduler.hosts.get(peer.host)
            if state is not None:
                state.lease_ends_at = now + self.grid.policy.lease

    def worker_said(self, peer: Peer, heard: list[tuple[int, m.Message]], now: datetime) -> None:
        """Decide what a worker's messages lead to; raises AccessDenied where it lies, Unavailable
        where it must say hello again.
        """
        state = self.grid.scheduler.hosts.get(peer.host or "")
        out = Outcome()
        last, is_leaving, is_through = 0, False, False
        try:
            for sequence, message in heard:
                last = sequence or last
                if state is None or state.session != peer.session:
                    # The host was given up as lost meanwhile: it must say hello anew, which
                    # registers it again.
                    raise Unavailable("this host's lease ran out; say hello again")
                dispatcher.WORKER_SAYS[type(message)](self.grid, state, message, now, out)
                is_leaving = is_leaving or isinstance(message, m.Bye)
            is_through = True
        finally:
            if not is_through:
                # What follows in the frame counts as heard and was not handled: with the session
                # gone, an honest worker says it again in a new one.
                self.forget(peer)
            self._commit(peer, last, [], out)
            if not last:
                peer.exchange.is_ack_due = True
                self._flush(peer)
        if is_leaving:
            self._effects_then(lambda: self._leave(peer))

    def _leave(self, peer: Peer) -> None:
        self._flush(peer)
        self.forget(peer, has_left=True)
        if peer.close is not None:
            peer.close("bye", "")

    def client_said(
        self,
        peer: Peer,
        sequence: int,
        message: m.Message,
        now: datetime,
        out: Outcome | None = None,
    ) -> requests.Reading | None:
        """Decide what a client's message leads to. A question for the database is given back:
        :meth:`reply` with what it says. ``out``: what the database was asked before.
        """
        if isinstance(message, m.Bye):
            self._commit(peer, sequence, [], Outcome())
            self._effects_then(lambda: self._leave(peer))
            return None
        if not isinstance(message, m.Request):
            raise LocalProtocolError(f"the exchange let a client say {message.verb}")
        on_record = self.on_record(peer, sequence)
        if on_record is not None:
            body = msgspec.json.decode(on_record)
            self._commit(peer, sequence, [(sequence, m.Reply(sequence, body))], Outcome())
            return None
        out = out or Outcome()
        self._forget_acknowledged(peer, out)
        try:
            answer = requests.answer(self.grid, peer.who, peer.session, message, now, out)
        except GridError as error:
            self.refuse(peer, sequence, message, error)
            return None
        if isinstance(answer, requests.Reading):
            return answer
        if isinstance(message, m.ChangeUser):
            self._see_anew(str(answer["uid"]))
        reply = m.Reply(sequence, answer)
        if type(message) in requests.RECORDED:
            name = Name(peer.session, sequence)
            peer.recorded.append((sequence, record(name, peer.who.user, answer, now, out)))
        self._commit(peer, sequence, [(sequence, reply)], out, message)
        return None

    def asked(
        self, who: Who, name: Name | None, request: m.Request, now: datetime, out: Outcome
    ) -> dict[str, Any] | requests.Reading:
        """What a request leads to that came outside of any session: its answer, to be given once
        it is durable, or a question for the database. Raises a GridError.
        """
        on_record = self.answer_to(name)
        if on_record is not None:
            return on_record
        if name is not None and self._keys[who.user] >= self.grid.policy.max_keys:
            raise LimitExceeded(
                f"{self._keys[who.user]} requests of yours are on record under keys, which is all"
                " that anybody may have within a day ([limits] max_keys of the server); ask"
                " without a key"
            )
        answer = requests.answer(self.grid, who, "", request, now, out)
        if isinstance(answer, requests.Reading):
            return answer
        if isinstance(request, m.ChangeUser):
            self._see_anew(str(answer["uid"]))
        if name is not None and type(request) in requests.RECORDED:
            body = record(name, who.user, answer, now, out)
            self.recorded[name.session] = Recorded(who.user, {name.sequence: body}, now)
            self._keys[who.user] += 1
        self._commit(None, 0, [], out)
        return answer

    def answer_to(self, name: Name | None) -> dict[str, Any] | None:
        """What the request called so was answered before; raises AlreadyThere where something else
        was asked under its key.
        """
        recorded = self.recorded.get(name.session) if name is not None else None
        return recorded.answer(name.sequence) if name is not None and recorded is not None else None

    def _see_anew(self, uid: str) -> None:
        """A user changed: what he may do holds for the sessions that he and his workers have open
        as well.
        """
        hosts = self.grid.scheduler.hosts
        for peer in self.peers.values():
            if peer.who.user != uid:
                continue
            if peer.kind == CLIENT:
                user = self.grid.users[uid]
                peer.who = replace(peer.who, level=user.level, group=user.group)
            elif peer.host in hosts:
                peer.who = hosts[peer.host].who

    def on_record(self, peer: Peer, sequence: int) -> bytes | None:
        """The answer that a request of this number was given before this session began."""
        recorded = self.recorded.get(peer.session)
        return recorded.bodies.get(sequence) if recorded is not None else None

    def reply(self, peer: Peer, sequence: int, asked: m.Message, body: dict[str, Any]) -> None:
        """The answer to a question that the database was asked."""
        self._commit(peer, sequence, [(sequence, m.Reply(sequence, body))], Outcome(), asked)

    def refuse(self, peer: Peer, sequence: int, asked: m.Message, error: GridError) -> None:
        """A request is refused; nothing was changed."""
        failure = m.Failure(sequence, error.code, str(error))
        self._commit(peer, sequence, [(sequence, failure)], Outcome(), asked)

    def _forget_acknowledged(self, peer: Peer, out: Outcome) -> None:
        records, unacknowledged = peer.records, peer.exchange.unacknowledged
        first_open = peer.exchange.last_said - unacknowledged + 1
        last = 0
        while records and records[0][0] < first_open:
            last = records.popleft()[1]
        is_on_record = bool(last) and peer.session in self.recorded
        while peer.recorded and peer.recorded[0][0] <= last:
            peer.recorded.popleft()
            is_on_record = True
        if is_on_record:
            out.changes.append(c.RepliesForgotten(peer.session, last))

    def change(
        self, decide: Callable[[Grid, Outcome], None], then: Callable[[], None] | None = None
    ) -> None:
        """A change that no message asked for (upkeep, an upload); ``then`` is called when it is
        durable.
        """
        out = Outcome()
        decide(self.grid, out)
        self._commit(None, 0, [], out)
        if then is not None:
            self._effects_then(then)

    # --- what follows when it is durable ----------------------------------------------------------

    def _commit(
        self,
        peer: Peer | None,
        handled: int,
        replies: list[tuple[int, m.Message]],
        out: Outcome,
        asked: m.Message | None = None,
    ) -> None:
        position = self.journal.put(out.changes) if out.changes else self.journal.position
        for note in out.notes:
            logger.warning("%s", note)
        for session, code, reason in out.closing:
            self._end(session, code, reason)
        if handled or replies or out.pushes:
            effect = Effect(position, peer, handled, replies, out.pushes, asked=asked)
            self._effects.append(effect)
            if position <= self.journal.durable:
                self.durable(self.journal.durable)

    def _effects_then(self, then: Callable[[], None]) -> None:
        position = self.journal.position
        if position <= self.journal.durable and not self._effects:
            then()
        else:
            self._effects.append(Effect(position, None, 0, [], [], then))

    def when_durable(self, then: Callable[[], None]) -> None:
        """Call ``then`` when everything decided so far is on disk."""
        self._effects_then(then)

    def durable(self, position: int) -> None:
        """Everything up to ``position`` is on disk: acknowledge, reply and push what waited for it,
        a frame a peer.
        """
        self.journal.durable = position
        if position >= self._ended_by:
            # Those that ended before the last commit began are in the database by now.
            self.grid.ended_batches -= self._ended
            self._ended = set(self.grid.ended_batches)
            self._ended_by = self.journal.position
        effects, dirty = self._effects, {}
        while effects and effects[0].position <= position:
            effect = effects.popleft()
            peer = effect.peer
            if peer is not None:
                if effect.handled:
                    peer.exchange.handled(effect.handled)
                for sequence, reply in effect.replies:
                    self._say(peer, reply)
                    peer.records.append((peer.exchange.last_said, sequence))
                    if effect.asked is not None:
                        self.watcher.answered(self.grid, peer, effect.asked, reply)
                dirty[peer.session] = peer
            for session, message in effect.pushes:
                other = self.peers.get(session)
                if other is not None:
                    self._say(other, message)
                    dirty[session] = other
                    if type(message) is m.Assign:
                        self.watcher.assigned(self.grid, other, message)
            if effect.then is not None:
                effect.then()
        for peer in dirty.values():
            self._flush(peer)

    def _say(self, peer: Peer, message: m.Message) -> None:
        try:
            peer.exchange.say(message)
        except LimitExceeded as error:
            if isinstance(message, m.Reply):
                failure = m.Failure(message.to, error.code, str(error))
                if peer.exchange.unacknowledged < peer.exchange.max_unacknowledged:
                    peer.exchange.say(failure)
                    return
            logger.warning("Ended session %s: %s", peer.session, error)
            self._end(peer.session, error.code, str(error))

    def _flush(self, peer: Peer) -> None:
        if peer.send is None:
            return
        while (frame := peer.exchange.frame()) is not None:
            peer.send(frame)
            self.watcher.sent += len(frame)

    def flush(self, peer: Peer) -> None:
        """Say what waits for ``peer``, whose connection is new."""
        self._flush(peer)

    def _end(self, session: str, code: str, reason: str) -> None:
        """End a session, or with ``by:UID`` those of a user or a credential."""
        if session.startswith("by:"):
            uid = session[3:]
            for peer in [p for p in self.peers.values() if uid in (p.who.user, p.credential)]:
                self._end(peer.session, code, reason)
            return
        peer = self.peers.get(session)  # type: ignore[assignment]
        if peer is None:
            return
        close = peer.close
        self.disconnected(peer)
        self.forget(peer)
        if close is not None:
            close(code, reason)

    def peer_of(self, ticket: str) -> Peer:
        """The session whose ticket this is; raises NotAuthenticated."""
        peer = self.tickets.get(ticket)
        if peer is None:
            raise NotAuthenticated("the ticket is not that of an open session")
        return peer

    def may_upload(self, peer: Peer, task: str) -> None:
        """Raises AccessDenied unless the host of ``peer`` has ``task``."""
        live = self.grid.tasks.get(task)
        if peer.host is None or live is None or live.host != peer.host:
            raise AccessDenied(f"task {task} is not this host's")

    def end_all(self, code: str, reason: str) -> None:
        """Close every connection, telling why; sessions are kept for those who come back."""
        for peer in list(self.peers.values()):
            if peer.close is not None:
                peer.close(code, reason)
