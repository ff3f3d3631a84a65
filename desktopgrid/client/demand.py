"""From the server's answer about demand and supply to values of the model. Decides; asks nothing.

What is missing or of a wrong type is an error, never a zero: pilots are planned by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from datetime import UTC, datetime
from typing import Any, TypeVar

from desktopgrid.client.replies import field
from desktopgrid.model.demand import Demand, PilotNews, SiteRecord, Situation, Supply
from desktopgrid.model.errors import RemoteProtocolError
from desktopgrid.model.lifecycle import PilotStatus

T = TypeVar("T", Demand, Supply, SiteRecord, PilotNews)

NUMBERS = ("incarnation", "left_off", "others", "submitted", "aborted")


def situation_of(reply: Mapping[str, Any]) -> Situation:
    """What the reply tells; raises RemoteProtocolError where it is not whole."""
    sites = [_value(SiteRecord, row) for row in field(reply, "sites", list)]
    return Situation(
        _time(reply.get("at"), "at"),
        demands=tuple(_value(Demand, row) for row in field(reply, "demands", list)),
        supplies=tuple(_value(Supply, row) for row in field(reply, "supplies", list)),
        sites={site.name: site for site in sites},
        news=tuple(_value(PilotNews, row) for row in field(reply, "news", list)),
        **{name: field(reply, name, int) for name in NUMBERS},
    )


def _value(kind: type[T], row: Any) -> T:
    if not isinstance(row, Mapping):
        raise RemoteProtocolError(f"the server calls a {kind.__name__} {row!r}")
    values: dict[str, Any] = {}
    for each in fields(kind):
        if each.name in row:
            values[each.name] = _READERS[str(each.type)](row[each.name], each.name)
        elif each.default is MISSING:
            raise RemoteProtocolError(f"the server's answer lacks {each.name}")
    return kind(**values)


def _time(value: Any, name: str) -> datetime:
    try:
        return datetime.fromtimestamp(value, UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        raise _wrong(value, name) from None


def _texts(value: Any, name: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise _wrong(value, name)
    return tuple(value)


def _words(value: Any, name: str) -> Mapping[str, str]:
    if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
        raise _wrong(value, name)
    return value


def _of(kind: type) -> Any:
    def read(value: Any, name: str) -> Any:
        # A bool is an int to Python, and nowhere else.
        if not isinstance(value, kind) or isinstance(value, bool) is not (kind is bool):
            raise _wrong(value, name)
        return value

    return read


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _wrong(value, name)
    return float(value)


def _status(value: Any, name: str) -> PilotStatus:
    try:
        return PilotStatus(value)
    except ValueError:
        raise _wrong(value, name) from None


def _wrong(value: Any, name: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"the server's answer has {name} = {str(value)[:40]!r}")


_READERS: Mapping[str, Any] = {
    "str": _of(str),
    "int": _of(int),
    "bool": _of(bool),
    "float": _number,
    "datetime": _time,
    "Optional[datetime]": _time,
    "tuple[str, ...]": _texts,
    "PilotStatus": _status,
    "Mapping[str, str]": _words,
}
