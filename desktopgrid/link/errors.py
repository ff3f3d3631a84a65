"""The errors of a connection. Its owner sees them as what they are: the server cannot be reached
now.
"""

from __future__ import annotations

import json
import ssl

from desktopgrid.model.errors import (
    BadRequest,
    GridError,
    LocalProtocolError,
    RemoteProtocolError,
    Unavailable,
    by_code,
)


def in_words(error: BaseException) -> str:
    """What an error of the system says, without its number."""
    said = error.strerror if isinstance(error, OSError) else None
    return said if said and not isinstance(error, ssl.SSLError) else str(error)


class ConnectionLost(Unavailable):
    """There is no connection, or no longer; the next one may fare better."""


class WebSocketBroken(ConnectionLost):
    """Something between us and the server does not let WebSockets pass; plain requests may."""


class ForeignServer(ConnectionLost):
    """Who answers there is not certified by this grid's CA."""


class NotToBeHad(BadRequest):
    """What a URI names is not there, or is not what was announced, whoever asks."""

    code = "not-to-be-had"


class RefusedByServer(Unavailable):
    """The server closed the connection; ``error`` says why, ``retry_after`` 0 means for good."""

    def __init__(self, error: GridError, retry_after: float) -> None:
        super().__init__(str(error))
        self.error, self.retry_after = error, retry_after


_SPECIAL = ("illegal-transition", "configuration")
_CLASSES: dict[str, type[GridError]] = {
    code: kind for code, kind in by_code().items() if code not in _SPECIAL
}
_CLASSES[RemoteProtocolError.code] = LocalProtocolError
"""What a server calls a broken rule of the wire was broken by us."""


def from_code(code: str, reason: str) -> GridError:
    """The error that a server means by ``code``; one that we do not know stays a GridError with
    that code.
    """
    kind = _CLASSES.get(code)
    if kind is not None:
        return kind(reason or code)
    error = GridError(reason or code)
    error.code = code
    return error


def explanation_in(body: bytes) -> tuple[str, str]:
    """The ``code`` and ``reason`` that an answer which says no may have in its body."""
    try:
        said = json.loads(body)
        return str(said["code"]), str(said["reason"])
    except (ValueError, KeyError, TypeError):
        return "", ""


def from_status(status: int, code: str, reason: str) -> GridError:
    """The error behind an HTTP status and the ``{"code", "reason"}`` that came with it, if any."""
    if code:
        return from_code(code, reason)
    words = {401: "not-authenticated", 403: "access-denied", 404: "unknown-object"}
    if status in words:
        return from_code(words[status], reason)
    if status >= 500 or status in (408, 409, 410, 425, 429):
        return Unavailable(reason)
    return BadRequest(reason)
