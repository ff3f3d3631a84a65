"""The configuration form: what is read, and what an error names."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from pathlib import Path

import pytest

from desktopgrid.model import configuration
from desktopgrid.model.errors import ConfigurationError


class Door(Enum):
    CONDOR = "condor"
    ARC = "arc"


@dataclass(frozen=True)
class SiteConfig:
    computing_element: Door
    name: str = ""
    max_pilots: int = 10
    share: float = 1.0
    is_open: bool = True
    idle_time: timedelta = timedelta(minutes=10)
    servers: tuple[str, ...] = ()
    proxy: Path | None = None

    def __post_init__(self) -> None:
        if self.max_pilots < 0:
            raise ValueError("max_pilots must not be negative")


def site(text: str) -> SiteConfig:
    read = configuration.parse(text, "sites.d/lal.conf")
    return configuration.from_section(SiteConfig, read.sections[0])


def test_every_type_of_value_is_read() -> None:
    text = """
# a comment
[site lal]          # where we are guests
computing_element = condor
max_pilots: 20      # `:` as well as `=`
share = 0.5
is_open = no
idle_time = 1.5 h
servers = https://a:443 https://b:443, https://c:443
proxy = /etc/proxy.pem
"""
    assert site(text) == SiteConfig(
        Door.CONDOR,
        "lal",
        20,
        0.5,
        False,
        timedelta(minutes=90),
        ("https://a:443", "https://b:443", "https://c:443"),
        Path("/etc/proxy.pem"),
    )


def test_a_key_left_out_has_its_default() -> None:
    assert site("[site lal]\ncomputing_element = arc") == SiteConfig(Door.ARC, "lal")


def test_a_section_left_out_is_empty() -> None:
    read = configuration.parse("")
    assert read.section("worker").entries == {}


def test_sections_are_found_by_kind_and_name() -> None:
    read = configuration.parse("[factory]\na = 1\n[site lal]\n[site cc]\n")
    assert read.section("factory").texts() == {"a": "1"}
    assert [section.name for section in read.named("site")] == ["lal", "cc"]
    assert read.expect("factory", "site") is read


def test_a_sharp_inside_a_word_is_no_comment() -> None:
    read = configuration.parse("[cod]\nclaim = <1.2.3.4:9618>#1#4 # mine")
    assert read.section("cod").texts() == {"claim": "<1.2.3.4:9618>#1#4"}


def test_an_empty_optional_value_is_none() -> None:
    assert site("[site lal]\ncomputing_element = arc\nproxy =").proxy is None


@pytest.mark.parametrize(
    "text, message",
    [
        pytest.param(
            "[site lal]\n\nmax_idel = 3",
            "sites.d/lal.conf:3: [site lal] unknown key 'max_idel'; known keys are"
            " computing_element, max_pilots, share, is_open, idle_time, servers, proxy",
            id="unknown key",
        ),
        pytest.param(
            "[site lal]\nmax_pilot = 3",
            "sites.d/lal.conf:2: [site lal] unknown key 'max_pilot', perhaps max_pilots; known"
            " keys are computing_element, max_pilots, share, is_open, idle_time, servers, proxy",
            id="nearly a key",
        ),
        pytest.param(
            "[site lal]\nmax_pilots = many",
            "sites.d/lal.conf:2: [site lal] max_pilots must be a whole number, not 'many'",
            id="whole number",
        ),
        pytest.param(
            "[site lal]\nshare = half",
            "sites.d/lal.conf:2: [site lal] share must be a number, not 'half'",
            id="number",
        ),
        pytest.param(
            "[site lal]\nis_open = maybe",
            "sites.d/lal.conf:2: [site lal] is_open must be yes or no, not 'maybe'",
            id="yes or no",
        ),
        pytest.param(
            "[site lal]\nidle_time = 3 weeks",
            "sites.d/lal.conf:2: [site lal] idle_time must be a span of time such as 90 s, 5 min,"
            " 1.5 h or 2 d, not '3 weeks'",
            id="span",
        ),
        pytest.param(
            "[site lal]\nidle_time = 99999999999 d",
            "sites.d/lal.conf:2: [site lal] idle_time must be a span of time such as 90 s, 5 min,"
            " 1.5 h or 2 d, not '99999999999 d'",
            id="span too long",
        ),
        pytest.param(
            "[site lal]\ncomputing_element = boinc",
            "sites.d/lal.conf:2: [site lal] computing_element must be one of condor, arc,"
            " not 'boinc'",
            id="choice",
        ),
        pytest.param(
            "\n[site lal]",
            "sites.d/lal.conf:2: [site lal] lacks the key 'computing_element'; known keys are"
            " computing_element, max_pilots, share, is_open, idle_time, servers, proxy",
            id="required key",
        ),
        pytest.param(
            "[site lal]\ncomputing_element = arc\nmax_pilots = -1",
            "sites.d/lal.conf:1: [site lal] max_pilots must not be negative",
            id="refused by the dataclass",
        ),
        pytest.param(
            "max_pilots = 1",
            "sites.d/lal.conf:1: key 'max_pilots' stands before the first [section]",
            id="no section",
        ),
        pytest.param(
            "[site lal]\nshare = 1\nshare = 2",
            "sites.d/lal.conf:3: [site lal] key 'share' stands on line 2 already",
            id="key twice",
        ),
        pytest.param(
            "[site lal]\n[site lal]",
            "sites.d/lal.conf:2: section [site lal] stands on line 1 already",
            id="section twice",
        ),
        pytest.param(
            "[site lal]\nwhatever",
            "sites.d/lal.conf:2: a line is `key = value`, not 'whatever'",
            id="no separator",
        ),
        pytest.param(
            "[site lal]\n= 3",
            "sites.d/lal.conf:2: a line is `key = value`, not '= 3'",
            id="no key",
        ),
        pytest.param(
            "[site lal",
            "sites.d/lal.conf:1: a section is written [kind] or [kind name], not '[site lal'",
            id="broken section",
        ),
    ],
)
def test_an_error_names_file_line_key_and_what_was_expected(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        site(text)
    assert str(caught.value) == message


def test_an_unknown_section_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match=r"x:1: unknown section \[sight lal\]; known sec"):
        configuration.parse("[sight lal]", "x").expect("site", "factory")


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        configuration.read(tmp_path / "none.conf")
    (tmp_path / "binary.conf").write_bytes(b"[a]\n\xff\xff")
    with pytest.raises(ConfigurationError, match=r"binary.conf:2: is not UTF-8 text"):
        configuration.read(tmp_path / "binary.conf")
    (tmp_path / "good.conf").write_text("[worker]\nslots = 2\n")
    assert configuration.read(tmp_path / "good.conf").section("worker").texts() == {"slots": "2"}


def test_a_type_that_no_key_can_have_is_our_bug() -> None:
    with pytest.raises(TypeError, match="cannot have the type"):
        configuration.reader_of(complex)
