"""What is sent for a file, and that nothing is written where it does not belong."""

from __future__ import annotations

import os
import zipfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest

from desktopgrid.client.fake import FakeGrid
from desktopgrid.client.files import environment_of, fetch, place_of, platform_of, send_data
from desktopgrid.model.errors import BadRequest
from desktopgrid.model.lifecycle import WorkStatus
from desktopgrid.model.objects import Description, Output, Platform, Result, digest
from desktopgrid.wire import messages as m


@pytest.mark.feature("XW-JM-5")
def test_zip_directory_and_file_give_the_same_files(tmp_path: Path) -> None:
    (tmp_path / "env/bin").mkdir(parents=True)
    (tmp_path / "env/bin/tool").write_text("#!/bin/sh\n")
    (tmp_path / "env/bin/tool").chmod(0o755)
    made = environment_of(tmp_path / "env")
    assert isinstance(made, bytes)
    with zipfile.ZipFile(BytesIO(made)) as archive:
        assert archive.namelist() == ["bin/tool"]
        assert archive.getinfo("bin/tool").external_attr >> 16 & 0o777 == 0o755
    single = environment_of(tmp_path / "env/bin/tool")
    assert isinstance(single, bytes)
    assert zipfile.ZipFile(BytesIO(single)).namelist() == ["tool"]
    (tmp_path / "ready.zip").write_bytes(made)
    assert environment_of(tmp_path / "ready.zip") == tmp_path / "ready.zip"


def test_the_same_directory_makes_the_same_zip(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "b").write_text("b")
        (tmp_path / name / "a").write_text("a")
    assert environment_of(tmp_path / "one") == environment_of(tmp_path / "two")


@pytest.mark.parametrize(
    "header, platform",
    [
        (b"#!/bin/sh\necho", Platform("any", "any")),
        (b"\x7fELF\x02\x01" + bytes(12) + b"\x3e\x00", Platform("x86_64", "linux")),
        (b"\x7fELF\x02\x01" + bytes(12) + b"\xb7\x00", Platform("aarch64", "linux")),
    ],
)
def test_a_program_says_what_it_was_made_for(
    header: bytes, platform: Platform, tmp_path: Path
) -> None:
    (tmp_path / "program").write_bytes(header)
    assert platform_of(tmp_path / "program") == platform


def test_a_program_that_does_not_say_is_asked_about(tmp_path: Path) -> None:
    (tmp_path / "program").write_bytes(b"MZ")
    with pytest.raises(BadRequest, match="--cpu x86_64 --os linux"):
        platform_of(tmp_path / "program")


def test_what_the_grid_has_is_not_sent_again(tmp_path: Path) -> None:
    with FakeGrid(tmp_path).open() as grid:
        moved: list[int] = []
        send_data(grid.session, b"content", "first", progress=moved.append)
        send_data(grid.session, b"content", "second", progress=moved.append)
        assert moved == [len(b"content")]


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/passwd", "", "..", "a\0b"])
def test_an_output_that_would_lie_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="would not lie in"):
        place_of(name, tmp_path)


def a_result(*names: str) -> Result:
    """A work that left files of these names behind."""
    outputs = tuple(Output(name, digest(b"content"), 7) for name in names)
    return Result("w-1", None, WorkStatus.COMPLETED, 0, "", b"out", b"", outputs)


class Contents:
    """Transfers that have one content for all names."""

    def get(self, path: str, target: Path, *rest: object) -> None:
        target.write_bytes(b"content")


class Session:
    """As much of a session as fetching needs."""

    transfers = Contents()


SESSION: object = Session()


def test_a_result_is_a_directory_with_all_that_was_left(tmp_path: Path) -> None:
    written = fetch(SESSION, a_result("pics/a.png", "log"), tmp_path / "w-1")  # type: ignore[arg-type]
    assert sorted(path.relative_to(tmp_path).as_posix() for path in written) == [
        "w-1/log",
        "w-1/pics/a.png",
        "w-1/stderr",
        "w-1/stdout",
    ]
    assert (tmp_path / "w-1/stdout").read_bytes() == b"out"


def test_a_bad_name_among_good_ones_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="would not lie in"):
        fetch(SESSION, a_result("good", "../bad"), tmp_path / "w-1")  # type: ignore[arg-type]
    assert not (tmp_path / "w-1").exists()


def test_a_link_in_the_way_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "w-1").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "w-1/pics").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadRequest, match="would not lie in"):
        fetch(SESSION, a_result("pics/a.png"), tmp_path / "w-1")  # type: ignore[arg-type]
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.feature("XW-CLI-20")
@pytest.mark.parametrize("overrides, content", [(False, b"mine"), (True, b"content")])
def test_files_that_are_there_are_replaced_only_when_asked(
    overrides: bool, content: bytes, tmp_path: Path
) -> None:
    (tmp_path / "log").write_bytes(b"mine")
    fetch(SESSION, a_result("log"), tmp_path, overrides=overrides)  # type: ignore[arg-type]
    assert (tmp_path / "log").read_bytes() == content


def test_standard_output_is_found_wherever_it_travelled(tmp_path: Path) -> None:
    script = tmp_path / "say"
    script.write_text("#!/bin/sh\nhead -c $1 /dev/zero\n")
    with FakeGrid(tmp_path).open() as grid:
        grid.send_application("say", script)
        for size in (10, m.MAX_INLINE + 1):
            result = grid.run(Description("say"), [str(size)], timeout=20)
            assert len(grid.content(result, "stdout")) == size
        short = replace(result, outputs=())
        assert grid.content(short, "stdout") == b""
        with pytest.raises(BadRequest, match="left no 'picture'"):
            grid.content(short, "picture")


def test_outputs_that_exclude_each_other_are_refused(tmp_path: Path) -> None:
    for names in (("a", "a/b"), ("x" * 300,)):
        with pytest.raises(BadRequest, match="cannot be written"):
            fetch(SESSION, a_result(*names), tmp_path)  # type: ignore[arg-type]


class Partial(Contents):
    """Transfers that go by a file called as the real ones'."""

    def get(self, path: str, target: Path, *rest: object) -> None:
        part = target.with_name(f"{target.name}.part")
        part.write_bytes(b"content")
        part.replace(target)


def test_an_output_called_as_a_part_of_another_comes_too(tmp_path: Path) -> None:
    session: object = type("Partially", (), {"transfers": Partial()})()
    for _ in range(2):
        fetch(session, a_result("log.part", "log"), tmp_path, overrides=True)  # type: ignore[arg-type]
        assert sorted(os.listdir(tmp_path)) == ["log", "log.part", "stderr", "stdout"]
