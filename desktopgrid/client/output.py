"""What the commands print: one Output for every format. The result goes to standard output, talk to
standard error.

What is shown comes from other people: labels, reasons, facts of hosts. Each format makes it
harmless: control characters cannot reach a terminal, markup is escaped, and a text that a
spreadsheet would take for a formula gets an apostrophe in front.
"""

from __future__ import annotations

import html
import io
import json
import re
import shutil
import sys
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO
from xml.etree import ElementTree

Row = Mapping[str, Any]
"""One object as the server lists it."""


class Output:
    """Shows rows and records in the format that the user asked for."""

    def __init__(
        self, format: str = "table", out: TextIO | None = None, err: TextIO | None = None
    ) -> None:
        self.format = format
        self.is_quiet = False
        """Whether talk is held back; results and complaints are not."""
        self._out, self._err = out, err

    @property
    def out(self) -> TextIO:
        """Where results go."""
        return self._out or sys.stdout

    @property
    def err(self) -> TextIO:
        """Where talk goes."""
        return _Nowhere() if self.is_quiet else self._err or sys.stderr

    def rows(self, kind: str, rows: Sequence[Row], columns: Sequence[str]) -> None:
        """Show objects of one kind (its name in the singular); ``columns`` come first, and a table
        has only these, and one without a row is said to be so.
        """
        width = shutil.get_terminal_size().columns if self.out.isatty() else 0
        self.out.write(render(self.format, kind, rows, columns, width))
        self.out.flush()
        if not rows and self.format == "table":
            self.say(f"There are no {kind}s to show.")

    def record(self, kind: str, record: Row) -> None:
        """Show one object: a table has a line for each of its fields."""
        if self.format == "table":
            pairs = [{"field": name, "value": value} for name, value in record.items()]
            self.rows(kind, pairs, ("field", "value"))
        else:
            self.rows(kind, [record], tuple(record))

    def result(self, uid: str, record: Row) -> None:
        """The name of what was made, alone on its line for scripts; as a record in the other
        formats.
        """
        if self.format == "table":
            self.line(uid)
        else:
            self.record("result", record)

    def names(self, kind: str, field: str, names: Sequence[str]) -> None:
        """The names of objects, each alone on its line for scripts; as rows in the other
        formats.
        """
        if self.format == "table":
            for name in names:
                self.line(name)
        else:
            self.rows(kind, [{field: name} for name in names], (field,))

    def sentences(self, sentences: Sequence[str]) -> None:
        """An explanation, a sentence a line; as rows in the other formats."""
        if self.format == "table":
            for sentence in sentences:
                self.line(sentence)
        else:
            self.rows("reason", [{"sentence": each} for each in sentences], ("sentence",))

    def line(self, text: str) -> None:
        """One line of the result."""
        self.out.write(printable(text) + "\n")
        self.out.flush()

    def say(self, sentence: str) -> None:
        """Talk to the user; never part of the result."""
        self.err.write(printable(sentence) + "\n")
        self.err.flush()

    def complain(self, sentence: str) -> None:
        """Say what went wrong with a part of what was asked, to whoever listens or not."""
        err = self._err or sys.stderr
        err.write(printable(sentence) + "\n")
        err.flush()


class _Nowhere(io.StringIO):
    """Where talk goes that nobody wants to hear."""

    def write(self, text: str, /) -> int:
        return len(text)


def render(
    format: str, kind: str, rows: Sequence[Row], columns: Sequence[str], width: int = 0
) -> str:
    """The rows in ``format``; a table is cut to ``width`` characters unless that is 0."""
    if format == "table":
        return table(rows, columns, width)
    names = list(columns)
    names += sorted({name for row in rows for name in row if name not in names})
    return RENDERERS[format](kind, rows, names)


def table(rows: Sequence[Row], columns: Sequence[str], width: int = 0) -> str:
    """Columns for the eye: numbers to the right, a header, the last column cut to fit ``width``."""
    header = [printable(name.replace("_", " ")) for name in columns]
    lines = [[printable(_text(row.get(name))) for name in columns] for row in rows]
    widths = [max(len(line[index]) for line in [header, *lines]) for index in range(len(columns))]
    numeric = [all(_is_number(row.get(name)) for row in rows) for name in columns]
    shown = []
    for line in [header, *lines]:
        cells = [
            cell.rjust(size) if right else cell.ljust(size)
            for cell, size, right in zip(line, widths, numeric, strict=True)
        ]
        text = "  ".join(cells).rstrip()
        shown.append(text[: width - 1] if width else text)
    return "".join(f"{line}\n" for line in shown)


def _json(kind: str, rows: Sequence[Row], columns: Sequence[str]) -> str:
    return json.dumps([dict(row) for row in rows], indent=2, default=str) + "\n"


def _csv(kind: str, rows: Sequence[Row], columns: Sequence[str]) -> str:
    lines = [[_harmless(name) for name in columns]]
    lines += [[_cell(row.get(name)) for name in columns] for row in rows]
    # A line with nothing on it would be no row.
    return "".join((",".join(map(_quoted, line)) or '""') + "\n" for line in lines)


def _quoted(text: str) -> str:
    # Python's writer leaves a lone carriage return unquoted, which readers take for a line's end.
    if any(char in text for char in ',"\r\n') or text != text.strip():
        return '"' + text.replace('"', '""') + '"'
    return text


def _xml(kind: str, rows: Sequence[Row], columns: Sequence[str]) -> str:
    root = ElementTree.Element(f"{kind}s")
    for row in rows:
        element = ElementTree.SubElement(root, kind)
        for name in columns:
            if row.get(name) is not None:
                _add_xml(element, name, row[name])
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _add_xml(parent: ElementTree.Element, name: str, value: Any) -> None:
    if _XML_NAME.fullmatch(name):
        element = ElementTree.SubElement(parent, name)
    else:
        element = ElementTree.SubElement(parent, "field", {"name": _xml_text(name)})
    if isinstance(value, Mapping):
        for key, item in value.items():
            _add_xml(element, str(key), item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _add_xml(element, "item", item)
    else:
        element.text = _xml_text(_text(value))


def _html(kind: str, rows: Sequence[Row], columns: Sequence[str]) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells)

    head = line([name.replace("_", " ") for name in columns], "th")
    body = "".join(
        f"<tr>{line([_xml_text(_text(row.get(name))) for name in columns], 'td')}</tr>\n"
        for row in rows
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n'
        f'<head><meta charset="utf-8"><title>{kind}s</title></head>\n<body>\n'
        f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n</body>\n</html>\n"
    )


RENDERERS: Mapping[str, Callable[[str, Sequence[Row], Sequence[str]], str]] = {
    "json": _json,
    "csv": _csv,
    "xml": _xml,
    "html": _html,
}

FORMATS = ("table", *RENDERERS)


def printable(text: str) -> str:
    """``text`` on one line of a terminal: what would move the cursor or colour the screen is
    written as an escape.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char == " " or unicodedata.category(char)[0] not in "CZ" else _escaped(char)
        for char in text
    )


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii") if ord(char) != 0xA0 else " "


_XML_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
# XML 1.0 (2.2) has no place for these, not even as references.
_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# What spreadsheets take for the start of a formula; those of Asian languages also the wide signs.
_FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")


def _xml_text(text: str) -> str:
    return _NOT_IN_XML.sub("\ufffd", text)


def _cell(value: Any) -> str:
    text = _text(value)
    return text if _is_number(value) else _harmless(text)


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, (Mapping, list, tuple)):
        return json.dumps(value, default=str)
    return str(value)
