"""Access rights as people write them."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from desktopgrid.model.errors import BadRequest
from desktopgrid.model.modes import rights_from


@pytest.mark.feature("XW-AR-10")
@pytest.mark.parametrize(
    "spellings, rights",
    [
        (("private", "Private", "700", "0700", "0o700", "0x700", "0x0700"), 0o700),
        (("group", "GROUP", "750", "0750", "0o750", "0x750", "0x0750"), 0o750),
        (("public", " public ", "755", "0755", "0o755", "0x755", "0x0755"), 0o755),
        (("000", "0o000"), 0),
        (("777",), 0o777),
    ],
)
def test_each_name_and_each_spelling_gives_its_mode(
    spellings: tuple[str, ...], rights: int
) -> None:
    assert {rights_from(text) for text in spellings} == {rights}


@pytest.mark.feature("XW-AR-10")
def test_755_is_not_taken_for_a_decimal_number() -> None:
    """The original read it in base 10, which let everybody write (C-1)."""
    assert rights_from("755") == 0o755 != 755
    assert not rights_from("755") & 0o022


@pytest.mark.feature("XW-AR-18")
@pytest.mark.parametrize(
    "before, change, after",
    [
        (0o700, "g+r", 0o740),
        (0o700, "uog+r", 0o744),
        (0o755, "o-rx", 0o750),
        (0o755, "go-rx", 0o700),
        (0o500, "u+w", 0o700),
        (0o700, "a+rx", 0o755),
        (0o700, "+r", 0o744),
        (0o755, "a-x", 0o644),
        (0o755, "g=rwx", 0o775),
        (0o755, "o=", 0o750),
        (0o700, "g+rx,o+r", 0o754),
        (0o755, "G-RX", 0o705),
        (0o755, "u+r", 0o755),
        (0o644, "750", 0o750),
    ],
)
def test_a_change_in_symbols_changes_what_it_names(before: int, change: str, after: int) -> None:
    assert rights_from(change, before) == after


REFUSED = """
    8 778 0o800 0x7FF 75 7555 1755 -1 u u+ + u+t z+r u+r, u+r;g+r rwxr-xr-x u++r 0b111 7_5_5
"""
ARABIC_755 = "\N{ARABIC-INDIC DIGIT SEVEN}" + 2 * "\N{ARABIC-INDIC DIGIT FIVE}"


@pytest.mark.feature("XW-AR-18")
@pytest.mark.parametrize("text", ["", ARABIC_755, *REFUSED.split()])
def test_anything_else_is_refused_and_says_what_is_expected(text: str) -> None:
    with pytest.raises(BadRequest, match="expected private, group, public"):
        rights_from(text, 0o755)


def test_a_change_needs_something_to_change() -> None:
    with pytest.raises(BadRequest, match="are no access rights"):
        rights_from("u+w")


@given(st.text(max_size=12), st.integers(0, 0o777))
def test_whatever_is_written_gives_a_mode_or_an_error(text: str, before: int) -> None:
    with suppress(BadRequest):
        assert 0 <= rights_from(text, before) <= 0o777
