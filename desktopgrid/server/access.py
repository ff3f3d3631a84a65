"""The access log, in the Common Log Format that any log analyser reads (manual, 6): one line a
request.

    host ident authuser [date] "request line" status bytes

(https://www.w3.org/Daemon/User/Config/Logging.html#common-logfile-format). Whatever a peer calls
itself or asks for, it gets one line with seven fields.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

LONGEST_NAME, LONGEST_PATH = 1000, 500
"""Bytes of them that are written: webalizer skips lines beyond 4 KiB."""
MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()  # noqa: SIM905 - a row
UNSAFE = re.compile(rb"[^!#$&-Z^-~]")
"""All but the printable ASCII characters that cannot end a field, and the escape itself."""
UNSAFE_IN_PATHS = re.compile(rb"[^!#-Z^-~]")
"""Paths come with their escapes."""


class Line(NamedTuple):
    """A request that was answered; ``bytes`` is None where nobody counted them."""

    at: datetime
    host: str | None
    user: str | None
    method: str
    path: str
    version: str
    status: int
    bytes: int | None = None


def encode(lines: Sequence[Line]) -> bytes:
    """``lines`` as the log has them."""
    return "".join(map(text_of, lines)).encode("ascii")


def text_of(line: Line) -> str:
    """One line of the log, with its end. Its time is in UTC."""
    at = line.at
    date = f"{at.day:02}/{MONTHS[at.month - 1]}/{at:%Y:%H:%M:%S} +0000"
    path = field(line.path, UNSAFE_IN_PATHS, LONGEST_PATH)
    size = "-" if line.bytes is None else line.bytes
    return (
        f"{field(line.host)} - {field(line.user)} [{date}]"
        f' "{field(line.method)} {path} HTTP/{line.version}" {line.status} {size}\n'
    )


def field(text: str | None, unsafe: re.Pattern[bytes] = UNSAFE, longest: int = LONGEST_NAME) -> str:
    """``text`` as one field: what could end it is percent-encoded (RFC 3986, 2.1)."""
    raw = (text or "-").encode("utf-8", "replace")
    return unsafe.sub(lambda found: b"%%%02X" % found[0][0], raw)[:longest].decode("ascii")
