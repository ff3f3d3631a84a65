"""The head of an HTTP/1.1 response, for the two answers that are no answers to a request: to
CONNECT and to Upgrade.
"""

from __future__ import annotations

from dataclasses import dataclass

from desktopgrid.link.errors import ConnectionLost

MAX_HEAD = 32 << 10
"""Bytes in a head; a longer one is not from a server of ours."""


@dataclass(frozen=True)
class Head:
    """Status, reason and headers, their names in lower case."""

    status: int
    reason: str
    headers: dict[str, str]

    @classmethod
    def parse(cls, data: bytes) -> Head:
        """The head that ``data`` (without the empty line) is; raises ConnectionLost if none."""
        first, *lines = data.decode("latin-1").split("\r\n")
        version, _, rest = first.partition(" ")
        status, _, reason = rest.partition(" ")
        if not version.startswith("HTTP/1.") or not (status.isdigit() and len(status) == 3):
            raise ConnectionLost(f"what came is no HTTP response: {first[:60]!r}")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        return cls(int(status), reason, headers)
