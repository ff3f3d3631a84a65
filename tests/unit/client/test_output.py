"""Every format says the same, parses back, and lets nothing through that does harm."""

from __future__ import annotations

import csv
import io
import json
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from desktopgrid.client.output import FORMATS, Output, printable, render

ROWS: list[dict[str, Any]] = [
    {"uid": "w-1", "label": 'a <b> & "c", d', "cores": 2, "arguments": ["x", "y<z"]},
    {"uid": "w-2", "label": "žluťoučký 🐎", "cores": 16, "arguments": []},
]
COLUMNS = ("uid", "label", "cores")


def parsed(format: str, text: str) -> list[list[str]]:
    """The cells of uid, label and cores, as each format's own reader finds them."""
    if format == "json":
        return [[str(row[name]) for name in COLUMNS] for row in json.loads(text)]
    if format == "csv":
        return [[row[name] for name in COLUMNS] for row in csv.DictReader(io.StringIO(text))]
    if format == "xml":
        root = ElementTree.fromstring(text)  # noqa: S314 - our own
        return [[work.findtext(name) or "" for name in COLUMNS] for work in root]
    return [cells[:3] for cells in _Cells.of(text)]


class _Cells(HTMLParser):
    """The body cells of a page's one table."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self._is_cell = False

    @classmethod
    def of(cls, text: str) -> list[list[str]]:
        parser = cls()
        parser.feed(text)
        return [row for row in parser.rows if row]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag == "td":
            self._is_cell = True
            self.rows[-1].append("")
        else:
            assert tag in {"html", "head", "meta", "title", "body", "table", "thead", "tbody", "th"}

    def handle_endtag(self, tag: str) -> None:
        self._is_cell = False

    def handle_data(self, data: str) -> None:
        if self._is_cell:
            self.rows[-1][-1] += data


@pytest.mark.feature("XW-CLI-22")
@pytest.mark.parametrize("format", [name for name in FORMATS if name != "table"])
def test_a_list_parses_back_to_equal_rows(format: str) -> None:
    text = render(format, "work", ROWS, COLUMNS)
    assert parsed(format, text) == [[str(row[name]) for name in COLUMNS] for row in ROWS]


@pytest.mark.feature("XW-CLI-22")
@given(st.text(max_size=40))
def test_any_text_survives_json_and_csv_and_is_well_formed_elsewhere(text: str) -> None:
    row = [{"uid": "w", "label": text, "cores": 1}]
    assert json.loads(render("json", "work", row, COLUMNS))[0]["label"] == text
    cell = next(csv.DictReader(io.StringIO(render("csv", "work", row, COLUMNS), newline="")))[
        "label"
    ]
    assert cell in (text, f"'{text}")
    label = ElementTree.fromstring(render("xml", "work", row, COLUMNS).encode())[0].find("label")  # noqa: S314
    assert label is not None
    assert len(label.text or "") <= len(text)
    assert len(_Cells.of(render("html", "work", row, COLUMNS))) == 1


@pytest.mark.parametrize("text", ["=1+1", "+A1", "-2+3", "@SUM(A1)", "\tx", "\r=1"])
def test_no_text_is_a_formula_to_a_spreadsheet(text: str) -> None:
    line = render("csv", "work", [{"label": text}], ("label",))
    assert next(csv.DictReader(io.StringIO(line, newline="")))["label"] == f"'{text}"


def test_negative_numbers_stay_numbers_in_csv() -> None:
    assert render("csv", "result", [{"exit_code": -9}], ("exit_code",)) == "exit_code\n-9\n"


def test_xml_has_elements_for_lists_objects_and_odd_names() -> None:
    row = {"uid": "h", "tags": ["a", "b"], "facts": {"kernel version": "6<7"}, "ends_at": None}
    root = ElementTree.fromstring(render("xml", "host", [row], ("uid",)))  # noqa: S314
    (host,) = root
    assert root.tag == "hosts"
    assert [item.text for item in host.findall("tags/item")] == ["a", "b"]
    assert host.findtext("facts/field[@name='kernel version']") == "6<7"
    assert host.find("ends_at") is None


def test_a_table_aligns_and_fits_the_terminal() -> None:
    text = render("table", "work", ROWS, COLUMNS, width=20)
    lines = text.splitlines()
    assert lines[0].startswith("uid  label")
    assert all(len(line) < 20 for line in lines)
    wide = render("table", "work", ROWS, COLUMNS).splitlines()
    assert wide[1].endswith(" 2") and wide[2].endswith("16")


def test_an_empty_list_is_a_header_and_an_empty_list() -> None:
    assert render("table", "work", [], COLUMNS) == "uid  label  cores\n"
    assert json.loads(render("json", "work", [], COLUMNS)) == []
    assert render("csv", "work", [], COLUMNS) == "uid,label,cores\n"


@pytest.mark.parametrize(
    "text, shown",
    [
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\x9b2J", "\\x9b2J"),
        ("\u202eevil", "\\u202eevil"),
        ("grün 🐎", "grün 🐎"),
    ],
)
def test_nothing_reaches_a_terminal_that_it_would_obey(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert shown in render("table", "work", [{"label": text}], ("label",))


def test_results_go_to_one_stream_and_talk_to_the_other() -> None:
    out, err = io.StringIO(), io.StringIO()
    output = Output("table", out, err)
    output.result("w-1", {"uid": "w-1", "works": 1})
    output.say("Next: xw wait w-1")
    assert out.getvalue() == "w-1\n"
    assert err.getvalue() == "Next: xw wait w-1\n"


def test_a_record_is_one_object_in_every_format() -> None:
    out = io.StringIO()
    Output("json", out).record("stat", {"waiting": 3})
    Output("table", out).record("stat", {"waiting": 3})
    assert json.loads(out.getvalue().split("]")[0] + "]") == [{"waiting": 3}]
    assert out.getvalue().splitlines()[-1].split() == ["waiting", "3"]
