"""Whose command it is that make runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import run

ELSEWHERE = """
import sys; from pathlib import Path; import run
run.CHECKOUT = Path.cwd()
run.bootstrap.ensure = lambda checkout: Path(sys.prefix)
sys.exit(run.main())
"""
"""The command run.py for the checkout that it is called in, with the environment that is there."""


def call(checkout: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    cache = checkout.with_name("cache")
    return subprocess.run(
        [sys.executable, "-c", ELSEWHERE, *words],
        cwd=checkout,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(run.__file__).parent),
            "GLIDEBRIDGE_CACHE": str(cache),
        },
        capture_output=True,
        text=True,
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    path = tmp_path / "checkout"
    path.mkdir()
    return path


@pytest.mark.skipif(os.geteuid() == 0, reason="root would run it")
def test_what_is_left_to_root_nobody_else_runs(checkout: Path) -> None:
    done = call(checkout, "--as-root", "sh", "-c", "exit 3")
    assert (done.returncode, done.stdout) == (0, "")
    assert "left to root: sh -c 'exit 3'" in done.stderr


@pytest.mark.as_root
def test_root_runs_it_in_a_copy_and_brings_the_results_back(checkout: Path) -> None:
    (checkout / "Makefile").touch()
    script = "(id -un; pwd; ls) >said; touch left; exit 3"
    done = call(checkout, "--as-root", "--result", "said", "sh", "-c", script)
    assert done.returncode == 3, done.stderr
    who, where, *files = (checkout / "said").read_text().split()
    assert (who, files) == ("root", ["Makefile", "said"])
    assert Path(where).is_relative_to(checkout.with_name("cache") / "root")
    assert {path.name for path in checkout.iterdir()} == {"Makefile", "said"}
