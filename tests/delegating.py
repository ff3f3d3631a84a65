"""A grid with a bridge, a user who has a certificate, and a site that wants credentials."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from desktopgrid.credentials.offers import Keys
from desktopgrid.credentials.proof import Proof
from desktopgrid.credentials.signing import sign
from desktopgrid.credentials.subjects import certificates_in, text_of
from desktopgrid.model.lifecycle import DelegationStatus
from desktopgrid.model.objects import Site, new_uid
from desktopgrid.model.rights import EVERYTHING, Scope, UserLevel
from desktopgrid.server import hosts, pilots, upkeep
from desktopgrid.server.certificates import Trust, shown
from desktopgrid.server.scheduler import HostState
from desktopgrid.server.state import Outcome
from desktopgrid.wire import messages as m
from desktopgrid.wire.proof import new_secret, prove, verifier_of
from tests.builders import GridUnderTest, a_user, facts
from tests.grid_ca import (
    NOW,
    Holder,
    a_ca,
    a_crl,
    a_person,
    name,
    new_key,
    write_proxy,
)

CA = a_ca()
TRUST = Trust([CA.certificate], [a_crl(CA)])
ANN = a_person(CA)
BOB = a_person(CA, name("DC=org", "DC=grid", "CN=Bob"))
SUBJECT = text_of(ANN.certificate.subject)
BRIDGE = EVERYTHING | Scope.BRIDGE
KEYS = Keys.generate()
SECRET = new_secret()


class Delegating(GridUnderTest):
    """A grid with a bridge, its keys, and alice, who has a certificate."""

    def __init__(self, site: Site | None = None) -> None:
        site = site or Site("egi", "arc", max_pilots=9, max_idle=9, submits_as="user")
        super().__init__(sites={site.name: site})
        self.now = NOW
        for login in ("bridge", "other"):
            self.add_user(a_user(login, level=UserLevel.ADVANCED))
        self.add_user(a_user("alice", subjects=(SUBJECT,)))
        self.add_user(a_user("bob", subjects=(text_of(BOB.certificate.subject),)))
        self.keys: dict[str, Any] = {}
        self.publish()

    def publish(self, count: int = 3, keys: Keys = KEYS, login: str = "bridge") -> Any:
        """The bridge offers keys."""
        offers = {}
        for _ in range(count):
            uid, key = new_uid(), new_key()
            self.keys[uid] = key
            asked = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
            request = asked.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()
            offers[uid] = {"request": request, "signature": keys.sign(uid, request)}
        card = keys.card
        return self.bridge(m.SendOffers(card.signing_key, card.sealing_key, offers), login)

    def bridge(self, request: m.Request, login: str = "bridge") -> Any:
        """What a bridge is answered."""
        return self.ask(request, login, scope=BRIDGE)

    def take(self, login: str = "alice") -> dict[str, str]:
        """A user takes an offer."""
        taken: dict[str, str] = self.ask(m.TakeOffer("bridge"), login)
        return taken

    def give(self, chain: str, offer: str, login: str = "alice", **fields: Any) -> Any:
        """A user delegates a chain, at which the server looks first."""
        said = m.Delegate(
            **{"uid": new_uid(), "bridge": "bridge", "content": chain, "offer": offer, **fields}
        )
        self.shown = shown(certificates_in(chain), TRUST, self.now)
        return self.ask(said, login)

    def delegate(self, place: Path, *holders: Holder, login: str = "alice", **fields: Any) -> str:
        """A user signs for an offer and delegates; the delegation's name."""
        taken = self.take(login)
        chain = signed(place, taken["request"], *(holders or (ANN,)))
        return str(self.give(chain, taken["offer"], login, **fields)["uid"])

    def fetch(self, uid: str) -> Any:
        """The bridge fetches a delegation, and says that it has it."""
        found = self.bridge(m.FetchDelegation(uid))
        said = {"status": "Active", "generation": str(found["generation"])}
        self.bridge(m.DelegationReport({uid: said}))
        return found

    def pilot(self, uid: str | None, stamp: str = "") -> str:
        """The bridge submits a pilot."""
        stamp = stamp or new_uid()
        asked = m.SubmitPilots("egi", {stamp: verifier_of(SECRET)}, delegation=uid)
        self.bridge(asked)
        return stamp

    def starts(self, stamp: str) -> HostState:
        """The pilot's worker says hello."""
        said = m.Hello(
            *(1, "pilot", stamp, prove(SECRET, "nonce", "pilot", stamp, f"s{stamp}"), f"s{stamp}"),
            host=f"host-{stamp}",
            facts={**facts(f"wn-{stamp}").__dict__},
            lifetime=86_400,
            proved_by="enrolment",
            key=verifier_of(new_secret()),
        )
        self.out = Outcome()
        who = pilots.authenticate(self.grid, said, "nonce", self.now, self.out)
        return hosts.host_arrived(self.grid, who, said, False, self.now, self.out)

    def of(self, uid: str) -> DelegationStatus:
        """The status of a delegation."""
        return self.grid.delegations[uid].status

    def looks_after(self) -> None:
        """A round of upkeep."""
        self.out = Outcome()
        upkeep.look_after(self.grid, self.now, self.out)

    def why(self, work: str) -> str:
        """Why a work waits."""
        return " ".join(self.ask(m.Why(work))["sentences"])


def signed(
    place: Path, request: str, *holders: Holder, lifetime: timedelta = timedelta(hours=12)
) -> str:
    """What a user signs who has this chain."""
    path = place / f"proxy-{new_uid()}"
    return sign(request, Proof.read(write_proxy(path, *holders), None), NOW, lifetime)
