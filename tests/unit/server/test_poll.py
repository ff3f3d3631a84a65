"""One link of polls: who waits and who is answered, in whatever order they come."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from desktopgrid.server.listeners import poll
from desktopgrid.server.listeners.poll import PollLink


class APeer:
    """A peer as far as its door sees it."""

    class exchange:  # noqa: N801 (an attribute of a peer)
        acknowledged = 7

    send = None


class AService:
    """A service that notes the frames that it hears."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.poll_links: dict[str, PollLink] = {}

    async def frame(self, peer: Any, frame: bytes) -> None:
        self.heard.append(frame)

    def disconnected(self, peer: Any) -> None:
        self.heard.append(b"gone")


def a_link(service: AService) -> PollLink:
    link = PollLink(service, "a-nonce")  # type: ignore[arg-type]
    link.peer = APeer()  # type: ignore[assignment]
    return link


def start(coroutine: Coroutine[Any, Any, bytes]) -> asyncio.Task[bytes]:
    return asyncio.get_running_loop().create_task(coroutine)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.mark.asyncio
async def test_a_post_that_overtook_another_waits_for_its_turn() -> None:
    service = AService()
    link = a_link(service)
    second = start(link.post(b"second", 30.0, 2))
    await settle()
    assert service.heard == []
    assert await link.post(b"first", 30.0, 1) == b"[7]", "there is a newer one that can wait"
    await settle()
    assert service.heard == [b"first", b"second"]
    assert not second.done()
    link.send(b"news")
    assert await second == b"news"
    link.end()


@pytest.mark.asyncio
async def test_a_newer_post_ends_the_waiting_of_the_one_before() -> None:
    link = a_link(AService())
    first = start(link.post(b"", 30.0, 1))
    await settle()
    assert not first.done()
    second = start(link.post(b"", 30.0, 2))
    assert await first == b"[7]"
    link.send(b"a")
    link.send(b"b")
    assert await second == b"a"
    assert await link.post(b"", 30.0, 3) == b"b"
    link.end()


@pytest.mark.asyncio
async def test_who_names_no_turn_is_served_in_the_order_of_arrival() -> None:
    service = AService()
    link = a_link(service)
    posts = [start(link.post(b"%d" % n, 0.0, None)) for n in range(3)]
    assert await asyncio.gather(*posts) == [b"[7]"] * 3
    assert service.heard == [b"0", b"1", b"2"]
    link.end()


@pytest.mark.asyncio
async def test_a_turn_that_cannot_come_is_not_waited_for_longer_than_a_poll(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(poll, "LONGEST_WAIT", 0.01)
    service = AService()
    link = a_link(service)
    for turn in (3, 0):
        with pytest.raises(TimeoutError):
            await link.post(b"lost", 0.0, turn)
    assert service.heard == []
    link.end()


@pytest.mark.asyncio
async def test_a_stranger_does_not_keep_a_link_by_posting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poll, "HELLO_PATIENCE", 0.0)
    service = AService()
    link = PollLink(service, "a-nonce")  # type: ignore[arg-type]
    service.poll_links[link.name] = link
    await link.post(b"", 0.0, None)
    await settle()
    assert link.is_closed
    assert service.poll_links == {}


@pytest.mark.asyncio
async def test_the_end_of_a_link_looks_at_no_other() -> None:
    class Links(dict[str, PollLink]):
        def items(self) -> Any:
            raise AssertionError("all links were looked at")

    service = AService()
    service.poll_links = Links()
    for link in [a_link(service) for _ in range(3)]:
        service.poll_links[link.name] = link
        link.end()
    assert not service.poll_links
