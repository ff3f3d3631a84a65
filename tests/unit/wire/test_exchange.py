"""The exchange as a conversation: a pair of them, joined by a network that the test commands."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from desktopgrid.model.errors import LimitExceeded, LocalProtocolError, RemoteProtocolError
from desktopgrid.server.codec import CODEC
from desktopgrid.wire import messages as m
from desktopgrid.wire.codec import STDLIB, frame_of
from desktopgrid.wire.exchange import CLIENT, RULES, SERVER, WORKER, Exchange


def a_worker(**limits: int) -> Exchange:
    return Exchange(WORKER, SERVER, STDLIB, **limits)


def a_server(**limits: int) -> Exchange:
    return Exchange(SERVER, WORKER, CODEC, **limits)


def started(number: int) -> m.Started:
    return m.Started(f"w:{number}", number)


def frame_from(speaker: Exchange) -> bytes:
    frame = speaker.frame()
    assert frame is not None
    return frame


def pass_on(speaker: Exchange, hearer: Exchange) -> list[tuple[int, m.Message]]:
    """Carry all that ``speaker`` has to say; the hearer handles it at once."""
    heard = []
    while (frame := speaker.frame()) is not None:
        for number, message in hearer.receive(frame):
            hearer.handled(number)
            heard.append((number, message))
    return heard


# In good weather.


def test_what_is_said_is_heard_in_order_and_acknowledged() -> None:
    worker, server = a_worker(), a_server()
    assert [worker.say(started(n)) for n in (1, 2, 3)] == [1, 2, 3]
    assert pass_on(worker, server) == [(n, started(n)) for n in (1, 2, 3)]
    assert worker.unacknowledged == 3
    assert pass_on(server, worker) == []
    assert worker.unacknowledged == 0
    assert worker.frame() is None and server.frame() is None


def test_many_messages_share_a_frame() -> None:
    worker = a_worker()
    for n in range(100):
        worker.say(started(n))
    assert len(CODEC.split(frame_from(worker))[1]) == 100
    assert worker.frame() is None


def test_no_frame_is_longer_than_a_frame_may_be() -> None:
    worker, server = a_worker(), a_server()
    for n in range(5):
        worker.say(m.Finished(f"w:{n}", n, stdout=bytes(300_000)))
    frames = list(iter(worker.frame, None))
    assert len(frames) == 3
    assert all(len(frame) <= m.MAX_FRAME for frame in frames)
    assert [n for frame in frames for n, _ in server.receive(frame)] == [1, 2, 3, 4, 5]


def test_an_acknowledgement_travels_with_the_next_message() -> None:
    worker, server = a_worker(), a_server()
    worker.say(started(1))
    pass_on(worker, server)
    server.say(m.Drain("maintenance"))
    assert frame_from(server) == b'[1,["drain",1,{"reason":"maintenance"}]]'
    assert server.frame() is None


def test_who_has_an_acknowledgement_has_all_that_was_said_before_it() -> None:
    """A question that is acknowledged is not asked again, so its answer must not be missing."""
    client, server = Exchange(CLIENT, SERVER, STDLIB), Exchange(SERVER, CLIENT, CODEC)
    client.say(m.Stats())
    pass_on(client, server)
    for number in range(3):
        server.say(m.Reply(1, {"long": "x" * 900_000, "number": number}))
    frames = [frame_from(server) for _ in range(3)]
    assert [CODEC.split(frame)[0] for frame in frames] == [0, 0, 1]
    for frame in frames[:2]:
        client.receive(frame)
        assert client.unacknowledged == 1
    client.receive(frames[2])
    assert client.unacknowledged == 0


def test_what_is_not_durable_is_not_acknowledged() -> None:
    worker, server = a_worker(), a_server()
    for n in (1, 2):
        worker.say(started(n))
    server.receive(frame_from(worker))
    assert server.frame() is None
    server.handled(1)
    worker.receive(frame_from(server))
    assert worker.unacknowledged == 1


def test_alive_stands_outside_the_numbering() -> None:
    worker, server = a_worker(), a_server()
    alive = m.Alive(load=0.5)
    frame = frame_of(worker.acknowledged, (STDLIB.encode(alive, 0),))
    assert server.receive(frame) == [(0, alive)]
    server.handled(0)
    assert frame_from(server) == b"[0]"


def test_its_repr_tells_the_story() -> None:
    worker, server = a_worker(), a_server()
    worker.say(started(1))
    pass_on(worker, server)
    assert repr(worker) == (
        "<Exchange worker with server: said 1, 1 not acknowledged, heard 0, handled 0>"
    )
    assert (worker.last_said, worker.unsent) == (1, 0)


# When connections break.


def test_after_a_cut_the_lost_is_said_again_and_the_known_dropped() -> None:
    worker, server = a_worker(), a_server()
    for n in (1, 2):
        worker.say(started(n))
    pass_on(worker, server)  # the acknowledgement is lost with the connection
    worker.say(started(3))
    frame_from(worker)  # this is lost as well
    worker.say(started(4))
    worker.resume(seen=server.acknowledged)
    assert pass_on(worker, server) == [(3, started(3)), (4, started(4))]


def test_a_message_that_comes_twice_is_dropped_and_acknowledged_again() -> None:
    worker, server = a_worker(), a_server()
    worker.say(started(1))
    frame = frame_from(worker)
    assert len(server.receive(frame)) == 1
    server.handled(1)
    frame_from(server)  # lost
    assert server.receive(frame) == []
    assert frame_from(server) == b"[1]"


def test_an_acknowledgement_may_overtake_what_is_said_again() -> None:
    worker, server = a_worker(), a_server()
    for n in (1, 2, 3):
        worker.say(started(n))
    server.receive(frame_from(worker))
    worker.resume(seen=0)  # nothing was durable at the handshake
    assert worker.unsent == 3
    server.handled(2)  # now it is
    worker.receive(frame_from(server))
    assert worker.unsent == 1
    assert [n for _, n, _ in CODEC.split(frame_from(worker))[1]] == [3]


def test_a_server_that_forgot_hears_what_it_had_not_acknowledged() -> None:
    worker, server = a_worker(), a_server()
    for n in (1, 2, 3):
        worker.say(started(n))
    server.receive(frame_from(worker))
    server.handled(1)
    worker.receive(frame_from(server))
    server = a_server()
    worker.restart()
    assert pass_on(worker, server) == [(2, started(2)), (3, started(3))]


def test_a_server_that_forgot_numbers_anew() -> None:
    worker, server = a_worker(), a_server()
    for reason in ("a", "b"):
        server.say(m.Drain(reason))
    pass_on(server, worker)
    server = a_server()
    server.say(m.Drain("c"))
    worker.restart()
    assert (worker.received, worker.acknowledged) == (None, 0)
    assert pass_on(server, worker) == [(1, m.Drain("c"))]


def test_a_seen_that_was_never_said_forgets_no_more_than_there_is() -> None:
    server = a_server()
    server.say(m.Drain())
    server.resume(seen=99)
    assert server.unacknowledged == 0
    assert server.say(m.Drain()) == 2


# Broken rules.


def refuses(exchange: Exchange, frame: bytes) -> None:
    """Nothing is taken from a frame that breaks a rule."""
    before = (exchange.received, exchange.acknowledged, exchange.unacknowledged)
    with pytest.raises(RemoteProtocolError):
        exchange.receive(frame)
    assert (exchange.received, exchange.acknowledged, exchange.unacknowledged) == before


def saying(message: m.Message, number: int) -> bytes:
    return STDLIB.encode(message, number)


def test_a_number_that_skips_breaks_the_rules() -> None:
    server = a_server()
    server.receive(frame_of(0, (saying(started(1), 1),)))
    refuses(server, frame_of(0, (saying(started(2), 2), saying(started(4), 4))))
    refuses(server, frame_of(0, (saying(started(3), 3),)))


def test_messages_in_another_order_break_the_rules() -> None:
    server = a_server()
    server.receive(frame_of(0, (saying(started(1), 1),)))
    refuses(server, frame_of(0, (saying(started(3), 3), saying(started(2), 2))))


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(b"[1]", id="acknowledges what was not said"),
        pytest.param(b'[0,["assign",1,{}]]', id="says what only a server says"),
        pytest.param(b'[0,["stats",1,{}]]', id="says what only a client says"),
        pytest.param(b'[0,["nonsense",1,{}]]', id="says what nobody says"),
        pytest.param(b'[0,["bye",0,{}]]', id="numbers nothing that must be numbered"),
        pytest.param(b'[0,["alive",1,{}]]', id="numbers alive"),
        pytest.param(
            b'[0,["hello",0,{"version":1,"kind":"worker","identity":"i","proof":"p","session":"s"}]]',
            id="says hello twice",
        ),
        pytest.param(b'[0,["started",1,{"task":"w:1"}]]', id="leaves a field out"),
        pytest.param(b"[0" + b" " * m.MAX_FRAME + b"]", id="says too much"),
        pytest.param(b"[0", id="says no JSON"),
    ],
)
def test_a_worker_breaks_the_rules_when_it(frame: bytes) -> None:
    refuses(a_server(), frame)


def test_everybody_says_only_what_is_theirs() -> None:
    for exchange in (a_worker(), a_server(), Exchange(CLIENT, SERVER, STDLIB)):
        for verb, its_rule in RULES.items():
            if exchange.me in its_rule.sayers and its_rule.is_numbered:
                continue
            message = object.__new__(its_rule.kind)
            with pytest.raises(LocalProtocolError, match=f"does not say {verb}"):
                exchange.say(message)
        assert exchange.say(m.Bye() if exchange.me != SERVER else m.Drain()) == 1


# Limits.


def test_a_peer_that_acknowledges_nothing_cannot_make_us_keep_everything() -> None:
    worker = a_worker(max_unacknowledged=2)
    worker.say(started(1))
    worker.say(started(2))
    with pytest.raises(LimitExceeded):
        worker.say(started(3))
    worker.receive(b"[0]")
    frame_from(worker)
    worker.receive(b"[1]")
    assert worker.say(started(3)) == 3


def test_bytes_are_limited_as_well() -> None:
    worker = a_worker(max_bytes=1000)
    worker.say(m.Finished("w:1", 1, stdout=bytes(1000)))
    with pytest.raises(LimitExceeded):
        worker.say(started(2))


def test_a_message_longer_than_a_frame_is_refused_and_leaves_no_gap() -> None:
    worker, server = a_worker(), a_server()
    worker.say(started(1))
    with pytest.raises(LimitExceeded):
        worker.say(m.Finished("w:2", 2, stdout=bytes(m.MAX_FRAME)))
    assert worker.say(started(3)) == 2
    assert pass_on(worker, server) == [(1, started(1)), (2, started(3))]


def test_a_message_that_cannot_be_encoded_leaves_no_gap() -> None:
    worker, server = a_worker(), a_server()
    with pytest.raises(ValueError, match="JSON"):
        worker.say(m.Finished("w:1", 1, usage=(float("nan"), 0.0, 0.0, 0)))
    assert worker.say(started(1)) == 1
    assert pass_on(worker, server) == [(1, started(1))]


# Any weather.


class Conversation(RuleBasedStateMachine):
    """Whatever happens to connections, everything said is handled once and in order (by a server
    that is not restarted).
    """

    @initialize()
    def meet(self) -> None:
        self.sides = {"worker": a_worker(), "server": a_server()}
        self.said: dict[str, list[m.Message]] = {"worker": [], "server": []}
        self.handled: dict[str, list[m.Message]] = {"worker": [], "server": []}
        self.under_way: dict[str, list[bytes]] = {"worker": [], "server": []}
        self.not_durable: dict[str, list[int]] = {"worker": [], "server": []}

    speakers = st.sampled_from(["worker", "server"])

    @rule(who=speakers, count=st.integers(1, 3))
    def say(self, who: str, count: int) -> None:
        for _ in range(count):
            text = str(len(self.said[who]))
            message = m.Draining(text) if who == "worker" else m.Drain(text)
            assert self.sides[who].say(message) == len(self.said[who]) + 1
            self.said[who].append(message)

    @rule(who=speakers)
    def send(self, who: str) -> None:
        frame = self.sides[who].frame()
        if frame is not None:
            self.under_way[who].append(frame)

    @rule(who=speakers)
    def arrive(self, who: str) -> None:
        if not self.under_way[who]:
            return
        other = "server" if who == "worker" else "worker"
        for number, message in self.sides[other].receive(self.under_way[who].pop(0)):
            self.handled[who].append(message)
            self.not_durable[other].append(number)

    @rule(who=speakers)
    def become_durable(self, who: str) -> None:
        if self.not_durable[who]:
            self.sides[who].handled(self.not_durable[who].pop(0))

    @rule()
    def reconnect(self) -> None:
        self.under_way = {"worker": [], "server": []}
        worker, server = self.sides["worker"], self.sides["server"]
        server.resume(worker.acknowledged)
        worker.resume(server.acknowledged)

    @invariant()
    def nothing_is_lost_doubled_or_out_of_order(self) -> None:
        for who in ("worker", "server"):
            assert self.handled[who] == self.said[who][: len(self.handled[who])]

    def teardown(self) -> None:
        """In the end, with a connection that holds, all arrives."""
        if not hasattr(self, "sides"):
            return
        self.reconnect()
        for _ in range(3):
            for who in ("worker", "server"):
                while True:
                    self.send(who)
                    if not self.under_way[who]:
                        break
                    self.arrive(who)
                for side in ("worker", "server"):
                    while self.not_durable[side]:
                        self.become_durable(side)
        assert self.handled == self.said
        assert [side.unacknowledged for side in self.sides.values()] == [0, 0]


TestConversation = Conversation.TestCase


A_RAW_MESSAGE = st.tuples(
    st.sampled_from([*RULES, "nonsense"]), st.integers(-1, 4), st.just({}) | st.integers()
)


@settings(max_examples=300)
@given(
    frames=st.lists(
        st.binary(max_size=40)
        | st.lists(st.integers(-1, 3) | A_RAW_MESSAGE.map(list), max_size=4).map(
            lambda content: json.dumps(content).encode()
        ),
        max_size=6,
    )
)
def test_no_frame_does_more_than_be_refused(frames: list[bytes]) -> None:
    server = a_server()
    last = 0
    for frame in frames:
        try:
            heard = server.receive(frame)
        except RemoteProtocolError:
            continue
        for number, _ in heard:
            assert number == 0 or last == 0 or number == last + 1
            last = number or last
    assert server.received in (None, last)
