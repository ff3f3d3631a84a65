"""A worker of ours at another grid, whose tasks are carried on: to that grid an ordinary worker.

It stages what a task needs and brings home what it leaves, as ever; what it starts is our carrier.
Its host says where it leads to, so that the server gives it nothing that was there before.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

from bridge.config import GridRoute
from bridge.gateway import carrier_text
from bridge.processes import Child
from desktopgrid.model.errors import UnknownObject

CONFIGURATION = """\
# Written by the bridge for [route {name}].
[worker]
identity = {identity}
directory = {directory}/worker
name = bridge-{name}
slots = {slots}
memory_mib = {memory_mib}
disk_mib = {disk_mib}
grace = 30 s
launcher = {launcher}

[attributes]
LeadsTo = {to}
"""


class Satellite:
    """The worker of one route. It outlives the bridge."""

    def __init__(self, route: GridRoute, directory: Path, counter: Path) -> None:
        """Nothing is touched before ``start``."""
        self.route, self.directory, self.counter = route, directory, counter
        self.master = Child("xwworker", directory / "worker.pid")

    def __repr__(self) -> str:
        return f"<Satellite of route {self.route.name} at {self.route.from_}>"

    def is_running(self) -> bool:
        """Whether it lives, whoever started it."""
        return self.master.pid() is not None

    def check(self) -> None:
        """Raise UnknownObject for what would keep it from starting."""
        if self.route.worker is None or not self.route.worker.is_file():
            raise UnknownObject(
                f"there is no identity {self.route.worker}: set worker of [route {self.route.name}]"
            )

    def start(self) -> None:
        """Start it, unless it runs; raises OSError, UnknownObject."""
        if self.is_running():
            return
        self.check()
        carrier = self.directory / "carrier"
        carrier.write_text(carrier_text(self.counter, "task"))
        carrier.chmod(0o755)
        configuration = self.directory / "worker.conf"
        configuration.write_text(
            CONFIGURATION.format(
                name=self.route.name,
                identity=self.route.worker,
                directory=self.directory,
                slots=self.route.slots,
                memory_mib=self.route.slots * self.route.memory_mib,
                disk_mib=self.route.disk_mib,
                launcher=shlex.quote(str(carrier)),
                to=self.route.to,
            )
        )
        with (self.directory / "worker.log").open("ab") as log:
            self.master.start(
                [
                    *(sys.executable, "-m", "pilot.node.cli", "console"),
                    *("--config", str(configuration)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self.directory,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )

    def stop(self, patience: float) -> None:
        """End it: its tasks run again, here when it is back, or elsewhere."""
        self.master.stop(signal.SIGTERM, patience)
