"""`make demo`: one large picture, rendered as a sweep of works on a desktop worker and two pilots.

The whole path, with the commands that a user types: a new grid with its server and a worker on this
machine, a real HTCondor pool, two pilots submitted to it, an application, a sweep, its results put
together. Where HTCondor cannot be had, which is where no package registry can be reached, the
pilots are processes of this machine.

run.py [PICTURE [TARGET]] renders another picture than picture.json into another file.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from condor.errors import CondorError
from condor.personal import LoopbackPool
from demo.fractal import Picture
from demo.png import Canvas
from desktopgrid.client.grid import Grid
from desktopgrid.client.progress import Progress
from desktopgrid.model.errors import GridError
from desktopgrid.model.lifecycle import WorkStatus
from desktopgrid.model.objects import Description, Result

DEMO = Path(__file__).resolve().parent
PILOTS = 2
START_SECONDS = 90.0
RENDER_SECONDS = 900.0

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

PROGRAMS = {
    "xwserver": "desktopgrid.server.cli",
    "xwworker": "pilot.node.cli",
    "pilot": "pilot.cli",
}


class Interruption:
    """A signal that tells us to leave: at once, or as soon as it is not held any more."""

    def __init__(self) -> None:
        self._is_held = False
        self._number = 0

    def hear(self, number: int, frame: object) -> None:
        """The handler of the signal."""
        self._number = number
        if not self._is_held:
            self.check()

    def check(self) -> None:
        """Leave if the signal has come."""
        if self._number:
            number, self._number = self._number, 0
            sys.exit(128 + number)

    @contextmanager
    def held(self) -> Iterator[None]:
        """The signal interrupts nothing that happens inside; :meth:`check` follows."""
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False


interruption = Interruption()


class DemoFailed(Exception):
    """Something did not come up; says what, and where the log is."""


def main(picture: Path = DEMO / "picture.json", target: Path = DEMO / "fractal.png") -> int:
    """The demo; 0 if every tile of the picture is there."""
    # SIGTERM cleans up as Ctrl-C does.
    signal.signal(signal.SIGTERM, interruption.hear)
    directory = Path(tempfile.mkdtemp(prefix="demo-", dir=cache()))
    # A pool that root starts runs as an account that has to find its own directory in here.
    directory.chmod(0o711)
    try:
        with ExitStack() as stack:
            home, identity = directory / "grid", directory / "grid/admin.identity"
            site = stack.enter_context(pool(directory))
            stack.enter_context(server(home, site))
            stack.enter_context(worker(home, directory))
            stack.enter_context(pilots(identity))
            grid = stack.enter_context(Grid.open(identity))
            hosts = wait_for_hosts(grid, 1 + PILOTS)
            return render(grid, hosts, picture, target)
    except (DemoFailed, GridError, CondorError) as error:
        say(f"The demo failed: {error}")
        return 1
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def render(grid: Grid, hosts: dict[str, tuple[str, str]], description: Path, target: Path) -> int:
    """Submit the sweep, put the tiles together, say how it went."""
    picture = Picture(json.loads(description.read_text()))
    application = grid.send_application("fractal", DEMO / "fractal.py")
    data = grid.send_data(description)
    what = Description(
        str(application["uid"]), label="demo", inputs=((description.name, data.uid),), outputs=()
    )
    say(f"Rendering {picture.width} x {picture.height} pixels in {picture.tiles} works.")
    started_at = time.monotonic()
    arrivals = grid.arrivals()
    arguments = [(description.name, str(tile)) for tile in range(picture.tiles)]
    sweep = grid.sweep(what, arguments, on_ended=arrivals.tell)
    tiles = {work: number for number, work in enumerate(sweep.works)}
    canvas = Canvas(picture.width, picture.height)
    done: Counter[str] = Counter()
    with Progress("tiles", picture.tiles) as progress:
        for result in arrivals.take(picture.tiles, RENDER_SECONDS):
            if is_tile(result):
                place = picture.place(tiles[result.work])
                canvas.paint(*place, picture.tile, zlib.decompress(result.stdout))
                done[str(result.host)] += 1
            progress.show(done.total())
    seconds = time.monotonic() - started_at
    canvas.write(target)
    lost = picture.tiles - done.total()
    say(f"The picture is in {shown(target)}.")
    counts = ", ".join(
        " ".join((*hosts.get(uid, (uid, "unknown")), str(count)))
        for uid, count in sorted(done.items(), key=lambda item: hosts.get(item[0], ("", ""))[1])
    )
    rate = picture.tiles / seconds
    print(
        f"works {picture.tiles}, lost {lost}, {seconds:.1f} s, {rate:.1f} works/s;"
        f" hosts: {counts}; picture: {shown(target)}",
        flush=True,
    )
    return 1 if lost else 0


def is_tile(result: Result) -> bool:
    """Whether a work brought its tile."""
    if result.status is WorkStatus.COMPLETED and result.exit_code == 0:
        return True
    problem = result.reason or result.stderr.decode(errors="replace")[-500:]
    say(f"Work {result.work} is {result.status.value}, exit code {result.exit_code}: {problem}")
    return False


# What runs


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
def server(home: Path, site: str) -> Iterator[None]:
    """A new grid and its server, which knows the site."""
    say("Making a grid and starting its server.")
    run("xwserver", "init", str(home), "--port", "0", "--address", "127.0.0.1")
    (home / "sites.d" / "pool.conf").write_text(site)
    try:
        run("xwserver", "--directory", str(home), "start")
        yield
    finally:
        run("xwserver", "--directory", str(home), "stop", must=False)


@contextmanager
def worker(home: Path, directory: Path) -> Iterator[None]:
    """A worker as it runs on a desktop."""
    say("Starting a worker on this machine.")
    log = directory / "worker.log"
    options = ["--identity", str(home / "worker.identity"), "--dir", str(directory / "worker")]
    # A process that is started while a signal has us leave would be nobody's to end.
    with log.open("wb") as output, interruption.held():
        process = subprocess.Popen(
            program("xwworker", *options, "--slots", "1", "console"),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        interruption.check()
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def pilots(identity: Path) -> Iterator[None]:
    """Pilots at the site."""
    say(f"Submitting {PILOTS} pilots.")
    try:
        run("pilot", "--identity", str(identity), "submit", "--site", "pool", "-n", str(PILOTS))
        yield
    finally:
        run("pilot", "--identity", str(identity), "remove", "--site", "pool", "--now", must=False)


def wait_for_hosts(grid: Grid, count: int) -> dict[str, tuple[str, str]]:
    """Wait until so many hosts ask for works: their names and kinds by their UIDs."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        rows = [row for row in grid.objects("hosts") if row["status"] == "active"]
        if len(rows) >= count:
            return {str(row["uid"]): (str(row["name"]), str(row["kind"])) for row in rows}
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


def run(command: str, *arguments: str, must: bool = True) -> None:
    """Run one of our commands; raises DemoFailed with what it said."""
    done = subprocess.run(
        program(command, *arguments),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode and must:
        raise DemoFailed(f"{command} {' '.join(arguments)}: {done.stderr.strip()}")


def program(command: str, *arguments: str) -> list[str]:
    """One of our commands, from this checkout, as it would be called if it were installed."""
    start = f"import sys; from {PROGRAMS[command]} import main; sys.argv[0] = {command!r}"
    return [sys.executable, "-c", f"{start}; sys.exit(main())", *arguments]


def cache() -> Path:
    """Where set-up leaves its things; nothing of the demo stays there."""
    named = os.environ.get("TMPDIR") or os.environ.get("GLIDEBRIDGE_CACHE")
    ours = Path(f"/var/tmp/glidebridge-{os.getuid()}")  # noqa: S108 - set-up has made it
    return Path(named) if named else ours if ours.is_dir() else Path(tempfile.gettempdir())


def shown(path: Path) -> str:
    """A path as one types it in the checkout."""
    return str(path.relative_to(DEMO.parent) if path.is_relative_to(DEMO.parent) else path)


def say(sentence: str) -> None:
    """Talk to the user."""
    print(sentence, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
