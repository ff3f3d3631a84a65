"""`make demo-bridge`: the picture of `make demo`, rendered by a desktop and by pilots at four kinds
of site at once: HTCondor, ARC, GRAM, and Slurm over SSH. All four are real.

Nobody submits a pilot: the factory sees that works wait, and sends them. When a third of the
picture is there, one of the sites dies as in a power cut; its works are run elsewhere.

bridge.py [PICTURE [TARGET]] renders another picture than picture.json into another file.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from condor.personal import LoopbackPool
from demo.parts import (
    PICTURE,
    TARGET,
    DemoFailed,
    place,
    render,
    run,
    running,
    say,
    server,
    told,
    worker,
)
from desktopgrid.client.grid import Grid
from setup.grid.described import GridBox

SHARE_BEFORE_THE_DEATH = 1 / 3
FACTORY_PERIOD = "2"

ALIKE = """\
max_pilots = 1
max_idle = 1
memory_mib = 256
disk_mib = 256
idle_time = 2 min
"""

CONDOR_SITE = """\
[site pool]
computing_element = condor
address = {address}
token = {token}
"""

ARC_SITE = """\
[site arc]
computing_element = arc
url = {box.arc}
proxy = {proxy}
ca_directory = {box.certificates}
"""

GRAM_SITE = """\
[site gram]
computing_element = gram
contact = {contact}
proxy = {proxy}
ca_directory = {box.certificates}
command_directory = {clients}/bin
"""

SLURM_SITE = """\
[site cluster]
computing_element = slurm
ssh = {ssh.user}@{ssh.host}:{ssh.port}
ssh_key = {ssh.key}
known_hosts = {ssh.known_hosts}
partition = main
"""


class Death:
    """What ends a site when a share of the picture is there."""

    def __init__(self, name: str, share: float, kill: Callable[[], None]) -> None:
        self.name, self._share, self._kill = name, share, kill
        self._is_over = False

    def look(self, done: int, of: int) -> None:
        """Told how many tiles of how many are there."""
        if not self._is_over and done >= self._share * of:
            self._is_over = True
            say(f"Killing everything at site {self.name}.")
            self._kill()


def main(picture: Path = PICTURE, target: Path = TARGET) -> int:
    """The demo; 0 if every tile of the picture is there and every site has brought some."""
    return told(partial(_demo, picture, target))


def _demo(picture: Path, target: Path) -> int:
    with place() as (directory, stack):
        home, identity = directory / "grid", directory / "grid/admin.identity"
        pool = stack.enter_context(LoopbackPool(real("HTCONDOR"), directory / "pool", cores=1))
        box = box_with_services()
        stack.enter_context(server(home, sites(pool, box)))
        stack.enter_context(worker(home, directory))
        say("Starting the factory.")
        options = ["--identity", str(identity), "factory", "--period", FACTORY_PERIOD]
        stack.enter_context(running(directory / "factory.log", "pilot", *options))
        stack.enter_context(pilots_go(identity))
        grid = stack.enter_context(Grid.open(identity))
        death = Death("pool", SHARE_BEFORE_THE_DEATH, pool.kill)
        return render(grid, picture, target, death.look)


def real(name: str) -> str:
    """Where set-up has a real part; raises DemoFailed."""
    found = os.environ.get(f"GLIDEBRIDGE_{name}")
    if not found:
        raise DemoFailed(
            f"GLIDEBRIDGE_{name} is not set: `make demo-bridge` has to be called by root, where"
            " packages can be had"
        )
    return found


def box_with_services() -> GridBox:
    """The grid that set-up started in a box of its own, with everything in it up."""
    box = GridBox.read(Path(real("GRID")))
    for service in ("slurm", "ssh", "gram", "arc"):
        say(f"Starting {service} in the box.")
        box.start(service)
    return box


def sites(pool: LoopbackPool, box: GridBox) -> Mapping[str, str]:
    """What the administrator writes about each site, by its name."""
    token = pool.token_directory("demo") / "token"
    proxy = box.users["alice"].proxy
    return {
        "pool": CONDOR_SITE.format(address=pool.schedd_address, token=token) + ALIKE,
        "arc": ARC_SITE.format(box=box, proxy=proxy) + ALIKE,
        "gram": GRAM_SITE.format(
            box=box, contact=box.gram["slurm"], proxy=proxy, clients=real("GRID_CLIENTS")
        )
        + ALIKE,
        "cluster": SLURM_SITE.format(ssh=box.ssh) + ALIKE,
    }


@contextmanager
def pilots_go(identity: Path) -> Iterator[None]:
    """In the end no pilot is left at any site."""
    try:
        yield
    finally:
        for site in ("arc", "gram", "cluster"):
            run("pilot", "--identity", str(identity), "remove", "--site", site, "--now", must=False)


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
