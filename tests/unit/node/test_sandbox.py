"""A task's directory: what is placed there, what comes back, and what an evil zip gets."""

from __future__ import annotations

import io
import os
import stat
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pilot.node import sandbox as module
from pilot.node.errors import UnusableInput
from pilot.node.sandbox import Sandbox, remove_tree, safe_name

EVERYTHING = ("*",)
MIB = 1 << 20


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    return Sandbox(tmp_path / "slots" / "0")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "cached"
    path.write_text("content")
    path.chmod(0o555)
    return path


def a_zip(path: Path, *entries: tuple[str | zipfile.ZipInfo, str | bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return path


def entry(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


def names(sandbox: Sandbox, patterns: tuple[str, ...] = EVERYTHING) -> list[str]:
    return [file.name for file in sandbox.new_files(patterns)]


def settle(sandbox: Sandbox) -> None:
    """Let the file system's clock go on, so that a task begins later than its directory."""
    sandbox.begin()
    deadline = time.monotonic() + 5
    while max(look[-1] for look in sandbox._seen) >= sandbox._begun_at - module.CLOCK_GRAIN:
        assert time.monotonic() < deadline
        sandbox.begin()


def test_a_new_sandbox_is_empty_and_untouched(sandbox: Sandbox) -> None:
    assert sandbox.is_untouched()
    assert names(sandbox) == []
    assert stat.S_IMODE(sandbox.work.stat().st_mode) == 0o700


def test_a_copy_is_the_tasks_own(sandbox: Sandbox, source: Path) -> None:
    sandbox.place(source, "deep/down/input")
    copy = sandbox.work / "deep/down/input"
    copy.write_text("changed")
    assert source.read_text() == "content"
    assert copy.stat().st_ino != source.stat().st_ino


def test_what_was_placed_and_not_changed_does_not_come_back(sandbox: Sandbox, source: Path) -> None:
    sandbox.place(source, "kept")
    sandbox.place(source, "changed")
    sandbox.begin()
    (sandbox.work / "changed").write_text("something else")
    (sandbox.work / "new").write_text("new")
    (sandbox.work / "a").mkdir()
    (sandbox.work / "a" / "b.png").write_text("picture")
    assert names(sandbox) == ["a/b.png", "changed", "new"]
    assert names(sandbox, ("*.png", "n?w")) == ["a/b.png", "new"]


def test_links_and_pipes_do_not_come_back(sandbox: Sandbox) -> None:
    (sandbox.work / "secret").symlink_to("/etc/passwd")
    (sandbox.work / "elsewhere").symlink_to("/etc")
    os.mkfifo(sandbox.work / "pipe")
    assert names(sandbox) == []


def test_files_in_a_directory_that_was_closed_come_back(sandbox: Sandbox) -> None:
    (sandbox.work / "shut").mkdir()
    (sandbox.work / "shut" / "file").write_text("x")
    (sandbox.work / "shut").chmod(0)
    assert names(sandbox) == ["shut/file"]


@pytest.mark.parametrize("is_settled", [True, False])
@pytest.mark.parametrize(
    "touch",
    [
        pytest.param(lambda box: (box.work / "f").touch(), id="a file"),
        pytest.param(lambda box: (box.tmp / "f").touch(), id="a temporary file"),
        pytest.param(lambda box: (box.work / "d").mkdir(), id="a directory"),
        pytest.param(lambda box: box.work.chmod(0o500), id="its mode"),
        pytest.param(lambda box: box.work.rmdir(), id="its own end"),
    ],
)
def test_what_a_task_touched_is_made_anew(
    sandbox: Sandbox, touch: Callable[[Sandbox], None], is_settled: bool
) -> None:
    if is_settled:
        settle(sandbox)
    sandbox.begin()
    assert sandbox.is_untouched()
    touch(sandbox)
    assert not sandbox.is_untouched()
    sandbox.clean(is_untouched=False, is_silent=True)
    assert sandbox.is_untouched()
    assert os.listdir(sandbox.work) == os.listdir(sandbox.tmp) == []


def test_what_a_task_left_alone_is_left_to_the_next(sandbox: Sandbox) -> None:
    before = (sandbox.work.stat().st_ino, sandbox.stdout)
    sandbox.clean(is_untouched=True, is_silent=True)
    assert (sandbox.work.stat().st_ino, sandbox.stdout) == before


def test_output_that_was_written_is_not_left_to_the_next(sandbox: Sandbox) -> None:
    os.write(sandbox.stdout, b"words")
    sandbox.clean(is_untouched=True, is_silent=False)
    assert os.pread(sandbox.stdout, 10, 0) == b""


def test_a_link_in_place_of_the_directory_leads_nowhere(sandbox: Sandbox, tmp_path: Path) -> None:
    treasure = tmp_path / "treasure"
    treasure.mkdir()
    (treasure / "gold").write_text("gold")
    sandbox.work.rmdir()
    sandbox.work.symlink_to(treasure)
    assert names(sandbox) == []
    sandbox.clean(is_untouched=sandbox.is_untouched(), is_silent=True)
    assert (treasure / "gold").read_text() == "gold"
    assert not sandbox.work.is_symlink()


def test_used_space_is_that_of_files_and_output(sandbox: Sandbox) -> None:
    (sandbox.work / "d").mkdir()
    (sandbox.work / "d" / "large").write_bytes(b"x" * 2 * MIB)
    (sandbox.tmp / "large").write_bytes(b"x" * MIB)
    os.write(sandbox.stdout, b"x" * MIB)
    assert sandbox.used_mib() == 4
    sandbox.close()
    assert sandbox.used_mib() == 3


def test_a_file_system_without_nameless_files_serves_too(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "O_TMPFILE", os.O_WRONLY | os.O_CREAT | os.O_DIRECTORY)
    sandbox.renew()
    os.write(sandbox.stdout, b"words")
    assert os.pread(sandbox.stdout, 10, 0) == b"words"
    assert sorted(os.listdir(sandbox.area)) == ["tmp", "work"]


@pytest.mark.parametrize(
    "name", ["", "/etc/passwd", "../up", "a/../../up", "a\0b", "..", "a/.."], ids=repr
)
def test_a_name_that_leads_out_is_refused(sandbox: Sandbox, source: Path, name: str) -> None:
    with pytest.raises(UnusableInput):
        safe_name(name)
    with pytest.raises(UnusableInput):
        sandbox.place(source, name)


def test_names_that_cannot_be_together_are_refused(sandbox: Sandbox, source: Path) -> None:
    sandbox.place(source, "a")
    with pytest.raises(UnusableInput, match="cannot be placed"):
        sandbox.place(source, "a/b")
    sandbox.place(source, "d/e")
    with pytest.raises(UnusableInput, match="a directory has that name"):
        sandbox.place(source, "d")


def test_an_env_is_unpacked_with_its_modes(sandbox: Sandbox, tmp_path: Path) -> None:
    path = a_zip(
        tmp_path / "env.zip",
        (entry("bin/run", stat.S_IFREG | 0o4755), "#!/bin/sh"),
        (entry("empty/", stat.S_IFDIR | 0o755), ""),
        ("plain", "plain"),
    )
    sandbox.unpack(path, MIB)
    sandbox.begin()
    assert stat.S_IMODE((sandbox.work / "bin/run").stat().st_mode) == 0o755
    assert (sandbox.work / "empty").is_dir()
    assert (sandbox.work / "plain").read_text() == "plain"
    assert names(sandbox) == []
    assert not sandbox.is_untouched()


@pytest.mark.parametrize(
    "name",
    ["../out", "/tmp/out", "a/../../out", "../../../../../../../../tmp/glidebridge-out"],
)
def test_a_zip_that_climbs_out_is_refused(sandbox: Sandbox, tmp_path: Path, name: str) -> None:
    path = a_zip(tmp_path / "evil.zip", (name, "evil"))
    with pytest.raises(UnusableInput, match="does not name a file"):
        sandbox.unpack(path, MIB)
    assert not (sandbox.area / "out").exists()
    assert not Path("/tmp/out").exists()


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_a_zip_with_links_or_devices_is_refused(
    sandbox: Sandbox, tmp_path: Path, kind: int
) -> None:
    path = a_zip(tmp_path / "evil.zip", (entry("link", kind | 0o777), "/etc"), ("link/x", "evil"))
    with pytest.raises(UnusableInput, match="neither a file nor a directory"):
        sandbox.unpack(path, MIB)


def test_a_directory_that_climbs_out_is_refused(sandbox: Sandbox, tmp_path: Path) -> None:
    path = a_zip(tmp_path / "evil.zip", (entry("../../up/", stat.S_IFDIR | 0o755), ""))
    with pytest.raises(UnusableInput):
        sandbox.unpack(path, MIB)


def test_a_bomb_is_stopped_at_its_limit(sandbox: Sandbox, tmp_path: Path) -> None:
    path = a_zip(tmp_path / "bomb.zip", ("zeros", b"\0" * 50 * MIB))
    assert path.stat().st_size < MIB
    with pytest.raises(UnusableInput, match="more than 10 MiB"):
        sandbox.unpack(path, 10 * MIB)
    assert (sandbox.work / "zeros").stat().st_size <= 10 * MIB


def test_a_bomb_of_many_small_files_is_stopped(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_ENTRIES", 3)
    path = a_zip(tmp_path / "bomb.zip", *((f"f{number}", "x") for number in range(4)))
    with pytest.raises(UnusableInput, match="more than 3 files"):
        sandbox.unpack(path, MIB)
    assert os.listdir(sandbox.work) == []


def test_a_bomb_of_deep_names_is_stopped(sandbox: Sandbox, tmp_path: Path) -> None:
    names = [f"{number}/" + "d/" * 500 for number in range(250)]
    path = a_zip(tmp_path / "deep.zip", *((name, "") for name in names))
    with pytest.raises(UnusableInput, match="more than 100000 files"):
        sandbox.unpack(path, 8 * MIB)
    assert os.listdir(sandbox.work) == []


def test_a_bomb_of_one_deep_name_takes_no_memory(sandbox: Sandbox, tmp_path: Path) -> None:
    path = a_zip(tmp_path / "deep.zip", ("d/" * 30_000, ""))
    tracemalloc.start()
    try:
        with pytest.raises(UnusableInput, match="a name of 60000 characters"):
            sandbox.unpack(path, MIB)
        assert tracemalloc.get_traced_memory()[1] < 8 * MIB
    finally:
        tracemalloc.stop()
    assert os.listdir(sandbox.work) == []


def test_a_zip_of_a_million_entries_is_not_read_into_memory(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    path, count = tmp_path / "million.zip", 1_000_000
    # As another program would write them: local headers are not needed to list a zip.
    entry = struct.pack("<4s4B4HL2L5H2L", b"PK\1\2", 20, 3, 20, *(0,) * 15)
    names = (b"%06d" % number for number in range(count))
    directory = b"".join(entry[:28] + b"\6\0" + entry[30:] + name for name in names)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, len(directory), 0, 0)
    path.write_bytes(directory + end)
    tracemalloc.start()
    try:
        with pytest.raises(UnusableInput, match="too many entries"):
            sandbox.unpack(path, MIB)
        assert tracemalloc.get_traced_memory()[1] < 8 * MIB
    finally:
        tracemalloc.stop()


def test_many_empty_files_take_room_too(sandbox: Sandbox, tmp_path: Path) -> None:
    path = a_zip(tmp_path / "empty.zip", *((f"f{number}", "") for number in range(2000)))
    with pytest.raises(UnusableInput, match="more than 4 MiB"):
        sandbox.unpack(path, 4 * MIB)
    assert os.listdir(sandbox.work) == []


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_method_that_may_want_any_memory_is_refused(
    sandbox: Sandbox, tmp_path: Path, method: int
) -> None:
    path = tmp_path / "env.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("file", "content")
    with pytest.raises(UnusableInput, match="neither stored nor deflated"):
        sandbox.unpack(path, MIB)


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param(("x" * 300,), id="a long name"),
        pytest.param(("d/" + "x" * 300 + "/",), id="a long name of a directory"),
        pytest.param(("a", "a/"), id="a file that is a directory"),
        pytest.param(("a", "a/b/"), id="a directory in a file"),
        pytest.param(("a/", "a"), id="a directory that is a file"),
    ],
)
def test_names_that_no_host_could_place_are_the_zips_fault(
    sandbox: Sandbox, tmp_path: Path, entries: tuple[str, ...]
) -> None:
    path = a_zip(tmp_path / "env.zip", *((name, "") for name in entries))
    with pytest.raises(UnusableInput, match="cannot be placed"):
        sandbox.unpack(path, MIB)


def test_a_zip_that_lies_about_its_sizes_is_refused(sandbox: Sandbox, tmp_path: Path) -> None:
    path = a_zip(tmp_path / "liar.zip", ("zeros", b"\0" * 3 * MIB))
    content = path.read_bytes()
    honest, lie = (3 * MIB).to_bytes(4, "little"), (10).to_bytes(4, "little")
    path.write_bytes(content.replace(honest, lie))
    with pytest.raises(UnusableInput):
        sandbox.unpack(path, MIB)
    assert sandbox.used_mib() <= 1


@pytest.mark.parametrize("content", [b"", b"no zip at all", b"PK\x03\x04 broken"])
def test_what_is_no_zip_is_refused(sandbox: Sandbox, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "no.zip"
    path.write_bytes(content)
    with pytest.raises(UnusableInput, match="no zip that can be read"):
        sandbox.unpack(path, MIB)


def test_a_damaged_zip_is_refused(sandbox: Sandbox, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("file", "content that will not match")
    path = tmp_path / "damaged.zip"
    path.write_bytes(packed.getvalue().replace(b"that will", b"which did"))
    with pytest.raises(UnusableInput):
        sandbox.unpack(path, MIB)


def test_a_tree_that_its_owner_closed_is_removed(tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / "a" / "b").mkdir(parents=True)
    (top / "a" / "b" / "file").write_text("x")
    (top / "a" / "b").chmod(0)
    (top / "a").chmod(0o500)
    remove_tree(top)
    assert not top.exists()
    remove_tree(top)


def test_a_link_is_removed_and_not_followed(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    link = tmp_path / "link"
    link.symlink_to(kept)
    remove_tree(link)
    assert kept.is_dir()
    assert not link.is_symlink()
