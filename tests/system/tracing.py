"""What a server asked of its kernel, in order: strace's log, read.

strace 6.1 with -f -yy writes a line a call, with the paths and sockets behind descriptors:

    2254  1795184991.218165 fdatasync(14</…/grid.db-wal>) = 0
    2138  1795184991.218942 write(20<TCP:[127.0.0.1:28862->127.0.0.1:44494]>, "\\27\\3…", 200) = 200
    2262  1795184991.188011 rename("/…/partial/5647", "/…/06/0619") = 0

and two where another thread's call came between its beginning and its end:

    2254  1795184991.218165 fdatasync(14</…/grid.db-wal> <unfinished ...>
    2254  1795184991.219000 <... fdatasync resumed>) = 0
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

READS = ("read", "readv", "recvfrom", "recvmsg")
WRITES = ("write", "writev", "sendto", "sendmsg", "pwrite64", "pwritev")
SYNCS = ("fsync", "fdatasync")
RENAMES = ("rename", "renameat", "renameat2")
LONGEST_SHOWN = 6_000
"""Bytes of what is written that stand in the log: more than a page of the database."""

LINE = re.compile(r"(\d+) +[\d.]+ (.*)")
CALL = re.compile(r"(\w+)\((?:\d+<((?:[^>]|(?<=-)>)*)>)?(.*)")
RESUMED = re.compile(r"<\.\.\. (\w+) resumed>(.*)")
UNFINISHED = " <unfinished ...>"


def command(strace: Path, log: Path) -> tuple[str, ...]:
    """What to put before a command so that its calls go to ``log``. strace is its grandchild: a
    signal to the command is for the command.
    """
    calls = ",".join((*READS, *WRITES, *SYNCS, *RENAMES))
    how = ("-D", "-f", "-yy", "-ttt", "--seccomp-bpf", "-e", "signal=none")
    return (str(strace), *how, "-s", str(LONGEST_SHOWN), "-e", f"trace={calls}", "-o", str(log))


@dataclass(frozen=True)
class Call:
    """A call that succeeded: between which lines of the log, on what, and the rest of its text."""

    name: str
    began: int
    ended: int
    target: str
    text: str


class Trace:
    """The calls of a process and its threads, in the order of their ends."""

    def __init__(self, log: Path) -> None:
        self.calls = list(_calls(log.read_text(errors="replace").splitlines()))

    def all(self, names: tuple[str, ...], target: str = "", text: str = "") -> Iterator[Call]:
        """The calls of these names whose target ends so, and which have this in their text."""
        for call in self.calls:
            if call.name in names and call.target.endswith(target) and text in call.text:
                yield call

    def first(
        self, names: tuple[str, ...], target: str = "", text: str = "", after: int = -1
    ) -> Call | None:
        """The first of them that began after a line of the log."""
        return next((c for c in self.all(names, target, text) if c.began > after), None)

    def last(
        self, names: tuple[str, ...], target: str = "", text: str = "", before: int = 1 << 60
    ) -> Call | None:
        """The last of them that had ended before a line of the log."""
        found = None
        for call in self.all(names, target, text):
            if call.ended < before:
                found = call
        return found


def _calls(lines: list[str]) -> Iterator[Call]:
    unfinished: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(lines):
        match = LINE.match(line)
        if match is None:
            continue
        thread, text = match.groups()
        began = number
        if text.endswith(UNFINISHED):
            unfinished[thread] = number, text.removesuffix(UNFINISHED)
            continue
        if resumed := RESUMED.match(text):
            began, head = unfinished.pop(thread)
            text = head + resumed[2]
        call = CALL.match(text)
        if call is not None and ") = -1 " not in text:
            yield Call(call[1], began, number, call[2] or "", call[3])


# --- the order that durability asks for -----------------------------------------------------------

Check = Callable[[Trace, str, int], str]
"""What is wrong with how the thing of this name was acknowledged to the peer at this port; nothing
where nothing is.
"""


def commit(trace: Trace, marker: str, port: int) -> str:
    """A change with ``marker`` in it: in the journal of the database, synced, then acknowledged."""
    written = trace.first(WRITES, "grid.db-wal", marker)
    return _commit(trace, written, marker, port)


def _commit(trace: Trace, written: Call | None, marker: str, port: int) -> str:
    if written is None:
        return f"{marker} was not written to the journal"
    peer = f"->127.0.0.1:{port}]"
    asked = trace.last(READS, peer, before=written.began)
    if asked is None:
        return f"{marker} was written before anybody asked for it"
    answered = trace.first(WRITES, peer, after=asked.ended)
    if answered is None:
        return f"{marker} was never acknowledged"
    synced = trace.first(SYNCS, "grid.db-wal", after=written.ended)
    if synced is None or synced.ended > answered.began:
        return f"{marker} was acknowledged before its journal was synced"
    return ""


def upload(trace: Trace, name: str, sha256: str, port: int) -> str:
    """The content of an upload: file synced, renamed, directory synced, then acknowledged."""
    part = f"/partial/{name}"
    written = trace.last(WRITES, part)
    if written is None:
        return f"{name} was not written"
    synced = trace.first(SYNCS, part, after=written.ended)
    if synced is None:
        return f"{name} was not synced after it was written"
    renamed = trace.first(RENAMES, text=f'{sha256[:2]}/{sha256}"', after=synced.ended)
    if renamed is None or part not in renamed.text:
        return f"{name} was not put in its place after it was synced"
    placed = trace.first(SYNCS, f"/data/{sha256[:2]}", after=renamed.ended)
    if placed is None:
        return f"the directory was not synced after {name} was put there"
    return _acknowledged_after(trace, name, port, written, placed)


def _acknowledged_after(trace: Trace, name: str, port: int, written: Call, last: Call) -> str:
    answered = trace.first(WRITES, f"->127.0.0.1:{port}]", after=written.ended)
    if answered is None:
        return f"{name} was never acknowledged"
    if answered.began < last.ended:
        return f"{name} was acknowledged before all of it was synced"
    return ""


def data(trace: Trace, uid: str, sha256: str, port: int) -> str:
    """The upload of a data: its content, and then the row that says so."""
    wrong = upload(trace, uid, sha256, port)
    if wrong:
        return wrong
    renamed = trace.first(RENAMES, text=f'{sha256[:2]}/{sha256}"')
    assert renamed is not None
    said = trace.first(WRITES, "grid.db-wal", uid, after=renamed.ended)
    return _commit(trace, said, uid, port)


def output(trace: Trace, task: str, sha256: str, port: int) -> str:
    """The upload of an output: its content, and the mark by which a task may name it."""
    name = f"{task}.{sha256}"
    wrong = upload(trace, name, sha256, port)
    if wrong:
        return wrong
    written = trace.last(WRITES, f"/partial/{name}")
    marked = trace.first(SYNCS, f"/outputs/{task}")
    listed = trace.first(SYNCS, "/data/outputs", after=marked.ended) if marked else None
    if written is None or listed is None:
        return f"{name} was not marked as the task's"
    return _acknowledged_after(trace, name, port, written, listed)
