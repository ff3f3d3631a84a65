"""How HTTP says our errors."""

from __future__ import annotations

from desktopgrid.model.errors import (
    AccessDenied,
    AlreadyThere,
    BadRequest,
    GridError,
    LimitExceeded,
    NoRoom,
    NotAuthenticated,
    Unavailable,
    UnknownObject,
)
from desktopgrid.server.throttle import Throttled

STATUSES: tuple[tuple[type[GridError], int], ...] = (
    (NotAuthenticated, 401),
    (AccessDenied, 403),
    (UnknownObject, 404),
    (AlreadyThere, 409),
    (Throttled, 429),
    (LimitExceeded, 413),
    (BadRequest, 400),
    (NoRoom, 507),
    (Unavailable, 503),
)
"""The HTTP status of each error, the first that fits."""
STATUS_OF_CODE = {kind.code: status for kind, status in STATUSES}
"""The HTTP status of each code."""


def status_of(error: GridError) -> int:
    """The HTTP status that says ``error``."""
    return next((status for kind, status in STATUSES if isinstance(error, kind)), 500)
