"""Users' credentials that bridges are given: what requests about them lead to, and their ends.

The server only hands on. What it has of a proxy is certificates, for whose key the bridge alone has
the private half; what it has of a token is sealed to the bridge. Who may see which: its owner and
its bridge. Workers are never told of any.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from desktopgrid.credentials.offers import LONGEST_TOKEN, Card
from desktopgrid.credentials.pkcs10 import LONGEST_REQUEST, key_of
from desktopgrid.model.errors import (
    AccessDenied,
    AlreadyThere,
    BadRequest,
    IllegalTransition,
    LimitExceeded,
    UnknownObject,
)
from desktopgrid.model.lifecycle import (
    DELEGATIONS,
    FINAL_PILOTS,
    USABLE_DELEGATIONS,
    DelegationEvent,
    DelegationStatus,
    PilotEvent,
    after,
)
from desktopgrid.model.objects import Bridge, Delegation, Offer, User
from desktopgrid.model.rights import EVERYTHING, Scope, Who, may_administer
from desktopgrid.server import changes as c
from desktopgrid.server.hosts import end_pilot, lose_hosts
from desktopgrid.server.proved import Shown
from desktopgrid.server.state import Grid, Outcome, clean, timestamp
from desktopgrid.wire import messages as m

Body = dict[str, Any]

MOST_OFFERS = 1_000
"""Keys that a bridge may offer at a time."""
MOST_TAKEN = 50
"""Offers that a user may have taken and not signed yet."""
OFFER_PATIENCE = timedelta(minutes=15)
"""How long a user may take to sign for an offer that he has taken."""
MOST_USABLE = 100
"""Delegations of a user that may be usable at a time."""
SHORTEST = timedelta(minutes=1)
LONGEST_LABEL = 100
KINDS = ("proxy", "token")


# --- the bridge's side ----------------------------------------------------------------------------


def send_offers(
    grid: Grid, who: Who, session: str, asked: m.SendOffers, now: datetime, out: Outcome
) -> Body:
    """A bridge is known by its keys, and its offers may be taken."""
    card = Card(asked.signing_key, asked.sealing_key)
    known = grid.bridges.get(who.user)
    is_same = known is not None and card == Card(known.signing_key, known.sealing_key)
    ours = [offer for offer in grid.offers.values() if offer.bridge == who.user]
    if len(asked.offers) + (len(ours) if is_same else 0) > MOST_OFFERS:
        raise LimitExceeded(f"a bridge offers {MOST_OFFERS} keys at most, and has {len(ours)} open")
    new = [_offer(grid, who, card, uid, said, now) for uid, said in asked.offers.items()]
    if not is_same:
        for offer in ours:
            _forget_offer(grid, offer, out)
        grid.bridges[who.user] = Bridge(who.user, asked.signing_key, asked.sealing_key, now)
        out.changes.append(
            c.BridgeSaved(who.user, asked.signing_key, asked.sealing_key, now.timestamp())
        )
    for offer in new:
        _save_offer(grid, offer, out)
    ours = [offer for offer in grid.offers.values() if offer.bridge == who.user]
    return {
        "bridge": who.user,
        "open": sorted(offer.uid for offer in ours if _is_open(offer)),
        "taken": sorted(offer.uid for offer in ours if not _is_open(offer)),
    }


def _offer(
    grid: Grid, who: Who, card: Card, uid: str, said: dict[str, str], now: datetime
) -> Offer:
    request, signature = said.get("request", ""), said.get("signature", "")
    if len(request) > LONGEST_REQUEST or not request.isascii() or "\0" in request:
        raise BadRequest(f"a request is at most {LONGEST_REQUEST} characters of PEM, and no others")
    key_of(request)
    card.check(uid, request, signature)
    return Offer(grid.check_new(uid), who.user, request, signature, now)


def _is_open(offer: Offer) -> bool:
    return offer.taken_by is None


def _save_offer(grid: Grid, offer: Offer, out: Outcome) -> None:
    grid.offers[offer.uid] = offer
    out.changes.append(
        c.OfferSaved(
            offer.uid,
            offer.bridge,
            offer.request,
            offer.signature,
            offer.created_at.timestamp(),
            offer.taken_by,
            timestamp(offer.taken_at),
        )
    )


def _forget_offer(grid: Grid, offer: Offer, out: Outcome) -> None:
    del grid.offers[offer.uid]
    out.changes.append(c.OfferForgotten(offer.uid))


def fetch(
    grid: Grid, who: Who, session: str, asked: m.FetchDelegation, now: datetime, out: Outcome
) -> Body:
    """A bridge is told what it was given: certificates, or what only it can open."""
    found = _of_bridge(grid, who, asked.uid)
    if not found.is_usable(now):
        raise AccessDenied(
            f"delegation {found.uid} is {_status(found, now)}: there is nothing of it"
        )
    return {
        "uid": found.uid,
        "kind": found.kind,
        "content": found.content,
        "generation": found.generation,
        "offer": found.offer,
        "user": grid.users[found.owner].login,
        "subject": found.subject,
        "expires_at": found.expires_at.isoformat(),
        "vo": found.vo,
        "attributes": list(found.attributes),
    }


REPORTED = {
    DelegationStatus.ACTIVE.value: DelegationEvent.TAKEN,
    DelegationStatus.REFUSED.value: DelegationEvent.REFUSED,
}


def report(
    grid: Grid, who: Who, session: str, asked: m.DelegationReport, now: datetime, out: Outcome
) -> Body:
    """What a bridge says of what it was given. Of another generation than the present one, or of
    what is over, nothing is believed.
    """
    told: list[tuple[Delegation, DelegationEvent, str]] = []
    for uid, said in asked.delegations.items():
        found = _of_bridge(grid, who, uid)
        event = REPORTED.get(said.get("status", ""))
        if event is None:
            raise BadRequest(f"a delegation is reported to be one of {', '.join(REPORTED)}")
        if said.get("generation") == str(found.generation) and found.status in USABLE_DELEGATIONS:
            told.append((found, event, clean(said.get("reason", ""))))
    for found, event, reason in told:
        if event is DelegationEvent.REFUSED:
            end(grid, found, event, reason, now, out)
        else:
            _save(grid, replace(found, status=after(DELEGATIONS, found.status, event)), out)
    return {"delegations": {uid: grid.delegations[uid].status.value for uid in asked.delegations}}


def _of_bridge(grid: Grid, who: Who, uid: str) -> Delegation:
    found = grid.delegations.get(uid)
    if found is None or found.bridge != who.user:
        raise UnknownObject.named("delegation", uid)
    return found


# --- the user's side ------------------------------------------------------------------------------


def take_offer(
    grid: Grid, who: Who, session: str, asked: m.TakeOffer, now: datetime, out: Outcome
) -> Body:
    """A user has a bridge's key to sign for."""
    bridge = bridge_called(grid, asked.bridge)
    taken = sum(offer.taken_by == who.user for offer in grid.offers.values())
    if taken >= MOST_TAKEN:
        raise LimitExceeded(f"you have taken {taken} offers and not signed for them; wait a little")
    ours = (o for o in grid.offers.values() if _is_open(o) and o.bridge == bridge.user)
    offer = next(ours, None)
    login = grid.users[bridge.user].login
    if offer is None:
        raise LimitExceeded(f"bridge {login} offers no key at present; it makes more when it runs")
    _save_offer(grid, replace(offer, taken_by=who.user, taken_at=now), out)
    return {
        "offer": offer.uid,
        "bridge": bridge.user,
        "request": offer.request,
        "signature": offer.signature,
    }


def bridge_called(grid: Grid, name: str) -> Bridge:
    """The bridge whose user has this UID or login; raises UnknownObject."""
    user = grid.user_called(name)
    bridge = grid.bridges.get(user.uid) if user is not None else None
    if user is None or bridge is None or user.is_revoked:
        known = ", ".join(sorted(grid.users[uid].login for uid in grid.bridges)) or "none"
        raise UnknownObject(f"there is no bridge {name[:80]!r}; bridges are: {known}")
    return bridge


@dataclass(frozen=True)
class _Given:
    """What a user gave, once it was looked at."""

    content: str
    expires_at: datetime
    offer: str = ""
    subject: str = ""
    made_from: str = ""
    serials: tuple[str, ...] = ()
    vo: str = ""
    attributes: tuple[str, ...] = ()
    attributes_end_at: datetime | None = None


def delegate(
    grid: Grid, who: Who, session: str, asked: m.Delegate, now: datetime, out: Outcome
) -> Body:
    """A bridge is given a credential of the one who asks, or a newer one in place of an older."""
    bridge = bridge_called(grid, asked.bridge)
    known = grid.delegations.get(asked.uid)
    if known is not None:
        _check_renewable(grid, known, who, bridge, asked)
    else:
        grid.check_new(asked.uid)
        usable = sum(d.owner == who.user and d.is_usable(now) for d in grid.delegations.values())
        if usable >= MOST_USABLE:
            raise LimitExceeded(
                f"{usable} of your delegations are usable; end some (xw revoke) before another"
            )
    if asked.kind == "proxy":
        given = _proxy(grid, who, bridge, asked, out.shown, now)
    elif asked.kind == "token":
        given = _token(grid, asked, now)
    else:
        raise BadRequest(f"{asked.kind[:40]!r} is not one of {', '.join(KINDS)}")
    status = DelegationStatus.SIGNED
    generation = 1
    if known is not None:
        status = after(DELEGATIONS, known.status, DelegationEvent.RENEWED)
        generation = known.generation + 1
    made = Delegation(
        asked.uid,
        who.user,
        bridge.user,
        asked.kind,
        status,
        known.created_at if known is not None else now,
        generation=generation,
        label=clean(asked.label, LONGEST_LABEL) or (known.label if known is not None else ""),
        **vars(given),
    )
    if given.offer:
        _forget_offer(grid, grid.offers[given.offer], out)
    _save(grid, made, out)
    return {
        "uid": made.uid,
        "status": made.status.value,
        "subject": made.subject,
        "expires_at": made.expires_at.isoformat(),
        "vo": made.vo,
        "attributes": list(made.attributes),
        "notes": list(out.shown.notes) if out.shown is not None else [],
    }


def _check_renewable(
    grid: Grid, known: Delegation, who: Who, bridge: Bridge, asked: m.Delegate
) -> None:
    if known.owner != who.user:
        raise AlreadyThere(f"there is an object {known.uid} already")
    if (known.bridge, known.kind) != (bridge.user, asked.kind):
        login = grid.users[known.bridge].login
        raise BadRequest(
            f"delegation {known.uid} is a {known.kind} for bridge {login}, and stays so"
        )
    try:
        after(DELEGATIONS, known.status, DelegationEvent.RENEWED)
    except IllegalTransition as error:
        raise BadRequest(f"delegation {known.uid}: {error}; make another one") from None


def _proxy(
    grid: Grid, who: Who, bridge: Bridge, asked: m.Delegate, shown: Shown | None, now: datetime
) -> _Given:
    """The proxy that a user has signed, if it is for the key that he took, his own, and good for
    more than looking.
    """
    offer = grid.offers.get(asked.offer)
    if offer is None or offer.taken_by != who.user or offer.bridge != bridge.user:
        raise BadRequest(f"{asked.offer[:80]!r} is no offer of this bridge that you have taken")
    if shown is None:
        raise BadRequest("this grid looks at no certificates, so it takes no proxies")
    if shown.key != _public(offer.request):
        raise BadRequest("the proxy was signed for another key than the one that was taken")
    if grid.subjects.get(shown.proved.subject) != who.user:
        raise AccessDenied(
            f"the proxy is of {shown.proved.subject!r}, by which name you are not known here"
        )
    if shown.proved.scope != EVERYTHING:
        raise AccessDenied(
            "the proxy is limited, and nothing may be submitted with it; make one without -limited"
        )
    if not shown.is_proxy:
        raise BadRequest("what was signed is a certificate, and must be a proxy")
    expires_at = shown.proved.ends_at
    _check_span(expires_at - now, grid.policy.longest_delegation)
    return _Given(
        shown.chain,
        expires_at,
        offer.uid,
        shown.proved.subject,
        shown.made_from,
        shown.proved.serials,
        shown.vo,
        shown.attributes,
        shown.attributes_end_at,
    )


def _public(request: str) -> bytes:
    return key_of(request).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _token(grid: Grid, asked: m.Delegate, now: datetime) -> _Given:
    """A token that was sealed: nobody here can look at it, so its user says how long it lasts."""
    try:
        size = len(base64.b64decode(asked.content, validate=True))
    except (binascii.Error, ValueError):
        raise BadRequest("a sealed token is base64") from None
    if not 0 < size <= LONGEST_TOKEN + 1024:
        raise BadRequest(f"a sealed token of {size} bytes; at most {LONGEST_TOKEN}")
    if asked.offer:
        raise BadRequest("a token is sealed to the bridge itself, and for no offer")
    longest = int(grid.policy.longest_delegation.total_seconds())
    if not 0 < asked.lifetime <= longest:
        raise BadRequest(f"a token's lifetime is said, and 1 to {longest} seconds")
    lifetime = timedelta(seconds=asked.lifetime)
    _check_span(lifetime, grid.policy.longest_delegation)
    return _Given(asked.content, now + lifetime)


def _check_span(span: timedelta, longest: timedelta) -> None:
    if span < SHORTEST:
        raise BadRequest(f"the credential ends within {SHORTEST.seconds} s; make a new one first")
    if span > longest:
        raise BadRequest(
            f"the credential would last {span}, and this grid takes none for more than {longest}:"
            " sign it for a shorter time"
        )


# --- their ends -----------------------------------------------------------------------------------


def _save(grid: Grid, made: Delegation, out: Outcome) -> None:
    grid.delegations[made.uid] = made
    grid.scheduler.rematch()
    out.changes.append(delegation_row(made))


def delegation_row(made: Delegation) -> c.DelegationSaved:
    """The row of ``made``."""
    return c.DelegationSaved(
        made.uid,
        made.owner,
        made.bridge,
        made.kind,
        made.status.value,
        made.created_at.timestamp(),
        made.expires_at.timestamp(),
        made.generation,
        made.content,
        made.offer,
        made.subject,
        made.made_from,
        "\n".join(made.serials),
        made.vo,
        "\n".join(made.attributes),
        timestamp(made.attributes_end_at),
        made.label,
        made.reason,
    )


def end(
    grid: Grid, found: Delegation, event: DelegationEvent, reason: str, now: datetime, out: Outcome
) -> None:
    """``found`` is over: the server has nothing of it any more, and its pilots get no more works.
    One that was revoked stops them, and what they run, at once.
    """
    status = after(DELEGATIONS, found.status, event)
    _save(grid, replace(found, status=status, content="", reason=clean(reason)), out)
    owner = grid.users[found.owner].login
    out.notes.append(f"Delegation {found.uid} of {owner} is {status.value}: {reason}")
    pilots = {p.stamp for p in grid.pilots.values() if p.delegation == found.uid}
    if status is not DelegationStatus.REVOKED:
        for state in grid.scheduler.hosts.values():
            if state.host.pilot in pilots and not state.is_draining:
                state.is_draining = True
                out.push(state.session, m.Drain(f"its credential is {status.value}"))
        return
    lose_hosts(grid, lambda state: state.host.pilot in pilots, reason, now, out)
    for stamp in pilots:
        pilot = grid.pilots[stamp]
        if pilot.status not in FINAL_PILOTS:
            end_pilot(grid, pilot, PilotEvent.DELETED, reason, now, out)


def revoke_all(
    grid: Grid,
    is_meant: Callable[[Delegation], bool],
    reason: str,
    now: datetime,
    out: Outcome,
) -> None:
    """These delegations are taken back."""
    for found in [each for each in grid.delegations.values() if is_meant(each)]:
        if found.status is not DelegationStatus.REVOKED:
            end(grid, found, DelegationEvent.REVOKED, reason, now, out)


def revoke_those_of(grid: Grid, user: User, reason: str, now: datetime, out: Outcome) -> None:
    """What ``user`` has delegated, or was delegated to him, is taken back; he offers nothing."""
    revoke_all(grid, lambda each: user.uid in (each.owner, each.bridge), reason, now, out)
    for offer in [o for o in grid.offers.values() if user.uid in (o.bridge, o.taken_by)]:
        _forget_offer(grid, offer, out)


def revocable(grid: Grid, who: Who, uid: str) -> Delegation | None:
    """The delegation of this name, which ``who`` may revoke; None if there is none, as for
    everybody but its owner and super users.
    """
    found = grid.delegations.get(uid)
    if found is None or not (found.owner == who.user or may_administer(who)):
        return None
    if not who.scope & (Scope.CREATE | Scope.MANAGE):
        raise AccessDenied(f"your token is good for {who.scope} only; that wants create")
    return found


def expire(grid: Grid, now: datetime, out: Outcome) -> None:
    """What has run out is over, and an offer that was taken and not signed in time is void: the
    bridge makes another.
    """
    for found in list(grid.delegations.values()):
        if found.status in USABLE_DELEGATIONS and now >= found.expires_at:
            end(grid, found, DelegationEvent.EXPIRED, "it has run out", now, out)
    for offer in list(grid.offers.values()):
        if offer.taken_at is not None and now >= offer.taken_at + OFFER_PATIENCE:
            _forget_offer(grid, offer, out)


def _status(found: Delegation, now: datetime) -> str:
    over = found.status in USABLE_DELEGATIONS and now >= found.expires_at
    return DelegationStatus.EXPIRED.value if over else found.status.value
