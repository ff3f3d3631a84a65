"""A user's side of delegation: what he signs, or seals, for a bridge, by the keys that he knows.

A private key goes nowhere. What a bridge is known by is kept beside the identity file, as ssh keeps
the keys of hosts: a server that shows another key than its administrator told one is found out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from desktopgrid.client.grid import Grid
from desktopgrid.client.replies import field
from desktopgrid.credentials.files import write_private
from desktopgrid.credentials.offers import Card
from desktopgrid.credentials.proof import Proof
from desktopgrid.credentials.signing import LIFETIME, sign
from desktopgrid.credentials.subjects import certificates_in
from desktopgrid.model.errors import BadRequest, UnknownObject
from desktopgrid.model.lifecycle import USABLE_DELEGATIONS, DelegationStatus
from desktopgrid.model.objects import UID, new_uid
from desktopgrid.wire import messages as m

ENOUGH = timedelta(hours=1)
"""What was delegated is used again while it lasts for so long."""


@dataclass(frozen=True)
class SeenBridge:
    """A bridge as the server shows it."""

    uid: UID
    login: str
    card: Card
    offers: int


@dataclass(frozen=True)
class Delegated:
    """A delegation as the server has it; ``notes`` say which VOMS attributes count for nothing."""

    uid: UID
    status: DelegationStatus
    subject: str
    expires_at: datetime
    vo: str
    attributes: tuple[str, ...]
    notes: tuple[str, ...] = ()


class KnownBridges:
    """The fingerprints of bridges that one believes, by login, in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @classmethod
    def beside(cls, identity: Path) -> KnownBridges:
        """Those that are kept with the identity file ``identity``."""
        return cls(identity.with_name(f"{identity.name}.bridges"))

    def read(self) -> dict[str, str]:
        """All of them; raises BadRequest where the file is none of ours."""
        try:
            found = json.loads(self._path.read_text())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise BadRequest(f"{self._path} cannot be read: {error}") from None
        if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
            raise BadRequest(f"{self._path} must be an object of fingerprints by login")
        return found

    def trust(self, login: str, fingerprint: str) -> None:
        """Believe ``login`` by this fingerprint from now on."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        known = {**self.read(), login: fingerprint}
        write_private(self._path, json.dumps(known, indent=1, sort_keys=True) + "\n")

    def check(self, bridge: SeenBridge) -> None:
        """Raises BadRequest unless ``bridge`` is the one that is known."""
        known, shown = self.read().get(bridge.login), bridge.card.fingerprint
        if known is None:
            raise BadRequest(
                f"bridge {bridge.login} is not known here; it shows {shown}. Compare that with what"
                f" its administrator told you: xw bridges --trust {bridge.login}={shown}"
            )
        if known != shown:
            raise BadRequest(
                f"bridge {bridge.login} shows {shown}, and is known by {known}: either it has new"
                " keys, which its administrator will confirm, or the server shows you another one"
            )


class Delegations:
    """What one delegates to the bridges of a grid."""

    def __init__(self, grid: Grid, known: KnownBridges) -> None:
        self._grid, self._known = grid, known

    def bridges(self) -> list[SeenBridge]:
        """Those of the grid, as the server shows them."""
        return [
            SeenBridge(
                str(row["uid"]),
                str(row["login"]),
                Card(str(row["signing_key"]), str(row["sealing_key"])),
                int(row["offers"]),
            )
            for row in self._grid.objects("bridges")
        ]

    def bridge(self, name: str = "") -> SeenBridge:
        """The bridge of this login or UID, or the only one; raises UnknownObject, and BadRequest
        where it is not the one that we know.
        """
        seen = self.bridges()
        found = [bridge for bridge in seen if not name or name in (bridge.login, bridge.uid)]
        if len(found) != 1:
            names = ", ".join(sorted(bridge.login for bridge in seen)) or "none"
            wanted = f"there is no bridge {name!r}" if name else "name one by --bridge"
            raise UnknownObject(f"{wanted}; bridges of this grid are: {names}")
        self._known.check(found[0])
        return found[0]

    def give_proxy(
        self,
        proof: Proof,
        bridge: SeenBridge,
        *,
        lifetime: timedelta = LIFETIME,
        renews: UID | None = None,
        label: str = "",
    ) -> Delegated:
        """Sign a proxy for a key of the bridge, by what ``proof`` has, and delegate it; ``renews``:
        in place of what was delegated before. Raises BadRequest, AccessDenied.
        """
        session = self._grid.session
        taken = session.ask(m.TakeOffer(bridge.uid))
        offer, request, signature = (
            str(field(taken, name, str)) for name in ("offer", "request", "signature")
        )
        bridge.card.check(offer, request, signature)
        chain = sign(request, proof, datetime.now(UTC), lifetime)
        uid = renews or new_uid()
        return _delegated(session.ask(m.Delegate(uid, bridge.uid, chain, offer=offer, label=label)))

    def give_token(
        self,
        token: str,
        bridge: SeenBridge,
        lifetime: timedelta,
        *,
        renews: UID | None = None,
        label: str = "",
    ) -> Delegated:
        """Seal a bearer token, which is good for ``lifetime``, to the bridge, and delegate it."""
        uid = renews or new_uid()
        sealed = bridge.card.seal(token, uid, self._grid.session.welcome.user)
        seconds = int(lifetime.total_seconds())
        return _delegated(
            self._grid.session.ask(
                m.Delegate(uid, bridge.uid, sealed, "token", lifetime=seconds, label=label)
            )
        )

    def give_proxy_once(self, proof: Proof, bridge: SeenBridge) -> Delegated:
        """What was delegated already of this very proxy, if that lasts; else renew it, or delegate
        the proxy for the first time.

        So whoever submits many works by one file makes one delegation.
        """
        made_from, ends_at = _first_of(proof)
        for row in self.own():
            is_same = row["made_from"] == made_from and row["bridge"] == bridge.login
            if not is_same or row["status"] == DelegationStatus.REVOKED.value:
                continue
            kept = _delegated(row)
            is_usable = kept.status in USABLE_DELEGATIONS
            # What ends with the proxy that it was made from cannot be made to last any longer.
            lasts = kept.expires_at >= min(datetime.now(UTC) + ENOUGH, ends_at)
            if is_usable and lasts:
                return kept
            return self.give_proxy(proof, bridge, renews=kept.uid)
        return self.give_proxy(proof, bridge)

    def own(self) -> list[dict[str, Any]]:
        """One's own delegations, as rows."""
        login = self._grid.session.welcome.user
        return [row for row in self._grid.objects("delegations") if row["owner"] == login]

    def find(self, uid: UID) -> dict[str, Any]:
        """The delegation of one's own that has this name; raises UnknownObject."""
        for row in self.own():
            if row["uid"] == uid:
                return row
        raise UnknownObject.named("delegation", uid)


def _first_of(proof: Proof) -> tuple[str, datetime]:
    """What names the certificate that signs, as the server does, and when it ends."""
    from cryptography.hazmat.primitives.serialization import Encoding

    first = certificates_in(proof.chain)[0]
    digest = hashlib.sha256(first.public_bytes(Encoding.DER)).hexdigest()
    return digest, first.not_valid_after_utc


def _delegated(body: Mapping[str, Any]) -> Delegated:
    attributes = body.get("attributes") or ()
    if isinstance(attributes, str):
        attributes = attributes.split()
    return Delegated(
        str(field(body, "uid", str)),
        DelegationStatus(field(body, "status", str)),
        str(body.get("subject") or ""),
        datetime.fromisoformat(field(body, "expires_at", str)),
        str(body.get("vo") or ""),
        tuple(map(str, attributes)),
        tuple(map(str, body.get("notes") or ())),
    )
