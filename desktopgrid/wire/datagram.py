"""Datagrams beside a session: a worker says that it lives, the server wakes one that polls; that is
all (docs/protocol.md, "Datagrams"). Bytes in, bytes out; no socket.

A datagram is the version, what it says, whose session it is of, a number that only rises, and a MAC
over all of that under a key which only the two sides of the session can derive.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from typing import NamedTuple, Optional

VERSION = 1
ALIVE, WAKE = 1, 2
"""What a datagram may say: the worker the one, the server the other."""

_HEAD = struct.Struct("!BB8sQ")
_MAC = 16
SIZE = _HEAD.size + _MAC
"""Bytes of any datagram, so that no answer is longer than its question."""


class Key(NamedTuple):
    """The key of a session's datagrams, and the name by which they say which it is."""

    secret: bytes
    name: bytes

    @classmethod
    def of(cls, session: str, ticket: str) -> Key:
        """The key of a session whose welcome had this ticket."""
        label = f"glidebridge datagrams {VERSION}\n{session}".encode()
        secret = hmac.new(ticket.encode(), label, hashlib.sha256).digest()
        return cls(secret, hmac.new(secret, b"name", hashlib.sha256).digest()[:8])


def sealed(key: Key, says: int, number: int) -> bytes:
    """The datagram that says so."""
    head = _HEAD.pack(VERSION, says, key.name, number)
    return head + _mac(key, head)


def name_in(datagram: bytes) -> Optional[bytes]:
    """The name of the key that a datagram wants to be opened with; None if it is none of ours."""
    if len(datagram) != SIZE or datagram[0] != VERSION:
        return None
    return datagram[2:10]


def opened(key: Key, says: int, newest: int, datagram: bytes) -> Optional[int]:
    """The number of ``datagram`` if it ``says`` that, was made with ``key`` and is newer than all
    before; else None.
    """
    if len(datagram) != SIZE:
        return None
    head, mac = datagram[: _HEAD.size], datagram[_HEAD.size :]
    if not hmac.compare_digest(_mac(key, head), mac):
        return None
    version, said, name, number = _HEAD.unpack(head)
    if (version, said, name) != (VERSION, says, key.name) or number <= newest:
        return None
    return int(number)


def _mac(key: Key, head: bytes) -> bytes:
    return hmac.new(key.secret, head, hashlib.sha256).digest()[:_MAC]
