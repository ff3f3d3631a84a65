"""How works fit into pilots: rooms of so many cores, so much memory and so much life. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from desktopgrid.model.demand import Demand


@dataclass
class Room:
    """``count`` hosts or pilots that are alike, each with so much to give. ``life`` in seconds."""

    site: str
    count: int
    cores: int
    memory_mib: int
    disk_mib: int
    life: float
    delegation: str = ""

    def holds(self, demand: Demand) -> int:
        """Works of ``demand`` that one of them can run at a time."""
        is_for_it = (
            demand.is_common if not self.delegation else self.delegation == demand.delegation
        )
        if demand.life > self.life or not is_for_it:
            return 0
        if demand.disk_mib > self.disk_mib:
            return 0
        by_memory = self.memory_mib // demand.memory_mib if demand.memory_mib else self.cores
        return max(0, min(self.cores // demand.cores, by_memory))


class Rooms:
    """Rooms that works are put into, one demand after the other; begun ones are filled first."""

    def __init__(self, rooms: Iterable[Room] = ()) -> None:
        self.free = [room for room in rooms if room.count > 0]
        self._begun: list[Room] = []

    def __repr__(self) -> str:
        return f"<Rooms: {self.count} free, {len(self._begun)} kinds begun>"

    @property
    def count(self) -> int:
        """How many are free: nothing was put into them."""
        return sum(room.count for room in self.free)

    def place(self, demand: Demand, works: int) -> int:
        """Put up to ``works`` of ``demand`` in; how many found room."""
        begun, self._begun = self._begun, []
        placed, begun = self._fill(begun, demand, works)
        more, self.free = self._fill(self.free, demand, works - placed)
        self._begun += begun
        return placed + more

    def begin(self, room: Room, demand: Demand, works: int) -> None:
        """Add rooms that are for so many ``works`` of ``demand``; what is left over stays."""
        _, rest = self._fill([room], demand, works)
        self._begun += rest

    def _fill(self, rooms: Iterable[Room], demand: Demand, works: int) -> tuple[int, list[Room]]:
        """How many works were placed, and the rooms that are as they were."""
        placed, untouched = 0, []
        for room in rooms:
            each = room.holds(demand) if placed < works else 0
            if not each:
                untouched.append(room)
                continue
            full = min(room.count, (works - placed) // each)
            placed += full * each
            self._split(room, demand, full, each)
            rest = min(works - placed, each - 1) if room.count > full else 0
            placed += rest
            self._split(room, demand, bool(rest), rest)
            left = room.count - full - bool(rest)
            if left:
                untouched.append(replace(room, count=left))
        return placed, untouched

    def _split(self, room: Room, demand: Demand, count: int, each: int) -> None:
        cores = room.cores - each * demand.cores
        if count and cores > 0:
            memory = room.memory_mib - each * demand.memory_mib
            self._begun.append(replace(room, count=count, cores=cores, memory_mib=memory))
