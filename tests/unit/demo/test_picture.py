"""The demo's picture: every tile in its place, the same under every Python, readable by others."""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from demo import fractal
from demo.png import Canvas

DEMO = Path(fractal.__file__).parent


def a_picture(**fields: Any) -> dict[str, Any]:
    """A small picture of all there is."""
    colours = [[0.0, 0, 0, 80], [0.5, 255, 255, 255]]
    return {
        "width": 12,
        "height": 8,
        "tile": 4,
        "centre": [-0.5, 0.0],
        "span": 3.0,
        "most_steps": 60,
        "turns": 1.0,
        "start": 0.0,
        "colours": colours,
        **fields,
    }


def test_the_tiles_cover_the_picture_once() -> None:
    picture = fractal.Picture(a_picture())
    assert [picture.place(tile) for tile in range(picture.tiles)] == [
        (0, 0), (0, 4), (0, 8), (4, 0), (4, 4), (4, 8)
    ]  # fmt: skip


def test_what_is_in_the_set_is_dark_and_what_is_not_is_not() -> None:
    picture = fractal.Picture(a_picture())
    inside, outside = picture.render(4), picture.render(0)
    assert inside[3:6] == bytes(map(int, fractal.INSIDE))
    assert max(outside) > 100


@pytest.mark.parametrize("fields", [{"tile": 5}, {"width": 0}, {"most_steps": "many"}])
def test_a_picture_that_makes_no_sense_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be multiples|not a whole number"):
        fractal.Picture(a_picture(**fields))


def test_the_application_prints_the_tile(tmp_path: Path) -> None:
    (tmp_path / "picture.json").write_text(json.dumps(a_picture()))
    printed = render(sys.executable, tmp_path, 2)
    assert printed == fractal.Picture(a_picture()).render(2)


def test_the_oldest_python_of_a_node_renders_the_same(tmp_path: Path, python39: Path) -> None:
    (tmp_path / "picture.json").write_text(json.dumps(a_picture()))
    assert render(str(python39), tmp_path, 2) == render(sys.executable, tmp_path, 2)


def render(python: str, directory: Path, tile: int) -> bytes:
    """What the application prints in another process."""
    command = [python, "-I", str(DEMO / "fractal.py"), "picture.json", str(tile)]
    return zlib.decompress(
        subprocess.run(command, cwd=directory, capture_output=True, check=True).stdout
    )


def test_others_read_what_the_canvas_writes(tmp_path: Path) -> None:
    canvas = Canvas(4, 2)
    canvas.paint(0, 2, 2, bytes(range(12)))
    canvas.write(tmp_path / "picture.png")
    with Image.open(tmp_path / "picture.png") as image:
        assert (image.mode, image.size) == ("RGB", (4, 2))
        assert image.tobytes() == (bytes(6) + bytes(range(6)) + bytes(6) + bytes(range(6, 12)))


def test_the_demo_is_of_at_least_five_hundred_works() -> None:
    assert fractal.Picture(json.loads((DEMO / "picture.json").read_text())).tiles >= 500
