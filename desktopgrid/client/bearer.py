"""Where a bearer token is: WLCG's bearer token discovery."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from desktopgrid.model.errors import BadRequest

LARGEST = 64 << 10


def discovered(environment: Mapping[str, str] = os.environ, uid: int | None = None) -> str:
    """The token in ``$BEARER_TOKEN``, else in the file ``$BEARER_TOKEN_FILE``, else in
    ``$XDG_RUNTIME_DIR/bt_uUID``, else in ``/tmp/bt_uUID``; raises BadRequest.
    """
    if environment.get("BEARER_TOKEN", "").strip():
        return environment["BEARER_TOKEN"].strip()
    if environment.get("BEARER_TOKEN_FILE"):
        return read(Path(environment["BEARER_TOKEN_FILE"]))
    name = f"bt_u{os.geteuid() if uid is None else uid}"
    runtime = environment.get("XDG_RUNTIME_DIR")
    for directory in (runtime, "/tmp"):  # noqa: S108 - where the profile has it
        if directory and (Path(directory) / name).is_file():
            return read(Path(directory) / name)
    raise BadRequest(
        "there is no bearer token: neither $BEARER_TOKEN nor $BEARER_TOKEN_FILE, nor"
        f" {name} in $XDG_RUNTIME_DIR or /tmp; name a file by --token-file"
    )


def remaining(token: str, now: datetime | None = None) -> timedelta | None:
    """For how long ``token`` is good, if it is a JWT that says so. Nobody has checked it."""
    try:
        _, middle, _ = token.split(".")
        claims = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
        ends_at = datetime.fromtimestamp(int(claims["exp"]), UTC)
    except (ValueError, KeyError, TypeError, OverflowError, OSError):
        return None
    return ends_at - (now or datetime.now(UTC))


def read(path: Path) -> str:
    """The token in the file ``path``; raises BadRequest."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST)
        token = content.decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(f"no token can be read from {path}: {error}") from None
    if not token or len(token.split()) > 1:
        raise BadRequest(f"{path} holds no token, or more than that")
    return token
