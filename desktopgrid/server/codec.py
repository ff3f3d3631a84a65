"""The server's codec: msgspec into the same dataclasses that desktopgrid/wire/codec.py makes with
the standard library.
"""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import msgspec

from desktopgrid.model.errors import RemoteProtocolError
from desktopgrid.wire.codec import LAST_NUMBER, Raw, to_body
from desktopgrid.wire.exchange import RULES
from desktopgrid.wire.messages import Message

_RawMessage = tuple[str, int, msgspec.Raw]


class FastCodec:
    """Several times faster than the standard library, and as strict."""

    def __init__(self) -> None:
        self._encode = msgspec.json.Encoder().encode
        self._split = msgspec.json.Decoder(list[msgspec.Raw]).decode
        self._message = msgspec.json.Decoder(_RawMessage).decode
        self._count = msgspec.json.Decoder(int).decode
        self._bodies = {
            rule.kind: msgspec.json.Decoder(rule.kind).decode for rule in RULES.values()
        }
        # Messages whose fields are all plain are encoded from their own dict, the fields at their
        # default left out.
        self._defaults = {
            rule.kind: [
                (f.name, f.default if f.default is not dataclasses.MISSING else dataclasses.MISSING)
                for f in dataclasses.fields(rule.kind)  # type: ignore[arg-type]
            ]
            for rule in RULES.values()
        }

    def encode(self, message: Message, sequence: int) -> bytes:
        """``message`` as it stands in a frame: ``[verb, sequence, body]``."""
        body = {
            name: value
            for name, default in self._defaults[type(message)]
            if (value := getattr(message, name)) != default
        }
        return self._encode((message.verb, sequence, body))

    def split(self, frame: bytes) -> tuple[int, list[Raw]]:
        """The number that ``frame`` acknowledges and its messages; raises RemoteProtocolError."""
        try:
            acknowledged, *messages = self._split(frame)
            raws = [cast(Raw, self._message(raw)) for raw in messages]
            count = self._count(acknowledged)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise RemoteProtocolError(
                f"a frame is a list of a number and messages: {error}"
            ) from None
        if not 0 <= count <= LAST_NUMBER or not all(0 <= n <= LAST_NUMBER for _, n, _ in raws):
            raise RemoteProtocolError(f"numbers of messages are 0 to {LAST_NUMBER}")
        return count, raws

    def body(self, kind: type[Any], raw: Any) -> Message:
        """The ``kind`` of message that a raw body describes; raises RemoteProtocolError."""
        try:
            return self._bodies[kind](raw)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise RemoteProtocolError(f"{kind.verb}: {error}") from None


CODEC = FastCodec()

__all__ = ["CODEC", "FastCodec", "to_body"]
