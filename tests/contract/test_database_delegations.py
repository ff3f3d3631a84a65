"""What bridges offer and users delegate, written, read again, and forgotten; on every database."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from desktopgrid.model.lifecycle import DelegationStatus
from desktopgrid.model.objects import Bridge, Delegation, Offer
from desktopgrid.server import changes as c
from desktopgrid.server.database import schema
from desktopgrid.server.database.engine import Refused
from desktopgrid.server.database.reading import load
from tests.rows import HOST, NOON, PEOPLE, PROGRAM, Grid, row

pytestmark = pytest.mark.feature("XW-PIL-3")


def at(seconds: float) -> datetime:
    """So long after noon."""
    return datetime.fromtimestamp(NOON + seconds, UTC)


@pytest.fixture
def grid(bare: Grid) -> Grid:
    """Users, an application, a host and a bridge."""
    bare.record(*PEOPLE, *PROGRAM, *HOST, row(c.BridgeSaved))
    return bare


def test_they_are_read_as_they_were_written(grid: Grid) -> None:
    grid.record(row(c.OfferSaved), row(c.DelegationSaved))
    found = grid.read(load, grid.shard)
    assert found.bridges == [Bridge("admin", "k" * 44, "k" * 44, at(0))]
    assert found.offers == [Offer("offer", "admin", "PEM", "s" * 88, at(0))]
    assert found.delegations == [
        Delegation(
            *("delegation", "alice", "admin", "proxy", DelegationStatus.SIGNED),
            *(at(0), at(3600), 1, "PEM", "offer", "CN=Alice", "f" * 64),
            ("1 CN=CA", "2 CN=CA"),
            "biomed",
            ("/biomed", "/biomed/Role=pilot"),
            at(1800),
        )
    ]


def test_an_offer_is_taken_and_then_gone(grid: Grid) -> None:
    grid.record(row(c.OfferSaved))
    grid.record(row(c.OfferSaved, taken_by="alice", taken_at=NOON + 1))
    [offer] = grid.read(load, grid.shard).offers
    assert (offer.taken_by, offer.taken_at) == ("alice", at(1))
    grid.record(row(c.OfferForgotten))
    assert not grid.read(load, grid.shard).offers


def test_one_that_is_over_stays_by_its_name_alone(grid: Grid) -> None:
    grid.record(row(c.DelegationSaved))
    grid.record(row(c.DelegationSaved, status="Revoked", content="", reason="it was revoked"))
    [found] = grid.read(load, grid.shard).delegations
    assert (found.status, found.content) == (DelegationStatus.REVOKED, "")


@pytest.mark.parametrize(
    "nonsense",
    [
        pytest.param(row(c.DelegationSaved, status="Expired"), id="over and not empty"),
        pytest.param(row(c.DelegationSaved, content=""), id="usable and empty"),
        pytest.param(row(c.DelegationSaved, status="Lost"), id="no status"),
        pytest.param(row(c.DelegationSaved, kind="password"), id="no kind"),
        pytest.param(row(c.DelegationSaved, owner="nobody"), id="nobody's"),
        pytest.param(row(c.DelegationSaved, bridge="bob"), id="for no bridge"),
        pytest.param(row(c.OfferSaved, taken_by="alice"), id="taken at no time"),
        pytest.param(row(c.OfferSaved, bridge="bob"), id="offered by no bridge"),
    ],
)
def test_the_database_refuses_nonsense(grid: Grid, nonsense: c.Change) -> None:
    with pytest.raises(Refused):
        grid.record(nonsense)


def test_works_and_pilots_say_which_they_carry_and_applications_who_validated_them(
    grid: Grid,
) -> None:
    grid.record(
        row(c.DelegationSaved),
        row(c.SubmissionInserted, delegation="delegation", vo="biomed"),
        row(c.WorkInserted),
        row(c.PilotInserted, delegation="delegation"),
        row(c.ApplicationSaved, validated_by="admin", validated_at=NOON),
    )
    [submission] = grid.rows(schema.submissions)
    assert (submission["delegation"], submission["vo"]) == ("delegation", "biomed")
    found = grid.read(load, grid.shard)
    assert [pilot.delegation for pilot in found.pilots] == ["delegation"]
    assert [(a.validated_by, a.validated_at) for a in found.applications] == [("admin", at(0))]
