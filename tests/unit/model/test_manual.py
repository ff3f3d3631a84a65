"""The XWHEP manual's files, read in our words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from desktopgrid.model import configuration
from desktopgrid.model.errors import ConfigurationError
from desktopgrid.model.manual import Ignored, Means, Reading, Table, a_port, in_our_words


@dataclass(frozen=True)
class DoorSection:
    port: int = 1
    colour: str = ""


TABLE: Table = {
    "port.https": Means("door", "port", check=a_port),
    "door.colour": Means("door", "colour", str.lower),
    "door.paint": Means("door", "colour"),
    "door.key": Means("door", "colour", is_secret=True),
    "java.nio": Ignored("nothing is Java", ("false",)),
}


def read(text: str, mode: int = 0o600) -> Reading:
    found = configuration.parse(text, "door.conf", may_begin_plain=True)
    found = configuration.Configuration(found.file, found.sections, mode)
    return in_our_words(found, TABLE, {"door": DoorSection})


def door(text: str) -> DoorSection:
    return configuration.from_section(DoorSection, read(text).configuration.section("door"))


@pytest.mark.feature("XW-WCF-2")
@pytest.mark.parametrize("line", ["port.https=7", "port.https : 7", "PORT.HTTPS: 7  # the door"])
def test_a_key_of_the_manual_is_ours_with_either_separator(line: str) -> None:
    assert door(f"# a comment\n\n{line}\n") == DoorSection(7)


def test_our_own_sections_may_follow() -> None:
    assert door("port.https = 7\ndoor.colour = RED\n[door]\n") == DoorSection(7, "red")
    assert door("port.https = 7\n[door]\ncolour = RED\n") == DoorSection(7, "RED")


def test_what_has_no_effect_is_told_unless_it_is_so_anyway() -> None:
    assert read("java.nio = false").notes == ()
    assert read("\njava.nio = true").notes == (
        "door.conf:2: java.nio has no effect: nothing is Java",
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("port.htps = 1", "door.conf:1: unknown key 'port.htps' .*; did you mean port.https"),
        ("zzz = 1", "unknown key 'zzz' .*; known keys are port.https, door.colour"),
        ("port = 1", r"key 'port' stands before the first \[section\]; it belongs into \[door\]"),
        ("port.https = many", "door.conf:1: port.https must be between 0 and 65535, not 'many'"),
        ("port.https = 65536", "port.https must be between 0 and 65535"),
        ("door.colour = a\ndoor.paint = b", "conf:2: door.paint and door.colour are the same"),
        ("door.paint = a\n[door]\ncolour = b", "conf:3: .*colour is what door.paint on line 1 say"),
        ("door.paint = a\ndoor.paint = b", "conf:2: key 'door.paint' stands on line 1 already"),
    ],
)
def test_what_is_wrong_is_named_as_it_is_spelled(text: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        door(text)


def test_a_secret_is_for_the_owner_of_the_file_alone() -> None:
    assert read("door.key = x", 0o100600).notes == ()
    assert read("door.key =", 0o100644).notes == ()
    with pytest.raises(ConfigurationError, match=r"others can read this door.key \(mode 640\)"):
        read("door.key = x", 0o100640)


def test_a_file_knows_who_may_read_it(tmp_path: Path) -> None:
    (tmp_path / "door.conf").write_text("port.https = 1\n")
    (tmp_path / "door.conf").chmod(0o640)
    found = configuration.read(tmp_path / "door.conf", may_begin_plain=True)
    assert found.mode & 0o777 == 0o640
