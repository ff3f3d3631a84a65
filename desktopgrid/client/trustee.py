"""A bridge's side of delegation: it offers keys that it makes, fetches what users signed for them,
and keeps that in a directory until it ends.

    keys.json                       what the bridge is known by
    offers/NAME.key                 the private key of an offer that nobody has signed for yet
    held/NAME.pem, NAME.token       a user's proxy with its key and chain, or his token; 0600
    held/NAME.json                  whose it is, and until when: written after the other

A step is on disk before the server is told of it, so that a bridge which is killed anywhere goes
on: a key before it is offered, a proxy before it is said to be here. Only one process has the
directory. Nobody else's keys are ever here, and these go nowhere from here.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from desktopgrid.client.grid import Grid
from desktopgrid.client.replies import field
from desktopgrid.credentials.files import private_directory, sync_directory, write_private
from desktopgrid.credentials.offers import Card, Keys
from desktopgrid.credentials.subjects import certificates_in
from desktopgrid.model.errors import (
    BadRequest,
    GridError,
    RemoteProtocolError,
    Unavailable,
    UnknownObject,
)
from desktopgrid.model.lifecycle import USABLE_DELEGATIONS, DelegationStatus
from desktopgrid.model.objects import UID, new_uid
from desktopgrid.wire import messages as m

logger = logging.getLogger(__name__)

OFFERS = 20
"""Keys that are on offer, so that so many users find one between two looks of the bridge."""
KEY_BITS = 2048
"""RSA, which every grid's tools take."""


@dataclass(frozen=True)
class Held:
    """A user's credential that the bridge has in ``path``: a proxy as grid tools take it, or a
    token alone.
    """

    uid: UID
    kind: str
    path: Path
    generation: int
    user: str
    subject: str
    vo: str
    attributes: tuple[str, ...]
    expires_at: datetime


def utc_now() -> datetime:
    """What time it is."""
    return datetime.now(UTC)


class Trustee:
    """A bridge: what it is known by, what it offers, and what it was given."""

    def __init__(
        self, grid: Grid, directory: Path, clock: Callable[[], datetime] = utc_now
    ) -> None:
        """``grid`` by a token that is good for `bridge`. Raises BadRequest where ``directory`` may
        be seen by others, Unavailable where another process has it.
        """
        self._grid, self._clock = grid, clock
        self._offers = private_directory(private_directory(directory) / "offers")
        self._held = private_directory(directory / "held")
        self._lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise Unavailable(f"another process has {directory}") from None
        try:
            self._keys = _keys_in(directory / "keys.json")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let another process have the directory."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def card(self) -> Card:
        """What the bridge is known by; tell users its fingerprint."""
        return self._keys.card

    # Offering

    def publish(self, wanted: int = OFFERS) -> int:
        """See that so many keys are on offer; how many were made. Keys that nobody will sign for
        any more are removed.
        """
        reply = self._offer({})
        needed = {*reply["open"], *reply["taken"]}
        # What was signed for between the two answers is in one of them.
        needed |= {row["offer"] for row in self._rows() if row["offer"]}
        for path in self._offers.glob("*.key"):
            if path.stem not in needed:
                path.unlink()
        made = [self._new_offer() for _ in range(wanted - len(reply["open"]))]
        if made:
            sync_directory(self._offers)
            self._offer(dict(made))
        return len(made)

    def _offer(self, offers: dict[str, dict[str, str]]) -> Any:
        card = self.card
        return self._grid.session.ask(m.SendOffers(card.signing_key, card.sealing_key, offers))

    def _new_offer(self) -> tuple[str, dict[str, str]]:
        """An offer, whose key is on disk."""
        uid, key = new_uid(), rsa.generate_private_key(65537, KEY_BITS)
        write_private(self._offers / f"{uid}.key", _pem(key))
        asked = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        request = asked.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()
        return uid, {"request": request, "signature": self._keys.sign(uid, request)}

    # Taking

    def collect(self) -> list[Held]:
        """Fetch what was delegated, or renewed, and remove what is over: all that is held now.

        What cannot be used is refused, with the reason, and its user sees that.
        """
        here = {held.uid: held for held in self.held()}
        rows = {str(row["uid"]): row for row in self._rows()}
        for uid in set(here).difference(rows):
            self._drop(uid)
        for uid, row in rows.items():
            if DelegationStatus(row["status"]) not in USABLE_DELEGATIONS:
                self._drop(uid)
                continue
            held = here.get(uid)
            is_new = held is None or held.generation != row["generation"]
            if is_new or row["status"] == DelegationStatus.SIGNED.value:
                self._take(uid)
        return self.held()

    def _rows(self) -> Iterator[dict[str, Any]]:
        """The delegations that were given to this bridge, and not those that others see here."""
        me = self._grid.session.welcome.user
        return (row for row in self._grid.objects("delegations") if row["bridge"] == me)

    def _take(self, uid: UID) -> None:
        found = self._grid.session.ask(m.FetchDelegation(_file_name(uid)))
        generation = str(field(found, "generation", int))
        try:
            self._keep(found)
        except BadRequest as error:
            logger.warning("Refused delegation %s of %s: %s", uid, found.get("user"), error)
            said = {"status": "Refused", "generation": generation, "reason": str(error)}
            self._grid.session.ask(m.DelegationReport({uid: said}))
            return
        self._grid.session.ask(
            m.DelegationReport({uid: {"status": "Active", "generation": generation}})
        )
        logger.info(
            "Took delegation %s of %s (%s), which ends %s",
            *(uid, found.get("user"), found.get("subject"), found.get("expires_at")),
        )
        if found["offer"]:
            (self._offers / f"{found['offer']}.key").unlink(missing_ok=True)

    def _keep(self, found: Mapping[str, Any]) -> None:
        """Have on disk what the server answered; raises BadRequest where that is of no use."""
        uid, content, user = (str(field(found, name, str)) for name in ("uid", "content", "user"))
        if found["kind"] == "proxy":
            path, content = self._held / f"{uid}.pem", self._with_key(str(found["offer"]), content)
        else:
            path, content = self._held / f"{uid}.token", self._keys.open(content, uid, user) + "\n"
        write_private(path, content)
        facts = {name: found[name] for name in FACTS}
        write_private(self._held / f"{uid}.json", json.dumps(facts))

    def _with_key(self, offer: str, chain: str) -> str:
        """The proxy, our key of it, and the chain: as grid tools want them in one file."""
        path = self._offers / f"{_file_name(offer)}.key"
        try:
            key = load_pem_private_key(path.read_bytes(), None)
        except FileNotFoundError:
            raise BadRequest("the bridge has lost the key that was signed for; renew it") from None
        first, *others = certificates_in(chain)
        if first.public_key() != key.public_key():
            raise BadRequest("the proxy is for another key than the bridge offered")
        parts = (first.public_bytes(Encoding.PEM).decode(), path.read_text())
        return "".join((*parts, *(each.public_bytes(Encoding.PEM).decode() for each in others)))

    # Holding

    def held(self) -> list[Held]:
        """What the directory has and is good now, also while no server answers. What has run out is
        removed.
        """
        found = []
        for path in sorted(self._held.glob("*.json")):
            held = self._read(path)
            if held is not None and self._clock() < held.expires_at:
                found.append(held)
            else:
                self._drop(path.stem)
        kept = {held.uid for held in found}
        for path in self._held.iterdir():
            # Written by a process that was killed before it had written whose it is.
            if path.name.split(".")[0] not in kept:
                path.unlink()
        return found

    def find(self, uid: UID) -> Held:
        """What is held of this delegation; raises UnknownObject. Any thread."""
        found = self._read(self._held / f"{_file_name(uid)}.json")
        if found is None or self._clock() >= found.expires_at:
            raise UnknownObject(f"nothing is held of delegation {uid}: it is over, or not here yet")
        return found

    def _read(self, path: Path) -> Held | None:
        try:
            facts = json.loads(path.read_text())
            suffix = "pem" if facts["kind"] == "proxy" else "token"
            content = path.with_name(f"{path.stem}.{suffix}")
            if not content.is_file():
                return None
            return Held(
                path.stem,
                facts["kind"],
                content,
                int(facts["generation"]),
                str(facts["user"]),
                str(facts["subject"]),
                str(facts["vo"]),
                tuple(facts["attributes"]),
                datetime.fromisoformat(facts["expires_at"]),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _drop(self, uid: UID) -> None:
        for suffix in ("json", "pem", "token"):
            path = self._held / f"{uid}.{suffix}"
            if path.exists():
                path.unlink()
                if suffix != "json":
                    logger.info("Removed what was held of delegation %s", uid)

    def refuse(self, uids: Iterable[UID], reason: str) -> None:
        """Say that what was taken is of no use, such as that no site accepts it."""
        here = {held.uid: held for held in self.held()}
        said = {
            uid: {"status": "Refused", "generation": str(here[uid].generation), "reason": reason}
            for uid in uids
            if uid in here
        }
        if said:
            self._grid.session.ask(m.DelegationReport(said))
        for uid in said:
            self._drop(uid)


FACTS = ("kind", "generation", "user", "subject", "vo", "attributes", "expires_at")


def _file_name(uid: str) -> str:
    """``uid`` if it may be the name of a file: the server says it, and it has the form of one."""
    if re.fullmatch("[0-9A-Za-z-]{1,64}", uid) is None:
        raise RemoteProtocolError(f"the server calls something {uid[:80]!r}")
    return uid


def _keys_in(path: Path) -> Keys:
    """The keys of the bridge, made when it starts for the first time; raises BadRequest."""
    try:
        facts = path.stat()
    except FileNotFoundError:
        keys = Keys.generate()
        write_private(path, json.dumps(keys.kept, indent=1) + "\n")
        logger.info("Made keys of the bridge in %s: %s", path, keys.card.fingerprint)
        return keys
    if facts.st_mode & 0o077:
        raise BadRequest(f"others can read {path}; chmod 600 it, or remove it and have new keys")
    try:
        return Keys.of(json.loads(path.read_text()))
    except (ValueError, GridError) as error:
        raise BadRequest(f"{path} cannot be read: {error}") from None


def _pem(key: rsa.RSAPrivateKey) -> str:
    """As Globus, VOMS and ARC read it."""
    return key.private_bytes(
        Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()
    ).decode()
