"""From what the server answers to values of the model, and from its refusals to errors. Decides;
asks nothing.

What a reply holds is checked where it is read: a server of another version may leave out what we
need.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from desktopgrid.model.errors import GridError, RemoteProtocolError, by_code
from desktopgrid.model.lifecycle import WorkStatus
from desktopgrid.model.objects import Output, Result, Usage
from desktopgrid.wire import messages as m
from desktopgrid.wire.codec import from_body

_ERRORS = by_code()


def error_of(failure: m.Failure) -> GridError:
    """The error that a refusal stands for; a code that we do not know is a GridError."""
    kind = _ERRORS.get(failure.code, GridError)
    # Some errors are made from facts; what comes from the server is their sentence.
    error = kind.__new__(kind)
    GridError.__init__(error, failure.reason)
    return error


def result_of_ended(ended: m.Ended) -> Result:
    """The result that a push tells of."""
    return Result(
        ended.work,
        None,
        status_of(ended.status),
        ended.exit_code,
        ended.reason,
        ended.stdout,
        ended.stderr,
        tuple(Output(stored.name, stored.sha256, stored.size) for stored in ended.outputs),
        host=ended.host or None,
    )


def result_of(body: Any) -> Result:
    """The result that a row of ``results`` tells of."""
    ended = from_body(m.Ended, _plain_names(body))
    usage = body.get("usage") or ()
    values = list(usage.values() if isinstance(usage, Mapping) else usage)
    result = result_of_ended(ended)
    return Result(
        result.work,
        body.get("task"),
        result.status,
        result.exit_code,
        result.reason,
        result.stdout,
        result.stderr,
        result.outputs,
        Usage(*(value or 0 for value in values[:4])),
        result.host,
    )


def rights_of(row: Mapping[str, Any]) -> int:
    """The access rights in a row, which are bits or an octal text."""
    rights = row.get("rights")
    try:
        return rights if isinstance(rights, int) else int(str(rights), 8)
    except ValueError:
        raise RemoteProtocolError(f"the server calls access rights {rights!r}") from None


def field(body: Mapping[str, Any], name: str, kind: type) -> Any:
    """What a reply must have; raises RemoteProtocolError."""
    value = body.get(name)
    if not isinstance(value, kind):
        raise RemoteProtocolError(f"the server's answer lacks {name}")
    return value


def _plain_names(body: Any) -> Any:
    # A null says the same as a field left out.
    if isinstance(body, dict):
        return {name: value for name, value in body.items() if value is not None}
    return body


def status_of(word: str) -> WorkStatus:
    """The status of a work that the server calls so."""
    try:
        return WorkStatus(word)
    except ValueError:
        raise RemoteProtocolError(f"the server calls a work {word!r}") from None
