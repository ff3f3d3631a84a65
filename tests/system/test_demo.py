"""The demo in small: the same path, fewer tiles."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.system.processes import ROOT, environment, until

LINE = re.compile(
    r"works (\d+), lost (\d+), [\d.]+ s, [\d.]+ works/s; hosts: (.*); picture: (.*)\n"
)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A picture of 60 tiles."""
    whole = json.loads((ROOT / "demo/picture.json").read_text())
    path = tmp_path / "picture.json"
    path.write_text(json.dumps({**whole, "width": 200, "height": 120, "tile": 20}))
    return path


def demo(picture: Path, tmp_path: Path, prefix: Path | None) -> subprocess.Popen[str]:
    """The demo, started; its pool is in ``prefix``."""
    named = {"GLIDEBRIDGE_HTCONDOR": str(prefix)} if prefix else {}
    kept = {k: v for k, v in environment().items() if k != "GLIDEBRIDGE_HTCONDOR"}
    return subprocess.Popen(
        [sys.executable, str(ROOT / "demo/run.py"), str(picture), str(tmp_path / "picture.png")],
        env={**kept, **named, "TMPDIR": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def check(process: subprocess.Popen[str], tmp_path: Path, kinds: set[str]) -> None:
    """The demo ends well, says so in its last line, and leaves nothing but the picture."""
    out, err = process.communicate(timeout=180)
    assert process.returncode == 0, err
    line = LINE.fullmatch(out)
    assert line is not None, out
    works, lost, hosts, path = line.groups()
    assert (works, lost, path) == ("60", "0", str(tmp_path / "picture.png"))
    counts = [host.rsplit(" ", 2) for host in hosts.split(", ")]
    assert {kind for _, kind, _ in counts} <= kinds
    assert sum(int(count) for _, _, count in counts) == 60
    with Image.open(path) as image:
        assert image.size == (200, 120)
        assert len(image.getcolors(200 * 120) or ()) > 1000
    assert sorted(each.name for each in tmp_path.iterdir()) == ["picture.json", "picture.png"]


def test_the_demo_renders_in_a_real_pool(
    picture: Path, tmp_path: Path, htcondor_prefix: Path
) -> None:
    tmp_path.chmod(0o711)
    process = demo(picture, tmp_path, htcondor_prefix)
    check(process, tmp_path, {"desktop", "htcondor"})


def test_the_demo_renders_where_there_is_no_pool(picture: Path, tmp_path: Path) -> None:
    check(demo(picture, tmp_path, None), tmp_path, {"desktop", "local"})


def test_a_demo_that_is_interrupted_cleans_up(picture: Path, tmp_path: Path) -> None:
    process = demo(picture, tmp_path, None)
    until(lambda: list(tmp_path.glob("demo-*/worker.log")), "the worker is started")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert not list(tmp_path.glob("demo-*"))
    left = [
        pid.name
        for pid in Path("/proc").iterdir()
        if pid.name.isdigit() and int(pid.name) != os.getpid() and str(tmp_path) in command_of(pid)
    ]
    assert not left


def command_of(process: Path) -> str:
    """A process's command line; of one that is gone, nothing."""
    try:
        return (process / "cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""
