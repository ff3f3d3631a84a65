"""What all messages of the protocol have, and the bounds of what they carry."""

from __future__ import annotations

from typing import ClassVar

VERSIONS = (1,)
"""The protocol versions that this code speaks, best first."""

MAX_FRAME = 1 << 20
"""Bytes in a frame. A longer one closes the connection."""

MAX_INLINE = 64 << 10
"""Bytes of standard output, or of standard error, that travel in a message; longer ones go as
outputs.
"""

MAX_OUTPUTS = 2_000
MAX_NAMES = 512 << 10
"""Outputs of a task, and the bytes that the list of them may take in a message."""

MAX_WORKS = 2_000
"""Works in one submission message; a client splits longer sweeps."""


USUAL_QUOTA = -1
"""The quota of who has none of his own."""


class Message:
    """What all messages have: a verb."""

    verb: ClassVar[str] = ""
