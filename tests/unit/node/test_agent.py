"""The agent with real processes and a link that a test speaks through."""

from __future__ import annotations

import os
import signal
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from desktopgrid.model.errors import (
    AccessDenied,
    LimitExceeded,
    NoRoom,
    NotAuthenticated,
    Unavailable,
)
from desktopgrid.wire import messages as m
from pilot.node import agent as module
from pilot.node import runner
from pilot.node.agent import REFUSED, STOPPED, UNREACHED, Agent, Host
from pilot.node.slots import Capacity
from pilot.node.storage import WorkerDirectory
from pilot.node.worker import Policy
from tests.unit.node.fakes import WELCOME, FakeLink, an_assign, until

MIB = 1 << 20


class Node:
    """A worker at work in a thread, and the server that a test plays for it."""

    def __init__(self, path: Path, cores: int = 2, **policy: object) -> None:
        self.directory = WorkerDirectory(path)
        host = Host({"name": "here"}, Capacity(cores, 1000), Policy(**policy))  # type: ignore[arg-type]
        self.agent = Agent(self.directory, host)
        self.link = FakeLink()
        self.agent.attach(self.link)
        self.agent.prepare()
        self.exit_code: int | None = None
        self._thread = threading.Thread(target=self._run)
        self._numbers = 0

    def _run(self) -> None:
        self.exit_code = self.agent.run()

    def start(self, is_welcome: bool = True) -> Node:
        self._thread.start()
        if is_welcome:
            self.agent.on_open(WELCOME)
        return self

    def says(self, message: m.Message) -> None:
        self._numbers += 1
        self.agent.on_message(self._numbers, message)

    def give(self, script: str, epoch: int = 1, **fields: object) -> m.Assign:
        """A task that runs ``script`` by a shell."""
        program = self.link.transfers.add(f"#!/bin/sh\n{script}\n", "script")
        assign = an_assign(epoch, executable=program, **fields)
        self.says(assign)
        return assign

    def finished(self, epoch: int = 1) -> m.Finished:
        """What the worker says of the end of a task."""

        def found() -> list[m.Message]:
            said = self.link.of(m.Finished)
            return [x for x in said if isinstance(x, m.Finished) and x.epoch == epoch]

        until(found)
        [message] = found()
        assert isinstance(message, m.Finished)
        return message

    def returned(self, epoch: int = 1) -> m.Returned:
        until(lambda: self.link.of(m.Returned))
        [message] = [x for x in self.link.of(m.Returned) if isinstance(x, m.Returned)]
        assert message.epoch == epoch
        return message

    def starts(self, path: Path) -> None:
        until(path.exists)

    def end(self) -> None:
        if self._thread.is_alive():
            self.agent.stop("the test is over")
            self.agent.stop("the test is over")
        if self._thread.ident:
            self.left()
        self.directory.close()

    def left(self) -> int | None:
        self._thread.join(20)
        assert not self._thread.is_alive()
        return self.exit_code


Start = Callable[..., Node]


@pytest.fixture
def a_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    monkeypatch.setattr(runner, "PAUSE", 0.01)
    monkeypatch.setattr(module, "WATCH_PERIOD", 0.02)
    monkeypatch.setattr(module, "IDLE_TICK", 0.02)
    monkeypatch.setattr(module, "BUSY_TICK", 0.02)
    nodes: list[Node] = []

    def make(**policy: object) -> Node:
        nodes.append(Node(tmp_path / "w", **policy))  # type: ignore[arg-type]
        return nodes[-1]

    yield make
    for node in nodes:
        node.end()


@pytest.mark.feature("XW-WRK-4")
def test_a_task_is_run_and_its_result_said(a_node: Start) -> None:
    node = a_node().start()
    node.give('echo "$1"; echo err >&2; exit 5', arguments=("hello",))
    ended = node.finished()
    assert (ended.outcome, ended.exit_code) == ("completed", 5)
    assert (ended.stdout, ended.stderr) == (b"hello\n", b"err\n")
    assert ended.usage[0] > 0
    assert node.link.of(m.Started) == []


def test_many_tasks_run_one_after_the_other_and_side_by_side(a_node: Start) -> None:
    node = a_node().start()
    for epoch in range(1, 41):
        node.give("echo $GLIDEBRIDGE_TASK", epoch)
    for epoch in range(1, 41):
        assert node.finished(epoch).stdout == f"w.{epoch}\n".encode()
    assert node.link.transfers.fetches == 1


@pytest.mark.feature("XW-WCF-7")
def test_no_more_tasks_run_at_once_than_there_are_cores(a_node: Start, tmp_path: Path) -> None:
    node = a_node(cores=2).start()
    (tmp_path / "marks").mkdir()
    script = f"cd {tmp_path}/marks; touch $$; ls | wc -l; sleep 0.05; rm $$"
    for epoch in range(1, 9):
        node.give(script, epoch)
    assert max(int(node.finished(epoch).stdout) for epoch in range(1, 9)) == 2


def test_files_come_along_and_new_ones_come_back(a_node: Start, tmp_path: Path) -> None:
    node = a_node().start()
    transfers = node.link.transfers
    with zipfile.ZipFile(tmp_path / "env.zip", "w") as archive:
        archive.writestr("lib/words", "from the env")
    node.give(
        "cat - input/a lib/words; mkdir out; echo new > out/b; head -c 70000 /dev/zero >&2",
        stdin=transfers.add("stdin "),
        inputs=(transfers.add("input ", "input/a"),),
        env=transfers.add((tmp_path / "env.zip").read_bytes()),
    )
    ended = node.finished()
    assert ended.stdout == b"stdin input from the env"
    assert len(ended.stderr) == 65536
    assert [(output.name, output.size) for output in ended.outputs] == [
        ("stderr", 70000),
        ("out/b", 4),
    ]
    path = f"/v1/tasks/w.1/outputs/{ended.outputs[1].sha256}"
    assert transfers.stored[path] == b"new\n"


def test_only_files_that_are_asked_for_come_back(a_node: Start) -> None:
    node = a_node().start()
    node.give("touch a.png b.txt c", outputs=("*.png", "c"))
    assert [output.name for output in node.finished().outputs] == ["a.png", "c"]


def test_a_file_that_has_the_name_of_a_long_output_is_left_out(a_node: Start) -> None:
    node = a_node().start()
    node.give("echo mine > stdout; head -c 70000 /dev/zero")
    ended = node.finished()
    assert [(output.name, output.size) for output in ended.outputs] == [("stdout", 70000)]
    assert ended.reason == "left out stdout: the name was taken"


def test_a_closed_file_comes_back_all_the_same(a_node: Start) -> None:
    node = a_node().start()
    node.give("echo x > shut; chmod 0 shut")
    assert [output.name for output in node.finished().outputs] == ["shut"]


def test_names_that_are_no_text_come_back_as_text(a_node: Start) -> None:
    node = a_node().start()
    node.give("""touch "$(printf 'a\\377')"; touch "$(printf 'a\\376')" """)
    ended = node.finished()
    assert [output.name for output in ended.outputs] == ["a\ufffd"]
    assert ended.reason == "left out a\ufffd: the name was taken"


def test_a_slot_that_could_not_be_cleaned_is_cleaned_by_the_next_task(
    a_node: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = a_node(cores=1).start()

    def full(*_: object) -> None:
        monkeypatch.undo()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(node.agent._runners[0].sandbox, "clean", full)
    node.give("touch left")
    node.finished()
    node.give("ls", 2)
    assert node.finished(2).stdout == b""


def test_too_many_files_are_the_works_own_fault(
    a_node: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "MAX_OUTPUTS", 3)
    node = a_node().start()
    node.give("touch a b c d")
    ended = node.finished()
    assert ended.outcome == "limit"
    assert "it left 4 files; at most 3 can come back" in ended.reason


def test_nothing_of_a_task_is_there_for_the_next(a_node: Start) -> None:
    node = a_node(cores=1).start()
    node.give("touch a $TMPDIR/b; echo words")
    node.give("ls $HOME $TMPDIR | wc -w; ls -a", 2)
    node.give("exit 0", 3)
    node.give("ls -A $HOME $TMPDIR | wc -w", 4)
    node.finished(1)
    assert node.finished(2).stdout.split()[1:] == [b".", b".."]
    assert node.finished(4).stdout == b"2\n"  # the names of the two directories
    assert node.finished(4).outputs == ()


# What goes wrong.


def test_an_application_that_cannot_be_had_fails_the_task(a_node: Start) -> None:
    node = a_node().start()
    node.says(an_assign())
    ended = node.finished()
    assert ended.outcome == "failed"
    assert "there is no data 'd'" in ended.reason


def test_an_application_that_cannot_be_started_fails_the_task(a_node: Start) -> None:
    node = a_node().start()
    program = node.link.transfers.add("no program", "nonsense")
    node.says(an_assign(executable=program))
    ended = node.finished()
    assert ended.outcome == "failed"
    assert ended.reason.startswith("nonsense could not be started: [Errno 8] Exec format error")


@pytest.mark.parametrize("name", ["../../evil", "/etc/evil"])
def test_an_input_that_climbs_out_is_the_works_own_fault(a_node: Start, name: str) -> None:
    node = a_node().start()
    node.give("exit 0", inputs=(node.link.transfers.add("evil", name),))
    ended = node.finished()
    assert (ended.outcome, ended.exit_code) == ("limit", None)
    assert "does not name a file in the task's directory" in ended.reason


def test_transfers_are_tried_again_while_the_server_is_away(a_node: Start) -> None:
    node = a_node().start()
    node.link.is_open = False
    node.link.transfers.trouble = [Unavailable("no network")] * 30
    node.give("touch new")
    assert node.finished().outcome == "completed"


def test_a_server_that_cannot_although_it_is_there_fails_the_task_in_the_end(
    a_node: Start,
) -> None:
    node = a_node().start()
    node.link.transfers.trouble = [Unavailable("broken disk")] * 30
    node.give("exit 0")
    ended = node.finished()
    assert (ended.outcome, ended.reason) == ("failed", "broken disk (10 times)")


def test_room_on_the_server_is_waited_for(a_node: Start) -> None:
    node = a_node().start()
    node.link.transfers.trouble = [NoRoom("disk full")] * 30
    node.give("touch new")
    assert node.finished().outcome == "completed"


def test_a_server_that_is_back_before_our_session_is_waited_for(a_node: Start) -> None:
    node = a_node().start()
    node.link.is_open = False
    node.link.transfers.trouble = [NotAuthenticated("the ticket is not that of a session")] * 30
    node.give("touch new")
    assert node.finished().outcome == "completed"


def test_an_upload_that_is_refused_fails_the_task(a_node: Start, tmp_path: Path) -> None:
    node = a_node().start()
    node.give(f"touch new; while ! test -e {tmp_path}/go; do sleep 0.01; done")
    until(lambda: node.agent._runners[0].execution or node.agent._runners[1].execution)
    node.link.transfers.trouble = [AccessDenied("not your task")]
    (tmp_path / "go").touch()
    ended = node.finished()
    assert (ended.outcome, ended.reason) == ("failed", "not your task")


def test_a_fault_of_ours_costs_no_slot(a_node: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    node = a_node(cores=1).start()
    node.link.transfers.trouble = [ZeroDivisionError("ours")]
    node.give("exit 0")
    assert node.finished().reason == "a fault of the worker: ZeroDivisionError('ours')"
    node.give("exit 0", 2)
    assert node.finished(2).outcome == "completed"


def test_a_server_that_acknowledges_slowly_is_told_later(a_node: Start) -> None:
    node = a_node().start()
    node.link.trouble = [LimitExceeded("20,000 messages")] * 3
    node.give("exit 0", 1)
    node.give("exit 0", 2)
    assert node.finished(1).outcome == node.finished(2).outcome == "completed"


# Limits.


def test_a_task_that_runs_too_long_is_ended(a_node: Start) -> None:
    node = a_node().start()
    node.give("echo so far; sleep 100", wall_time=1)
    ended = node.finished()
    assert (ended.outcome, ended.reason) == ("limit", "it ran longer than 1 s")
    assert ended.stdout == b"so far\n"
    assert len(node.link.of(m.Started)) == 1


@pytest.mark.feature("XW-WCF-16")
def test_a_task_that_uses_too_much_memory_is_ended(a_node: Start) -> None:
    node = a_node().start()
    # tail keeps a line without an end in memory
    node.give("head -c 60000000 /dev/zero | tail; sleep 100", memory_mib=40)
    ended = node.finished()
    assert ended.outcome == "limit"
    assert "of memory; its limit is 40" in ended.reason


def test_a_task_that_uses_too_much_disk_is_ended(a_node: Start) -> None:
    node = a_node().start()
    node.give("for i in 1 2 3; do head -c 2000000 /dev/zero > $i; done; sleep 100", disk_mib=4)
    ended = node.finished()
    assert ended.outcome == "limit"
    assert "of disk; its limit is 4" in ended.reason


# What the server wants back.


def test_an_abandoned_task_is_ended(a_node: Start, tmp_path: Path) -> None:
    node = a_node().start()
    node.give(f"touch {tmp_path}/runs; sleep 100")
    node.starts(tmp_path / "runs")
    node.says(m.Abandon("w.1", 1, "cancelled"))
    ended = node.finished()
    assert (ended.outcome, ended.reason) == ("aborted", "cancelled")


def test_an_abandoned_task_is_not_fetched_for_ever(a_node: Start) -> None:
    node = a_node().start()
    node.link.is_open = False
    node.link.transfers.trouble = [Unavailable("no network")] * 10_000
    node.give("exit 0")
    until(lambda: node.link.transfers.fetches > 3)
    node.says(m.Abandon("w.1", 1, "cancelled"))
    assert node.finished().outcome == "aborted"


def test_a_task_that_no_slot_has_taken_up_yet_can_be_broken_off(a_node: Start) -> None:
    node = a_node(cores=1)
    node.agent.on_open(WELCOME)
    node.give("exit 0")  # no slot's thread runs yet
    node.says(m.Recall("w.1", 1))
    assert node.returned().reason == "recalled"
    node.start()
    node.give("exit 0", 2)
    assert node.finished(2).outcome == "completed"


# Sessions.


def test_hello_says_who_and_what_is_here(a_node: Start, tmp_path: Path) -> None:
    node = a_node(lifetime=1000.0).start()
    node.give(f"touch {tmp_path}/runs; sleep 100")
    node.starts(tmp_path / "runs")
    hello = node.agent.hello()
    assert hello["host"] == node.directory.host
    assert hello["facts"] == {"name": "here"}
    assert 900 < hello["lifetime"] <= 1000
    assert hello["held"] == (m.Held("w.1", 1),)


def test_results_are_held_until_they_are_acknowledged(a_node: Start) -> None:
    node = a_node().start()
    node.link.unacknowledged = 2
    node.give("exit 0", 1)
    node.finished(1)
    node.give("exit 0", 2)
    node.finished(2)
    assert [held.epoch for held in node.agent.hello()["held"]] == [1, 2]
    node.link.unacknowledged = 1
    until(lambda: [held.epoch for held in node.agent.hello()["held"]] == [2])
    node.link.unacknowledged = 0
    until(lambda: node.agent.hello()["held"] == ())


def test_tasks_go_on_while_the_server_is_away(a_node: Start) -> None:
    node = a_node().start()
    node.give("sleep 0.1; echo done")
    node.agent.on_down("cut off")
    assert node.finished().stdout == b"done\n"


@pytest.mark.feature("XW-WRK-5")
def test_a_silent_worker_says_that_it_is_alive(a_node: Start) -> None:
    node = a_node().start(is_welcome=False)
    node.agent.on_open(m.Welcome(False, 0, 0.05, "t", "u", 10))
    until(lambda: node.link.beats >= 2)


# Leaving.


def test_a_drained_worker_ends_its_tasks_and_leaves(a_node: Start, tmp_path: Path) -> None:
    node = a_node(cores=1).start()
    node.give(f"touch {tmp_path}/runs; while ! test -e {tmp_path}/go; do sleep 0.01; done")
    node.give("exit 0", 2)
    node.starts(tmp_path / "runs")
    node.says(m.Drain("maintenance"))
    assert node.returned(2).reason == "maintenance"
    (tmp_path / "go").touch()
    assert node.left() == STOPPED
    assert node.finished(1).outcome == "completed"
    assert node.link.closed == "maintenance"


@pytest.mark.feature("XW-WCF-14")
def test_an_idle_worker_leaves(a_node: Start) -> None:
    node = a_node(idle_time=0.05).start()
    assert node.left() == STOPPED
    assert node.link.closed == "it had no task for 0.05 s"


def test_a_pilot_that_finds_no_server_leaves_and_says_so_by_its_exit_code(a_node: Start) -> None:
    node = a_node(idle_time=0.05).start(is_welcome=False)
    assert node.left() == UNREACHED


def test_a_worker_that_is_told_to_go_gives_its_tasks_back(a_node: Start, tmp_path: Path) -> None:
    node = a_node(grace=20.0).start()
    node.give(f"touch {tmp_path}/runs; sleep 100")
    node.starts(tmp_path / "runs")
    node.agent.stop("SIGTERM")
    assert node.left() == STOPPED
    assert node.returned().reason == "SIGTERM"
    assert node.link.of(m.Draining) == [m.Draining("SIGTERM", is_told=True)]


def test_a_task_that_does_not_obey_is_killed_after_its_grace(a_node: Start, tmp_path: Path) -> None:
    node = a_node(grace=0.1).start()
    node.give(f"trap '' TERM; touch {tmp_path}/runs; while :; do sleep 0.05; done")
    node.starts(tmp_path / "runs")
    node.agent.stop("SIGTERM")
    assert node.left() == STOPPED
    assert node.returned().epoch == 1


def test_a_process_that_the_kernel_holds_keeps_no_worker(
    a_node: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LAST_WORDS", 0.1)
    node = a_node(grace=0.1).start()
    node.give(f"touch {tmp_path}/runs; while ! test -e {tmp_path}/go; do sleep 0.01; done")
    node.starts(tmp_path / "runs")
    monkeypatch.setattr(runner.Runner, "send", lambda self, number: None)
    node.agent.stop("SIGTERM")
    assert node.left() == STOPPED
    (tmp_path / "go").touch()
    until(lambda: node.link.of(m.Returned))


def test_a_worker_leaves_when_its_results_are_acknowledged(a_node: Start, tmp_path: Path) -> None:
    node = a_node().start()
    node.link.unacknowledged = 1
    node.says(m.Drain("maintenance"))
    until(lambda: node.agent._quit)
    assert node.link.closed is None
    node.link.unacknowledged = 0
    assert node.left() == STOPPED


def test_a_worker_that_the_grid_refuses_stops_its_tasks(a_node: Start, tmp_path: Path) -> None:
    node = a_node().start()
    node.give(f"touch {tmp_path}/runs; sleep 100")
    node.starts(tmp_path / "runs")
    node.agent.on_end(NotAuthenticated("revoked"))
    assert node.left() == REFUSED
    node.agent.on_end(NotAuthenticated("the link's end is no news to one that has left"))


def test_what_an_earlier_worker_left_is_removed(a_node: Start, tmp_path: Path) -> None:
    left = tmp_path / "w" / "slots" / "7" / "work"
    left.mkdir(parents=True)
    (left / "file").touch()
    node = a_node(cores=1)
    assert os.listdir(node.directory.slots) == ["0"]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_files_with_holes_do_not_come_back_larger_than_they_may(a_node: Start) -> None:
    node = a_node().start()
    node.give("for each in 1 2 3; do truncate -s 5M holes$each; done", disk_mib=10)
    ended = node.finished()
    assert (ended.outcome, ended.outputs) == ("limit", ())
    assert "its files have 15728640 bytes; it may have 10 MiB" in ended.reason
