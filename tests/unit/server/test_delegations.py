"""Users' credentials for bridges: given by their owners only, for the keys that were offered, and
gone when they end.
"""

from __future__ import annotations

import base64
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from desktopgrid.credentials.offers import Card, Keys
from desktopgrid.credentials.subjects import certificates_in
from desktopgrid.model.errors import (
    AccessDenied,
    AlreadyThere,
    BadRequest,
    GridError,
    LimitExceeded,
    NotAuthenticated,
    UnknownObject,
)
from desktopgrid.model.lifecycle import DelegationStatus, PilotStatus
from desktopgrid.model.objects import new_uid
from desktopgrid.model.rights import Scope
from desktopgrid.server import changes as c
from desktopgrid.server import delegations
from desktopgrid.server.certificates import ChainRefused, Trust, shown
from desktopgrid.server.listeners.identities import take_back
from desktopgrid.server.state import Outcome
from desktopgrid.wire import messages as m
from tests.builders import hours, seconds
from tests.delegating import ANN, BOB, BRIDGE, CA, KEYS, SUBJECT, Delegating, signed
from tests.grid_ca import (
    LIMITED,
    NOW,
    Holder,
    a_ca,
    a_crl,
    a_person,
    a_proxy,
    proxy_info,
)

pytestmark = pytest.mark.feature("XW-PIL-3")


@pytest.fixture
def grid() -> Delegating:
    return Delegating()


# --- giving and taking ----------------------------------------------------------------------------


def test_a_bridge_gets_a_proxy_for_its_own_key_and_nobody_has_that_key(
    grid: Delegating, tmp_path: Path
) -> None:
    uid = grid.delegate(tmp_path, a_proxy(ANN), ANN)
    assert grid.of(uid) is DelegationStatus.SIGNED
    found = grid.fetch(uid)
    assert grid.of(uid) is DelegationStatus.ACTIVE
    leaf = certificates_in(found["content"])[0]
    assert leaf.public_key() == grid.keys[found["offer"]].public_key()
    assert (found["user"], found["subject"]) == ("alice", SUBJECT)
    [saved] = [ch for ch in grid.changes(c.DelegationSaved)]
    assert "PRIVATE" not in str(saved)


def test_an_offer_is_one_users_and_good_once(grid: Delegating, tmp_path: Path) -> None:
    first, second = grid.take(), grid.take("bob")
    assert first["offer"] != second["offer"]
    chain = signed(tmp_path, first["request"], ANN)
    with pytest.raises(BadRequest, match="no offer of this bridge that you have taken"):
        grid.give(signed(tmp_path, first["request"], BOB), first["offer"], "bob")
    grid.give(chain, first["offer"])
    assert grid.changes(c.OfferForgotten) == [c.OfferForgotten(first["offer"])]
    with pytest.raises(BadRequest, match="no offer"):
        grid.give(chain, first["offer"])


def test_a_chain_that_was_signed_for_another_key_is_refused(
    grid: Delegating, tmp_path: Path
) -> None:
    """Whoever saw an earlier chain could otherwise have it used for what he wants."""
    first, second = grid.take(), grid.take()
    chain = signed(tmp_path, first["request"], ANN)
    with pytest.raises(BadRequest, match="signed for another key"):
        grid.give(chain, second["offer"])
    grid.give(chain, first["offer"])


def test_nobody_delegates_for_another_user(grid: Delegating, tmp_path: Path) -> None:
    with pytest.raises(AccessDenied, match=r"'CN=Ann Example,.*by which name you are not known"):
        grid.delegate(tmp_path, a_proxy(ANN), ANN, login="bob")
    uid = grid.delegate(tmp_path, ANN)
    taken = grid.take("bob")
    with pytest.raises(AlreadyThere):
        grid.give(signed(tmp_path, taken["request"], BOB), taken["offer"], "bob", uid=uid)


def test_a_limited_proxy_delegates_nothing(grid: Delegating, tmp_path: Path) -> None:
    with pytest.raises(AccessDenied, match="limited"):
        grid.delegate(tmp_path, a_proxy(ANN, proxy_info(LIMITED)), ANN)


@pytest.mark.parametrize(
    "holders, reason",
    [
        pytest.param(
            (a_proxy(ANN, ends=NOW + seconds(30)), ANN), "ends within 60 s", id="nearly over"
        ),
        pytest.param((a_person(a_ca()),), "certificate", id="another CA"),
        pytest.param(
            (a_proxy(BOB, called=a_proxy(ANN).certificate.subject), ANN),
            "certificate",
            id="it only looks like hers",
        ),
    ],
)
def test_what_proves_nothing_is_refused(
    holders: tuple[Holder, ...], reason: str, grid: Delegating, tmp_path: Path
) -> None:
    with pytest.raises(GridError, match=reason):
        grid.delegate(tmp_path, *holders)
    assert not grid.grid.delegations


def test_a_revoked_certificate_delegates_nothing(grid: Delegating, tmp_path: Path) -> None:
    taken = grid.take()
    chain = signed(tmp_path, taken["request"], a_proxy(ANN), ANN)
    with pytest.raises(ChainRefused, match="revoked"):
        shown(certificates_in(chain), Trust([CA.certificate], [a_crl(CA, ANN)]), NOW)


def test_certificates_that_were_not_asked_for_are_not_taken_along(
    grid: Delegating, tmp_path: Path
) -> None:
    taken = grid.take()
    with pytest.raises(ChainRefused, match="does not lead to the CA"):
        grid.give(signed(tmp_path, taken["request"], ANN) + BOB.pem, taken["offer"])


def test_a_credential_lasts_no_longer_than_the_grid_allows(
    grid: Delegating, tmp_path: Path
) -> None:
    long = a_person(CA, ends=NOW + timedelta(days=30))
    taken = grid.take()
    ca = Trust(
        [a_ca(key=CA.key, ends=NOW + timedelta(days=60)).certificate],
        [a_crl(CA, ends=NOW + timedelta(days=60))],
    )
    chain = signed(tmp_path, taken["request"], long, lifetime=timedelta(days=20))
    grid.shown = shown(certificates_in(chain), ca, NOW)
    with pytest.raises(BadRequest, match="takes none for more than 7 days"):
        grid.ask(m.Delegate(new_uid(), "bridge", chain, offer=taken["offer"]))


def test_a_grid_that_looks_at_no_certificates_takes_no_proxies(
    grid: Delegating, tmp_path: Path
) -> None:
    taken = grid.take()
    with pytest.raises(BadRequest, match="looks at no certificates"):
        grid.ask(m.Delegate(new_uid(), "bridge", "", offer=taken["offer"]))


def test_what_was_signed_for_an_offer_must_be_a_proxy(grid: Delegating) -> None:
    """A certificate for the bridge's key would make the bridge her for good."""
    taken = grid.take()
    key = grid.keys[taken["offer"]]
    with pytest.raises(BadRequest, match="must be a proxy"):
        grid.give(a_person(CA, key=key).pem, taken["offer"])


# --- tokens ---------------------------------------------------------------------------------------


def test_a_token_is_sealed_to_the_bridge_and_to_its_user(grid: Delegating) -> None:
    uid = new_uid()
    [row] = grid.ask(m.ListObjects("bridges"))["rows"]
    card = Card(row["signing_key"], row["sealing_key"])
    assert card.fingerprint == KEYS.card.fingerprint
    sealed = card.seal("eyJ.secret", uid, "alice")
    grid.ask(m.Delegate(uid, "bridge", sealed, "token", lifetime=3600))
    found = grid.fetch(uid)
    assert KEYS.open(found["content"], uid, found["user"]) == "eyJ.secret"
    assert b"secret" not in base64.b64decode(grid.grid.delegations[uid].content)
    for other in (("other", "alice"), (uid, "bob")):
        with pytest.raises(BadRequest, match="was not sealed"):
            KEYS.open(found["content"], *other)
    with pytest.raises(BadRequest, match="was not sealed"):
        Keys.generate().open(found["content"], uid, "alice")


@pytest.mark.parametrize(
    "fields, reason",
    [
        ({"lifetime": 0}, "lifetime is said"),
        ({"lifetime": 10**9}, "lifetime is said"),
        ({"lifetime": 30}, "ends within"),
        ({"content": "?"}, "is base64"),
        ({"content": ""}, "0 bytes"),
        ({"content": "A" * 80_000}, "at most"),
        ({"kind": "password"}, "not one of proxy, token"),
        ({"bridge": "alice"}, "no bridge 'alice'; bridges are: bridge"),
    ],
)
def test_a_token_that_makes_no_sense_is_refused(
    grid: Delegating, fields: dict[str, Any], reason: str
) -> None:
    said = {
        "uid": new_uid(),
        "bridge": "bridge",
        "content": "AAAA",
        "kind": "token",
        "lifetime": 3600,
    }
    with pytest.raises(BadRequest, match=reason):
        grid.ask(m.Delegate(**{**said, **fields}))


# --- bridges --------------------------------------------------------------------------------------


def test_only_a_super_user_makes_a_bridge(grid: Delegating) -> None:
    everything = "read create cancel run manage bridge"
    with pytest.raises(AccessDenied, match="only a super user"):
        grid.ask(m.SendToken(new_uid(), "0" * 64, scope=everything), "other")
    with pytest.raises(AccessDenied, match="only a super user"):
        grid.bridge(m.SendToken(new_uid(), "0" * 64, scope=everything))
    uid = new_uid()
    grid.ask(m.SendToken(uid, "0" * 64, "other", scope=everything), "admin")
    assert grid.grid.credentials[uid].scope == BRIDGE
    plain = new_uid()
    grid.ask(m.SendToken(plain, "0" * 64), "admin")
    assert Scope.BRIDGE not in grid.grid.credentials[plain].scope


def test_who_is_no_bridge_offers_and_fetches_nothing(grid: Delegating, tmp_path: Path) -> None:
    uid = grid.delegate(tmp_path, ANN)
    for request in (
        m.SendOffers(KEYS.card.signing_key, KEYS.card.sealing_key),
        m.FetchDelegation(uid),
        m.DelegationReport({}),
    ):
        for login in ("admin", "bridge"):
            with pytest.raises(AccessDenied, match="bridge"):
                grid.ask(request, login)


def test_a_bridge_has_nothing_of_another_bridges(grid: Delegating, tmp_path: Path) -> None:
    grid.publish(keys=Keys.generate(), login="other")
    uid = grid.delegate(tmp_path, ANN)
    grid.submit(delegation=uid)
    for request in (
        m.FetchDelegation(uid),
        m.DelegationReport({uid: {"status": "Refused", "generation": "1"}}),
        m.SubmitPilots("egi", {new_uid(): "0" * 64}, delegation=uid),
    ):
        with pytest.raises(UnknownObject):
            grid.bridge(request, "other")
    assert not grid.ask(m.ListObjects("delegations"), "other")["rows"]
    taken = grid.take()
    with pytest.raises(BadRequest, match="no offer of this bridge"):
        grid.give(signed(tmp_path, taken["request"], ANN), taken["offer"], bridge="other")


def test_offers_are_signed_by_their_bridge_and_made_by_who_has_the_key(grid: Delegating) -> None:
    [uid] = [uid for uid, offer in grid.grid.offers.items()][:1]
    offer, card = grid.grid.offers[uid], KEYS.card
    forged = {"request": offer.request, "signature": Keys.generate().sign("new", offer.request)}
    with pytest.raises(BadRequest, match="its signature is wrong"):
        grid.bridge(m.SendOffers(card.signing_key, card.sealing_key, {"new": forged}))
    for more in ("\0", "\u00e9", "x" * 20_000):
        said = {
            "request": offer.request + more,
            "signature": KEYS.sign("new", offer.request + more),
        }
        with pytest.raises(BadRequest, match="of PEM, and no others"):
            grid.bridge(m.SendOffers(card.signing_key, card.sealing_key, {"new": said}))
    with pytest.raises(BadRequest, match="expected a certificate request"):
        grid.bridge(m.SendOffers(card.signing_key, card.sealing_key, {"new": {}}))
    with pytest.raises(BadRequest, match="32 bytes"):
        grid.bridge(m.SendOffers("AAAA", card.sealing_key))
    with pytest.raises(LimitExceeded, match="offers 1000 keys at most"):
        grid.bridge(
            m.SendOffers(card.signing_key, card.sealing_key, {str(n): {} for n in range(999)})
        )


def test_with_other_keys_the_earlier_offers_are_void(grid: Delegating) -> None:
    before = set(grid.grid.offers)
    reply = grid.publish(2, Keys.generate())
    assert not before & set(grid.grid.offers)
    assert reply["open"] == sorted(grid.grid.offers) and len(reply["open"]) == 2


def test_who_takes_offers_and_signs_for_none_gets_no_more(grid: Delegating) -> None:
    grid.publish(60)
    for _ in range(delegations.MOST_TAKEN):
        grid.take("bob")
    with pytest.raises(LimitExceeded, match="wait a little"):
        grid.take("bob")
    grid.take("alice")
    grid.after(delegations.OFFER_PATIENCE)
    grid.looks_after()
    grid.take("bob")


def test_a_bridge_without_offers_says_so(grid: Delegating) -> None:
    for _ in range(3):
        grid.take()
    with pytest.raises(LimitExceeded, match="bridge offers no key at present"):
        grid.take()


def test_a_user_has_so_many_at_a_time(grid: Delegating) -> None:
    for _ in range(delegations.MOST_USABLE):
        grid.ask(m.Delegate(new_uid(), "bridge", "AAAA", "token", lifetime=60))
    with pytest.raises(LimitExceeded, match="end some"):
        grid.ask(m.Delegate(new_uid(), "bridge", "AAAA", "token", lifetime=60))
    grid.after(seconds(61))
    grid.ask(m.Delegate(new_uid(), "bridge", "AAAA", "token", lifetime=60))


# --- life -----------------------------------------------------------------------------------------


def test_what_has_run_out_is_deleted_and_can_be_renewed(grid: Delegating, tmp_path: Path) -> None:
    uid = grid.delegate(tmp_path, a_proxy(ANN, ends=NOW + hours(1)), ANN)
    old = grid.fetch(uid)
    grid.after(hours(1))
    with pytest.raises(AccessDenied, match="is Expired"):
        grid.bridge(m.FetchDelegation(uid))
    grid.looks_after()
    [row] = grid.changes(c.DelegationSaved)
    assert (row.status, row.content) == ("Expired", "")
    grid.delegate(tmp_path, ANN, uid=uid)
    new = grid.bridge(m.FetchDelegation(uid))
    assert (grid.of(uid), new["generation"]) == (DelegationStatus.SIGNED, 2)
    assert new["content"] != old["content"]


def test_a_word_about_an_earlier_generation_is_not_believed(
    grid: Delegating, tmp_path: Path
) -> None:
    """The bridge was killed, or is slow: its user has renewed meanwhile."""
    uid = grid.delegate(tmp_path, ANN)
    grid.delegate(tmp_path, ANN, uid=uid)
    late = {"status": "Refused", "generation": "1", "reason": "its key is lost"}
    assert grid.bridge(m.DelegationReport({uid: late})) == {"delegations": {uid: "Signed"}}
    grid.bridge(m.DelegationReport({uid: {**late, "generation": "2"}}))
    assert grid.of(uid) is DelegationStatus.REFUSED
    assert not grid.grid.delegations[uid].content
    with pytest.raises(BadRequest, match="one of Active, Refused"):
        grid.bridge(m.DelegationReport({uid: {"status": "Revoked"}}))


@pytest.mark.parametrize("by", ["alice", "admin"])
def test_a_revoked_one_is_over_for_good(grid: Delegating, tmp_path: Path, by: str) -> None:
    uid = grid.delegate(tmp_path, ANN)
    [carried] = grid.submit(delegation=uid)
    for stranger in ("bob", "bridge"):
        with pytest.raises(GridError):
            grid.ask(m.Revoke(uid), stranger)
    with pytest.raises(AccessDenied, match="wants create"):
        grid.ask(m.Revoke(uid), scope=Scope.READ)
    grid.ask(m.Revoke(uid), by)
    assert grid.of(uid) is DelegationStatus.REVOKED
    assert not grid.grid.delegations[uid].content
    assert "is Revoked: it was revoked by" in grid.why(carried)
    with pytest.raises(BadRequest, match="make another one"):
        grid.delegate(tmp_path, ANN, uid=uid)
    grid.ask(m.Revoke(uid), by)


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(lambda grid: grid.ask(m.Revoke("alice"), "admin"), id="its user is revoked"),
        pytest.param(
            lambda grid: grid.ask(m.Remove(("alice",)), "admin"), id="its user is removed"
        ),
        pytest.param(
            lambda grid: grid.ask(m.Revoke("bridge"), "admin"), id="its bridge is revoked"
        ),
        pytest.param(
            lambda grid: grid.ask(m.ChangeUser("alice", remove_subjects=(SUBJECT,)), "admin"),
            id="its user is not known by that name any more",
        ),
        pytest.param(
            lambda grid: take_back(Trust([CA.certificate], [a_crl(CA, ANN)]), grid.grid, grid.out),
            id="its CA revokes the certificate",
        ),
    ],
)
@pytest.mark.feature("XW-PIL-6")
def test_who_loses_the_right_to_be_here_loses_pilots_and_tasks_at_once(
    grid: Delegating, tmp_path: Path, act: Any
) -> None:
    uid = grid.delegate(tmp_path, a_proxy(ANN), ANN)
    [work] = grid.submit(delegation=uid)
    running, waiting = grid.pilot(uid), grid.pilot(uid)
    state = grid.starts(running)
    assert grid.status(work) == "PENDING"
    grid.out = Outcome()
    act(grid)
    assert grid.of(uid) is DelegationStatus.REVOKED
    assert state.host.uid not in grid.grid.scheduler.hosts
    assert grid.grid.pilots[running].status is PilotStatus.FAILED
    assert grid.grid.pilots[waiting].status is PilotStatus.DELETED
    assert (f"s{running}", "not-authenticated") in [each[:2] for each in grid.out.closing]
    with pytest.raises(NotAuthenticated):
        grid.starts(waiting)
