"""The door for datagrams: workers keep their lease by them, and are woken; that is all."""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from desktopgrid.client.grid import Grid
from desktopgrid.link.address import ServerName
from desktopgrid.link.session import Link
from desktopgrid.model.objects import ANY_PLATFORM, Description, new_uid
from desktopgrid.wire import messages as m
from desktopgrid.wire.datagram import ALIVE, SIZE, WAKE, Key, sealed
from tests.system.peers import FACTS, RawPeer
from tests.system.processes import ServerUnderTest, a_grid, a_port, until
from tests.system.tables import Watcher

LEASE = 3.0
"""Seconds: three alive periods."""


@pytest.fixture(scope="module")
def port() -> int:
    return a_port()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[ServerUnderTest]:
    with a_grid(tmp_path_factory.mktemp("grid"), doors__udp_port=str(port)) as server:
        yield server


@pytest.fixture(scope="module")
def grid(server: ServerUnderTest) -> Grid:
    return server.client()


@pytest.fixture
def datagrams(port: int) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.connect(("127.0.0.1", port))
        datagrams.setblocking(False)
        yield datagrams


def a_worker(server: ServerUnderTest) -> tuple[RawPeer, Key]:
    """A worker that says hello and no more."""
    peer = RawPeer(server.identity(server.home.worker_identity))
    return peer, Key.of(peer.session, peer.welcome.ticket)


def is_there(grid: Grid, peer: RawPeer) -> bool:
    return peer.host in [row["uid"] for row in grid.objects("hosts")]


def answers(datagrams: socket.socket) -> list[bytes]:
    found = []
    with suppress(BlockingIOError, ConnectionRefusedError):
        while True:
            found.append(datagrams.recv(65536))
    return found


@pytest.mark.feature("XW-CFG-5", "XW-WRK-6")
def test_a_worker_lives_by_datagrams_alone(
    server: ServerUnderTest, grid: Grid, datagrams: socket.socket, port: int
) -> None:
    peer, key = a_worker(server)
    assert peer.welcome.udp_port == port
    began, number = time.monotonic(), 0
    while time.monotonic() < began + 2 * LEASE:
        number += 1
        datagrams.send(sealed(key, ALIVE, number))
        assert is_there(grid, peer)
    until(lambda: not is_there(grid, peer), "a silent worker is lost")
    assert answers(datagrams) == []
    peer.close()


def test_a_datagram_that_is_not_the_workers_keeps_nobody_alive(
    server: ServerUnderTest, grid: Grid, datagrams: socket.socket
) -> None:
    peer, key = a_worker(server)
    other = Key.of(peer.session, "0" * 64)
    good = sealed(key, ALIVE, 1 << 60)
    datagrams.send(good)
    until(lambda: is_there(grid, peer), "the worker is there")
    bad = [
        good,  # it was heard already
        sealed(key, ALIVE, 5),  # older
        sealed(key, WAKE, (1 << 60) + 1),  # what the server says
        sealed(other, ALIVE, (1 << 60) + 1),
        sealed(Key(other.secret, key.name), ALIVE, (1 << 60) + 1),
        good[: SIZE - 1],
        good + b"!",
        b"",
        os.urandom(SIZE),
        os.urandom(60_000),
        bytes(SIZE),
    ]

    def is_lost() -> bool:
        for datagram in bad:
            with suppress(BlockingIOError):
                datagrams.send(datagram)
        return not is_there(grid, peer)

    until(is_lost, "the worker that says nothing is lost")
    assert answers(datagrams) == [], "nothing is answered, so nothing can be amplified"
    assert "Traceback" not in server.log
    peer.close()


def test_a_datagram_changes_nothing_that_is_stored(
    server: ServerUnderTest, grid: Grid, datagrams: socket.socket
) -> None:
    peer, key = a_worker(server)
    assert is_there(grid, peer)
    watcher = Watcher(server)
    for number in range(1, 200):
        datagrams.send(sealed(key, ALIVE, number))
    assert is_there(grid, peer)
    assert not watcher.changes()
    watcher.close()
    peer.close()


@pytest.mark.feature("XW-CFG-5")
def test_a_worker_that_polls_with_long_pauses_is_woken(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """It would ask by itself after five minutes."""
    place, port = tmp_path_factory.mktemp("slow"), a_port()
    with a_grid(place, alive_period="600 s", doors__udp_port=str(port)) as server:
        heard: list[Any] = []
        host = new_uid()
        link = Link(
            server.identity(server.home.worker_identity),
            on_message=lambda number, message: heard.append(message),
            hello=lambda: {"host": host, "facts": FACTS},
            datagrams=True,
        )
        link._dialler._polls_until[ServerName.parse(server.address)] = math.inf
        link.start()
        link.wait_open(60.0)
        grid = server.client()
        grid.send_application("true", b"#!/bin/sh\n", ANY_PLATFORM)
        for count in (1, 2):
            grid.submit(Description("true"))
            until(lambda count=count: len(heard) == count, "the worker asks what there is")
            task = heard[-1]
            assert isinstance(task, m.Assign)
            link.say(m.Finished(task.task, task.epoch, exit_code=0))
            until(lambda: link.unacknowledged == 0, "the result is stored")
        link.close(2.0)
