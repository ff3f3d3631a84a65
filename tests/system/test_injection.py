"""Names that mean something to somebody: to a database, a shell, a spreadsheet, a terminal, a page.

They are refused, or kept and given back as they are; no format of output lets them act.
"""

from __future__ import annotations

import csv
import html
import io
import json
from collections.abc import Callable, Iterator
from typing import Any
from xml.etree import ElementTree

import pytest

from desktopgrid.client.output import FORMATS, render
from desktopgrid.client.session import GridSession
from desktopgrid.model.errors import BadRequest, GridError
from desktopgrid.model.objects import new_uid
from desktopgrid.wire import messages as m
from tests.system.processes import ServerUnderTest, a_grid
from tests.system.tables import Watcher

NASTY = {
    "sql": "'); DROP TABLE works; --",
    "sql by quotes": '" OR "1"="1',
    "path": "../../../../etc/passwd",
    "absolute path": "/etc/passwd",
    "formula": "=cmd|'/C calc'!A0",
    "formula by plus": "+1+1",
    "formula by at": "@SUM(1)",
    "wide formula": "\uff1dSUM(1)",
    "markup": "<script>alert(1)</script>",
    "attribute": '"><img src=x onerror=alert(1)>',
    "entity": "&lt;&#x41;",
    "end of a section": "]]>",
    "template": "{{7*7}}${7*7}%(x)s{0.__class__}",
    "shell": "$(reboot)`reboot`;|&",
    "format": "%s%s%n",
    "wildcard": "%_*?[a]",
    "backslashes": "\\\\x\\0",
    "long": "n" * 255,
    "too long": "n" * 10_000,
    "end of a line": "a\nb",
    "header": "a\r\nSet-Cookie: x=1",
    "end of text": "a\0b",
    "escape": "a\x1b[2Jb",
    "one of the C1 set": "a\x9b2Jb",
    "backspace": "a\bb",
    "right to left": "a\u202egpj.exe",
    "isolate": "a\u2066b\u2069",
    "zero width": "a\u200bb",
    "byte order": "\ufeffa",
    "line separator": "a\u2028b",
    "not a character": "a\ufffeb",
    "not in the plane": "\U0001f40e\U0001f3fd",
    "composed": "e\u0301",
    "blank": " ",
    "empty": "",
}
REFUSED = """too long,end of a line,header,end of text,escape,one of the C1 set,backspace,
right to left,
isolate,zero width,byte order,line separator,not a character,empty"""
KEPT = frozenset(NASTY) - frozenset(REFUSED.replace("\n", "").split(","))
"""Those that may be names."""


def _a_data(grid: GridSession) -> str:
    uid = new_uid()
    grid.ask(m.SendData(uid, uid, "0" * 64, 3))
    return uid


NAMED: dict[str, tuple[Callable[[GridSession, str], m.Request], str, str]] = {
    "senduser": (lambda _, name: m.SendUser(new_uid(), name), "users", "login"),
    "session": (lambda _, name: m.SendGroup(new_uid(), "session", name), "sessions", "name"),
    "group": (lambda _, name: m.SendGroup(new_uid(), "group", name), "groups", "name"),
    "usergroup": (lambda _, name: m.SendGroup(new_uid(), "usergroup", name), "usergroups", "name"),
    "senddata": (lambda _, name: m.SendData(new_uid(), name, "0" * 64, 3), "datas", "name"),
    "sendapp": (
        lambda grid, name: m.SendApplication(new_uid(), name, "any", "any", _a_data(grid)),
        "apps",
        "name",
    ),
}
"""The requests that give a name: how to ask, and where the name is listed."""

LOOSE: dict[str, Callable[[str], m.Request]] = {
    "email": lambda text: m.SendUser(new_uid(), new_uid(), email=text),
    "type": lambda text: m.SendData(new_uid(), new_uid(), "0" * 64, 3, text),
    "uid": lambda text: m.SendGroup(text, "session", new_uid()),
    "kind": lambda text: m.SendGroup(new_uid(), text, new_uid()),
    "digest": lambda text: m.SendData(new_uid(), new_uid(), text, 3),
    "level": lambda text: m.SendUser(new_uid(), new_uid(), text),
    "user": lambda text: m.ChangeUser(text, email="x"),
    "rights": lambda text: m.Chmod(new_uid(), text),
    "application": lambda text: m.Submit(new_uid(), {"application": text}),
    "works": lambda text: m.Cancel((text,)),
    "removed": lambda text: m.Remove((text,)),
    "revoked": lambda text: m.Revoke(text),
    "why": lambda text: m.Why(text),
    "listed": lambda text: m.ListObjects(text),
    "listed by": lambda text: m.ListObjects("works", where={text: text}),
    "listed after": lambda text: m.ListObjects("works", after=text),
    "listed value": lambda text: m.ListObjects("works", where={"status": text}),
    "site": lambda text: m.SubmitPilots(text, {new_uid(): "0" * 64}),
    "stamp": lambda text: m.SubmitPilots("local", {text: "0" * 64}),
    "drained": lambda text: m.DrainPilots((text,)),
}
"""Other texts that a request takes."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerUnderTest]:
    with a_grid(tmp_path_factory.mktemp("grid")) as server:
        yield server


@pytest.fixture(scope="module")
def session(server: ServerUnderTest) -> GridSession:
    return server.client().session


@pytest.fixture(scope="module")
def watcher(server: ServerUnderTest) -> Iterator[Watcher]:
    watcher = Watcher(server)
    yield watcher
    watcher.close()


@pytest.mark.parametrize("verb", NAMED)
def test_a_name_is_kept_as_it_is_or_refused_and_harms_no_output(
    session: GridSession, watcher: Watcher, verb: str
) -> None:
    make, kind, column = NAMED[verb]
    for what, name in NASTY.items():
        # Names are unique over all kinds: each verb has its own.
        own = f"{name}{verb}"[-255:] if what in KEPT else name
        if what in KEPT and name[:1] in "=+@\uff1d":
            own = f"{name}{verb}"
        asked = make(session, own)
        watcher.changes()
        if what not in KEPT:
            with pytest.raises(BadRequest, match="name"):
                session.ask(asked)
            assert not watcher.changes(), what
            continue
        session.ask(asked)
        uid = asked.uid  # type: ignore[attr-defined]
        [row] = session.ask(m.ListObjects(kind, uids=(uid,)))["rows"]
        assert row[column] == own, what
        for form in FORMATS:
            check_output(form, row, column, own)


@pytest.mark.parametrize("field", LOOSE)
def test_a_text_is_taken_or_refused_and_breaks_nothing(
    session: GridSession, watcher: Watcher, field: str
) -> None:
    for text in NASTY.values():
        watcher.changes()
        try:
            session.ask(LOOSE[field](text))
        except GridError as error:
            assert error.code not in ("error", "unavailable", "protocol"), str(error)
            assert not watcher.changes()
    assert session.ask(m.Stats())["submitted"] == 0


@pytest.mark.parametrize("text", NASTY.values(), ids=list(NASTY))
def test_no_format_lets_a_text_act(text: str) -> None:
    """Whatever it is, and wherever it comes from."""
    for form in FORMATS:
        check_output(
            form, {"uid": "u", "name": text, text or "k": [text, {text: text}]}, "name", text
        )


def check_output(form: str, row: dict[str, Any], column: str, text: str) -> None:
    """The format shows ``text``, and shows it only."""
    shown = render(form, "thing", [row], tuple(row))
    if form == "json":
        assert json.loads(shown) == [row]
    elif form == "csv":
        header, cells = list(csv.reader(io.StringIO(shown, newline="")))
        cell = cells[header.index(column)]
        assert cell in (text, f"'{text}")
        assert not any(each.startswith(tuple("=+-@\t\r\n\uff1d")) for each in header + cells)
    elif form == "xml":
        found = ElementTree.fromstring(shown).findtext(f"thing/{column}") or ""  # noqa: S314
        assert found == as_xml(text)
    elif form == "html":
        body = shown.partition("<tbody>")[2]
        assert html.escape(text).replace("\0", "\ufffd") in body or not text.isprintable()
        assert "<script" not in body
        assert "<img" not in body
    else:
        assert len(shown.splitlines()) == 2
        assert all(line.isprintable() for line in shown.splitlines())


def as_xml(text: str) -> str:
    """``text`` as a reader of XML hears it."""
    banned = {"\0", "\x1b", "\b", "\ufffe"}
    heard = "".join("\ufffd" if char in banned else char for char in text)
    return heard.replace("\r\n", "\n").replace("\r", "\n")
