"""Messages to JSON and back, with the standard library alone.

The server decodes bodies with msgspec into the same dataclasses; tests/unit/wire feeds both from
one corpus. What comes in is checked field by field: a wrong type is the peer's fault and raises
RemoteProtocolError.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
import math
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Callable, NamedTuple, Optional, Protocol

from desktopgrid.model.errors import RemoteProtocolError
from desktopgrid.wire.messages import Message

LAST_NUMBER = (1 << 53) - 1
"""The highest number of a message: a peer in any language can still tell it from the next."""

Raw = tuple[str, int, Any]
"""A message as it stands in a frame, its body not yet looked at."""


class Codec(Protocol):
    """How messages become bytes: this module's :data:`STDLIB`, and msgspec on the server."""

    def encode(self, message: Message, sequence: int) -> bytes:
        """``message`` as it stands in a frame: ``[verb, sequence, body]``."""

    def split(self, frame: bytes) -> tuple[int, list[Raw]]:
        """The number that ``frame`` acknowledges and its messages; raises RemoteProtocolError."""

    def body(self, kind: type[Any], raw: Any) -> Message:
        """The ``kind`` of message that a raw body describes; raises RemoteProtocolError."""


class StandardCodec:
    """The codec of those who have the standard library alone."""

    def encode(self, message: Message, sequence: int) -> bytes:
        """``message`` as it stands in a frame: ``[verb, sequence, body]``."""
        return _to_json([message.verb, sequence, to_body(message)]).encode()

    def split(self, frame: bytes) -> tuple[int, list[Raw]]:
        """The number that ``frame`` acknowledges and its messages; raises RemoteProtocolError."""
        try:
            content = json.loads(frame, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise RemoteProtocolError(f"a frame must be JSON: {error}") from None
        if not isinstance(content, list) or not content or not _is_count(content[0]):
            raise RemoteProtocolError("a frame must be a list that starts with a number")
        for raw in content[1:]:
            if not (isinstance(raw, list) and len(raw) == 3):
                raise RemoteProtocolError("a message must be [verb, sequence, body]")
            if not (isinstance(raw[0], str) and _is_count(raw[1])):
                raise RemoteProtocolError("a message must be [verb, sequence, body]")
        return content[0], [(raw[0], raw[1], raw[2]) for raw in content[1:]]

    def body(self, kind: type[Any], raw: Any) -> Message:
        """The ``kind`` of message that a raw body describes; raises RemoteProtocolError."""
        return typing.cast(Message, from_body(kind, raw))


def frame_of(acknowledged: int, messages: Sequence[bytes]) -> bytes:
    """A frame of encoded messages: ``[acknowledged, [verb, sequence, body], ...]``."""
    return b"[" + b",".join((b"%d" % acknowledged, *messages)) + b"]"


def to_body(message: Any) -> dict[str, Any]:
    """The body of ``message``: its fields but those at their default."""
    return {
        name: value if type(value) in _AS_THEY_ARE else _plain(value)
        for name, default in _fields(type(message))
        if (value := getattr(message, name)) != default
    }


def from_body(kind: type[Any], body: Any) -> Any:
    """The ``kind`` of message that ``body`` describes; raises RemoteProtocolError on a missing
    field or a wrong type.
    """
    if not isinstance(body, dict):
        raise RemoteProtocolError(f"the body of {_name(kind)} must be an object")
    values = {}
    for name, where, exact, check, is_required in _checks(kind):
        if name in body:
            value = body[name]
            values[name] = value if type(value) is exact else check(value, where)
        elif is_required:
            raise RemoteProtocolError(f"{_name(kind)} lacks {name}")
    return kind(**values)


# One encoder for all: json.dumps makes a new one a call.
_to_json = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LAST_NUMBER


def _name(kind: type[Any]) -> str:
    return getattr(kind, "verb", "") or kind.__name__.lower()


_AS_THEY_ARE = frozenset((str, int, float, bool, type(None)))


def _plain(value: Any) -> Any:
    if type(value) in _AS_THEY_ARE:
        return value
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, Message):
        return to_body(value)
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value


Check = Callable[[Any, str], Any]


class Checked(NamedTuple):
    """A field, how errors call it, and how it is checked: a value of type ``exact`` is right."""

    name: str
    where: str
    exact: Optional[type[Any]]
    check: Check
    is_required: bool


_FIELDS: dict[type[Any], list[tuple[str, Any]]] = {}
_CHECKS: dict[type[Any], list[Checked]] = {}
_NO_DEFAULT = object()


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return _NO_DEFAULT


def _fields(kind: type[Any]) -> list[tuple[str, Any]]:
    if kind not in _FIELDS:
        _FIELDS[kind] = [(field.name, _default(field)) for field in dataclasses.fields(kind)]
    return _FIELDS[kind]


def _checks(kind: type[Any]) -> list[Checked]:
    if kind not in _CHECKS:
        hints = typing.get_type_hints(kind)
        _CHECKS[kind] = [
            Checked(
                name,
                f"{_name(kind)}.{name}",
                hints[name] if hints[name] in (str, int, bool) else None,
                _check(hints[name]),
                default is _NO_DEFAULT,
            )
            for name, default in _fields(kind)
        ]
    return _CHECKS[kind]


def _check(hint: Any) -> Check:
    """A function that gives back a value of type ``hint`` or raises RemoteProtocolError."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return lambda value, where: value
    if origin is typing.Union:
        inner = _check(next(a for a in arguments if a is not type(None)))
        return lambda value, where: None if value is None else inner(value, where)
    if origin is tuple:
        return _check_tuple(arguments)
    if origin is dict:
        return _check_dict(arguments[1])
    if hint is bytes:
        return _bytes
    if hint is float:
        return _number
    if dataclasses.is_dataclass(hint):
        return lambda value, where: from_body(typing.cast(type[Any], hint), value)
    return _check_exactly(hint)


def _check_exactly(hint: Any) -> Check:
    def check(value: Any, where: str) -> Any:
        if type(value) is not hint:
            raise _wrong(where, hint.__name__, value)
        return value

    return check


def _check_tuple(arguments: tuple[Any, ...]) -> Check:
    if arguments[-1] is Ellipsis:
        inner = _check(arguments[0])

        def check_all(value: Any, where: str) -> Any:
            if not isinstance(value, list):
                raise _wrong(where, "list", value)
            return tuple(inner(item, where) for item in value)

        return check_all
    inners = [_check(argument) for argument in arguments]

    def check_each(value: Any, where: str) -> Any:
        if not isinstance(value, list) or len(value) != len(inners):
            raise _wrong(where, f"list of {len(inners)}", value)
        return tuple(inner(item, where) for inner, item in zip(inners, value))

    return check_each


def _check_dict(values: Any) -> Check:
    inner = _check(values)

    def check(value: Any, where: str) -> Any:
        if not isinstance(value, dict):
            raise _wrong(where, "object", value)
        return {key: inner(item, where) for key, item in value.items()}

    return check


def _bytes(value: Any, where: str) -> bytes:
    if not isinstance(value, str):
        raise _wrong(where, "base64 text", value)
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise _wrong(where, "base64 text", value) from None


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _wrong(where, "number", value)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    # JSON has no infinity, but 1e999 is read as one.
    if not math.isfinite(number):
        raise RemoteProtocolError(f"{where} must be a number that is not too large")
    return number


def _wrong(where: str, expected: str, value: Any) -> RemoteProtocolError:
    return RemoteProtocolError(f"{where} must be {expected}, not {type(value).__name__}")


STDLIB = StandardCodec()
