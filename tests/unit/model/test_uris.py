"""What each URI means, and what is said of those that mean nothing."""

from __future__ import annotations

import pytest

from desktopgrid.model.errors import BadRequest
from desktopgrid.model.uris import LONGEST, Place, is_elsewhere, is_uri, located


@pytest.mark.feature("XW-ARC-6")
@pytest.mark.parametrize(
    "text, place, uid",
    [
        ("xw://grid.example.org/0a-1", Place.SERVER, "0a-1"),
        ("xw:///v1/datas/0a-1", Place.SERVER, "0a-1"),
        ("XW://grid:4325/0a-1", Place.SERVER, "0a-1"),
        ("http://w.example.org/a/b.zip", Place.ELSEWHERE, ""),
        ("https://w.example.org:8443/b?x=1", Place.ELSEWHERE, ""),
        ("https://[2001:db8::1]/b", Place.ELSEWHERE, ""),
        ("file:///tmp/b", Place.LOCAL, ""),
    ],
)
def test_a_uri_says_who_has_what_it_names(text: str, place: Place, uid: str) -> None:
    assert (located(text).place, located(text).uid) == (place, uid)


@pytest.mark.feature("XW-ARC-6")
@pytest.mark.parametrize(
    "text, said",
    [
        ("gopher://w/x", "it knows xw://, http://, https://, file://$"),
        ("adics://w/x", "adics:// is not taken: its network is gone"),
        ("s3://bucket/key", "s3:// is not taken: give the object's https URL"),
        ("http://ann:secret@w/x", "must not carry a login"),
        ("http:///x", "names no host"),
        ("http://w:port/x", "is no URI"),
        ("http://[::1/x", "is no URI"),
        ("http://w/a b", "is no URI"),
        ("http://w/\N{LATIN SMALL LETTER E WITH ACUTE}", "is no URI"),
        ("http://w/\r\nHost: x", "is no URI"),
        ("http://w/" + "x" * LONGEST, "is no URI"),
        ("xw://grid/", "names no data"),
        ("xw://grid/a_b", "names no data"),
        ("a/path", "is no URI"),
    ],
)
def test_what_is_wrong_with_a_uri_is_said(text: str, said: str) -> None:
    with pytest.raises(BadRequest, match=said) as raised:
        located(text)
    assert "secret" not in str(raised.value)


def test_a_site_may_know_more_schemes() -> None:
    assert located("davs://w/x", ("davs",)).place is Place.ELSEWHERE
    with pytest.raises(BadRequest, match=r"file://, davs://$"):
        located("root://w/x", ("davs",))


def test_paths_and_names_are_no_uris() -> None:
    assert [is_uri(text) for text in ("a/b", "0a1b", "http:x", "s3+x://y")] == [0, 0, 0, 1]
    assert [is_elsewhere(uri) for uri in ("", "xw:///v1/datas/u", "http://w/x")] == [0, 0, 1]
