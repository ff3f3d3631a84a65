"""Logs that lose no line that can be kept, and hold up nobody."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from desktopgrid.server import logs
from desktopgrid.server.logs import LineFile, append
from desktopgrid.server.saying import OneLine


def a_log(path: Path, most: int = 1 << 20, kept: int = 2) -> LineFile:
    return LineFile(path, lambda items: b"".join(b"%d\n" % item for item in items), most, kept)


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_lines_are_written_in_order_and_all_of_them_when_the_log_is_closed(tmp_path):
    log = a_log(tmp_path / "log" / "a.log")
    for number in range(1000):
        log.put(number)
    log.close()
    assert (tmp_path / "log" / "a.log").read_text().split() == [str(n) for n in range(1000)]


def test_a_log_is_nobody_elses(tmp_path):
    append(tmp_path / "log" / "a.log", b"x\n")
    assert (tmp_path / "log" / "a.log").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o700


def test_a_full_log_is_put_aside_and_so_many_older_ones_stay(tmp_path):
    for number in range(6):
        append(tmp_path / "a.log", b"%d\n" % number * 2, most_bytes=7, kept=2)
    found = {path.name: path.read_text().split() for path in tmp_path.iterdir()}
    assert found == {"a.log": ["5", "5"], "a.log.1": ["4", "4"], "a.log.2": ["3", "3"]}


def test_without_older_logs_a_full_one_starts_anew(tmp_path):
    for number in range(3):
        append(tmp_path / "a.log", b"%d\n" % number, most_bytes=3, kept=0)
    assert [path.name for path in tmp_path.iterdir()] == ["a.log"]
    assert (tmp_path / "a.log").read_text() == "2\n"


def test_half_a_line_that_a_power_cut_left_is_cut_off(tmp_path):
    (tmp_path / "a.log").write_bytes(b"whole\nhal")
    append(tmp_path / "a.log", b"next\n")
    assert (tmp_path / "a.log").read_bytes() == b"whole\nnext\n"


def test_what_does_not_fit_on_the_disk_leaves_no_half_a_line(tmp_path, monkeypatch):
    path = tmp_path / "a.log"
    append(path, b"first\n")
    write = os.write

    def full(descriptor: int, data: bytes) -> int:
        if len(data) < 5:
            raise OSError(28, "No space left on device")
        return write(descriptor, data[:3])

    monkeypatch.setattr(logs.os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        append(path, b"second\n")
    assert path.read_bytes() == b"first\n"


def test_lines_wait_while_the_disk_takes_none(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(logs, "RETRY", 0.01)
    (tmp_path / "log").write_text("in the way")
    log = a_log(tmp_path / "log" / "a.log")
    log.put(1)
    until(lambda: "they wait" in caplog.text)
    log.put(2)
    (tmp_path / "log").unlink()
    until(lambda: "takes lines again" in caplog.text)
    log.close()
    assert (tmp_path / "log" / "a.log").read_text() == "1\n2\n"
    assert len(caplog.records) == 2


def test_no_more_lines_wait_than_memory_is_to_hold(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "MOST_WAITING", 3)
    monkeypatch.setattr(logs, "GATHER", 30)
    log = a_log(tmp_path / "a.log")
    for number in range(5):
        log.put(number)
    log.close()
    assert (tmp_path / "a.log").read_text() == "0\n1\n2\n"
    assert log.dropped == 2


def test_a_log_does_not_follow_a_link_of_somebody_else(tmp_path):
    (tmp_path / "a.log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic link"):
        append(tmp_path / "a.log", b"x\n")


def test_another_users_directory_gets_no_logs(tmp_path, monkeypatch):
    monkeypatch.setattr(logs.os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    if tmp_path.stat().st_uid == 0:
        os.chown(tmp_path, 1, -1)
    with pytest.raises(PermissionError, match="belongs to another user"):
        append(tmp_path / "a.log", b"x\n")


def test_names_that_others_give_forge_no_line_of_the_servers_log() -> None:
    name = "Ann\n2026-11-25 INFO forged\x1b[2J\u2028"
    try:
        raise ValueError("a\nb")
    except ValueError:
        record = logging.LogRecord(
            "x", logging.INFO, "f", 1, "%s logged in", (name,), sys.exc_info()
        )
    first, *trace = OneLine("%(levelname)s: %(message)s").format(record).splitlines()
    assert first == r"INFO: Ann\n2026-11-25 INFO forged\x1b[2J\u2028 logged in"
    assert trace[0].startswith("Traceback")
