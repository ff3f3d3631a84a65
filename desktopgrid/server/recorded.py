"""Answers on record: asking the same again gets the same answer, and has no second effect.

A client's session puts each answer that changed something on record until the client has
acknowledged it. A request outside of any session is on record if its sender gave it a key.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from desktopgrid.model.errors import AlreadyThere
from desktopgrid.server.changes import ReplyRecorded
from desktopgrid.server.codec import CODEC
from desktopgrid.server.state import Outcome
from desktopgrid.wire import messages as m

RECORDS_KEPT = timedelta(days=1)
"""How long an answer stays on record whose client does not come back for it."""


KEYED = "key:"
"""How the session of a request begins that is called by a key: no session that a peer names has a
colon.
"""


def is_key(session: str) -> bool:
    """Whether what is on record under this session is of a request with a key."""
    return session.startswith(KEYED)


class Name(NamedTuple):
    """What a request is called: its session, and its number there."""

    session: str
    sequence: int

    @classmethod
    def of(cls, user: str, key: str, request: m.Request) -> Name:
        """The name of a request outside of any session, under the ``key`` that its sender chose.
        Another request under that key has the same session and another number.
        """
        session = KEYED + hashlib.sha256(f"{user}\n{key}".encode()).hexdigest()
        content = hashlib.sha256(CODEC.encode(request, 0)).digest()
        return cls(session, int.from_bytes(content[:6], "big") + 1)


@dataclass
class Recorded:
    """Replies on record of a session that is over: ``bodies`` by number of the request."""

    user: str
    bodies: dict[int, bytes]
    last_at: datetime

    def answer(self, sequence: int) -> dict[str, Any]:
        """The answer under this number; raises AlreadyThere where there are only others."""
        body = self.bodies.get(sequence)
        if body is None:
            raise AlreadyThere("another request was made under this key")
        answer: dict[str, Any] = msgspec.json.decode(body)
        return answer


def record(name: Name, user: str, answer: dict[str, Any], now: datetime, out: Outcome) -> bytes:
    """Put the answer to a request on record, in the transaction of its effect."""
    body = msgspec.json.encode(answer)
    out.changes.append(ReplyRecorded(*name, user, body.decode(), now.timestamp()))
    return body
