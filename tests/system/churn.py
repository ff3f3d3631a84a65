"""Random deaths under load, and what must be true afterwards.

One grid lives through many rounds. In each, a client submits sweeps while server, workers and a
pilot are killed at moments that a seed decides, and started again. When all that was acknowledged
has ended, the database must hold one result a work, from one task, and it must be the right one.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable

from desktopgrid.client.grid import Grid, Submitted
from desktopgrid.model.lifecycle import WorkStatus
from desktopgrid.model.objects import ANY_PLATFORM, Description
from tests.system.processes import DEADLINE, Process, ServerUnderTest, until

VICTIMS = ("server", "worker-1", "worker-2", "pilot")
SWEEPS, WORKS_A_SWEEP = 12, 15

PROGRAM = b"""\
#!/bin/sh
sleep 0.0$(($1 % 7))
echo $(($1 * $1))
echo $(($1 * $1 * $1)) > cube
"""


class Churn:
    """A grid with two workers and a pilot, all of which die now and then."""

    def __init__(self, server: ServerUnderTest, seed: int) -> None:
        self.server, self.seed = server, seed
        self.client: Grid = server.client()
        self.client.send_application("square", PROGRAM, ANY_PLATFORM)
        self.deaths: Counter[str] = Counter()
        self._peers: dict[str, Process] = {}
        for name in VICTIMS[1:]:
            self._raise(name)

    def round(self, number: int) -> None:
        """Submit, kill, start again, and check what came of it."""
        chance = random.Random(f"{self.seed}/{number}")  # noqa: S311 - to be repeated
        sweeps = _Submitter(self.client, random.Random(f"{self.seed}/{number}/client"))  # noqa: S311
        sweeps.start()
        # Each dies in every fourth round at least, and others with it.
        names = [VICTIMS[number % len(VICTIMS)], *chance.choices(VICTIMS, k=chance.randrange(3))]
        for name in names:
            time.sleep(chance.uniform(0, 0.6))
            self._kill(name)
            if chance.random() < 0.3:
                # Killed again before it has found its feet.
                self._raise(name, is_awaited=False)
                time.sleep(chance.uniform(0, 1.5))
                self._kill(name)
            time.sleep(chance.uniform(0, 0.6))
            self._raise(name)
        self.check(sweeps.acknowledged())

    def _kill(self, name: str) -> None:
        self.deaths[name] += 1
        if name == "server":
            self.server.kill()
        else:
            self._peers[name].kill()

    def _raise(self, name: str, is_awaited: bool = True) -> None:
        if name == "server":
            if is_awaited:
                self.server.start()
            else:
                self.server.launch()
        elif name == "pilot":
            # The secret of the one that died is used up.
            self._peers[name] = self.server.pilot(self.client)
        else:
            self._peers[name] = self.server.worker(name)

    def check(self, sweeps: list[Submitted]) -> None:
        """No work of ``sweeps`` is lost, and each has one result, the right one, from one task."""
        numbers = {
            work: WORKS_A_SWEEP * n + i
            for n, sweep in enumerate(sweeps)
            for i, work in enumerate(sweep.works)
        }
        results = {result.work: result for result in self.client.wait(list(numbers), DEADLINE)}
        assert results.keys() == numbers.keys()
        self._check_rows({sweep.uid for sweep in sweeps}, set(numbers))
        for result in self.client.results(list(numbers)):
            number = numbers[result.work]
            assert result.status is WorkStatus.COMPLETED, result
            assert results[result.work].stdout == result.stdout == f"{number**2}\n".encode()
            assert self.client.content(result, "cube") == f"{number**3}\n".encode()

    def _check_rows(self, submissions: set[str], works: set[str]) -> None:
        rows = self.server.rows("SELECT uid, submission, status, task FROM works")
        mine = {uid: (status, task) for uid, of, status, task in rows if of in submissions}
        assert mine.keys() == works
        assert {status for status, _ in mine.values()} == {"COMPLETED"}
        # Of works that nobody was promised, too, since no result may be there twice.
        done = self.server.rows("SELECT work, uid FROM tasks WHERE status = 'COMPLETED'")
        twice = [work for work, count in Counter(work for work, _ in done).items() if count > 1]
        assert not twice
        assert {(work, task) for work, (_, task) in mine.items()} <= set(done)

    def leave(self) -> None:
        """Nothing is left open when all was acknowledged and has ended."""
        until(
            lambda: self.server.rows("SELECT 1 FROM works WHERE ended_at IS NULL") == [],
            "no work is open",
        )
        assert self.server.rows("SELECT 1 FROM tasks WHERE ended_at IS NULL") == []


class _Submitter:
    """Submits sweeps in a thread of its own, whatever becomes of the server."""

    def __init__(self, client: Grid, chance: random.Random) -> None:
        self._client, self._chance = client, chance
        self._sweeps: list[Submitted] = []
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="submitter", daemon=True)
        self.start: Callable[[], None] = self._thread.start

    def _run(self) -> None:
        try:
            for n in range(SWEEPS):
                numbers = range(WORKS_A_SWEEP * n, WORKS_A_SWEEP * (n + 1))
                arguments = [[str(number)] for number in numbers]
                self._sweeps.append(self._client.sweep(Description("square"), arguments))
                time.sleep(self._chance.uniform(0, 0.2))
        except Exception as failure:
            self._failure = failure

    def acknowledged(self) -> list[Submitted]:
        """All sweeps, once the last is acknowledged; raises what the client was told instead."""
        self._thread.join(2 * DEADLINE)
        assert not self._thread.is_alive(), "a submission was never answered"
        if self._failure is not None:
            raise self._failure
        return self._sweeps
