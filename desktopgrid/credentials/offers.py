"""What a bridge is known by: a key by which it signs what it offers, and one to seal tokens to.

Whoever delegates checks both against the fingerprint that the bridge's administrator told him: the
server hands offers on, and could otherwise put one of its own in their place.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from desktopgrid.model.errors import BadRequest

KEY_BYTES = 32
LONGEST_TOKEN = 32 << 10
SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
"""Hybrid public key encryption (RFC 9180), base mode."""


@dataclass(frozen=True)
class Card:
    """The public keys of a bridge, base64 of 32 bytes each; raises BadRequest if they are none."""

    signing_key: str
    sealing_key: str

    def __post_init__(self) -> None:
        for key in (self.signing_key, self.sealing_key):
            if len(_bytes(key, "a bridge's key")) != KEY_BYTES:
                raise BadRequest(f"a bridge's key is the base64 of {KEY_BYTES} bytes")

    @property
    def fingerprint(self) -> str:
        """What people compare, written as ssh does."""
        keys = _bytes(self.signing_key, "") + _bytes(self.sealing_key, "")
        digest = hashlib.sha256(b"glidebridge: bridge, 1\n" + keys).digest()
        return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"

    def check(self, offer: str, request: str, signature: str) -> None:
        """Raises BadRequest unless the bridge has signed ``offer``, which is ``request``."""
        key = Ed25519PublicKey.from_public_bytes(_bytes(self.signing_key, ""))
        try:
            key.verify(_bytes(signature, "a signature"), _offered(offer, request))
        except InvalidSignature:
            raise BadRequest(f"offer {offer} is not the bridge's: its signature is wrong") from None

    def seal(self, token: str, delegation: str, user: str) -> str:
        """``token`` so that only the bridge can read it, in base64, and only as the ``delegation``
        of ``user``.
        """
        if len(token) > LONGEST_TOKEN:
            raise BadRequest(f"a token of {len(token)} characters; at most {LONGEST_TOKEN}")
        key = X25519PublicKey.from_public_bytes(_bytes(self.sealing_key, ""))
        sealed = SUITE.encrypt(token.encode(), key, _about(delegation, user))
        return base64.b64encode(sealed).decode()


@dataclass(frozen=True)
class Keys:
    """The private keys of a bridge."""

    signing: Ed25519PrivateKey = field(repr=False)
    sealing: X25519PrivateKey = field(repr=False)

    @classmethod
    def generate(cls) -> Keys:
        """New ones."""
        return cls(Ed25519PrivateKey.generate(), X25519PrivateKey.generate())

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Keys:
        """Those that :attr:`kept` described; raises BadRequest."""
        try:
            signing, sealing = (_bytes(str(kept[name]), name) for name in ("signing", "sealing"))
            return cls(
                Ed25519PrivateKey.from_private_bytes(signing),
                X25519PrivateKey.from_private_bytes(sealing),
            )
        except (KeyError, ValueError) as error:
            raise BadRequest(f"these are no keys of a bridge: {error}") from None

    @property
    def kept(self) -> dict[str, str]:
        """The keys as a file has them, which must be secret."""
        return {
            "signing": base64.b64encode(self.signing.private_bytes_raw()).decode(),
            "sealing": base64.b64encode(self.sealing.private_bytes_raw()).decode(),
        }

    @property
    def card(self) -> Card:
        """The public halves."""
        keys = (self.signing.public_key(), self.sealing.public_key())
        return Card(*(base64.b64encode(key.public_bytes_raw()).decode() for key in keys))

    def sign(self, offer: str, request: str) -> str:
        """The signature of an offer."""
        return base64.b64encode(self.signing.sign(_offered(offer, request))).decode()

    def open(self, sealed: str, delegation: str, user: str) -> str:
        """The token that ``user`` sealed for ``delegation``; raises BadRequest."""
        try:
            content = _bytes(sealed, "a sealed token")
            return SUITE.decrypt(content, self.sealing, _about(delegation, user)).decode()
        except (InvalidTag, ValueError) as error:
            raise BadRequest(
                f"delegation {delegation} was not sealed for this bridge by {user}"
            ) from error


def _offered(offer: str, request: str) -> bytes:
    digest = hashlib.sha256(request.encode()).hexdigest()
    return f"glidebridge: offer, 1\n{offer}\n{digest}".encode()


def _about(delegation: str, user: str) -> bytes:
    return f"glidebridge: sealed token, 1\n{delegation}\n{user}".encode()


def _bytes(text: str, what: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest(f"{what} is base64") from None
