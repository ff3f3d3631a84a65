"""What set-up asks of apt-get, with a small program of that name in its place."""

import os
from pathlib import Path

import debian
import pytest
from cache import Unavailable


def put_apt_get(directory: Path, script: str) -> None:
    for name, text in {"apt-get": script, "dpkg-deb": ""}.items():
        program = directory / name
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", f"{directory}:{os.defpath}")
    return directory


SHOWN = """
'http://others.example/debian/dists/{c}/stable/binary-amd64/Packages.xz' x 0
'http://others.example/tools/dists/{c}/main/binary-amd64/Packages.xz' x 0
'http://mirror.example/debian/dists/{c}/InRelease' x 0
'http://mirror.example/debian/dists/{c}-updates/main/binary-amd64/Packages.xz' x 0
'http://mirror.example/debian/dists/{c}/main/binary-amd64/Packages.xz' x 0
"""


def test_the_mirror_is_the_one_that_has_debian_itself(programs: Path) -> None:
    put_apt_get(programs, f'cat <<"END"\n{SHOWN.format(c="stable")}END')
    assert debian.host_mirror() == "http://mirror.example/debian"


def test_a_host_without_a_debian_mirror_is_told_so(programs: Path) -> None:
    put_apt_get(programs, "exit 0")
    with pytest.raises(Unavailable, match="not configured for a Debian mirror"):
        debian.host_mirror()


def test_a_host_without_apt_is_told_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="no Debian system"):
        debian.PrivateApt(tmp_path / "state")


def test_a_mirror_out_of_reach_is_named_in_the_reason(programs: Path, tmp_path: Path) -> None:
    put_apt_get(
        programs, "echo 'W: x' >&2; echo 'E: Failed to fetch http://m.example' >&2; exit 100"
    )
    with pytest.raises(Unavailable, match=r"^apt-get update: Failed to fetch http://m\.example$"):
        debian.PrivateApt(tmp_path / "state").update()


def test_the_closure_is_read_from_what_apt_would_download(programs: Path, tmp_path: Path) -> None:
    put_apt_get(programs, "echo \"'http://m/libc6_2.41_amd64.deb' libc6_2.41_amd64.deb 9 X:0\"")
    assert debian.PrivateApt(tmp_path / "state").closure(["condor"]) == ["libc6"]
