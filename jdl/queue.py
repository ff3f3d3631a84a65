"""The lines of HTCondor's submit files, and what a ``queue`` statement makes jobs of."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from jdl.errors import BadDescription
from jdl.given import Said, whole
from jdl.job import MOST_JOBS
from jdl.macros import replaced


class Beside(Protocol):
    """The files beside a description, for ``queue ... from FILE`` and ``matching``."""

    def lines_of(self, name: str) -> list[str]:
        """The lines of a file; raises BadDescription."""

    def matching(self, pattern: str, kind: str) -> list[str]:
        """The ``files``, ``dirs`` or ``any`` that match, in order."""


class Nothing:
    """No files at all: for a text that came alone."""

    def lines_of(self, name: str) -> list[str]:
        """Always raises BadDescription."""
        raise BadDescription(f"the list {name} is a file, and only the text was given", "queue")

    def matching(self, pattern: str, kind: str) -> list[str]:
        """Always raises BadDescription."""
        raise BadDescription(f"{pattern} matches files, and only the text was given", "queue")


@dataclass(frozen=True)
class Line:
    text: str
    number: int


def lines_of(text: str) -> Iterator[Line]:
    """Lines without comments; one that ends in a backslash goes on."""
    pending, first = "", 0
    for number, line in enumerate(re.split(r"\r?\n", text), 1):
        stripped = line.strip()
        if stripped.startswith("#") or (not stripped and not pending):
            continue
        first = first if pending else number
        if stripped.endswith("\\"):
            pending += stripped[:-1] + " "
            continue
        yield Line((pending + stripped).strip(), first)
        pending = ""
    if pending.strip():
        yield Line(pending.strip(), first)


@dataclass(frozen=True)
class Queue:
    count: str
    variables: tuple[str, ...]
    word: str
    items: str
    selected: slice
    rows: tuple[str, ...] | None
    line: int


_LIST = re.compile(r"(.*?)(?<!\S)(in|from|matching)(?![^\s(\[])(.*)", re.DOTALL | re.IGNORECASE)


def queue_of(text: str, line: Line, lines: Sequence[Line], position: int) -> tuple[Queue, int]:
    """What a statement queues, and where the file goes on behind it."""
    match = _LIST.fullmatch(text)
    before, word, items = match.groups() if match else (text, "", "")
    head = [each for each in re.split(r"[,\s]+", before) if each]
    count = head.pop(0) if head and re.fullmatch(r"\d+|\$\(.*", head[0]) else "1"
    if not all(re.fullmatch(r"[A-Za-z_]\w*", each) for each in head) or (head and not word):
        expected = "expected queue [COUNT] [VARIABLE, ...] [in|from|matching LIST]"
        raise BadDescription(expected, "queue", line.number)
    items, selected = items.strip(), slice(None)
    if items.startswith("["):
        chosen, _, items = items.partition("]")
        selected, items = _slice_of(chosen[1:], line), items.strip()
    rows: tuple[str, ...] | None = None
    if items.startswith("("):
        pieces = [items[1:]]
        while not pieces[-1].endswith(")"):
            if position == len(lines):
                raise BadDescription("the list is not closed by )", "queue", line.number)
            pieces.append(lines[position].text)
            position += 1
        pieces[-1] = pieces[-1][:-1]
        rows = tuple(piece.strip() for piece in pieces if piece.strip())
    queue = Queue(count, tuple(head), word.lower(), items, selected, rows, line.number)
    return queue, position


def _slice_of(text: str, line: Line) -> slice:
    parts = [part.strip() for part in text.split(":")]
    if len(parts) > 3 or not all(re.fullmatch(r"(-?\d{1,9})?", part) for part in parts):
        raise BadDescription(f"[{text}] is no slice such as [0:10:2]", "queue", line.number)
    numbers = [int(part) if part else None for part in parts]
    if len(numbers) == 1:
        return slice(numbers[0], None)  # HTCondor takes it for the first, not for the only one
    if len(numbers) == 3 and numbers[2] == 0:
        raise BadDescription(f"[{text}] has step 0", "queue", line.number)
    return slice(*numbers)


def variables_of(
    queue: Queue, commands: Mapping[str, Said[str]], beside: Beside, first: int
) -> Iterator[dict[str, str]]:
    """The variables of each job of one statement, of which the ``first`` has that number in the
    file: ``$(Process)`` runs on from statement to statement.
    """
    count_text = replaced(Said("queue", queue.count, queue.line), commands, {})
    count = whole(Said("queue", count_text, queue.line))
    rows = _rows(queue, commands, beside)
    if count * len(rows) > MOST_JOBS:
        raise BadDescription(f"it makes more than {MOST_JOBS} jobs", "queue", queue.line)
    process = first
    for index, row in rows:
        for step in range(count):
            yield {
                **row,
                "process": str(process),
                "procid": str(process),
                "itemindex": str(index),
                "row": str(index),
                "step": str(step),
            }
            process += 1


def _rows(
    queue: Queue, commands: Mapping[str, Said[str]], beside: Beside
) -> list[tuple[int, dict[str, str]]]:
    """The variables of each item that is chosen, and its number in the whole list."""
    if not queue.word:
        return [(0, {})]
    names = tuple(name.lower() for name in queue.variables) or ("item",)
    items = replaced(Said("queue", queue.items, queue.line), commands, {})
    texts: list[str]
    if queue.word == "from":
        texts = list(queue.rows) if queue.rows is not None else _list_of(queue, items, beside)
    else:
        inside = " ".join(queue.rows) if queue.rows is not None else items
        inside = replaced(Said("queue", inside, queue.line), commands, {})
        texts = [word for word in re.split(r"[,\s]+", inside) if word]
    if queue.word == "matching":
        kind = "files"
        if texts and texts[0].lower() in ("files", "dirs", "any"):
            kind = texts.pop(0).lower()
        texts = [found for pattern in texts for found in beside.matching(pattern, kind)]
    rows = []
    for index, text in list(enumerate(texts))[queue.selected]:
        if len(names) == 1:
            rows.append((index, {names[0]: text}))
            continue
        separator = r"\s*,\s*" if "," in text else r"\s+"
        parts = re.split(separator, text, maxsplit=len(names) - 1)
        rows.append((index, dict(zip(names, [*parts, *[""] * len(names)], strict=False))))
    return rows


def _list_of(queue: Queue, name: str, beside: Beside) -> list[str]:
    if name.endswith("|") or not name:
        raise BadDescription(f"{name!r} is no file; a program is not run", "queue", queue.line)
    try:
        lines = beside.lines_of(name)
    except BadDescription as error:
        raise BadDescription(error.reason, "queue", queue.line) from None
    # HTCondor takes each line for an item, one that is empty or looks like a comment too.
    return [line.strip() for line in islice(lines, MOST_JOBS + 1)]
