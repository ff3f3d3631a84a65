"""The identity file: what a worker, a pilot or a client starts from (docs/protocol.md, "Deployment
of secrets").
"""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from desktopgrid.link.address import ServerName
from desktopgrid.link.tls import pinned
from desktopgrid.model.errors import BadRequest, ConfigurationError

KINDS = ("client", "worker", "pilot")
MAX_FILE = 1 << 20


@dataclass(frozen=True)
class Identity:
    """Who we are to the grid, by what we prove it, and by what it proves itself to us."""

    servers: tuple[str, ...]
    kind: str
    identity: str
    secret: str = field(repr=False)
    ca: str = field(repr=False)

    @classmethod
    def read(cls, path: str | Path) -> Identity:
        """The identity in the file ``path``; raises ConfigurationError that names the file and what
        is wrong with it.
        """
        try:
            with open(path, "rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                content = file.read(MAX_FILE)
        except OSError as error:
            raise ConfigurationError(str(path), 1, error.strerror or str(error)) from error
        if mode & 0o077:
            raise ConfigurationError(
                str(path), 1, f"others can read this secret (mode {mode & 0o777:o}); chmod 600 it"
            )
        try:
            return cls._from_json(content)
        except json.JSONDecodeError as error:
            raise ConfigurationError(str(path), error.lineno, f"not JSON: {error.msg}") from None
        except (BadRequest, UnicodeDecodeError) as error:
            raise ConfigurationError(str(path), 1, str(error)) from None

    @classmethod
    def _from_json(cls, content: bytes) -> Identity:
        values = json.loads(content.decode("utf-8"))
        if not isinstance(values, dict):
            raise BadRequest("an identity must be a JSON object")
        known = [field.name for field in dataclasses.fields(cls)]
        for name in known:
            if name not in values:
                raise BadRequest(f"an identity lacks {name!r}; it has {', '.join(known)}")
        for name in values:
            if name not in known:
                raise BadRequest(f"an identity has no {name!r}; it has {', '.join(known)}")
        return cls._checked(values)

    @classmethod
    def _checked(cls, values: dict[str, Any]) -> Identity:
        servers = values.pop("servers")
        if not isinstance(servers, list) or not servers:
            raise BadRequest("'servers' must be a list of https://host:port")
        for server in servers:
            ServerName.parse(str(server))
        for name, value in values.items():
            if not isinstance(value, str) or not value:
                raise BadRequest(f"{name!r} must be a text that is not empty")
        if values["kind"] not in KINDS:
            raise BadRequest(f"'kind' must be one of {', '.join(KINDS)}, not {values['kind']!r}")
        pinned(values["ca"])
        return cls(servers=tuple(servers), **values)

    def write(self, path: str | Path) -> None:
        """Make the file ``path`` this identity: for its owner's eyes, and whole at any moment."""
        target = Path(path)
        part = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(dataclasses.asdict(self), file, indent=1)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, target)
        except BaseException:
            part.unlink()
            raise
