"""The door for datagrams: a worker that lives renews its lease, one that polls is woken, that is
all (docs/protocol.md, "Datagrams"). No datagram is answered.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary, WeakValueDictionary

from desktopgrid.server.core import Peer
from desktopgrid.wire.datagram import ALIVE, WAKE, Key, name_in, opened, sealed

if TYPE_CHECKING:
    from desktopgrid.server.listeners.service import Service

logger = logging.getLogger(__name__)


@dataclass
class _Known:
    """What the door knows of a session: its key, the newest number, and where that came from."""

    key: Key
    heard: int = 0
    said: int = 0
    address: Any = None


class DatagramDoor(asyncio.DatagramProtocol):
    """The port, and the sessions whose datagrams it opens."""

    def __init__(self, service: Service, port: int) -> None:
        self._service, self.port = service, port
        self._peers: WeakValueDictionary[bytes, Peer] = WeakValueDictionary()
        self._known: WeakKeyDictionary[Peer, _Known] = WeakKeyDictionary()
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The port is open."""
        self._transport = cast(asyncio.DatagramTransport, transport)

    def expect(self, peer: Peer) -> None:
        """Open what comes with the key of this session from now on."""
        if peer not in self._known:
            key = Key.of(peer.session, peer.ticket)
            self._known[peer] = _Known(key)
            self._peers[key.name] = peer

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Something came, from whomever."""
        name = name_in(data)
        peer = self._peers.get(name) if name is not None else None
        if peer is None:
            return
        known = self._known[peer]
        number = opened(known.key, ALIVE, known.heard, data)
        if number is not None:
            known.heard, known.address = number, addr
            self._service.lives(peer)

    def error_received(self, exc: Exception) -> None:
        """Somebody's port is closed; there is nothing to do."""

    def wake(self, peer: Peer) -> None:
        """Have ``peer`` ask what there is: where its last datagram came from, also behind NAT."""
        known = self._known.get(peer)
        if known is None or known.address is None or self._transport is None:
            return
        known.said += 1
        self._transport.sendto(sealed(known.key, WAKE, known.said), known.address)

    async def shut(self) -> None:
        """Hear nothing any more."""
        if self._transport is not None:
            self._transport.close()

    async def close(self) -> None:
        """There is nothing left."""
