"""Where inbound works come from."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from desktopgrid.model.errors import BadRequest
from desktopgrid.model.origins import LONGEST, Origin, job_named, places_of
from desktopgrid.server.state import check_uid

TEXT = "lal>desktop/schedd@lal#12.0#1795176000/2"


def test_an_origin_is_written_as_it_is_read() -> None:
    origin = Origin.parse(TEXT)
    assert origin == Origin(("lal", "desktop"), "schedd@lal#12.0#1795176000", 2)
    assert str(origin) == TEXT
    assert places_of(TEXT) == ("lal", "desktop")
    assert places_of("") == ()


@pytest.mark.parametrize(
    "text",
    [
        *("lal", "lal/job", "/job/0", "lal//0", "lal/job/x", "lal/job/007", "a>/job/0"),
        *("lal/a b/0", f"lal/{'x' * LONGEST}/0"),
    ],
)
def test_what_is_no_origin_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="is no origin"):
        Origin.parse(text)


def test_each_user_and_each_run_has_a_work_of_its_own() -> None:
    origin, other = Origin(("lal",), "1.0"), Origin(("lal",), "1.0", 1)
    names = [origin.uid("ann"), origin.uid("bob"), other.uid("ann")]
    assert len(set(names)) == 3
    assert all(check_uid(name) == name for name in names)
    assert origin.uid("ann") == Origin.parse(str(origin)).uid("ann")


def test_it_knows_where_it_was() -> None:
    origin = Origin.parse(TEXT)
    assert origin.passed("lal")
    assert not origin.passed("la")


@given(st.text(), st.text())
def test_any_job_has_a_name_that_an_origin_can_hold(name: str, other: str) -> None:
    for each in (name, other):
        origin = Origin(("here",), job_named(each))
        assert Origin.parse(str(origin)) == origin
    assert (job_named(name) == job_named(other)) == (name == other)
