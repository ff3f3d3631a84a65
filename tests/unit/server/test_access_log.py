"""The access log, whatever a peer calls itself or asks for."""

from __future__ import annotations

import re
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from desktopgrid.server.access import Line, encode, text_of
from tests.builders import NOON

CLF = re.compile(
    r'(\S+) (\S+) (\S+) \[(\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4})\] "([^"\\]+)" '
    r"(\d{3}) (\d+|-)\n"
)
NASTY = [
    'alice "the" boss',
    "eve\n127.0.0.1 - admin [25/Nov/2026:08:00:00 +0000]",
    "[]\\",
    "Zoë \N{SNOWMAN} \ud800",
    " ",
    "%20",
    "x" * 5000,
]


def a_line(**fields: Any) -> Line:
    line = Line(NOON, "127.0.0.1", "alice", "GET", "/v1/status", "1.1", 200, 12)
    return line._replace(**fields)


@pytest.mark.feature("XW-MON-2")
def test_a_line_is_in_the_common_log_format():
    assert text_of(a_line()) == (
        '127.0.0.1 - alice [20/Nov/2026:12:00:00 +0000] "GET /v1/status HTTP/1.1" 200 12\n'
    )


def test_what_is_not_known_is_a_hyphen():
    line = text_of(a_line(host=None, user=None, bytes=None))
    assert line.startswith("- - - [")
    assert line.endswith(" 200 -\n")


def test_names_that_differ_stay_apart():
    assert text_of(a_line(user="a b")) != text_of(a_line(user="a%20b"))


@pytest.mark.feature("XW-MON-2")
@given(some.text(), some.text(), some.text())
def test_no_name_makes_another_line_or_field(user, path, method):
    line = text_of(a_line(user=user, path=path, method=method))
    found = CLF.fullmatch(line)
    assert found, line
    assert len(found[5].split(" ")) == 3


@pytest.mark.feature("XW-MON-2")
def test_webalizer_reads_every_line_whatever_peers_are_called(tmp_path: Path, webalizer: Path):
    lines = [
        a_line(at=NOON + timedelta(seconds=number), user=name, path=f"/v1/{name}", method="PUT")
        for number, name in enumerate(NASTY)
    ]
    lines += [a_line(at=NOON + timedelta(minutes=1), host=host) for host in ("::1", None)]
    assert records(webalizer, tmp_path, encode(lines)) == (len(lines), 0)
    assert records(webalizer, tmp_path, encode(lines) + b'x "y\n') == (len(lines) + 1, 1)


def records(webalizer: Path, directory: Path, log: bytes) -> tuple[int, int]:
    """How many records webalizer found, and how many of them were bad."""
    (directory / "access.log").write_bytes(log)
    done = subprocess.run(
        [webalizer, "-i", "-F", "clf", "-o", directory, "-n", "grid", directory / "access.log"],
        capture_output=True,
        text=True,
        errors="replace",
        check=True,
    )
    # webalizer 2.23: "7 records (1 bad) in 1 seconds, 7/sec"
    found = re.search(r"(\d+) records(?: \((\d+) bad\))?", done.stdout)
    assert found, done.stdout + done.stderr
    return int(found[1]), int(found[2] or 0)
