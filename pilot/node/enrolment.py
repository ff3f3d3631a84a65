"""A pilot's first contact: its enrolment secret is good once, then a secret of its own takes over.

docs/protocol.md, Handshake: the first hello is proved by the enrolment secret and names the
verifier of the pilot's own; the same hello may come again, should its welcome get lost.
"""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from desktopgrid.link.identity import Identity
from desktopgrid.wire.proof import new_secret, verifier_of

logger = logging.getLogger(__name__)


class Enrolment:
    """Turns the identity in the file ``path`` into one that only this process knows."""

    def __init__(self, identity: Identity, path: Path) -> None:
        self._path = path
        self._own = replace(identity, secret=new_secret())
        self.is_done = False

    def fields(self) -> dict[str, Any]:
        """What Hello says about it."""
        if self.is_done:
            return {}
        return {"proved_by": "enrolment", "key": verifier_of(self._own.secret)}

    def complete(self) -> Identity:
        """The server has welcomed us: the identity to use from now on.

        The file is removed; raises OSError if it cannot be.
        """
        if not self.is_done:
            # Emptied as well, for whoever has it open or linked.
            if self._path.exists():
                os.truncate(self._path, 0)
                self._path.unlink()
            self.is_done = True
            logger.info("Enrolled as %s, removed %s", self._own.identity, self._path)
        return self._own
