"""The errors that we raise on purpose, and whose fault each of them is.

    GridError                     root of them all
    ├── BadRequest                what was asked makes no sense; nothing was changed
    │   ├── UnknownObject         no such user, application, data, work ...
    │   ├── AlreadyThere          a name that must be unique is taken
    │   ├── LimitExceeded         more than a cap, a quota or a size allows
    │   └── RequirementRefused    a requirement that cannot be judged
    ├── AccessDenied              the caller may not do that
    ├── NotAuthenticated          the caller is not who it says
    ├── IllegalTransition         an event that a status does not allow
    ├── ConfigurationError        a file that we read says something we do not understand
    ├── Unavailable               the system cannot answer now; asking again later may help
    │   └── NoRoom                the server's disk is full
    └── ProtocolError
        ├── LocalProtocolError    we broke the rules of the wire: a bug of ours
        └── RemoteProtocolError   the peer broke them: its connection is closed

Each has a ``code``: the word that stands for it on the wire. The dispatcher turns errors into
replies, the commands turn them into exit codes; nobody else catches them.
"""

from __future__ import annotations

from collections.abc import Sequence


class GridError(Exception):
    """Root of every error that we raise on purpose."""

    code = "error"


class BadRequest(GridError):
    """What was asked makes no sense, and nothing was changed."""

    code = "bad-request"


class UnknownObject(BadRequest):
    """There is no object of that kind and name, or none that the caller may see."""

    code = "unknown-object"

    @classmethod
    def named(cls, kind: str, name: str) -> UnknownObject:
        """The error for the object of ``kind`` called ``name``."""
        return cls(f"there is no {kind} {name!r} that you may see")


class AlreadyThere(BadRequest):
    """A name that must be unique is taken."""

    code = "already-there"


class LimitExceeded(BadRequest):
    """More than a cap, a quota or a size allows."""

    code = "limit-exceeded"


class RequirementRefused(BadRequest):
    """A requirement expression that is wrong, too long, or takes too long to judge."""

    code = "requirement-refused"


class AccessDenied(GridError):
    """The caller may not do that."""

    code = "access-denied"


class NotAuthenticated(GridError):
    """The caller could not show who it is. Says no more, so that nobody learns which part was
    wrong.
    """

    code = "not-authenticated"


class IllegalTransition(GridError):
    """An event that the present status does not allow."""

    code = "illegal-transition"

    def __init__(self, kind: str, status: str, event: str) -> None:
        super().__init__(f"a {kind} that is {status} cannot be {event}")
        self.kind, self.status, self.event = kind, status, event


class ConfigurationError(GridError):
    """A configuration file says something that we do not understand; names file, line and key, or
    line 0 where it is not one line that is wrong.
    """

    code = "configuration"

    def __init__(self, file: str, line: int, message: str, known: Sequence[str] = ()) -> None:
        tail = f"; known keys are {', '.join(known)}" if known else ""
        place = f"{file}:{line}" if line else file
        super().__init__(f"{place}: {message}{tail}")
        self.file, self.line, self.known = file, line, tuple(known)


class Unavailable(GridError):
    """The system cannot answer now (no room, no database, no network); nothing was changed."""

    code = "unavailable"


class NoRoom(Unavailable):
    """The server's disk has no room for it; nothing was stored."""

    code = "no-room"


class ProtocolError(GridError):
    """A rule of the wire was broken."""

    code = "protocol"


class LocalProtocolError(ProtocolError):
    """We broke a rule of the wire: a bug of ours."""


class RemoteProtocolError(ProtocolError):
    """The peer broke a rule of the wire; its connection is closed and nothing else happens."""


def by_code() -> dict[str, type[GridError]]:
    """Every error class by its word on the wire; a client raises what the server replied."""
    found: dict[str, type[GridError]] = {}
    todo = [GridError]
    while todo:
        error = todo.pop(0)
        found.setdefault(error.code, error)
        todo.extend(error.__subclasses__())
    return found
