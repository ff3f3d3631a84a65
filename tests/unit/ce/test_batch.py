"""How many questions a batch system is asked about thousands of jobs."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from datetime import timedelta

import pytest

from desktopgrid.model.lifecycle import PilotStatus
from pilot.ce.base import Reference
from pilot.ce.batch import BatchCE
from pilot.ce.batch_system import BatchSystem
from pilot.ce.pbs import Pbs
from pilot.ce.shell import Answer, Upload
from pilot.ce.slurm import Slurm


class Recording:
    """A shell that counts the questions, and answers as if everything ran."""

    def __init__(self) -> None:
        self.scripts: list[str] = []

    def run(self, script: str, patience: timedelta) -> Answer:
        self.scripts.append(script)
        if "squeue" in script:
            lines = (f"{number}|RUNNING|None|gb-p{number}" for number in range(1, 5001))
            return Answer(0, "\n".join(lines) + "\n")
        if "qstat" in script:
            jobs = (
                f"Job Id: {name}\n    Job_Name = gb-p{name}\n    job_state = R\n"
                for name in shlex.split(script.partition("-f ")[2])
                if name.isdigit()
            )
            return Answer(0, "\n".join(jobs) + "\n")
        if "look p1" in script:
            return Answer(0, "\n".join(f"p{number} ---|" for number in range(1, 5001)) + "\n")
        return Answer(0, "")

    def put(self, directories: Sequence[str], files: Sequence[Upload]) -> None:
        raise NotImplementedError

    def read(self, path: str, last: int | None = None) -> None:
        return None

    def describe(self) -> str:
        return "nowhere"

    def close(self) -> None:
        pass


@pytest.mark.parametrize("system, questions", [(Slurm(), 1), (Pbs(), 10)])
def test_thousands_are_asked_for_at_once(system: BatchSystem, questions: int) -> None:
    shell = Recording()
    ce = BatchCE(system, shell)
    names = [Reference(f"{system.kind}:{number}:p{number}") for number in range(1, 5001)]
    started = time.monotonic()
    states = ce.statuses(names)
    assert len(states) == 5000
    assert {state.status for state in states.values()} == {PilotStatus.RUNNING}
    assert len(shell.scripts) == questions + 1  # and one for their directories
    assert time.monotonic() - started < 2
    shell.scripts.clear()
    ce.remove(names)
    assert len(shell.scripts) == questions + 1 + 1 + 10
