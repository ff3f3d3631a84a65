"""A worker as a process of its own, with a server that knows nothing but the tasks given to it.

    python worker_process.py DIRECTORY SCRIPT...

Each SCRIPT becomes a task of the shell; what the worker says is printed, a line a message.
"""

from __future__ import annotations

import sys
from pathlib import Path

from desktopgrid.wire import messages as m
from pilot.node import processes
from pilot.node.agent import Agent, Host
from pilot.node.slots import Capacity
from pilot.node.storage import WorkerDirectory
from pilot.node.worker import Policy
from tests.unit.node.fakes import WELCOME, FakeLink, an_assign


class Talkative(FakeLink):
    """Prints what is said."""

    def say(self, message: m.Message, may_wait: bool = False) -> int:
        """See FakeLink."""
        number = super().say(message)
        print(message.verb, getattr(message, "task", ""), flush=True)
        return number


def main(path: str, scripts: list[str]) -> int:
    """Run ``scripts`` as tasks, side by side, until told to go."""
    link = Talkative()
    is_adopting = processes.adopt_orphans()
    host = Host({"name": "here"}, Capacity(len(scripts) or 1, 1000), Policy(grace=5.0))
    orphans = processes.Orphans() if is_adopting else None
    agent = Agent(WorkerDirectory(Path(path)), host, orphans)
    agent.attach(link)
    processes.keep_descriptors()
    agent.hear_signals()
    agent.prepare()
    print("ready", flush=True)

    def give() -> None:
        agent.on_open(WELCOME)
        for epoch, script in enumerate(scripts, 1):
            program = link.transfers.add(f"#!/bin/sh\n{script}\n")
            agent.on_message(epoch, an_assign(epoch, executable=program))

    link.on_start = give
    return agent.run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
