"""The demo in small: the same path, fewer tiles."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.system.processes import ROOT, environment, until

LINE = re.compile(
    r"works (\d+), lost (\d+), [\d.]+ s, [\d.]+ works/s; hosts: (.*); picture: (.*)\n"
)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that the account of a pool's daemons may pass through, as pytest's is not."""
    with tempfile.TemporaryDirectory(prefix="glidebridge-demo-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.fixture
def picture(place: Path) -> Path:
    """A picture of 60 tiles."""
    whole = json.loads((ROOT / "demo/picture.json").read_text())
    path = place / "picture.json"
    path.write_text(json.dumps({**whole, "width": 200, "height": 120, "tile": 20}))
    return path


def demo(picture: Path, place: Path, prefix: Path | None) -> subprocess.Popen[str]:
    """The demo, started; its pool is in ``prefix``."""
    named = {"GLIDEBRIDGE_HTCONDOR": str(prefix)} if prefix else {}
    kept = {k: v for k, v in environment().items() if k != "GLIDEBRIDGE_HTCONDOR"}
    return subprocess.Popen(
        [sys.executable, str(ROOT / "demo/run.py"), str(picture), str(place / "picture.png")],
        env={**kept, **named, "TMPDIR": str(place)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def check(process: subprocess.Popen[str], place: Path, kinds: set[str]) -> None:
    """The demo ends well, says so in its last line, and leaves nothing but the picture."""
    out, err = process.communicate(timeout=180)
    assert process.returncode == 0, err
    line = LINE.fullmatch(out)
    assert line is not None, out
    works, lost, hosts, path = line.groups()
    assert (works, lost, path) == ("60", "0", str(place / "picture.png"))
    counts = [host.rsplit(" ", 2) for host in hosts.split(", ")]
    assert {kind for _, kind, _ in counts} <= kinds
    assert sum(int(count) for _, _, count in counts) == 60
    with Image.open(path) as image:
        assert image.size == (200, 120)
        assert len(image.getcolors(200 * 120) or ()) > 1000
    assert sorted(each.name for each in place.iterdir()) == ["picture.json", "picture.png"]


def test_the_demo_renders_in_a_real_pool(picture: Path, place: Path, htcondor_prefix: Path) -> None:
    process = demo(picture, place, htcondor_prefix)
    check(process, place, {"desktop", "htcondor"})


@pytest.mark.feature("XW-PKG-15")
def test_the_demo_renders_where_there_is_no_pool(picture: Path, place: Path) -> None:
    check(demo(picture, place, None), place, {"desktop", "local"})


def test_a_demo_that_is_interrupted_cleans_up(picture: Path, place: Path) -> None:
    process = demo(picture, place, None)
    until(lambda: list(place.glob("demo-*/worker.log")), "the worker is started")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    until(lambda: not list(place.glob("demo-*")), "its directory is gone")
    until(lambda: not left_of(place), "its processes are gone")


def left_of(place: Path) -> list[str]:
    """The processes that still name ``place``."""
    return [
        pid.name
        for pid in Path("/proc").iterdir()
        if pid.name.isdigit() and int(pid.name) != os.getpid() and str(place) in command_of(pid)
    ]


def command_of(process: Path) -> str:
    """A process's command line; of one that is gone, nothing."""
    try:
        return (process / "cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""
