"""The load on our own server: a process of its own with simulated workers and clients.

    python bench/load.py --worker FILE --client FILE --server PID SCENARIO [options]

Prints what the scenario found (see scenarios.py) as one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from bench import scenarios
from desktopgrid.link.identity import Identity

# Scenario: its function, and its options with their types; a list is written with commas.
Scenario = Callable[..., Coroutine[Any, Any, dict[str, Any]]]
SCENARIOS: dict[str, tuple[Scenario, dict[str, type]]] = {
    "dispatch": (scenarios.dispatch, {"workers": int, "seconds": float}),
    "waiting": (scenarios.waiting, {"levels": list, "workers": int, "seconds": float}),
    "idle": (scenarios.idle, {"connections": int, "pushes": int}),
    "register": (scenarios.register, {"jobs": int, "rates": list, "seconds": float}),
    "connect": (scenarios.connect, {"seconds": float}),
}


def numbers(text: str) -> list[int]:
    """The numbers of a list with commas."""
    return [int(word) for word in text.split(",")]


def main() -> None:
    """The command: run one scenario."""
    parser = argparse.ArgumentParser(description="Put load on a server.")
    parser.add_argument("--worker", type=Path, required=True, help="identity file of the workers")
    parser.add_argument("--client", type=Path, required=True, help="identity file of the client")
    parser.add_argument("--server", type=int, required=True, help="process that is measured")
    commands = parser.add_subparsers(dest="scenario", required=True)
    for name, (function, options) in SCENARIOS.items():
        command = commands.add_parser(name, description=function.__doc__)
        for option, kind in options.items():
            read = numbers if kind is list else kind
            command.add_argument(f"--{option}", type=read, required=True)
    given = vars(parser.parse_args())
    function, options = SCENARIOS[given["scenario"]]
    door = scenarios.Door(
        Identity.read(given["worker"]), Identity.read(given["client"]), given["server"]
    )
    # Thousands of connections: uvloop spends a third less on each than the standard loop.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(function(door, **{name: given[name] for name in options}))
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
