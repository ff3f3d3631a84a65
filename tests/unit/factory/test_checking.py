"""What `pilot sites check` looks at besides the doors."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from desktopgrid.model.errors import UnknownObject
from desktopgrid.model.sites import CondorSite, FakeSite, GramSite
from pilot.ce.base import JobDescription
from pilot.ce.fake import FakeCE
from pilot.ce.finding import Finding, Verdict
from pilot.factory.checking import check
from tests.builders import seconds
from tests.unit.factory.test_watch import FakeSites


def test_caps_and_spans_that_make_no_sense_are_worrying() -> None:
    site = FakeSite("lal", max_idle=0, wall_time=seconds(60))
    found = list(check(FakeSites({"lal": site}, {"lal": FakeCE()}), []))
    worrying = [each.sentence for _, each in found if each.verdict is Verdict.WORRYING]
    assert worrying[0] == "max_idle is 0, so that no pilot goes in"
    assert worrying[1].startswith("a pilot lives for 0:01:00 and would wait for")
    assert [each.verdict for _, each in found][-1] is Verdict.FINE


def test_a_door_that_cannot_be_built_is_a_finding(tmp_path: Path) -> None:
    site = CondorSite("lal", token=tmp_path / "nothing")
    ((name, found),) = check(FakeSites({"lal": site}, {}), ["lal"])
    assert (name, found.verdict) == ("lal", Verdict.WRONG)
    assert "nothing cannot be used" in found.sentence


def test_sites_are_tried_side_by_side_and_told_in_their_order() -> None:
    together = threading.Barrier(3, timeout=10)

    class Waiting(FakeCE):
        def examine(self, job: JobDescription) -> Iterator[Finding]:
            together.wait()
            yield from super().examine(job)

    names = ["c", "a", "b"]
    sites = FakeSites({name: FakeSite(name) for name in names}, {name: Waiting() for name in names})
    assert [name for name, _ in check(sites, [])] == ["a", "b", "c"]


def test_a_name_that_no_site_has_is_told_before_any_is_tried() -> None:
    sites = FakeSites({"lal": GramSite("lal", contact="x")}, {})
    with pytest.raises(UnknownObject, match="no site 'moon'"):
        list(check(sites, ["lal", "moon"]))
