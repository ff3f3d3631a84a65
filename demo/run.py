"""`make demo`: one large picture, rendered as a sweep of works on a desktop worker and two pilots.

The whole path, with the commands that a user types: a new grid with its server and a worker on this
machine, a real HTCondor pool, two pilots submitted to it, an application, a sweep, its results put
together. Where HTCondor cannot be had, which is where no package registry can be reached, the
pilots are processes of this machine.

run.py [PICTURE [TARGET]] renders another picture than picture.json into another file.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from condor.personal import LoopbackPool
from demo.parts import PICTURE, TARGET, DemoFailed, place, render, run, say, server, told, worker
from desktopgrid.client.grid import Grid

PILOTS = 2
START_SECONDS = 90.0

CONDOR_SITE = """\
[site pool]
computing_element = condor
address = {address}
token = {token}
max_idle = {pilots}
memory_mib = 256
disk_mib = 256
idle_time = 2 min
"""

LOCAL_SITE = """\
[site pool]
computing_element = local
max_idle = {pilots}
memory_mib = 256
disk_mib = 256
idle_time = 2 min
"""


def main(picture: Path = PICTURE, target: Path = TARGET) -> int:
    """The demo; 0 if every tile of the picture is there."""
    return told(partial(_demo, picture, target))


def _demo(picture: Path, target: Path) -> int:
    with place() as (directory, stack):
        home, identity = directory / "grid", directory / "grid/admin.identity"
        site = stack.enter_context(pool(directory))
        stack.enter_context(server(home, {"pool": site}))
        stack.enter_context(worker(home, directory))
        stack.enter_context(pilots(identity))
        grid = stack.enter_context(Grid.open(identity))
        wait_for_hosts(grid, 1 + PILOTS)
        return render(grid, picture, target)


@contextmanager
def pool(directory: Path) -> Iterator[str]:
    """A real HTCondor pool, or where that cannot be had nothing: the site's configuration."""
    prefix = os.environ.get("GLIDEBRIDGE_HTCONDOR")
    if not prefix:
        say("HTCondor cannot be had here; the pilots will be processes of this machine.")
        yield LOCAL_SITE.format(pilots=PILOTS)
        return
    say("Starting an HTCondor pool.")
    with LoopbackPool(prefix, directory / "pool", cores=PILOTS) as started:
        token = started.token_directory("demo") / "token"
        yield CONDOR_SITE.format(address=started.schedd_address, token=token, pilots=PILOTS)


@contextmanager
def pilots(identity: Path) -> Iterator[None]:
    """Pilots at the site."""
    say(f"Submitting {PILOTS} pilots.")
    try:
        run("pilot", "--identity", str(identity), "submit", "--site", "pool", "-n", str(PILOTS))
        yield
    finally:
        run("pilot", "--identity", str(identity), "remove", "--site", "pool", "--now", must=False)


def wait_for_hosts(grid: Grid, count: int) -> None:
    """Wait until so many hosts ask for works."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        rows = [row for row in grid.objects("hosts") if row["status"] == "active"]
        if len(rows) >= count:
            return
        if time.monotonic() > deadline:
            here = ", ".join(f"{row['name']} ({row['kind']})" for row in rows) or "none"
            reasons = [
                f"{row['uid']}: {row['status']} {row['reason']}" for row in grid.objects("pilots")
            ]
            raise DemoFailed(
                f"{count} hosts were awaited for {START_SECONDS:.0f} s; here are {here};"
                f" pilots: {'; '.join(reasons) or 'none'}"
            )
        time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
