"""What the demos have in common: a grid with its server and a worker on this machine, a picture
that is rendered as a sweep of works, and an end that leaves nothing behind.
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
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from condor.errors import CondorError
from demo.fractal import Picture
from demo.png import Canvas
from desktopgrid.client.grid import Grid
from desktopgrid.client.progress import Progress
from desktopgrid.model.errors import GridError
from desktopgrid.model.lifecycle import WorkStatus
from desktopgrid.model.objects import Description, Result

DEMO = Path(__file__).resolve().parent
PICTURE, TARGET = DEMO / "picture.json", DEMO / "fractal.png"
RENDER_SECONDS = 900.0

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


@contextmanager
def place() -> Iterator[tuple[Path, ExitStack]]:
    """A directory for the demo, and a stack for what it starts; both are gone in the end."""
    # SIGTERM cleans up as Ctrl-C does.
    signal.signal(signal.SIGTERM, interruption.hear)
    directory = Path(tempfile.mkdtemp(prefix="demo-", dir=cache()))
    # A pool that root starts runs as an account that has to find its own directory in here.
    directory.chmod(0o711)
    try:
        with ExitStack() as stack:
            yield directory, stack
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def told(demo: Callable[[], int]) -> int:
    """The exit code of ``demo``, which says why where it fails."""
    try:
        return demo()
    except (DemoFailed, GridError, CondorError) as error:
        say(f"The demo failed: {error}")
        return 1


def render(
    grid: Grid,
    description: Path,
    target: Path,
    on_tile: Callable[[int, int], None] = lambda done, of: None,
) -> int:
    """Submit the sweep, put the tiles together, say how it went; ``on_tile`` is told how many tiles
    are there, and how many there will be.
    """
    picture = Picture(json.loads(description.read_text()))
    application = grid.send_application("fractal", DEMO / "fractal.py")
    # Somebody has to stand for what runs on other people's grids.
    grid.validate(str(application["uid"]))
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
    hosts: dict[str, str] = {}
    with Progress("tiles", picture.tiles) as progress:
        for result in arrivals.take(picture.tiles, RENDER_SECONDS):
            if is_tile(result):
                corner = picture.place(tiles[result.work])
                canvas.paint(*corner, picture.tile, zlib.decompress(result.stdout))
                done[str(result.host)] += 1
                if result.host not in hosts:
                    # Now: one that dies is soon forgotten.
                    hosts |= {
                        row["uid"]: f"{row['name']} {row['kind']}" for row in grid.objects("hosts")
                    }
            progress.show(done.total())
            on_tile(done.total(), picture.tiles)
    seconds = time.monotonic() - started_at
    canvas.write(target)
    lost = picture.tiles - done.total()
    say(f"The picture is in {shown(target)}.")
    by_kind = sorted(done, key=lambda uid: hosts.get(uid, "").rsplit(" ", 1)[-1])
    counts = ", ".join(f"{hosts.get(uid, f'{uid} unknown')} {done[uid]}" for uid in by_kind)
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


@contextmanager
def server(home: Path, sites: Mapping[str, str]) -> Iterator[None]:
    """A new grid and its server, which knows the sites: their configurations by name."""
    say("Making a grid and starting its server.")
    run("xwserver", "init", str(home), "--port", "0", "--address", "127.0.0.1")
    for name, configuration in sites.items():
        (home / "sites.d" / f"{name}.conf").write_text(configuration)
    try:
        run("xwserver", "--directory", str(home), "start")
        yield
    finally:
        run("xwserver", "--directory", str(home), "stop", must=False)


@contextmanager
def worker(home: Path, directory: Path) -> Iterator[None]:
    """A worker as it runs on a desktop."""
    say("Starting a worker on this machine.")
    options = ["--identity", str(home / "worker.identity"), "--dir", str(directory / "worker")]
    with running(directory / "worker.log", "xwworker", *options, "--slots", "1", "console"):
        yield


@contextmanager
def running(log: Path, command: str, *arguments: str) -> Iterator[None]:
    """One of our commands in the background, as long as it is needed."""
    # A process that is started while a signal has us leave would be nobody's to end.
    with log.open("wb") as output, interruption.held():
        process = subprocess.Popen(
            program(command, *arguments), stdin=subprocess.DEVNULL, stdout=output, stderr=output
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
