"""What is shipped is what is here: the wheel holds every file, and its commands start."""

import configparser
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from account import pack, unpack

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("desktopgrid", "pilot", "bridge", "cod", "condor", "jdl")


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's content, in a directory of its own."""
    source, wheels, content = (tmp_path_factory.mktemp(name) for name in ("s", "w", "c"))
    unpack(pack(ROOT), source)  # a build leaves its traces where the source is
    wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*wheel, "--no-cache-dir", "--wheel-dir", wheels, source], check=True)
    zipfile.ZipFile(next(wheels.glob("*.whl"))).extractall(content)
    return content


def test_the_wheel_holds_every_file_of_the_packages(shipped: Path) -> None:
    ours = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).glob("**/*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert ours <= {str(path.relative_to(shipped)) for path in shipped.glob("**/*")}


def test_the_wheel_holds_nothing_but_the_packages(shipped: Path) -> None:
    found = {path.name for path in shipped.iterdir() if path.suffix != ".dist-info"}
    assert found == set(PACKAGES)


def commands() -> dict[str, str]:
    """Each command that setup.cfg declares, and the module behind it."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lines = filter(None, config["options.entry_points"]["console_scripts"].splitlines())
    pairs = [line.replace(" ", "").split("=") for line in lines]
    return {name: target.partition(":")[0] for name, target in pairs}


@pytest.mark.parametrize("name", commands())
def test_a_shipped_command_shows_its_help(name: str, shipped: Path, tmp_path: Path) -> None:
    start = f"import sys; sys.argv[0] = {name!r}; from {commands()[name]} import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", start, "--help"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(shipped)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout.lower()
