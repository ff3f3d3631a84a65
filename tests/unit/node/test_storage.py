"""The worker's directory: one worker at a time, the host's name, and records of what runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pilot.node.errors import CouldNotRun, DirectoryInUse
from pilot.node.storage import Running, WorkerDirectory, owner_of


def test_a_host_keeps_its_uid(tmp_path: Path) -> None:
    first = WorkerDirectory(tmp_path / "w")
    first.close()
    second = WorkerDirectory(tmp_path / "w")
    assert first.host == second.host
    (tmp_path / "w" / "host").write_text("")
    second.close()
    third = WorkerDirectory(tmp_path / "w")
    assert third.host not in ("", first.host)
    third.close()


def test_two_workers_do_not_share_a_directory(tmp_path: Path) -> None:
    assert owner_of(tmp_path / "w") is None
    first = WorkerDirectory(tmp_path / "w")
    assert owner_of(tmp_path / "w") == os.getpid()
    with pytest.raises(DirectoryInUse, match=f"another worker uses .*, process {os.getpid()}"):
        WorkerDirectory(tmp_path / "w")
    first.close()
    assert owner_of(tmp_path / "w") is None


def test_a_directory_that_cannot_be_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CouldNotRun, match="cannot be used: Not a directory"):
        WorkerDirectory(tmp_path / "file" / "w")


def test_what_runs_is_on_record_until_the_next_boot(tmp_path: Path) -> None:
    directory = WorkerDirectory(tmp_path / "w")
    directory.record(0, "a.1", 10, 100, 101)
    directory.record(2, "b.1", 20, 200, 201)
    directory.record(2, "c.1", 30, 300, 301)
    assert directory.left_running() == [
        Running("a.1", 10, 100, 101),
        Running("c.1", 30, 300, 301),
    ]
    directory.boot = "another"
    assert directory.left_running() == []
    directory.forget_running()
    directory.close()
    directory = WorkerDirectory(tmp_path / "w")
    assert directory.left_running() == []
    assert directory.host in repr(directory)
    directory.close()


def test_a_long_task_name_does_not_spoil_its_neighbours(tmp_path: Path) -> None:
    directory = WorkerDirectory(tmp_path / "w")
    directory.record(0, "a" * 500, 10, 100, 101)
    directory.record(1, "b.1", 20, 200, 201)
    assert [running.pid for running in directory.left_running()] == [10, 20]
    directory.close()
