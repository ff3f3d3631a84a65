"""Links over real TLS to a server that misbehaves on command."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from desktopgrid.link import handshake, session
from desktopgrid.link.backoff import Backoff
from desktopgrid.link.session import Link
from desktopgrid.model.errors import GridError, NotAuthenticated, Unavailable
from desktopgrid.wire import messages as m
from desktopgrid.wire import proof
from tests.authority import Authority
from tests.link_server import SECRET, LinkServer
from tests.relay import Relay

PATIENCE = 20.0
AT_ONCE = Backoff(first=0.001, longest=0.02)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.new()


@pytest.fixture
def server(authority: Authority, tmp_path: Path) -> Iterator[LinkServer]:
    with LinkServer(authority, tmp_path) as server:
        yield server


class Owner:
    """What owns a link: it notes what it is told."""

    def __init__(self, identity: Any, **arguments: Any) -> None:
        self.heard: list[tuple[int, m.Message]] = []
        self.opened: list[m.Welcome] = []
        self.downs: list[str] = []
        self.ends: list[GridError] = []
        arguments.setdefault("backoff", AT_ONCE)
        self.link = Link(
            identity,
            on_message=lambda number, message: self.heard.append((number, message)),
            on_open=self.opened.append,
            on_down=self.downs.append,
            on_end=self.ends.append,
            **arguments,
        )

    @property
    def recalled(self) -> list[int]:
        return [message.epoch for _, message in self.heard if isinstance(message, m.Recall)]


@contextmanager
def a_link(identity: Any, is_open: bool = True, **arguments: Any) -> Iterator[Owner]:
    owner = Owner(identity, **arguments)
    owner.link.start()
    try:
        if is_open:
            owner.link.wait_open(PATIENCE)
        yield owner
    finally:
        owner.link.close(timeout=2.0)


def wait_until(condition: Callable[[], object], what: str = "") -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what or "it did not happen"
        time.sleep(0.002)


def started(number: int) -> m.Started:
    return m.Started(f"w:{number}", number)


def epochs_heard(server: LinkServer) -> list[int]:
    return [message.epoch for message in server.heard if isinstance(message, m.Started)]


# What all doors do.


@pytest.fixture(params=["websocket", "poll", "framed"])
def door(request: pytest.FixtureRequest, server: LinkServer) -> str:
    if request.param == "poll":
        server.upgrade_status = 403
    server.is_framed = request.param == "framed"
    return str(request.param)


def test_a_session_opens_and_both_sides_speak(server: LinkServer, door: str) -> None:
    with a_link(server.identity(), hello=lambda: {"host": "h-1", "lifetime": 60}) as owner:
        assert owner.opened == [owner.link.welcome]
        assert owner.link.is_open
        assert not owner.opened[0].resumed
        assert [owner.link.say(started(n)) for n in (1, 2)] == [1, 2]
        wait_until(lambda: owner.recalled == [1, 2])
        server.say(owner.link.session, m.Drain("maintenance"))
        wait_until(lambda: owner.heard[-1] == (3, m.Drain("maintenance")))
        wait_until(lambda: owner.link.unacknowledged == 0)
    assert server.doors == [door]
    [hello] = server.hellos
    assert (hello.kind, hello.host, hello.lifetime) == ("worker", "h-1", 60)


def test_closing_says_goodbye_and_delivers_all(server: LinkServer, door: str) -> None:
    with a_link(server.identity()) as owner:
        for n in range(500):
            owner.link.say(started(n))
        owner.link.close(PATIENCE, "that was all")
        assert owner.link.unacknowledged == 0
        assert not owner.link.is_open
    assert epochs_heard(server) == list(range(500))
    assert server.heard[-1] == m.Bye("that was all")
    assert owner.downs == []


def test_two_threads_say_ten_thousand_messages_each(server: LinkServer, door: str) -> None:
    count = 1_000 if door == "poll" else 10_000

    def say_all(link: Link, who: int) -> None:
        for n in range(count):
            while link.unacknowledged > 15_000:
                time.sleep(0.001)
            link.say(m.Started(f"{who}:{n}", n))

    with a_link(server.identity()) as owner:
        threads = [threading.Thread(target=say_all, args=(owner.link, who)) for who in (1, 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_until(lambda: len(owner.heard) == 2 * count, "not all was answered")
    assert [number for number, _ in owner.heard] == list(range(1, 2 * count + 1))
    said = [message for message in server.heard if isinstance(message, m.Started)]
    for who in (1, 2):
        mine = [s.epoch for s in said if s.task.startswith(f"{who}:")]
        assert mine == list(range(count))
    assert [message.task for _, message in owner.heard] == [s.task for s in said]


def test_a_cut_connection_is_resumed(server: LinkServer, door: str) -> None:
    with a_link(server.identity()) as owner:
        for n in range(3):
            owner.link.say(started(3 * n))
            wait_until(lambda n=n: len(owner.heard) == 3 * n + 1)  # type: ignore[misc]
            wait_until(lambda: door != "poll" or server.is_polled)
            server.cut()
            owner.link.say(started(3 * n + 1))
            owner.link.say(started(3 * n + 2))
            wait_until(lambda n=n: len(owner.heard) == 3 * n + 3)  # type: ignore[misc]
        wait_until(lambda: owner.link.unacknowledged == 0)
    assert epochs_heard(server) == owner.recalled == list(range(9))
    assert [welcome.resumed for welcome in owner.opened] == [False, *[True] * len(owner.downs)]
    assert len(owner.downs) >= 3


def test_a_server_that_was_restarted_hears_what_it_had_not_acknowledged(
    server: LinkServer, door: str
) -> None:
    with a_link(server.identity()) as owner:
        owner.link.say(started(1))
        wait_until(lambda: owner.link.unacknowledged == 0 and owner.recalled == [1])
        server.acknowledges = False
        owner.link.say(started(2))
        wait_until(lambda: owner.recalled == [1, 2])
        server.acknowledges = True
        server.forget()
        wait_until(lambda: owner.recalled == [1, 2, 2])
        wait_until(lambda: owner.link.unacknowledged == 0)
    assert [welcome.resumed for welcome in owner.opened] == [False, False]
    assert [number for number, _ in owner.heard] == [1, 2, 1]
    assert len({hello.session for hello in server.hellos}) == 1


def test_what_is_said_before_the_link_is_open_is_kept(server: LinkServer, door: str) -> None:
    owner = Owner(server.identity())
    assert [owner.link.say(started(n)) for n in range(3)] == [1, 2, 3]
    owner.link.start()
    wait_until(lambda: owner.recalled == [0, 1, 2])
    owner.link.close()


def test_alive_is_answered_and_costs_no_number(server: LinkServer, door: str) -> None:
    owner = Owner(server.identity())
    owner.link.alive(m.Alive(1.0))  # dropped: the link is down
    owner.link.start()
    owner.link.wait_open(PATIENCE)
    before = time.monotonic()
    owner.link.alive(m.Alive(2.0, 100))
    connection = owner.link._connection
    assert connection is not None
    wait_until(lambda: connection.heard_at > before)
    assert owner.link.say(started(1)) == 1
    owner.link.close()


def test_a_long_message_passes_both_ways(server: LinkServer, door: str) -> None:
    reason = "x" * 900_000
    with a_link(server.identity()) as owner:
        owner.link.say(m.Finished("w:1", 1, reason=reason))
        server.say(owner.link.session, m.Drain(reason))
        wait_until(lambda: owner.heard)
        wait_until(lambda: server.heard)
    assert owner.heard == [(1, m.Drain(reason))]
    assert server.heard[0] == m.Finished("w:1", 1, reason=reason)


def test_silence_of_three_alive_periods_is_the_end_of_a_connection(
    server: LinkServer, door: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handshake, "TIMEOUT", 1.0)
    server.alive_period = 0.1
    with Relay(server.port) as relay:
        identity = server.identity(servers=(server.at(relay.port),))
        with a_link(identity) as owner:
            relay.is_frozen = True
            before = time.monotonic()
            wait_until(lambda: owner.downs)
            if door != "poll":  # which may find out because it cannot ask once more
                assert "said nothing" in owner.downs[0]
            assert time.monotonic() - before >= 0.2
            relay.is_frozen = False
            wait_until(lambda: len(owner.opened) > 1)
            assert owner.opened[1].resumed


def test_an_idle_connection_is_kept_up(server: LinkServer, door: str) -> None:
    server.alive_period = 0.05
    with a_link(server.identity()) as owner:
        before = time.monotonic()
        connection = owner.link._connection
        assert connection is not None
        wait_until(lambda: connection.heard_at > before + 0.5)
        assert owner.downs == []


def test_what_may_wait_goes_out_in_company(
    server: LinkServer, door: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with a_link(server.identity()) as owner:
        for n in range(20):
            owner.link.say(started(n), may_wait=True)
        wait_until(lambda: owner.link.unacknowledged == 0)
        assert len(server.frames) < 10
        monkeypatch.setattr(session, "COMPANY", 60.0)
        owner.link.say(started(20), may_wait=True)
        owner.link.say(started(21))  # takes along what waits
        wait_until(lambda: owner.link.unacknowledged == 0)
    assert epochs_heard(server) == list(range(22))
    assert [b"w:20" in frame for frame in server.frames if b"w:21" in frame] == [True]


def test_acknowledgements_do_not_cost_a_frame_each(server: LinkServer, door: str) -> None:
    with a_link(server.identity()) as owner:
        for _ in range(20):
            server.say(owner.link.session, m.Drain())
        wait_until(lambda: len(owner.heard) == 20)
        peer = server.peers[owner.link.session]
        wait_until(lambda: peer.exchange.unacknowledged == 0)
        assert len(server.frames) < 5


# Cuts at any byte.

CUTS = st.lists(st.integers(1, 12_000), min_size=1, max_size=12)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(cuts=CUTS, door=st.sampled_from(["websocket", "poll", "framed"]), forgets=st.booleans())
def test_no_cut_loses_or_doubles_a_message(
    authority: Authority, tmp_path: Path, cuts: list[int], door: str, forgets: bool
) -> None:
    count = 120
    with LinkServer(authority, tmp_path) as server:
        server.upgrade_status = 403 if door == "poll" else 0
        server.is_framed = door == "framed"
        with Relay(server.port, chain(cuts, repeat(None))) as relay:
            identity = server.identity(servers=(server.at(relay.port),))
            with a_link(identity, is_open=False) as owner:
                for n in range(count):
                    owner.link.say(started(n))
                    if n % 10 == 0:
                        time.sleep(0.001)
                wait_until(lambda: owner.link.unacknowledged == 0, f"{owner.link}")
                wait_until(lambda: len(owner.heard) == count)
        assert epochs_heard(server) == list(range(count))
        assert owner.recalled == list(range(count))


# Servers that say no.


def refused(link: Link) -> GridError:
    with pytest.raises(GridError) as caught:
        link.wait_open(PATIENCE)
    return caught.value


def test_another_ca_is_not_trusted(server: LinkServer) -> None:
    identity = server.identity(ca=Authority.new().pem)
    with a_link(identity, is_open=False) as owner:
        error = refused(owner.link)
    assert isinstance(error, Unavailable)
    assert "certificate" in str(error)
    assert server.hellos == []


def test_another_host_of_the_same_ca_is_not_trusted(authority: Authority, tmp_path: Path) -> None:
    with LinkServer(authority, tmp_path) as server:
        identity = server.identity(servers=(f"https://localhost:{server.port}",))
        with a_link(identity) as owner:
            assert owner.link.is_open
    elsewhere = LinkServer(authority, tmp_path)
    elsewhere._context = authority.server_context(tmp_path, ("grid.example.org",))
    with elsewhere, a_link(elsewhere.identity(), is_open=False, keeps_trying=False) as owner:
        assert "certificate" in str(refused(owner.link))
        assert elsewhere.hellos == []


def test_a_wrong_secret_is_not_authenticated(server: LinkServer, door: str) -> None:
    with a_link(server.identity(secret=proof.new_secret()), is_open=False) as owner:
        error = refused(owner.link)
        assert type(error) is NotAuthenticated
        wait_until(lambda: owner.ends == [error])
        assert owner.link.ended is error
        assert len(server.hellos) == 1, "it is no use to try again"


def test_a_refusal_for_now_is_waited_out(server: LinkServer, door: str) -> None:
    server.refusal = m.Refused("unavailable", "come back", retry_after=0.05)
    with a_link(server.identity(), is_open=False) as owner:
        wait_until(lambda: len(server.hellos) > 2)
        with pytest.raises(Unavailable, match="come back"):
            owner.link.wait_open(0.01)
        server.refusal = None
        owner.link.wait_open(PATIENCE)
    assert owner.ends == []


def test_a_replaced_session_ends(server: LinkServer) -> None:
    with a_link(server.identity()) as owner:
        server.send(b'[0,["refused",0,{"code":"replaced","reason":"by another"}]]')
        wait_until(lambda: owner.ends)
        assert (owner.ends[0].code, str(owner.ends[0])) == ("replaced", "by another")
        assert owner.downs == ["by another"]
        with pytest.raises(GridError, match="by another"):
            owner.link.wait_open(PATIENCE)


@pytest.mark.parametrize(
    "frame", [b"nonsense", b"[99]", b'[0,["hello",0,{}]]', b'[0,["drain",5,{}],["drain",7,{}]]']
)
def test_a_server_that_breaks_the_rules_is_left(server: LinkServer, frame: bytes) -> None:
    with a_link(server.identity()) as owner:
        server.send(frame)
        wait_until(lambda: len(owner.opened) == 2)
        assert owner.heard == []


def test_a_session_that_was_somebody_elses_is_not_resumed(server: LinkServer) -> None:
    with a_link(server.identity(), session="a1b2c3d4") as owner:
        owner.link.say(started(1))
        wait_until(lambda: owner.link.unacknowledged == 0)
    with a_link(server.identity(), session="a1b2c3d4", is_open=False, keeps_trying=False) as other:
        assert "the server has heard message 2 of this session" in str(refused(other.link))


def test_who_does_not_keep_trying_is_told_that_nobody_is_there(server: LinkServer) -> None:
    identity = server.identity(servers=("https://127.0.0.1:1", "https://127.0.0.1:2"))
    with a_link(identity, is_open=False, keeps_trying=False) as owner:
        error = refused(owner.link)
        assert isinstance(error, Unavailable)
        assert "127.0.0.1:2" in str(error)


def test_who_keeps_trying_waits_no_longer_than_asked(server: LinkServer) -> None:
    identity = server.identity(servers=("https://127.0.0.1:1",))
    with a_link(identity, is_open=False) as owner:
        with pytest.raises(Unavailable, match=r"within 0\.05 s: .*127\.0\.0\.1:1.*refused"):
            owner.link.wait_open(0.05)
        assert owner.link.ended is None


@pytest.mark.feature("XW-WCF-3")
def test_the_next_server_of_the_list_is_tried(server: LinkServer) -> None:
    identity = server.identity(servers=("https://127.0.0.1:1", server.url))
    with a_link(identity) as owner:
        assert str(owner.link.server) == server.url


def test_an_identity_may_change_between_connections(server: LinkServer) -> None:
    with a_link(server.identity("pilot", identity="a-stamp")) as owner:
        owner.link.identity = replace(owner.link.identity, identity="another")
        server.cut()
        wait_until(lambda: len(owner.opened) == 2)
    assert [hello.identity for hello in server.hellos] == ["a-stamp", "another"]
    assert owner.link.identity.secret == SECRET


# What stands in between.


@pytest.mark.parametrize("status", [400, 403, 404, 426, 501])
def test_where_the_upgrade_is_refused_the_server_is_polled(server: LinkServer, status: int) -> None:
    server.upgrade_status = status
    with a_link(server.identity()):
        pass
    assert server.doors == ["poll"]


def test_where_websockets_are_dropped_the_server_is_polled(server: LinkServer) -> None:
    server.drops_websockets = True
    with a_link(server.identity()) as owner:
        wait_until(lambda: server.is_polled)
        server.cut()
        wait_until(lambda: len(owner.opened) == 2)
    assert server.doors == ["poll", "poll"]


def test_a_session_goes_on_when_websockets_pass_no_longer(server: LinkServer) -> None:
    with a_link(server.identity()) as owner:
        owner.link.say(started(1))
        wait_until(lambda: owner.recalled == [1])
        server.upgrade_status = 403
        server.cut()
        owner.link.say(started(2))
        wait_until(lambda: owner.recalled == [1, 2])
    assert server.doors == ["websocket", "poll"]
    assert owner.opened[1].resumed


def test_a_proxy_makes_the_tunnel_that_a_key_names(server: LinkServer, door: str) -> None:
    with (
        Relay(0, is_proxy=True) as proxy,
        a_link(server.identity(), proxy=f"http://alice:5ecret@127.0.0.1:{proxy.port}") as owner,
    ):
        owner.link.say(started(1))
        wait_until(lambda: owner.recalled == [1])
    assert proxy.requests[0].splitlines()[:3] == [
        f"CONNECT 127.0.0.1:{server.port} HTTP/1.1",
        f"Host: 127.0.0.1:{server.port}",
        "Proxy-Authorization: Basic YWxpY2U6NWVjcmV0",
    ]


def test_a_proxy_that_refuses_says_why(server: LinkServer) -> None:
    with (
        Relay(0, is_proxy=True, status="403 Forbidden here") as proxy,
        a_link(
            server.identity(),
            is_open=False,
            keeps_trying=False,
            proxy=f"http://127.0.0.1:{proxy.port}",
        ) as owner,
    ):
        assert "refused to connect" in str(refused(owner.link))
        assert "403 Forbidden here" in str(owner.link.ended)


def test_no_proxy_of_the_environment_stands_between_us_and_this_machine(
    server: LinkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    with a_link(server.identity()) as owner:
        assert owner.link.is_open


# Owners.


def test_a_fault_of_the_owner_does_not_end_the_link(
    server: LinkServer, caplog: pytest.LogCaptureFixture
) -> None:
    heard = []

    def stumble(number: int, message: m.Message) -> None:
        heard.append(number)
        if number == 1:
            raise RuntimeError("a fault")

    link = Link(server.identity(), on_message=stumble)
    link.start()
    link.wait_open(PATIENCE)
    link.say(started(1))
    link.say(started(2))
    wait_until(lambda: heard == [1, 2])
    link.close()
    assert "A recall could not be handled" in caplog.text


def test_an_owner_may_speak_and_close_while_it_hears(server: LinkServer) -> None:
    done = threading.Event()

    def answer(number: int, message: m.Message) -> None:
        if number < 5:
            link.say(started(number))
            return
        link.close(reason="enough")
        done.set()

    link = Link(server.identity(), on_message=answer)
    link.start()
    link.wait_open(PATIENCE)
    link.say(started(0))
    assert done.wait(PATIENCE)
    wait_until(lambda: not link.is_open)
    wait_until(lambda: m.Bye("enough") in server.heard)
    link.close()


def test_on_open_comes_before_anything_is_heard(server: LinkServer) -> None:
    order: list[str] = []
    link = Link(
        server.identity(),
        on_message=lambda number, message: order.append(message.verb),
        on_open=lambda welcome: order.append("open"),
        backoff=AT_ONCE,
    )
    link.start()
    link.wait_open(PATIENCE)
    link.say(started(1))
    wait_until(lambda: order == ["open", "recall"])
    server.acknowledges = False
    server.cut()
    link.say(started(2))
    wait_until(lambda: order == ["open", "recall", "open", "recall"])
    link.close(0.1)


def test_a_link_that_was_never_started_closes(server: LinkServer) -> None:
    Owner(server.identity()).link.close()


def test_a_link_that_never_opened_closes_at_once(server: LinkServer) -> None:
    identity = server.identity(servers=("https://127.0.0.1:1",))
    owner = Owner(identity, backoff=Backoff(60.0, 60.0))
    owner.link.start()
    before = time.monotonic()
    owner.link.close(timeout=30.0)
    assert time.monotonic() - before < 5.0


def test_its_repr_tells_the_story(server: LinkServer) -> None:
    with a_link(server.identity()) as owner:
        assert repr(owner.link).startswith(
            f"<Link worker an-identity to {server.url}: open, <Exchange worker with server: said 0,"
        )
    assert "down (closed)" in repr(owner.link)
    assert SECRET not in repr(owner.link)
