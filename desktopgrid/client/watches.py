"""Who waits for which work. A table behind a lock; it asks the server nothing.

Results arrive in the link's thread, in no order, and sometimes twice (after a server's restart the
works that are still awaited are asked for again); each who waits is told once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from desktopgrid.model.objects import UID, Result

OnEnded = Callable[[Result], None]
"""Called once a work, in the link's thread: must not wait, and must not ask the grid."""


@dataclass
class _Awaited:
    listeners: list[OnEnded] = field(default_factory=list)
    is_known: bool = False


class Watches:
    """The works that are awaited, and whom to tell. One is *known* once the server has said so."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._awaited: dict[UID, _Awaited] = {}

    def __len__(self) -> int:
        return len(self._awaited)

    def add(self, works: Iterable[UID], on_ended: OnEnded) -> None:
        """``on_ended`` is told of each of ``works``."""
        with self._lock:
            for work in works:
                self._awaited.setdefault(work, _Awaited()).listeners.append(on_ended)

    def drop(self, works: Iterable[UID], on_ended: OnEnded) -> None:
        """``on_ended`` wants to hear no more of ``works``."""
        with self._lock:
            for work in works:
                awaited = self._awaited.get(work)
                if awaited is not None and on_ended in awaited.listeners:
                    awaited.listeners.remove(on_ended)
                    if not awaited.listeners:
                        del self._awaited[work]

    def know(self, works: Iterable[UID]) -> list[UID]:
        """The server knows ``works``: those of them that are still awaited."""
        open_works = []
        with self._lock:
            for work in works:
                awaited = self._awaited.get(work)
                if awaited is not None:
                    awaited.is_known = True
                    open_works.append(work)
        return open_works

    def known(self) -> list[UID]:
        """What is awaited and known: what a server that was restarted must watch again."""
        with self._lock:
            return [work for work, awaited in self._awaited.items() if awaited.is_known]

    def ended(self, result: Result) -> None:
        """A work is through: whoever waits for it is told."""
        with self._lock:
            awaited = self._awaited.pop(result.work, None)
        for on_ended in awaited.listeners if awaited else ():
            on_ended(result)
